"""Portraits for the metrics: drawn the same whatever the number of processes.

The work is cut into batches of fixed size; everything random of a batch comes from the seed and the batch's
number. So two processes measure what one measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist

from portraitgan.data.dataset import Batch, PortraitData
from portraitgan.inference.model import Model
from portraitgan.metrics.errors import MetricError
from portraitgan.networks import filters
from portraitgan.networks.discriminator import Portraits
from portraitgan.training.distributed import World

Poses = Literal["generator", "discriminator", "labels", "none"]
Conditioning = Literal["identical", "independent"]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Setting:
    """How generated portraits get their body pose and what the mapping network is told.

    Poses: `generator` predicts them from a latent of its own and the camera, `discriminator` from the real
    portrait that the camera is of (the paper's FID), `labels` are the coarse ones. Conditioning `identical`:
    the mapping network sees the camera and pose that are rendered; `independent`: those of another portrait,
    so that a network that learned one face a view does not profit.
    """

    poses: Poses
    conditioning: Conditioning

    @property
    def name(self) -> str:
        """For results."""
        return f"{self.poses}, {self.conditioning}"


def settings_of(model: Model) -> list[Setting]:
    """Every setting that the model's networks allow."""
    kinds: list[Poses] = ["none"]
    if model.config.generator.pose_conditioning:
        found: list[tuple[Poses, object]] = [
            ("generator", model.config.generator.pose_predictor),
            ("discriminator", model.config.discriminator.pose_predictor),
        ]
        kinds = [name for name, predictor in found if predictor is not None] or ["labels"]
    conditions: tuple[Conditioning, ...] = ("identical", "independent")
    return [Setting(kind, condition) for kind in kinds for condition in conditions]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A batch of generated portraits."""

    portraits: Portraits
    pixels: Tensor  # uint8 [N, 3, H, W]
    cameras: Tensor  # [N, 25] they were rendered with
    poses: Tensor | None  # [N, 6] they were rendered with


@torch.no_grad()
def drawn(
    model: Model,
    data: PortraitData,
    setting: Setting,
    count: int,
    batch: int,
    seed: int,
    world: World,
    done: Advance = lambda number: None,
) -> Iterator[Drawn]:
    """This process's share of `count` portraits: cameras drawn uniformly from `data`, truncation 1."""
    z_dim, rays = model.config.generator.z_dim, model.config.generator.render.resolution
    for number in shares(count, batch, world):
        size = min(batch, count - number * batch)
        random = np.random.default_rng([seed, number])
        z, pose_z, other_z = torch.from_numpy(random.standard_normal((3, size, z_dim)).astype(np.float32)).to(
            model.device
        )
        mine, other = random.integers(0, len(data), (2, size))
        cameras, poses = conditions(model, data, setting.poses, mine, pose_z)
        seen, held = cameras, poses
        if setting.conditioning == "independent":
            seen, held = conditions(model, data, setting.poses, other, other_z)
        noise = torch.Generator(model.device).manual_seed(int(random.integers(0, 2**62)))
        ws = model.generator.mapping(z, seen, held)
        rendered_from, _ = model.generator.moved_camera(z, cameras)
        made = model.generator.synthesis(
            ws, rendered_from, model.usable(poses), noise_mode="random", random=noise, resolution=rays
        )
        if not bool(torch.isfinite(made.image).all()):
            raise MetricError(f"the generator in {model.folder} makes numbers that are not finite")
        yield Drawn(made.portraits, to_pixels(made.image), cameras, poses)
        done(size)


def conditions(
    model: Model, data: PortraitData, poses: Poses, indices: NDArray[np.int64], z: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Cameras [N, 25] and body poses [N, 6] of the portraits at `indices`."""
    cameras, labels = (part.to(model.device) for part in data.labels(indices))
    if poses == "none":
        return cameras, None
    if poses == "labels":
        return cameras, labels
    if poses == "generator":
        return cameras, model.generator.predict_pose(z, cameras)
    return cameras, predicted_poses(model, data.batch(indices))


def predicted_poses(model: Model, batch: Batch) -> Tensor:
    """What the discriminator takes the real portraits' poses for, [N, 6] radians."""
    real = batch.to(model.device)
    return model.discriminator.predict_pose(real_portraits(model, real), real.cameras)


def real_portraits(model: Model, batch: Batch) -> Portraits:
    """What the discriminator sees of real portraits: image at H, raw image and mask at R (spec 4.5)."""
    side = model.config.generator.render.resolution
    image = filters.resize(batch.images.float() / 127.5 - 1, model.config.discriminator.image_resolution)
    return Portraits(image, filters.resize(image, side), filters.resize(batch.masks.float() / 255, side))


def to_pixels(image: Tensor) -> Tensor:
    """Images [N, 3, H, W] about -1..1 as uint8, rounded as the official code does (spec section 1.6)."""
    return (image.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def shares(count: int, batch: int, world: World) -> range:
    """Numbers of this process's batches of all."""
    return range(world.rank, math.ceil(count / batch), world.size)


def gathered(parts: list[NDArray[np.float32]], world: World) -> NDArray[np.float32]:
    """All processes' batches in the order of one process, [N, ...]. Every process must call this."""
    if world.size == 1:
        return np.concatenate(parts)
    everybody: list[list[NDArray[np.float32]] | None] = [None] * world.size
    dist.all_gather_object(everybody, parts)
    lists = [part for part in everybody if part is not None]
    longest = max(len(part) for part in lists)
    return np.concatenate([part[i] for i in range(longest) for part in lists if i < len(part)])
