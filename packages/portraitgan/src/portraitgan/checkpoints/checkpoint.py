"""Checkpoints: what a run leaves on disk, and how it comes back from it.

    RUN/config.json                   the whole TrainConfig
    RUN/rig.safetensors               the body that the poses refer to (not there for a run without poses)
    RUN/checkpoints/kimg-NNNNNN/      a checkpoint; kimg-NNNNNN.MMM between whole thousands of images
        config.json                   the ModelConfig, as in a converted official checkpoint, with the rays
                                      of that moment
        generator.safetensors         generator_ema, discriminator, discriminator_ema alike
        optimiser.safetensors         Adam's moments and step counts of both networks
        state.json                    images and iterations seen, size and sha256 of every other file, and a
                                      digest of itself
    RUN/latest                        text: the name of the newest checkpoint
    RUN/best.json                     which checkpoint had the lowest FID, and that FID

A checkpoint folder is what `load_generator` and `load_discriminator` of `checkpoints.weights` take. It is
written under a temporary name, synced to the disk and renamed, so that it is there whole or not at all.
Nothing in it can run. Random generators need no state: every draw is a function of seed, iteration and
micro-batch (`training.rng`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from phq_data.errors import PhqError
from phq_data.files import file_sha256, write_text
from phq_data.foreign import parse_json
from portraitgan.checkpoints.weights import (
    CONFIG_FILE,
    DISCRIMINATOR,
    DISCRIMINATOR_EMA,
    GENERATOR,
    GENERATOR_EMA,
    WeightsError,
    read_config,
    write_config,
)
from portraitgan.config import ModelConfig

RIG_FILE = "rig.safetensors"
LATEST_FILE = "latest"
BEST_FILE = "best.json"
STATE_FILE = "state.json"
OPTIMISER = "optimiser"
NETWORKS = (GENERATOR, GENERATOR_EMA, DISCRIMINATOR, DISCRIMINATOR_EMA)
FORMAT = 2
_WITHOUT_DIGEST = 1  # the format before `state.json` had a digest of itself
_FOLDER, _PREFIX, _DAMAGED = "checkpoints", "kimg-", "damaged-"


class CheckpointError(PhqError, ValueError):
    """A checkpoint that cannot be read or does not belong to the run; the message names it."""


class FormatError(CheckpointError):
    """A checkpoint of another version of this program: whole, and nothing to put aside."""


@dataclass(frozen=True)
class State:
    """Where a run is. Schedules, the sampler's position and random numbers follow from it and the config."""

    images: int  # portraits seen since the run's first
    iteration: int  # optimiser steps of each network
    stage: str
    data: str  # checksum of the release that was trained on
    sampler: Mapping[str, int]  # `portraitgan.data.loader.Sampler.state()`
    bad_steps: int = 0  # iterations in a row, until now, whose gradients were not finite


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory."""

    config: ModelConfig
    state: State
    networks: Mapping[str, Mapping[str, Tensor]]  # state dicts by name, see NETWORKS
    optimiser: Mapping[str, Tensor]


def name_of(images: int) -> str:
    """The folder name of a checkpoint after `images`; names sort like numbers."""
    rest = f".{images % 1000:03d}" if images % 1000 else ""
    return f"{_PREFIX}{images // 1000:06d}{rest}"


def folder_of(run: str | Path) -> Path:
    """Where a run keeps its checkpoints."""
    return Path(run) / _FOLDER


def checkpoints(run: str | Path) -> list[Path]:
    """Folders of finished checkpoints, oldest first."""
    return sorted(path for path in folder_of(run).glob(f"{_PREFIX}*") if path.is_dir())


def latest(run: str | Path) -> Path:
    """The newest checkpoint's folder. Raises `CheckpointError` where there is none."""
    run = Path(run)
    try:
        named = folder_of(run) / (run / LATEST_FILE).read_text().strip()
        if named.is_dir() and named.parent == folder_of(run):
            return named
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    found = checkpoints(run)
    if not found:
        raise CheckpointError(f"no checkpoint in {folder_of(run)}: has the run {run} written one yet?")
    return found[-1]


def save(run: str | Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into the run, whole or not at all, and name it the latest. Returns its folder.

    Raises `CheckpointError` when the disk does not take it; earlier checkpoints stay as they are.
    """
    folder = folder_of(run)
    final = folder / name_of(checkpoint.state.images)
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write(temporary, checkpoint)
        if final.exists():  # an earlier attempt at the same place
            shutil.rmtree(final)
        temporary.rename(final)
        _sync(folder)
        write_text(Path(run) / LATEST_FILE, final.name + "\n")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"cannot write the checkpoint {final}: {error}. Make room or choose another disk; the ones "
            "before it are whole, and the same command continues from the newest"
        ) from error
    return final


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    """A checkpoint's files, synced to the disk."""
    write_config(folder, checkpoint.config)
    tensors = {**{name: checkpoint.networks[name] for name in NETWORKS}, OPTIMISER: checkpoint.optimiser}
    for name, values in tensors.items():
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in values.items()},
            folder / f"{name}.safetensors",
        )
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.iterdir())
    }
    state = {"format": FORMAT, **asdict(checkpoint.state), "files": files}
    (folder / STATE_FILE).write_text(json.dumps({**state, "digest": _digest(state)}, indent=2) + "\n")
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def read_state(folder: str | Path) -> State:
    """Where the run was, after checking that every file is the one that was written.

    Raises `CheckpointError` for a folder that is incomplete or was changed.
    """
    folder = Path(folder)
    try:
        data = parse_json((folder / STATE_FILE).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {STATE_FILE}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / STATE_FILE} is damaged: {error}") from error
    found = data.get("format") if isinstance(data, dict) else None
    if isinstance(found, int) and found not in (_WITHOUT_DIGEST, FORMAT):
        raise FormatError(
            f"{folder / STATE_FILE} has format {found}, this portraitgan reads {FORMAT}: continue with the "
            f"portraitgan that wrote it{', or update this one' if found > FORMAT else ''}"
        )
    if not isinstance(found, int):
        raise CheckpointError(f"{folder / STATE_FILE} is damaged: it names no format")
    if data.pop("digest", None) != _digest(data) and found != _WITHOUT_DIGEST:
        raise CheckpointError(f"{folder / STATE_FILE} is damaged: its content does not match its digest")
    try:
        files = data["files"]
        state = State(
            int(data["images"]),
            int(data["iteration"]),
            data["stage"],
            data["data"],
            {key: int(value) for key, value in data["sampler"].items()},
            int(data["bad_steps"]),
        )
        entries = [(folder / name, int(entry["bytes"]), entry["sha256"]) for name, entry in files.items()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / STATE_FILE} is damaged: {error!r}") from error
    needed = {CONFIG_FILE, *(f"{name}.safetensors" for name in (*NETWORKS, OPTIMISER))}
    if lacking := sorted(needed - set(files)):
        raise CheckpointError(f"{folder / STATE_FILE} is damaged: it does not list {lacking[0]}")
    for path, size, digest in entries:
        if path.parent != folder:
            raise CheckpointError(f"{folder / STATE_FILE} is damaged: it lists {path}")
        if not path.is_file():
            raise CheckpointError(f"{folder} lacks {path.name}")
        if path.stat().st_size != size or file_sha256(path) != digest:
            raise CheckpointError(f"{path} is damaged: it is not the file that was written")
    return state


def _digest(state: Mapping[str, object]) -> str:
    """Hex digest of everything that a `state.json` says but the digest itself."""
    return hashlib.sha256(json.dumps(state, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load(folder: str | Path) -> Checkpoint:
    """A checkpoint with everything needed to continue. Raises `CheckpointError`."""
    folder = Path(folder)
    state = read_state(folder)
    config = read_config(folder)
    try:
        networks = {name: load_file(folder / f"{name}.safetensors") for name in NETWORKS}
        optimiser = load_file(folder / f"{OPTIMISER}.safetensors")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error
    return Checkpoint(config, state, networks, optimiser)


def recover(run: str | Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None if the run has none yet.

    A damaged one is put aside under another name and `say` tells so. Raises `CheckpointError` when there are
    checkpoints but none is whole, and for one of another version.
    """
    found = list(reversed(checkpoints(run)))
    for folder in found:
        try:
            checkpoint = load(folder)
        except FormatError:
            raise
        except (CheckpointError, WeightsError) as error:
            aside = folder.with_name(_DAMAGED + folder.name)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            say(f"{error}; put aside as {aside.name}, falling back to the checkpoint before it")
        else:
            if parse_json((folder / STATE_FILE).read_bytes())["format"] == _WITHOUT_DIGEST:
                say(f"{folder.name} is of an earlier portraitgan, whose {STATE_FILE} has no digest of itself")
            write_text(Path(run) / LATEST_FILE, folder.name + "\n")
            return checkpoint
    if found:
        raise CheckpointError(f"no checkpoint of {run} is whole: they were put aside in {folder_of(run)}")
    return None


def tidy(run: str | Path) -> None:
    """Remove what a killed process left half written."""
    for path in folder_of(run).glob(f".{_PREFIX}*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Best:
    """The checkpoint with the lowest FID."""

    folder: Path
    fid: float
    network: str | None  # whose features were compared; None: an earlier program did not say


def name_best(run: str | Path, folder: Path, fid: float, network: str) -> None:
    """Say that the checkpoint in `folder` is the run's best, at this FID by the features of `network`."""
    found = {"checkpoint": folder.name, "fid": fid, "network": network}
    write_text(Path(run) / BEST_FILE, json.dumps(found) + "\n")


def best(run: str | Path) -> Best | None:
    """The run's best checkpoint; None where none was measured or it is gone."""
    try:
        found = parse_json((Path(run) / BEST_FILE).read_bytes())
        folder, network = folder_of(run) / str(found["checkpoint"]), found.get("network")
        known = Best(folder, float(found["fid"]), None if network is None else str(network))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return known if folder in checkpoints(run) else None


def prune(run: str | Path, every: int, rolling: int = 2) -> None:
    """Remove checkpoints except the first one at or after each multiple of `every` images, the newest and the
    best."""
    before, kept = 0, best(run)
    for path in checkpoints(run)[:-rolling]:
        if kept is not None and path == kept.folder:
            continue
        if _images_in(path) // every > before // every:
            before = _images_in(path)
        else:
            shutil.rmtree(path)


def optimiser_tensors(
    optimisers: Mapping[str, tuple[torch.optim.Optimizer, Mapping[str, Tensor]]],
) -> dict[str, Tensor]:
    """Adam's state of each named optimiser with its parameters by name, as flat tensors."""
    tensors: dict[str, Tensor] = {}
    for owner, (optimiser, parameters) in optimisers.items():
        for name, parameter in parameters.items():
            for key, value in optimiser.state.get(parameter, {}).items():
                tensors[f"{owner}/{name}/{key}"] = torch.as_tensor(value)
    return tensors


def restore_optimisers(
    optimisers: Mapping[str, tuple[torch.optim.Optimizer, Mapping[str, Tensor]]],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put `optimiser_tensors` back. Raises `CheckpointError` for tensors of other parameters."""
    known: set[str] = set()
    for owner, (optimiser, parameters) in optimisers.items():
        for name, parameter in parameters.items():
            prefix = f"{owner}/{name}/"
            state = {
                key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
            }
            known.update(prefix + key for key in state)
            if not state:
                continue
            # Adam counts its steps on the host, but where its kernels are fused on the device.
            where = parameter.device if optimiser.defaults.get("fused") else torch.device("cpu")
            optimiser.state[parameter] = {
                key: torch.empty_like(parameter).copy_(value) if value.ndim else value.to(where, copy=True)
                for key, value in state.items()
            }
    unknown = sorted(set(tensors) - known)
    if unknown:
        raise CheckpointError(f"the optimiser's state is of another network: it holds {unknown[0]}")


def _images_in(path: Path) -> int:
    whole, _, rest = path.name.removeprefix(_PREFIX).partition(".")
    return int(whole) * 1000 + int(rest or 0)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
