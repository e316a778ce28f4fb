"""`portraitgan train`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portraitgan.training.config import TrainConfig
    from portraitgan.training.distributed import World

DEFAULT_PRESET = "paper_512"


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    train = commands.add_parser(
        "train",
        help="train a generator on a release; the same command continues an interrupted run",
        description="Trains on a release's portraits and writes everything into RUN. Killed or stopped at "
        "any moment, the same command continues. Several GPUs: torchrun --nproc-per-node N -m portraitgan "
        "train …",
    )
    train.add_argument("--data", required=True, metavar="RELEASE", help="folder or URL of a release")
    train.add_argument("--out", required=True, type=Path, metavar="RUN", help="the run's folder")
    chosen = train.add_argument_group("what is trained")
    chosen.add_argument(
        "--preset", help=f"a whole config (default: {DEFAULT_PRESET}; RUN's own if it has one)"
    )
    chosen.add_argument(
        "--stage", type=int, metavar="N", help="this stage alone (default: one after another)"
    )
    chosen.add_argument(
        "--from", dest="weights", type=Path, metavar="FOLDER",
        help="a checkpoint or a converted model to start a new run from",
    )  # fmt: skip
    chosen.add_argument("--batch", type=int, help="portraits an iteration, over all processes")
    chosen.add_argument("--micro-batch", type=int, help="portraits at once (default: 4, part of the method)")
    chosen.add_argument("--seed", type=int)
    chosen.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE",
        help="any field of the config, as in stages.0.until_kimg=100 (repeat; --print-config shows all)",
    )  # fmt: skip
    chosen.add_argument(
        "--change", action="store_true", help="continue RUN with other settings than it was started with"
    )
    data = train.add_argument_group("data")
    data.add_argument("--rig", type=Path, help="the rig, where the release brings only a recipe for it")
    data.add_argument("--cache", type=Path, metavar="FOLDER", help="keep decoded portraits here (fast disk)")
    data.add_argument("--other-data", action="store_true", help="continue RUN on another release")
    train.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
    train.add_argument(
        "--compile", action="store_true", help="compile decoder and march (brought nothing on the GPU tried)"
    )
    train.add_argument(
        "--dry-run", action="store_true", help="say what it will cost and where it goes, then stop"
    )
    train.add_argument("--print-config", action="store_true", help="print the whole config as JSON and stop")
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    import torch

    from phq_data.release.version import ReleaseError
    from phq_data.rig import RigError
    from portraitgan.checkpoints.checkpoint import CheckpointError
    from portraitgan.checkpoints.weights import WeightsError
    from portraitgan.data.dataset import DataError
    from portraitgan.deformation.errors import DeformationError
    from portraitgan.rendering import compiled
    from portraitgan.strict_json import ConfigError
    from portraitgan.training.distributed import DistributedError, join
    from portraitgan.training.run import TrainingError

    known = (
        ConfigError, TrainingError, CheckpointError, DistributedError, WeightsError, DataError, ReleaseError,
        RigError, DeformationError,
    )  # fmt: skip
    compiled.use(options.compile)
    try:
        config = _config(options)
        if options.print_config:
            print(config.to_json())
            return 0
        with join(options.device) as world:
            return _run(options, config, world)
    except known as error:
        print(f"portraitgan train: {error}", file=sys.stderr)
    except torch.cuda.OutOfMemoryError:
        print(
            "portraitgan train: the GPU's memory is full. What helps: more GPUs (torchrun), fewer rays or a "
            "smaller preset, model.precision.half=bfloat16; a smaller --micro-batch also changes the method "
            "(docs/training.md). The same command continues from the last checkpoint",
            file=sys.stderr,
        )
    return 1


def _config(options: argparse.Namespace) -> TrainConfig:
    """The run's config: its own, or the preset's with the changes that the command names."""
    from portraitgan.strict_json import ConfigError
    from portraitgan.training.config import PRESETS, with_values
    from portraitgan.training.run import TrainingError, differences, read_run_config

    values = {}
    for setting in options.set:
        path, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set takes PATH=VALUE, not {setting!r}")
        values[path.strip()] = value.strip()
    if options.preset is not None and options.preset not in PRESETS:
        raise ConfigError(f"no preset {options.preset!r}; there are {', '.join(PRESETS)}")
    own = read_run_config(options.out)
    if options.preset is None and own is not None:
        base = own
    else:
        base = PRESETS[options.preset or DEFAULT_PRESET]()
    batch = replace(
        base.batch, size=options.batch or base.batch.size, micro=options.micro_batch or base.batch.micro
    )
    base = replace(base, batch=batch, seed=base.seed if options.seed is None else options.seed)
    config = with_values(base, values)
    if own is not None and config != own and not options.change:
        raise TrainingError(
            f"{options.out} was started with other settings: {'; '.join(differences(own, config)[:6])}. "
            "Leave them out to continue it as it was, add --change to continue with the new ones, or choose "
            "another --out"
        )
    return config


def _run(options: argparse.Namespace, config: TrainConfig, world: World) -> int:
    from portraitgan.data.dataset import PortraitData
    from portraitgan.training import estimate
    from portraitgan.training.loop import train
    from portraitgan.training.run import TrainingError, open_run
    from portraitgan.training.schedule import stage_end

    def say(text: str) -> None:
        if world.first:
            print(text, flush=True)

    if options.stage is not None and not 1 <= options.stage <= len(config.stages):
        raise TrainingError(f"there are stages 1 to {len(config.stages)}, no stage {options.stage}")
    until = stage_end(config, (options.stage or len(config.stages)) - 1)
    data = PortraitData.open(
        options.data, config.model.generator.image_resolution, split=config.data.split,
        mirror=config.data.mirror, cache=options.cache, rig=options.rig, verify=world.first, say=say,
    )  # fmt: skip
    if options.dry_run:
        for line in estimate.describe(config, data, world, options.out):
            say(line)
        return 0
    run = open_run(
        options.out, config, data, world, say,
        stage=options.stage, weights=options.weights, other_data=options.other_data,
    )  # fmt: skip
    for line in estimate.describe(config, data, world, options.out, run):
        say(line)
    if run.images >= until:
        say(f"{options.out} is at {run.images / 1000:g} kimg: there is nothing left to train")
        return 0
    stop = _on_signals(say)
    outcome = train(run, until, say, stop.is_set)
    if outcome.finished:
        say(f"finished at {outcome.images / 1000:g} kimg: {outcome.folder}")
        return 0
    say(f"stopped at {outcome.images / 1000:g} kimg; the same command continues from {outcome.folder}")
    return 130


def _on_signals(say: Any) -> threading.Event:
    """Set by Ctrl-C and by a polite kill; a second Ctrl-C ends the program at once."""
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say(f"{signal.Signals(number).name}: writing a checkpoint after this iteration (again: stop at once)")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop
