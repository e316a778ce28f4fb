"""Comparing settings on the same photos."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from phq_data import accuracy_compare
from phq_data.cli import make_app
from phq_data.config import ConfigError, default
from phq_data.sources.synthetic import synthesize


def test_every_usual_variant_is_a_setting_that_exists() -> None:
    assert next(iter(accuracy_compare.VARIANTS.values())) == ()  # what the others are compared with
    for settings in accuracy_compare.VARIANTS.values():
        config = default()
        for assignment in settings:
            config = config.replace_setting(assignment)
        assert (config != default()) == bool(settings)


@pytest.mark.slow
def test_variants_are_measured_on_the_same_people(tmp_path) -> None:
    synthesize(tmp_path / "s", 4, 5)
    arguments = [
        "accuracy-compare", str(tmp_path / "s" / "photos"), "--truth", str(tmp_path / "s" / "truth.parquet"),
        "-w", str(tmp_path / "w"), "--set", "align.joints=reference", "--set", "fit.view=none,fit.starts=2",
        "--json",
    ]  # fmt: skip
    result = CliRunner().invoke(make_app(), arguments)
    assert result.exit_code == 0, result.output
    usual, reference, blind = json.loads(result.stdout)
    assert usual["name"] == "default" and blind["settings"] == ["fit.view=none", "fit.starts=2"]
    assert usual["people"] == reference["people"] == blind["people"] >= 2
    assert usual["moved"] == usual["better"] == usual["worse"] == 0
    assert 0 < reference["moved"] < 1 < blind["moved"] + 10 * blind["better"] + 10 * blind["worse"]
    assert np.isfinite(list(blind["labels"].values())).all()
    # Only what a setting concerns runs again.
    assert reference["seconds"] < usual["seconds"]


def test_a_variant_that_does_not_exist_is_told_before_anything_is_labelled(tmp_path) -> None:
    synthesize(tmp_path / "s", 1, 5)
    arguments = [
        "accuracy-compare", str(tmp_path / "s" / "photos"), "--truth", str(tmp_path / "s" / "truth.parquet"),
        "-w", str(tmp_path / "w"), "--set", "fit.sideways=2",
    ]  # fmt: skip
    result = CliRunner().invoke(make_app(), arguments)
    assert isinstance(result.exception, ConfigError) and "sideways" in str(result.exception)
    assert not (tmp_path / "w").exists()
