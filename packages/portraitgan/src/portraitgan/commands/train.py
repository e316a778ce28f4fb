"""`portraitgan train`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from portraitgan.data.dataset import PortraitData
    from portraitgan.training.config import TrainConfig
    from portraitgan.training.distributed import World

DEFAULT_PRESET, DEFAULT_WITHOUT_GPU = "paper_512", "tiny"
TOO_LONG = 60 * 86_400
"""Seconds of a run without a GPU that are not started unasked."""
TRAINED, DATA = "What is trained", "Data"
OUT_OF_MEMORY = (
    "the GPU's memory is full. What helps: --pass 1, more GPUs (torchrun), a lower neural rendering "
    "resolution or a smaller preset, model.precision.half=bfloat16; a smaller --micro-batch also changes the "
    "method (docs/training.md). The same command continues from the last checkpoint"
)


def train(
    data: Annotated[str, typer.Option(metavar="RELEASE", help="Folder or URL of a release.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run's folder.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"A whole config (default: RUN's or {DEFAULT_PRESET}; {DEFAULT_WITHOUT_GPU} without a GPU).",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="One of the paper's: no-mask, tri-plane, coarse-poses, no-deformation, rignerf.",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    stage: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="This stage alone (default: one after another).", rich_help_panel=TRAINED
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="A checkpoint or a converted model to start a new run from.",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Portraits an iteration, over all processes.", rich_help_panel=TRAINED),
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(help="Portraits at once (default: 4, part of the method).", rich_help_panel=TRAINED),
    ] = None,
    per_pass: Annotated[
        int | None,
        typer.Option(
            "--pass",
            metavar="N",
            help="Micro-batches that go through the networks together (default: what fits the GPU; 1 on a "
            "CPU). Changes the speed alone.",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    views_per_person: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Cameras that each generated tri-grid is rendered from (default: the preset's, 1).",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "tf32", "fp16", "bf16"] | None,
        typer.Option(help="Number formats (default: the preset's, fp16).", rich_help_panel=TRAINED),
    ] = None,
    fid_every: Annotated[
        float | None,
        typer.Option(
            metavar="KIMG",
            help="Measure FID so often, keep and name the best checkpoint (default: the preset's, never).",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The Inception weights for it (see `portraitgan metrics`).",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(rich_help_panel=TRAINED)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Any field of the config, as in stages.0.until_kimg=100 (repeat; --print-config shows all).",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    allow_config_change: Annotated[
        bool,
        typer.Option(
            "--allow-config-change",
            help="Continue RUN with other settings than it was started with.",
            rich_help_panel=TRAINED,
        ),
    ] = False,
    rig: Annotated[
        Path | None,
        typer.Option(help="The rig, where the release brings only a recipe for it.", rich_help_panel=DATA),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep decoded portraits here (fast disk).", rich_help_panel=DATA),
    ] = None,
    balance: Annotated[
        Literal["none", "yaw"] | None,
        typer.Option(
            help="yaw: rare sides are dealt as often as common ones (default: the preset's, none).",
            rich_help_panel=DATA,
        ),
    ] = None,
    allow_data_change: Annotated[
        bool,
        typer.Option("--allow-data-change", help="Continue RUN on another release.", rich_help_panel=DATA),
    ] = False,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Default: cuda where there is one.")
    ] = None,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile decoder and ray marching (brought nothing on the GPU tried).",
        ),
    ] = False,
    graphs: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(
            help="Run passes as CUDA graphs: auto goes on without where that fails. Changes the speed alone; "
            "not measured on a GPU yet.",
        ),
    ] = "off",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will cost and where it goes, then stop.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Start also what would take months or years without a GPU.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the whole config as JSON and stop.")
    ] = False,
) -> None:
    """Train a generator on a release; the same command continues an interrupted run.

    Trains on a release's portraits and writes everything into RUN. Killed or stopped at any moment, the same
    command continues. Several GPUs: torchrun --nproc-per-node N -m portraitgan train …
    """
    if not print_config and os.environ.get("RANK", "0") == "0":
        print(f"training on {data} into {out}: loading PyTorch …", flush=True)  # which takes seconds
    import torch

    from portraitgan.rendering import compiled
    from portraitgan.training.distributed import join
    from portraitgan.training.run import TrainingError

    compiled.use(compile_)
    gpu = device == "cuda" or (device is None and torch.cuda.is_available())
    default = DEFAULT_PRESET if gpu else DEFAULT_WITHOUT_GPU
    changes = _Changes(
        preset, default, ablation, batch, micro_batch, views_per_person, per_pass, precision, balance,
        fid_every, seed, settings or (), allow_config_change,
    )  # fmt: skip
    config = _config(out, changes)
    if print_config:
        print(config.to_json())
        return
    start = _Start(data, out, stage, weights, rig, cache, allow_data_change, dry_run, yes, graphs, features)
    try:
        with join(device) as world:
            finished = _run(start, config, world)
    except torch.cuda.OutOfMemoryError:
        raise TrainingError(OUT_OF_MEMORY) from None
    if not finished:
        raise typer.Exit(130)


@dataclass(frozen=True)
class _Changes:
    """What the command line changes of a config."""

    preset: str | None
    default: str  # the preset where neither the command nor the run names one
    ablation: str | None  # a name of `ABLATIONS`
    batch: int | None
    micro_batch: int | None
    views_per_person: int | None
    per_pass: int | None
    precision: str | None  # a name of `PRECISIONS`
    balance: Literal["none", "yaw"] | None
    fid_every: float | None
    seed: int | None
    settings: Sequence[str]  # PATH=VALUE
    allowed: bool  # of a run that was started with another config


@dataclass(frozen=True)
class _Start:
    """How a run is started or continued."""

    data: str
    out: Path
    stage: int | None
    weights: Path | None
    rig: Path | None
    cache: Path | None
    allow_data_change: bool
    dry_run: bool
    yes: bool  # also what takes years
    graphs: Literal["auto", "on", "off"]
    features: str | None  # a file of Inception weights for FID


def _config(out: Path, changes: _Changes) -> TrainConfig:
    """The run's config: its own, or the preset's with the changes that the command names."""
    from phq_data.typed_json import ConfigError
    from portraitgan.precision import PRECISIONS
    from portraitgan.training.config import PRESETS, ablated, with_values
    from portraitgan.training.run import TrainingError, differences, read_run_config

    values = {}
    for setting in changes.settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set takes PATH=VALUE, not {setting!r}")
        values[path.strip()] = value.strip()
    if changes.preset is not None and changes.preset not in PRESETS:
        raise ConfigError(f"no preset {changes.preset!r}; there are {', '.join(PRESETS)}")
    own = read_run_config(out)
    if changes.preset is None and own is not None:
        base = own
    else:
        base = PRESETS[changes.preset or changes.default]()
    if changes.ablation is not None and not base.name.endswith(f"-{changes.ablation}"):
        base = ablated(base, changes.ablation)
    batch = replace(
        base.batch,
        size=changes.batch or base.batch.size,
        micro=changes.micro_batch or base.batch.micro,
        views_per_person=changes.views_per_person or base.batch.views_per_person,
        per_pass=base.batch.per_pass if changes.per_pass is None else changes.per_pass,
    )
    model = base.model
    if changes.precision is not None:
        model = replace(model, precision=PRECISIONS[changes.precision])
    seed = base.seed if changes.seed is None else changes.seed
    data = base.data if changes.balance is None else replace(base.data, balance=changes.balance)
    fid_kimg = base.output.fid_kimg if changes.fid_every is None else changes.fid_every
    output = replace(base.output, fid_kimg=fid_kimg)
    base = replace(base, model=model, batch=batch, data=data, output=output, seed=seed)
    config = with_values(base, values)
    if own is not None and config != own and not changes.allowed:
        raise TrainingError(
            f"{out} was started with other settings: {'; '.join(differences(own, config)[:6])}. Leave them "
            "out to continue it as it was, add --allow-config-change to continue with the new ones, or "
            "choose another --out"
        )
    return config


def _run(start: _Start, config: TrainConfig, world: World) -> bool:
    """Train, or say what it would cost. False when it was asked to stop."""
    from portraitgan.metrics.during import fid_of
    from portraitgan.training import cuda_graphs, estimate
    from portraitgan.training.loop import train as train_run
    from portraitgan.training.run import TrainingError, open_run, read_run_config
    from portraitgan.training.schedule import stage_end

    def say(text: str) -> None:
        if world.first:
            print(text, flush=True)

    if start.stage is not None and not 1 <= start.stage <= len(config.stages):
        raise TrainingError(f"there are stages 1 to {len(config.stages)}, no stage {start.stage}")
    until = stage_end(config, (start.stage or len(config.stages)) - 1)
    fid = fid_of(start.features) if config.output.fid_kimg > 0 else None
    repeater = cuda_graphs.repeater(start.graphs, world.device)
    graphs = repeater is not None
    data = _data(start, config, world, say)
    found: estimate.Estimate | None = None
    if start.dry_run or (world.device.type == "cpu" and read_run_config(start.out) is None):
        # Before the folder is made: what is refused leaves nothing behind.
        found = estimate.describe(config, data, world, start.out, say, graphs=graphs)
        _say_all(found.lines, say)
        if start.dry_run:
            return True
        _refuse_years(found.seconds, config, start)
    run = open_run(
        start.out, config, data, world, say,
        stage=start.stage, weights=start.weights, allow_data_change=start.allow_data_change,
    )  # fmt: skip
    if found is None:
        found = estimate.describe(config, data, world, start.out, say, run, graphs)
        _say_all(found.lines, say)
    run.stepper.go_together(found.per_pass)
    run.stepper.use_graphs(repeater)
    if run.images >= until:
        say(f"{start.out} is at {run.images / 1000:g} kimg: there is nothing left to train")
        return True
    stop = _on_signals(say)
    outcome = train_run(run, until, say, stop.is_set, fid)
    if outcome.finished:
        say(f"finished at {outcome.images / 1000:g} kimg: {outcome.folder}")
    else:
        say(f"stopped at {outcome.images / 1000:g} kimg; the same command continues from {outcome.folder}")
    return outcome.finished


def _say_all(lines: Sequence[str], say: Callable[[str], None]) -> None:
    for line in lines:
        say(line)


def _refuse_years(seconds: float, config: TrainConfig, start: _Start) -> None:
    """Raise `TrainingError` for a run without a GPU that nobody would want to wait for."""
    from portraitgan.training.run import TrainingError

    if seconds <= TOO_LONG or start.yes:
        return
    years = seconds / (365 * 86_400)
    raise TrainingError(
        f"{config.name} would take about {years:.1f} years here, without a GPU: choose --preset "
        f"{DEFAULT_WITHOUT_GPU}, train on a GPU, or start it all the same with --yes"
    )


def _data(start: _Start, config: TrainConfig, world: World, say: Callable[[str], None]) -> PortraitData:
    from portraitgan.data.dataset import PortraitData

    return PortraitData.open(
        start.data, config.model.generator.image_resolution, split=config.data.split,
        mirror=config.data.mirror, cache=start.cache, rig=start.rig, verify=world.first,
        balance=config.data.balance, back_repeat=config.data.back_repeat, say=say,
    )  # fmt: skip


def _on_signals(say: Callable[[str], None]) -> threading.Event:
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
