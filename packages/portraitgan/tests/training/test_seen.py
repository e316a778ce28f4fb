"""A run says which portraits of which release it was given, for those who ask later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from phq_data.errors import ReleaseError
from phq_data.release.trace import trace
from portraitgan.data.dataset import PortraitData
from portraitgan.training import seen
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.run import open_run

pytestmark = pytest.mark.training


def test_a_run_records_its_portraits_once_and_is_found_by_them(
    small: TrainConfig, data: PortraitData, release: Path, tmp_path: Path
) -> None:
    alone = World(0, 1, torch.device("cpu"))
    run = open_run(tmp_path / "run", small, data, alone, lambda _: None)
    run.images = run.iteration = 8
    run.save()
    open_run(tmp_path / "run", small, data, alone, lambda _: None)
    [entry] = json.loads((tmp_path / "run" / seen.FILE).read_text())["data"]
    table = data.release.split("train").metadata(["portrait_id"])
    assert entry["portraits"] == sorted(table["portrait_id"].to_pylist())
    assert (entry["release"], entry["split"], entry["images"]) == (data.checksum, "train", 0)
    [found] = trace(str(release.parent), [("portrait", entry["portraits"][0])], [tmp_path]).runs
    assert found.portraits == 1 and [Path(one).name for one in found.checkpoints] == ["kimg-000000.008"]
    with pytest.raises(ReleaseError, match="no run knows"):
        trace(str(release.parent), [("portrait", "0" * 32)], [tmp_path])


def test_another_choice_of_portraits_and_weights_to_start_from_are_recorded(
    data: PortraitData, release: Path, tmp_path: Path
) -> None:
    other = PortraitData.open(release, data.resolution, split="all")
    seen.record(tmp_path, data, 0, tmp_path / "first" / "checkpoints" / "x")
    seen.record(tmp_path, data, 16, tmp_path / "never")
    seen.record(tmp_path, other, 24, None)
    first, second = json.loads((tmp_path / seen.FILE).read_text())["data"]
    assert first["weights"].endswith("first/checkpoints/x") and second["weights"] == ""
    assert (first["images"], second["images"], second["split"]) == (0, 24, "all")
    (tmp_path / seen.FILE).write_text("{")
    seen.record(tmp_path, data, 32, None)
    [entry] = json.loads((tmp_path / seen.FILE).read_text())["data"]
    assert entry["images"] == 32 and (tmp_path / f"damaged-{seen.FILE}").exists()
