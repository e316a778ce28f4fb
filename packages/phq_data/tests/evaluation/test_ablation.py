"""Comparing settings on the same photos."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from phq_data.cli.main import make_app
from phq_data.config import ConfigError, default
from phq_data.evaluation import ablation
from phq_data.sources.synthetic import synthesize
from phq_data.workspace import Workspace, WorkspaceError


def test_every_usual_variant_is_a_setting_that_exists() -> None:
    assert next(iter(ablation.VARIANTS.values())) == ()  # what the others are compared with
    for settings in ablation.VARIANTS.values():
        config = default()
        for assignment in settings:
            config = config.replace_setting(assignment)
        assert (config != default()) == bool(settings)


@pytest.mark.slow
def test_variants_are_measured_on_the_same_people(tmp_path) -> None:
    synthesize(tmp_path / "s", 4, 5)
    arguments = [
        "accuracy", "ablate", str(tmp_path / "s" / "photos"),
        "--truth", str(tmp_path / "s" / "truth.parquet"),
        "-w", str(tmp_path / "w"), "--set", "align.joints=reference", "--set",
        "fit.orientation_prior=none,fit.initializations=2",
        "--json",
    ]  # fmt: skip
    result = CliRunner().invoke(make_app(), arguments)
    assert result.exit_code == 0, result.output
    usual, reference, blind = json.loads(result.stdout)
    assert usual["name"] == "default" and blind["settings"] == [
        "fit.orientation_prior=none",
        "fit.initializations=2",
    ]
    assert usual["people"] == reference["people"] == blind["people"] >= 2
    assert usual["moved"] == usual["better"] == usual["worse"] == 0
    assert 0 < reference["moved"] < 1 < blind["moved"] + 10 * blind["better"] + 10 * blind["worse"]
    assert np.isfinite(list(blind["labels"].values())).all()
    # Only what a setting concerns runs again.
    assert reference["seconds"] < usual["seconds"]


def command(photos, truth, workspace, *more):
    arguments = ["accuracy", "ablate", str(photos), "--truth", str(truth), "-w", str(workspace), *more]
    return CliRunner().invoke(make_app(), arguments)


def test_what_was_built_for_something_else_is_left_alone(tmp_path) -> None:
    synthesize(tmp_path / "s", 1, 5)
    photos, truth = tmp_path / "s" / "photos", tmp_path / "s" / "truth.parquet"
    mine = tmp_path / "mine"
    Workspace.open(mine, create=True).write_bytes("portraits/1.png", b"mine")
    before = sorted(mine.rglob("*"))
    result = command(photos, truth, mine)
    assert isinstance(result.exception, WorkspaceError) and "name a new folder" in str(result.exception)
    assert sorted(mine.rglob("*")) == before
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("mine")
    assert "name a new folder" in str(command(photos, truth, notes).exception)
    assert "is a file" in str(command(photos, truth, notes / "a.txt").exception)
    assert [path.name for path in notes.iterdir()] == ["a.txt"]


def test_photos_that_are_not_those_of_the_truth_are_told_first(tmp_path) -> None:
    synthesize(tmp_path / "s", 2, 5)
    synthesize(tmp_path / "other", 1, 6)
    for photos, there in ((tmp_path / "other" / "photos", 0), (tmp_path / "nowhere", 0)):
        result = command(photos, tmp_path / "s" / "truth.parquet", tmp_path / "w")
        assert isinstance(result.exception, WorkspaceError)
        assert f"holds {there} of the 2 photos" in str(result.exception)
    (tmp_path / "s" / "photos" / "000001.jpg").write_bytes(b"another")
    result = command(tmp_path / "s" / "photos", tmp_path / "s" / "truth.parquet", tmp_path / "w")
    assert "holds 1 of the 2" in str(result.exception) and "000001.jpg is another one" in str(
        result.exception
    )
    (tmp_path / "s" / "photos" / "000001.jpg").unlink()
    result = command(tmp_path / "s" / "photos", tmp_path / "s" / "truth.parquet", tmp_path / "w")
    assert "000001.jpg is missing" in str(result.exception)
    assert not (tmp_path / "w").exists()


def test_a_variant_that_leaves_nothing_is_named(tmp_path) -> None:
    synthesize(tmp_path / "s", 1, 5)
    result = command(
        tmp_path / "s" / "photos", tmp_path / "s" / "truth.parquet", tmp_path / "w",
        "--set", "ingest.min_side=5000,fit.initializations=1",
    )  # fmt: skip
    assert isinstance(result.exception, WorkspaceError)
    assert "variant 'ingest.min_side=5000,fit.initializations=1' leaves nothing" in str(result.exception)
    assert result.stdout.splitlines()[1].startswith("default")  # what was done before is shown


def test_a_setting_given_twice_is_told(tmp_path) -> None:
    result = command(
        tmp_path, tmp_path, tmp_path / "w", "--set", "fit.initializations=2", "--set", "fit.initializations=2"
    )
    assert isinstance(result.exception, ConfigError)
    assert "fit.initializations=2 is given twice" in str(result.exception)
    synthesize(tmp_path / "s", 1, 5)
    truth = tmp_path / "s" / "truth.parquet"
    result = command(
        tmp_path / "s" / "photos",
        truth,
        tmp_path / "w",
        "--set",
        "fit.initializations=1,fit.initializations=2",
    )
    assert isinstance(result.exception, ConfigError) and "fit.initializations is set twice" in str(
        result.exception
    )
    assert result.stdout == ""


def test_a_variant_that_does_not_exist_is_told_before_anything_is_labelled(tmp_path) -> None:
    synthesize(tmp_path / "s", 1, 5)
    arguments = [
        "accuracy", "ablate", str(tmp_path / "s" / "photos"),
        "--truth", str(tmp_path / "s" / "truth.parquet"),
        "-w", str(tmp_path / "w"), "--set", "fit.sideways=2",
    ]  # fmt: skip
    result = CliRunner().invoke(make_app(), arguments)
    assert isinstance(result.exception, ConfigError) and "sideways" in str(result.exception)
    assert not (tmp_path / "w").exists()
