"""A small release of made-up portraits with a body, and a config small enough to train in a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import release as bench
from phq_data.release.build import ReleaseOptions, build
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace
from portraitgan.config import SuperResolutionConfig, SynthesisConfig
from portraitgan.data.dataset import PortraitData
from portraitgan.training.config import (
    BatchConfig,
    OutputConfig,
    StageConfig,
    TrainConfig,
    tiny,
)

ROWS, SIZE = 24, 32
TOY = 16
"""Pixels of what is trained here: the release is larger, for commands that train `tiny`."""


def toy() -> TrainConfig:
    """Preset `tiny` with thinner networks at 16 pixels: an iteration takes a quarter of a second."""
    base = tiny()
    generator = replace(
        base.model.generator,
        image_resolution=TOY,
        backbone=SynthesisConfig(TOY, 128, 8),
        background=SynthesisConfig(8, 64, 8),
        superresolution=SuperResolutionConfig(8, (8, 8)),
        render=replace(base.model.generator.render, coarse_samples=4, fine_samples=4, resolution=4),
        deformation=replace(base.model.generator.deformation, table_resolution=16),
    )
    discriminator = replace(base.model.discriminator, image_resolution=TOY, channel_base=128, channel_max=16)
    return replace(base, model=replace(base.model, generator=generator, discriminator=discriminator))


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory, make_bust: Callable[..., PortraitRig]) -> Path:
    """A release of 24 portraits of 32 pixels."""
    folder = tmp_path_factory.mktemp("training-release")
    bench.make_workspace(folder / "workspace", ROWS, SIZE)
    workspace = Workspace.open(folder / "workspace")
    workspace.write_bytes("rig.safetensors", make_bust(16, 12).to_bytes())
    build(workspace, folder / "releases", "1.0.0", ReleaseOptions(unreviewed=True, created="2026-01-01"))
    return folder / "releases" / "1.0.0"


@pytest.fixture(scope="session")
def data(release: Path) -> PortraitData:
    """Its training portraits, at the size of `toy`."""
    return PortraitData.open(release, TOY)


@pytest.fixture(scope="session")
def make_toy() -> Callable[[], TrainConfig]:
    """`toy`, for tests."""
    return toy


@pytest.fixture(scope="session")
def small() -> TrainConfig:
    """Three short stages of batches of 8 in micro-batches of 4: 24 + 16 + 24 images."""
    base = toy()
    return replace(
        base,
        stages=(
            StageConfig("1", 0.024, True, 4, 4),
            StageConfig("2", 0.040, False, 4, 4),
            StageConfig("3", 0.064, False, 6, 4, 0.016),
        ),
        schedule=replace(base.schedule, blur_kimg=0.04, density_noise_kimg=0.04, condition_swap_kimg=0.1),
        optimiser=replace(base.optimiser, r1_interval=2),
        batch=BatchConfig(8, 4),
        output=OutputConfig(0.016, 0.032, 0.016, 0.032, 1, trackers=()),
    )
