"""A pass of the generator in training: what it starts from, what is swapped and random, what it makes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from portraitgan.config import LossConfig
from portraitgan.networks.discriminator import ONE_MICRO_BATCH, Arrangement
from portraitgan.networks.generator import Generated, Generator
from portraitgan.networks.layers import NoiseMode
from portraitgan.rendering.random_numbers import Random
from portraitgan.rendering.rays import RayDraws


@dataclass(frozen=True)
class Conditions:
    """What a generator pass starts from: a latent, and camera and coarse pose of one dataset entry."""

    z: Tensor  # [B, z_dim]
    camera: Tensor  # [B, 25]
    coarse_pose: Tensor  # [B, 6] radians
    arrangement: Arrangement = ONE_MICRO_BATCH
    views: int = 1  # so many micro-batches, one after another, show the same people from other cameras


@dataclass(frozen=True)
class Swaps:
    """Which samples take another sample's conditioning or background ([B], bool)."""

    condition: Tensor
    background: Tensor


@dataclass(frozen=True)
class Schedule:
    """What changes during training, at one moment."""

    condition_swap: float = 0.7  # probability
    blur_sigma: float = 0.0  # pixels
    density_noise: float | Tensor = 0.0  # standard deviation
    pose_regulariser: float | Tensor = 0.0  # 0..1, multiplies `LossConfig.pose_regulariser`
    resolution: int | None = None  # neural rendering resolution; none: the generator's own
    blur_taps: Tensor | None = None  # [K]; none: those of `blur_sigma`


@dataclass(frozen=True)
class PassRandomness:
    """What is random in one generator pass; what is none is drawn."""

    swaps: Swaps | None = None
    draws: RayDraws | None = None
    noise_mode: NoiseMode = "random"
    random: Random = None


@dataclass(frozen=True)
class GeneratorPass:
    """What a generator pass made."""

    generated: Generated
    pose: Tensor | None  # [B, 6] radians they were rendered in
    camera_offset: Tensor | None  # [B, 3] metres, of models that learn it


def run_generator(
    generator: Generator,
    conditions: Conditions,
    schedule: Schedule,
    config: LossConfig,
    randomness: PassRandomness | None = None,
    update_w_avg: bool = False,
) -> GeneratorPass:
    """Portraits and their poses with swapped conditioning and backgrounds (equations 5 and 6).

    A swapped sample is conditioned on the camera and pose of its predecessor in the micro-batch, so that the
    styles cannot encode what the camera will see; it is rendered with its own. Without a pose predictor the
    coarse poses are used, and none at all if the generator knows no poses. Several views of a person share
    styles, conditioned on the first of them, and the tri-grid, which is made once.
    """
    randomness = randomness or PassRandomness()
    z, camera, micro = conditions.z, conditions.camera, conditions.arrangement.micro
    pose = rendered_pose(generator, conditions)
    swaps = randomness.swaps or draw_swaps(len(z), schedule, config, z.device)
    planes: Tensor | None = None
    if conditions.views == 1:
        ws = swapped_styles(generator, conditions, pose, swaps, update_w_avg)
    else:
        shown = _Views(conditions)
        ws = swapped_styles(generator, *shown.people(pose, swaps), update_w_avg)
        made = generator.planes(ws, randomness.noise_mode, shown.random(randomness.random))
        ws, planes = shown.repeated(ws), shown.repeated(made)
    background_ws = torch.where(swaps.background[:, None, None], predecessors(ws, micro), ws)
    rendered_from, offset = generator.moved_camera(z, camera)
    generated = generator.synthesis(
        ws,
        rendered_from,
        pose,
        background_ws=background_ws,
        resolution=schedule.resolution,
        noise_mode=randomness.noise_mode,
        draws=randomness.draws,
        random=randomness.random,
        density_noise=schedule.density_noise,
        planes=planes,
    )
    return GeneratorPass(generated, pose, offset)


def rendered_pose(generator: Generator, conditions: Conditions) -> Tensor | None:
    """Poses [B, 6] that `conditions` are rendered in; none if the generator knows no poses."""
    if generator.pose_branch is not None:
        return generator.predict_pose(conditions.z, conditions.camera)
    return conditions.coarse_pose if generator.config.pose_conditioning else None


def swapped_styles(
    generator: Generator,
    conditions: Conditions,
    pose: Tensor | None,  # [B, 6]
    swaps: Swaps,
    update_w_avg: bool = False,
) -> Tensor:
    """Styles [B, styles, w_dim], conditioned on the predecessor's camera and pose where `swaps` says so."""
    camera, micro = conditions.camera, conditions.arrangement.micro
    seen_camera = torch.where(swaps.condition[:, None], predecessors(camera, micro), camera)
    seen_pose = None
    if pose is not None:
        seen_pose = torch.where(swaps.condition[:, None], predecessors(pose, micro), pose)
    return generator.mapping(conditions.z, seen_camera, seen_pose, update_w_avg=update_w_avg)


def draw_swaps(batch: int, schedule: Schedule, config: LossConfig, device: torch.device) -> Swaps:
    """Fresh swap decisions."""
    return Swaps(
        torch.rand(batch, device=device) < schedule.condition_swap,
        torch.rand(batch, device=device) < config.background_swap,
    )


def predecessors(values: Tensor, micro: int | None = None) -> Tensor:
    """[B, ...] with every sample's predecessor in its micro-batch; the first one's is the last one."""
    if micro is None:
        return values.roll(1, 0)
    return values.reshape(-1, micro, *values.shape[1:]).roll(1, 1).flatten(0, 1)


class _Views:
    """People who are each seen from several cameras: the layout of a batch [G * views * micro]."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions, self.views = conditions, conditions.views
        self.micro = conditions.arrangement.micro or len(conditions.z) // conditions.views

    def people(self, pose: Tensor | None, swaps: Swaps) -> tuple[Conditions, Tensor | None, Swaps]:
        """Conditions, poses and swaps of everybody's first view."""
        given, first = self.conditions, self._first
        arrangement = replace(given.arrangement, micro=self.micro, mirrored=None, padded=False)
        people = Conditions(first(given.z), first(given.camera), first(given.coarse_pose), arrangement)
        chosen = Swaps(first(swaps.condition), first(swaps.background))
        return people, None if pose is None else first(pose), chosen

    def repeated(self, values: Tensor) -> Tensor:
        """[G * micro, ...] for every view, [G * views * micro, ...]."""
        grouped = values.reshape(-1, 1, self.micro, *values.shape[1:])
        return grouped.expand(-1, self.views, *grouped.shape[2:]).flatten(0, 2)

    def random(self, random: Random) -> Random:
        """The generators of the first views, where every micro-batch has its own."""
        return random if random is None or isinstance(random, torch.Generator) else random[:: self.views]

    def _first(self, values: Tensor) -> Tensor:
        """[G * views * micro, ...] to [G * micro, ...]."""
        return values.reshape(-1, self.views, self.micro, *values.shape[1:])[:, 0].flatten(0, 1)
