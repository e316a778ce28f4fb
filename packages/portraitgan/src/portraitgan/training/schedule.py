"""What holds at one moment of a run: the stage, the fading regularisers, the neural rendering resolution, the
decay of the EMA.

Everything is a function of the number of images seen, so a resumed run needs no memory of its schedules
(table 1 of the paper, spec section 5.6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from portraitgan.config import ModelConfig
from portraitgan.training.config import StageConfig, TrainConfig
from portraitgan.training.generator_pass import Schedule
from portraitgan.training.losses import pose_regulariser_strength


@dataclass(frozen=True)
class ScheduleState:
    """What holds at one moment of a run."""

    stage: StageConfig
    stage_index: int
    schedule: Schedule
    ema_decay: float  # of both EMAs in one iteration


def at(config: TrainConfig, images: int) -> ScheduleState:
    """What holds for the iteration that starts after `images` images."""
    index = stage_index(config, images)
    stage = config.stages[index]
    fades = config.schedule
    swap = 1 - (1 - fades.condition_swap) * _progress(images, fades.condition_swap_kimg)
    schedule = Schedule(
        condition_swap=swap,
        blur_sigma=fades.blur_sigma * (1 - _progress(images, fades.blur_kimg)),
        density_noise=fades.density_noise * (1 - _progress(images, fades.density_noise_kimg)),
        pose_regulariser=pose_regulariser_strength(images, config.model.loss),
        resolution=resolution_at(stage, images - stage_start(config, index)),
    )
    return ScheduleState(stage, index, schedule, ema_decay(config, images))


def model_at(config: TrainConfig, images: int) -> ModelConfig:
    """The networks' config as inference should use it after `images` images, at the resolution of then."""
    generator = config.model.generator
    side = at(config, images).schedule.resolution or generator.render.resolution
    rendered = replace(generator, render=replace(generator.render, resolution=side))
    return replace(config.model, generator=rendered)


def stage_index(config: TrainConfig, images: int) -> int:
    """The stage that holds after `images` images; after the last one's end, the last."""
    for index in range(len(config.stages)):
        if images < stage_end(config, index):
            return index
    return len(config.stages) - 1


def stage_start(config: TrainConfig, index: int) -> int:
    """After how many images stage `index` starts."""
    return stage_end(config, index - 1) if index else 0


def stage_end(config: TrainConfig, index: int) -> int:
    """After how many images stage `index` ends."""
    return round(config.stages[index].until_kimg * 1000)


def resolution_at(stage: StageConfig, images: int) -> int:
    """Neural rendering resolution after `images` images of the stage; every integer in between occurs."""
    share = _progress(max(images, 0), stage.resolution_fade_kimg)
    return round(stage.resolution_start * (1 - share) + stage.resolution * share)


def ema_decay(config: TrainConfig, images: int) -> float:
    """0.5 ** (batch / half-life), where the half-life is at most a share of the images seen."""
    half_life = min(config.ema.half_life, config.ema.ramp * images)
    return math.pow(0.5, config.batch.size / max(half_life, 1e-8))


def _progress(images: int, kimg: float) -> float:
    """0..1 over the first `kimg` thousand images; 1 at once for a span of 0."""
    return min(1.0, images / (kimg * 1000)) if kimg > 0 else 1.0
