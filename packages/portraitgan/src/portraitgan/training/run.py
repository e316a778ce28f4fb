"""Opening a run: a new folder, a folder to continue in, weights to start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from phq_data.errors import PhqError
from phq_data.files import write_text
from phq_data.rig import PortraitRig
from phq_data.typed_json import ConfigError
from portraitgan.checkpoints import checkpoint
from portraitgan.checkpoints.checkpoint import Checkpoint, State
from portraitgan.checkpoints.weights import (
    DISCRIMINATOR,
    DISCRIMINATOR_EMA,
    GENERATOR,
    GENERATOR_EMA,
    WeightsError,
    read_config,
)
from portraitgan.config import ModelConfig
from portraitgan.data.dataset import PortraitData
from portraitgan.data.loader import Sampler
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.training import seen, statistics
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.schedule import at, model_at, stage_index, stage_start
from portraitgan.training.step import Networks, Stepper, make_networks

CONFIG_FILE = "config.json"
Say = Callable[[str], None]


class TrainingError(PhqError, ValueError):
    """A run that cannot be started or continued; the message says what to do."""


@dataclass
class Run:
    """A run in progress, in one of its processes."""

    folder: Path
    config: TrainConfig
    data: PortraitData
    world: World
    networks: Networks
    stepper: Stepper
    sampler: Sampler
    images: int = 0
    iteration: int = 0
    bad_steps: int = 0

    def state(self) -> State:
        """Where the run is."""
        stage = at(self.config, self.images).stage.name
        return State(
            self.images, self.iteration, stage, self.data.checksum, self.sampler.state(), self.bad_steps
        )

    def save(self) -> Path:
        """Write a checkpoint (the first process only)."""
        states = {name: network.state_dict() for name, network in self.networks.named().items()}
        optimiser = checkpoint.optimiser_tensors(self.stepper.optimisers())
        made = Checkpoint(model_at(self.config, self.images), self.state(), states, optimiser)
        return checkpoint.save(self.folder, made)


def read_run_config(folder: str | Path) -> TrainConfig | None:
    """The config of a run's folder; None where no run was started. Raises `ConfigError`."""
    path = Path(folder) / CONFIG_FILE
    try:
        return TrainConfig.from_json(path.read_text()) if path.is_file() else None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """The fields that differ, as `path: old -> new`."""
    found: list[str] = []

    def compare(before: object, after: object, where: str) -> None:
        if isinstance(before, dict) and isinstance(after, dict):
            for key in before:
                compare(before[key], after.get(key), f"{where}.{key}" if where else key)
        elif (
            isinstance(before, list | tuple) and isinstance(after, list | tuple) and len(before) == len(after)
        ):
            for index, pair in enumerate(zip(before, after, strict=True)):
                compare(*pair, f"{where}.{index}")
        elif before != after:
            found.append(f"{where}: {before!r} -> {after!r}")

    compare(asdict(old), asdict(new), "")
    return found


def make_deformation(config: ModelConfig, rig: PortraitRig | None) -> Deformation | None:
    """The deformation of a config for a rig. Raises `TrainingError` when a rig is needed and not there."""
    if config.generator.deformation.mode == "none":
        return None
    if rig is None:
        raise TrainingError(
            "the release brings no body, only a recipe for one, and this model deforms portraits with it: "
            "make the rig (phq rig build) and name it with --rig"
        )
    return Deformation(SkinnedMesh.from_rig(rig), config.generator.deformation)


def open_run(
    folder: Path,
    config: TrainConfig,
    data: PortraitData,
    world: World,
    say: Say,
    *,
    stage: int | None = None,
    weights: Path | None = None,
    allow_data_change: bool = False,
) -> Run:
    """The run in `folder`, where its newest whole checkpoint left it; or a new one.

    `stage` (from 1) trains that stage alone: a new run then starts at the stage's first image, from `weights`
    (a checkpoint of another run or a converted one). Raises `TrainingError` or `CheckpointError`.
    """
    deformation = make_deformation(config.model, data.rig)
    found = _recover(folder, world, say)
    if found is not None:
        states: Mapping[str, Mapping[str, Tensor]] | None = found.networks
        if weights is not None:
            say(f"{folder} goes on from its own checkpoint; {weights} was only its beginning")
    else:
        states = None if weights is None else _foreign(weights, config.model)
    networks = make_networks(config.model, deformation, world, config.seed, states)
    stepper = Stepper(config, networks, data, world)
    sampler = Sampler(len(data), config.seed, world.rank, world.size)
    run = Run(folder, config, data, world, networks, stepper, sampler)
    if found is not None:
        _continue(run, found, say, allow_data_change)
    elif stage is not None and stage > 1:
        if weights is None:
            raise TrainingError(
                f"stage {stage} goes on from stage {stage - 1}: name its checkpoint with --from, or train "
                f"the stages before it in {folder} first"
            )
        run.images = stage_start(config, stage - 1)
        run.iteration = run.images // config.batch.size
    if stage is not None and stage_index(config, run.images) < stage - 1:
        raise TrainingError(
            f"{folder} is at {run.images / 1000:g} kimg, stage {stage} starts at "
            f"{stage_start(config, stage - 1) / 1000:g}: train the stages before it first"
        )
    if world.first:
        _prepare(run, say)
        seen.record(folder, data, run.images, None if found is not None else weights)
    world.wait()
    return run


def _recover(folder: Path, world: World, say: Say) -> Checkpoint | None:
    """The checkpoint to continue from, the same in every process (they share the folder)."""
    found = None
    if world.first:
        checkpoint.tidy(folder)
        found = checkpoint.recover(folder, say)
    world.wait()
    if not world.first and checkpoint.checkpoints(folder):
        found = checkpoint.load(checkpoint.latest(folder))
    return found


def _continue(run: Run, found: Checkpoint, say: Say, allow_data_change: bool) -> None:
    """Put the state of `found` into the run."""
    state = found.state
    if state.data != run.data.checksum and not allow_data_change:
        raise TrainingError(
            f"the run was trained on a release with the digest {state.data[:12]}, --data has "
            f"{run.data.checksum[:12]}: give the same release, or --allow-data-change to go on with this one"
        )
    checkpoint.restore_optimisers(run.stepper.optimisers(), found.optimiser)
    note = run.sampler.load(state.sampler) if state.data == run.data.checksum else ""
    if state.data != run.data.checksum:
        note = "the data is another release: its order begins anew"
    if note:
        say(note)
    run.images, run.iteration, run.bad_steps = state.images, state.iteration, state.bad_steps
    say(f"continuing at {run.images / 1000:g} kimg, stage {state.stage}")


def _foreign(folder: Path, config: ModelConfig) -> dict[str, dict[str, Tensor]]:
    """State dicts of weights to start from; where there is only an EMA, that."""
    theirs = read_config(folder)
    # The neural rendering resolution is a matter of the schedule, not of the weights.
    render = replace(theirs.generator.render, resolution=config.generator.render.resolution)
    generator = replace(theirs.generator, render=render)
    if (generator, theirs.discriminator) != (config.generator, config.discriminator):
        raise TrainingError(
            f"{folder} holds networks of the config '{theirs.name}', which differ from those of this run: "
            "choose the preset they were made with (their config.json says all of it)"
        )
    states = {}
    for name, average in ((GENERATOR, GENERATOR_EMA), (DISCRIMINATOR, DISCRIMINATOR_EMA)):
        for wanted, other in ((name, average), (average, name)):
            files = [folder / f"{one}.safetensors" for one in (wanted, other)]
            path = next((file for file in files if file.is_file()), None)
            if path is None:
                raise TrainingError(f"{folder} holds no {name}: a run needs both networks to start from")
            try:
                states[wanted] = load_file(path)
            except (SafetensorError, OSError) as error:
                raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    return states


def _prepare(run: Run, say: Say) -> None:
    """The folder's files that stay as they are."""
    run.folder.mkdir(parents=True, exist_ok=True)
    write_text(run.folder / CONFIG_FILE, run.config.to_json() + "\n")
    statistics.continue_from(run.folder, run.images)
    if run.data.rig is None:
        return
    path = run.folder / checkpoint.RIG_FILE
    if not path.exists():
        run.data.rig.save(path)
    elif PortraitRig.load(path).digest != run.data.rig.digest:
        say(f"the body of this release is not the one of the run: {path} stays, inference uses it")
