"""Poses of real portraits: which row is whose, and that `--like` takes view and pose from one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from benchmarks import release as bench
from phq_data.release import reader
from phq_data.release.build import ReleaseOptions, build
from phq_data.workspace import Workspace
from portraitgan.commands.main import main
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.model import Model
from portraitgan.inference.portraits import discriminator_inputs, open_portraits
from portraitgan.inference.predict import differences, predict
from portraitgan.networks.discriminator import Portraits

ROWS = 10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace and a release of it."""
    folder = tmp_path_factory.mktemp("data")
    bench.make_workspace(folder / "workspace", ROWS, 48)
    options = ReleaseOptions(unreviewed=True, created="2026-01-01")
    build(Workspace.open(folder / "workspace"), folder / "releases", "1.0.0", options)
    return folder


def test_rows_are_the_portraits_in_any_batch(model: Model, data: Path) -> None:
    source = open_portraits(str(data / "releases" / "1.0.0"))
    table = predict(model, source.stream(), batch=4)
    other = predict(model, source.stream(), batch=1)
    assert table.num_rows == source.count() > 5
    assert table["portrait_id"].to_pylist() == other["portrait_id"].to_pylist()
    assert np.allclose(table["pose"].to_pylist(), other["pose"].to_pylist(), atol=1e-5)

    release = reader.open(data / "releases" / "1.0.0")
    for row in table.slice(0, 3).to_pylist():
        released = release.find(row["portrait_id"])
        assert released is not None
        assert np.allclose(row["label_pose"], released["pose"])
        assert row["yaw"] == pytest.approx(released["yaw"], abs=1e-4)
        one = source.find(row["portrait_id"])
        expected = model.discriminator.predict_pose(
            discriminator_inputs([one], model.config, model.device), one.camera
        )
        assert np.allclose(row["pose"], expected[0].numpy(), atol=1e-5)


def test_discriminator_sees_what_training_shows_it(model: Model, data: Path) -> None:
    """Image at H in -1..1, raw and mask antialiased to R, the mask in 0..1."""
    one = next(open_portraits(str(data / "releases" / "1.0.0")).stream())
    seen = discriminator_inputs([one], model.config, torch.device("cpu"))
    assert isinstance(seen, Portraits) and seen.mask is not None
    assert seen.image.shape == (1, 3, 32, 32) and seen.raw.shape == (1, 3, 8, 8)
    image = torch.from_numpy(one.image.astype(np.float32)).permute(2, 0, 1)
    assert torch.allclose(seen.image.mean(), image.mean() / 127.5 - 1, atol=0.02)
    assert torch.allclose(seen.raw.mean(), seen.image.mean(), atol=0.02)
    assert float(seen.mask.mean()) == pytest.approx(one.mask.mean() / 255, abs=0.02)


def test_workspaces_give_the_portraits_that_were_kept(data: Path) -> None:
    source = open_portraits(str(data / "workspace"))
    kept = Workspace.open(data / "workspace").kept(["portrait_id"])["portrait_id"].to_pylist()
    assert [one.portrait_id for one in source.stream()] == kept
    assert source.count() == len(kept)
    assert source.find(kept[2][:20]).portrait_id == kept[2]
    with pytest.raises(InferenceError, match="no portrait"):
        source.find("zz")
    with pytest.raises(InferenceError, match="no splits"):
        next(source.stream("train"))


def test_neither_release_nor_workspace(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="neither a release nor a workspace"):
        open_portraits(str(tmp_path))


def test_differences_are_degrees(model: Model, data: Path) -> None:
    table = predict(model, open_portraits(str(data / "releases" / "1.0.0")).stream())
    found = differences(table, "label_pose")
    assert found is not None
    expected = np.degrees(np.array(table["pose"].to_pylist()) - np.array(table["label_pose"].to_pylist()))
    assert np.allclose(found, expected)


def test_command_writes_parquet_and_csv(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = str(data / "releases" / "1.0.0")
    assert main(["predict-pose", str(run), release, str(tmp_path / "a.parquet")]) == 0
    assert "to label: mean" in capsys.readouterr().out
    table = pq.read_table(tmp_path / "a.parquet")
    assert main(["predict-pose", str(run), release, str(tmp_path / "a.csv"), "--limit", "3"]) == 0
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    first = table.to_pylist()[0]
    assert rows[0]["portrait_id"] == first["portrait_id"]
    assert float(rows[0]["head_y_deg"]) == pytest.approx(np.degrees(first["pose"][4]), rel=1e-4)
    assert main(["predict-pose", str(run), release, str(tmp_path / "a.txt")]) == 1
    assert main(["predict-pose", str(run), release, str(tmp_path / "b.csv"), "--split", "none"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.parquet"]


def test_like_shows_the_portrait_and_people_in_its_view(run: Path, data: Path, tmp_path: Path) -> None:
    source = open_portraits(str(data / "workspace"))
    one = next(source.stream())
    arguments = [
        "sample",
        str(run),
        str(tmp_path / "a.png"),
        "--match-portrait",
        one.portrait_id,
        "--seeds",
        "0-2",
    ]
    assert main([*arguments, "--data", str(data / "workspace"), "--size", "48"]) == 0
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels.shape == (98, 98, 3)
    assert np.array_equal(pixels[:48, :48], one.image)

    model_like = ["sample", str(run), str(tmp_path / "b.png"), "--seeds", "0", "--size", "48"]
    label = " ".join(str(float(value)) for value in one.camera[0])
    assert main([*model_like, "--camera", label]) == 0
    undeformed = np.asarray(Image.open(tmp_path / "b.png"))
    assert not np.array_equal(pixels[:48, 50:], undeformed)  # the predicted pose is rendered
