"""A run folder with random weights, and a generator whose volume is a known shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from phq_data.rig import PortraitRig
from portraitgan.checkpoints import weights
from portraitgan.config import ModelConfig
from portraitgan.inference.model import Model, open_model
from portraitgan.presets import tiny

Shape = Callable[[Tensor], Tensor]
"""Points [..., 3] in metres to raw densities [...]."""


def write_run(folder: Path, rig: PortraitRig | None, config: ModelConfig | None = None) -> Path:
    """A run folder with one checkpoint of seeded random weights."""
    torch.manual_seed(3)
    config = config or tiny()
    checkpoint = folder / "checkpoints" / "kimg-000012"
    checkpoint.mkdir(parents=True)
    generator, discriminator = weights.make_generator(config), weights.make_discriminator(config)
    generator.backbone.mapping.w_avg.normal_(0, 0.1)
    weights.write_config(checkpoint, config)
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        for suffix in ("", "_ema"):
            weights.write_tensors(checkpoint / f"{name}{suffix}.safetensors", network.state_dict())
    (folder / "latest").write_text("kimg-000012\n")
    if rig is not None:
        rig.save(folder / "rig.safetensors")
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, make_bust: Callable[..., PortraitRig]) -> Path:
    """A `tiny` run with a rig."""
    return write_run(tmp_path_factory.mktemp("run"), make_bust(24, 16))


@pytest.fixture
def model(run: Path) -> Model:
    """The run, opened anew for every test."""
    return open_model(run, device="cpu")


class AnalyticDecoder(nn.Module):
    """Instead of the MLP: 'features' are the canonical points themselves."""

    linear_color = False

    def __init__(self, density: Shape, channels: int) -> None:
        super().__init__()
        self._density = density
        self._channels = channels

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Red where x > 0 (the subject's left), green above the neck, blue where z > 0 (in front)."""
        color = (points > 0).to(points.dtype)
        padding = points.new_zeros(*points.shape[:-1], self._channels - 3)
        return self._density(points), torch.cat([color, padding], dim=-1)


@dataclass(frozen=True)
class AnalyticVolume:
    """Stands in for `rendering.renderer.Volume`."""

    decoder: AnalyticDecoder
    config: object

    def features(self, points: Tensor) -> Tensor:
        return points

    def crop(self, densities: Tensor, points: Tensor) -> Tensor:
        return densities


@pytest.fixture
def analytic(model: Model) -> Callable[[Shape], Model]:
    """The run's model with the volume of a formula, no background, and colors straight from the volume."""

    def make(density: Shape) -> Model:
        generator = model.generator
        generator.torgb = None
        generator.bcg_synthesis = None
        decoder = AnalyticDecoder(density, model.config.generator.grid.features)
        volume: Any = AnalyticVolume(decoder, model.config.generator.render)
        generator.volume = lambda planes, points, plain=False: volume  # type: ignore[misc,assignment]
        return replace(model)

    return make


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Shape:
    """Raw density 1,010 inside, 10 at the surface, -990 outside, all within a centimetre."""

    def density(points: Tensor) -> Tensor:
        local = (points - points.new_tensor(centre)) / points.new_tensor(radii)
        signed = (1 - local.norm(dim=-1)) * float(np.mean(radii))
        return (10 + 200_000 * signed).clamp(-990, 1010)

    return density


@pytest.fixture(scope="session")
def make_ellipsoid() -> Callable[..., Shape]:
    """`ellipsoid`, for tests."""
    return ellipsoid


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """`write_run`, for tests."""
    return write_run
