"""What a training run is: the networks, the stages, schedules, optimisers, batches, what is written when.

One frozen `TrainConfig`, written to `RUN/config.json` and read back strictly. Sizes in images are given in
kimg (thousands of images shown to the discriminator). The numbers of the presets for the paper are those of
its README commands and of the code's defaults (spec sections 5.6-5.9).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from phq_data import typed_json
from phq_data.typed_json import ConfigError
from portraitgan import config as models
from portraitgan import presets
from portraitgan.config import ModelConfig
from portraitgan.data.balance import Balance

VERSION = 6

RENAMED = {"average": "ema"}
"""Sections of version 1 and what they are called since."""
MIGRATIONS: typed_json.Migrations = {
    1: lambda data: {RENAMED.get(name, name): value for name, value in data.items()},
    2: lambda data: {**data, "batch": {**data["batch"], "per_pass": 0}},
    3: lambda data: {**data, "model": models.MIGRATIONS[1](data["model"])},
    4: lambda data: _to_5(data),
    5: lambda data: {**data, "model": models.MIGRATIONS[3](data["model"])},
}

_SINCE_5: Mapping[str, Mapping[str, Any]] = {
    "optimiser": {"density_interval": 4},
    "batch": {"views_per_person": 1},
    "output": {"fid_kimg": 0.0, "fid_images": 5000},
    "data": {"balance": "none", "back_repeat": 1},
}
"""What version 5 added, with the values that leave a run of version 4 as it was."""


def _to_5(data: dict[str, Any]) -> dict[str, Any]:
    grown = {name: {**data[name], **added} for name, added in _SINCE_5.items()}
    return {**data, **grown, "model": models.MIGRATIONS[2](data["model"])}


@dataclass(frozen=True)
class StageConfig:
    """One stage: what is trained until how many images, at how many rays."""

    name: str = "1"
    until_kimg: float = 6000.0  # the stage ends when the run has seen so much, counted from its first image
    train_pose_predictor: bool = True  # the generator's; frozen, it still conditions and poses
    resolution: int = 64  # neural rendering resolution at the end of the stage
    resolution_start: int = 64  # ... at its start
    resolution_fade_kimg: float = 1000.0  # how long the change between the two takes; every integer occurs


@dataclass(frozen=True)
class ScheduleConfig:
    """What fades over the first images of the run (table 1, spec section 5.6)."""

    condition_swap: float = 0.7  # probability in the end; starts at 1
    condition_swap_kimg: float = 1000.0
    blur_sigma: float = 10.0  # pixels at the first image; fades to 0
    blur_kimg: float = 200.0
    density_noise: float = 1.0  # standard deviation at the first image; fades to 0
    density_noise_kimg: float = 200.0


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam of both networks. The discriminator's is corrected for R1 being lazy (spec section 5.7)."""

    generator_rate: float = 0.0025
    discriminator_rate: float = 0.002
    beta1: float = 0.0
    beta2: float = 0.99
    epsilon: float = 1e-8
    r1_interval: int = 16  # iterations; the penalty is multiplied by it
    density_interval: int = 4  # the same of the density regulariser, where `loss.density` is not 0


@dataclass(frozen=True)
class EmaConfig:
    """Exponential moving averages (EMA) of the weights of both networks."""

    half_life: float = 10_000.0  # images
    ramp: float = 0.05  # the half-life is at most this share of the images seen


@dataclass(frozen=True)
class BatchConfig:
    """How many portraits an iteration sees.

    The micro-batch is part of the method, not only of the memory: minibatch statistics and the swaps of
    condition and background happen inside one. Any number of processes gives the same numbers, and so does
    any number of micro-batches that go through the networks together, up to rounding.
    """

    size: int = 32
    micro: int = 4
    views_per_person: int = 1
    """A generated tri-grid is rendered from so many cameras, each in a micro-batch of its own: minibatch
    statistics would tell two portraits of the same person."""
    per_pass: int = field(default=0, compare=False)
    """Micro-batches that go together; 0: as many as fit a GPU's memory, 1 on a CPU. A matter of the machine:
    a run may be continued with another number."""


@dataclass(frozen=True)
class OutputConfig:
    """What is written when."""

    status_kimg: float = 4.0  # a status line and a row of statistics
    checkpoint_kimg: float = 200.0  # kept for good
    latest_kimg: float = 20.0  # kept until two newer ones exist
    snapshot_kimg: float = 100.0  # a sheet of images
    snapshot_portraits: int = 8  # rows of the sheet, each with its mirrored twin
    trackers: tuple[str, ...] = ("tensorboard",)  # also wandb, mlflow; one that is not installed is announced
    fid_kimg: float = 0.0  # FID of the EMA; the best checkpoint is kept and named. 0: never
    fid_images: int = 5000  # generated portraits for it


@dataclass(frozen=True)
class DataConfig:
    """How the release is read."""

    split: str = "train"
    mirror: bool = True  # every portrait also left-right mirrored
    balance: Balance = "none"  # yaw: rare sides are dealt as often as common ones
    back_repeat: int = 1  # how often portraits from behind (yaw of 90 degrees and more) are there
    workers: int = 3  # decoding processes of each training process


@dataclass(frozen=True)
class GuardConfig:
    """When a run that has gone wrong stops by itself."""

    max_bad_steps: int = 50  # consecutive iterations whose losses or gradients are not finite


@dataclass(frozen=True)
class TrainConfig:
    """A whole run."""

    version: int = VERSION
    name: str = "paper_512"
    model: ModelConfig = field(default_factory=ModelConfig)
    stages: tuple[StageConfig, ...] = (StageConfig(),)
    schedule: ScheduleConfig = ScheduleConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    ema: EmaConfig = EmaConfig()
    batch: BatchConfig = BatchConfig()
    output: OutputConfig = OutputConfig()
    data: DataConfig = DataConfig()
    guard: GuardConfig = GuardConfig()
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def to_json(self) -> str:
        """The config as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Read `to_json`'s text, of this version or an older one. Raises `ConfigError` saying why not."""
        data = typed_json.parsed(text)
        version = data.get("version") if isinstance(data, dict) else None
        if not isinstance(version, int):
            raise ConfigError("the config has no version: is it the config.json of a training run?")
        data = typed_json.upgraded(data, version, VERSION, MIGRATIONS)
        return typed_json.read(cls, {**data, "version": VERSION}, complete=True)


def with_values(config: TrainConfig, values: Mapping[str, str]) -> TrainConfig:
    """`config` with fields set by dotted paths, as in `{"batch.size": "16", "stages.0.until_kimg": "100"}`.

    Values are JSON; what is not JSON is text. Raises `ConfigError` naming an unknown path or a wrong type.
    """
    data = typed_json.plain(config)
    for path, text in values.items():
        typed_json.assign(TrainConfig, data, path, typed_json.value_of(text))
    return typed_json.read(TrainConfig, data)


def _paper(model: ModelConfig) -> TrainConfig:
    """The paper's three stages (table 1)."""
    stages = (
        StageConfig("1", 6000.0, True, 64, 64),
        StageConfig("2", 10_000.0, False, 64, 64),
        StageConfig("3", 13_000.0, False, 128, 64, 1000.0),
    )
    return TrainConfig(name=model.name, model=model, stages=stages)


def paper_512() -> TrainConfig:
    """The released 512x512 models."""
    return _paper(presets.paper_512())


def paper_256() -> TrainConfig:
    """The paper's configuration: 256x256 training images."""
    return _paper(presets.paper_256())


def paper_128() -> TrainConfig:
    """The smallest official super-resolution variant; its rays end at the size of its backbone's input."""
    base = _paper(presets.paper_128())
    return replace(base, stages=(*base.stages[:2], replace(base.stages[2], resolution=64)))


def middle() -> TrainConfig:
    """A few million weights at 128x128: a day on one small GPU, not for CPUs."""
    return TrainConfig(
        name="middle",
        model=presets.middle(),
        stages=(
            StageConfig("1", 1500.0, True, 32, 32),
            StageConfig("2", 2500.0, False, 32, 32),
            StageConfig("3", 3000.0, False, 64, 32, 250.0),
        ),
        schedule=ScheduleConfig(blur_sigma=4.0),
    )


def tiny() -> TrainConfig:
    """The whole method at toy size, 32x32: to see it run on a CPU."""
    model = presets.tiny()
    return TrainConfig(
        name="tiny",
        model=replace(model, loss=replace(model.loss, pose_regulariser_images=10_000)),
        stages=(
            StageConfig("1", 40.0, True, 8, 8),
            StageConfig("2", 60.0, False, 8, 8),
            StageConfig("3", 80.0, False, 16, 8, 10.0),
        ),
        schedule=ScheduleConfig(
            condition_swap_kimg=20.0, blur_sigma=1.0, blur_kimg=8.0, density_noise_kimg=8.0
        ),
        ema=EmaConfig(half_life=1_000.0),
        batch=BatchConfig(size=8, micro=4, per_pass=2),
        output=OutputConfig(
            status_kimg=0.5, checkpoint_kimg=20.0, latest_kimg=2.0, snapshot_kimg=4.0, snapshot_portraits=4
        ),
        data=DataConfig(workers=0),
    )


def eg3d() -> TrainConfig:
    """The baseline EG3D as its authors train it on faces, at 256x256 (docs/training.md says what differs)."""
    stages = (StageConfig("1", 25_000.0, False, 64, 64), StageConfig("2", 27_000.0, False, 128, 64, 1000.0))
    schedule = ScheduleConfig(condition_swap=0.5, density_noise=0.0)
    return TrainConfig(name="eg3d", model=presets.eg3d(), stages=stages, schedule=schedule)


def panohead() -> TrainConfig:
    """The baseline PanoHead as its authors train it, at 256x256 (docs/training.md says what differs)."""
    stages = (StageConfig("1", 25_000.0, False, 64, 64),)
    return TrainConfig(
        name="panohead", model=presets.panohead(), stages=stages, data=DataConfig(back_repeat=4)
    )


def ablated(config: TrainConfig, name: str) -> TrainConfig:
    """`config` with one of the paper's ablations. Raises `ConfigError` for an unknown one or one in vain."""
    if name not in presets.ABLATIONS:
        raise ConfigError(f"no ablation {name!r}; there are {', '.join(presets.ABLATIONS)}")
    model = presets.ABLATIONS[name](config.model)
    # Without poses nothing is deformed, whatever the field.
    idle = name == "rignerf" and not config.model.generator.pose_conditioning
    if idle or replace(model, name=config.model.name) == config.model:
        raise ConfigError(
            f"the ablation {name!r} changes nothing of {config.name!r}: it would be the same run by another "
            "name"
        )
    return replace(config, name=f"{config.name}-{name}", model=model)


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "paper_512": paper_512,
    "paper_256": paper_256,
    "paper_128": paper_128,
    "middle": middle,
    "tiny": tiny,
    "eg3d": eg3d,
    "panohead": panohead,
}


def _check(config: TrainConfig) -> None:
    """Raise `ConfigError` unless the run can be made."""
    if not config.stages:
        raise ConfigError("stages must hold at least one stage")
    before = 0.0
    for index, stage in enumerate(config.stages):
        if stage.until_kimg <= before:
            raise ConfigError(
                f"stages.{index}.until_kimg must be more than {before:g}, where the stage starts, "
                f"not {stage.until_kimg:g}"
            )
        if min(stage.resolution, stage.resolution_start) < 4:
            raise ConfigError(f"stages.{index}.resolution must be at least 4 neural rendering resolution")
        most = config.model.generator.image_resolution
        if max(stage.resolution, stage.resolution_start) > most:
            raise ConfigError(f"stages.{index}.resolution: higher than the image's {most} pixels")
        before = stage.until_kimg
    batch = config.batch
    if batch.micro < 1 or batch.size < 1 or batch.size % batch.micro:
        raise ConfigError(f"batch.size must be a multiple of batch.micro, not {batch.size} and {batch.micro}")
    if batch.views_per_person < 1 or batch.size // batch.micro % batch.views_per_person:
        raise ConfigError(
            f"batch.views_per_person must divide the {batch.size // batch.micro} micro-batches of "
            f"batch.size, not {batch.views_per_person}"
        )
    if config.model.loss.wrong_condition and batch.micro < 2:
        raise ConfigError(
            "model.loss.wrong_condition takes another portrait's camera: batch.micro must be 2 or more"
        )
    if batch.size > 1000 * before:
        raise ConfigError(f"batch.size: {batch.size:,} images an iteration are more than the whole run has")
    for name in ("r1_interval", "density_interval"):
        if getattr(config.optimiser, name) < 1:
            raise ConfigError(f"optimiser.{name} must be at least 1 iteration")
    output = config.output
    for name in ("status_kimg", "checkpoint_kimg", "latest_kimg", "snapshot_kimg"):
        if getattr(output, name) <= 0:
            raise ConfigError(f"output.{name} must be positive")
    for name, value, least in (
        ("batch.per_pass", batch.per_pass, 0),
        ("data.workers", config.data.workers, 0),
        ("data.back_repeat", config.data.back_repeat, 1),
        ("guard.max_bad_steps", config.guard.max_bad_steps, 1),
        ("output.snapshot_portraits", output.snapshot_portraits, 1),
        ("output.fid_kimg", output.fid_kimg, 0),
        ("output.fid_images", output.fid_images, 2),
    ):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, not {value}")
