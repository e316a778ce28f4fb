"""A small release whose truth is known, and a run of seeded random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import release as bench
from phq_data.release.build import ReleaseOptions, build
from phq_data.release.splits import SplitShares
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace
from portraitgan.checkpoints import weights
from portraitgan.config import ModelConfig
from portraitgan.data.dataset import PortraitData
from portraitgan.inference.model import Model, open_model
from portraitgan.presets import tiny, without_pose_predictors
from portraitgan.training.distributed import World

ROWS, SIZE = 40, 32
BIAS = np.radians([0, 5, 0, 0, 0, -10])
"""Labels minus truth."""


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Portraits of 32 pixels; the truth of every other one is known."""
    folder = tmp_path_factory.mktemp("release")
    bench.make_workspace(folder, ROWS, SIZE)
    workspace = Workspace.open(folder)
    rows = workspace.table("portraits", ["portrait_id", "camera", "pose"]).to_pylist()
    truth = {
        row["portrait_id"]: {"truth_camera": row["camera"], "truth_pose": (row["pose"] - BIAS).tolist()}
        for row in sorted(rows, key=lambda row: row["portrait_id"])[::2]
    }
    options = ReleaseOptions(unreviewed=True, created="2026-01-01", shares=SplitShares(1, 0, 0))
    build(workspace, folder / "releases", "1.0.0", options, truth=truth)
    return str(folder / "releases" / "1.0.0")


@pytest.fixture
def data(release: str) -> PortraitData:
    return PortraitData.open(release, SIZE)


def write_run(folder: Path, rig: PortraitRig, config: ModelConfig) -> Path:
    torch.manual_seed(5)
    checkpoint = folder / "checkpoints" / "kimg-000004"
    checkpoint.mkdir(parents=True)
    generator, discriminator = weights.make_generator(config), weights.make_discriminator(config)
    generator.backbone.mapping.w_avg.normal_(0, 0.1)
    weights.write_config(checkpoint, config)
    for name, network in (("generator_ema", generator), ("discriminator_ema", discriminator)):
        weights.write_tensors(checkpoint / f"{name}.safetensors", network.state_dict())
    (folder / "latest").write_text("kimg-000004\n")
    rig.save(folder / "rig.safetensors")
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, make_bust: Callable[..., PortraitRig]) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", make_bust(24, 16), tiny())


@pytest.fixture(scope="session")
def coarse_run(tmp_path_factory: pytest.TempPathFactory, make_bust: Callable[..., PortraitRig]) -> Path:
    """A run without pose predictors."""
    config = without_pose_predictors(tiny())
    return write_run(tmp_path_factory.mktemp("coarse") / "run", make_bust(24, 16), config)


@pytest.fixture(scope="session")
def model(run: Path) -> Model:
    return open_model(run, device="cpu")


@pytest.fixture(scope="session")
def coarse_model(coarse_run: Path) -> Model:
    return open_model(coarse_run, device="cpu")


@pytest.fixture(scope="session")
def alone() -> World:
    return World(0, 1, torch.device("cpu"))
