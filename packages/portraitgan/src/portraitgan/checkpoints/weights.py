"""Networks on disk: safetensors beside the config they were built from. Nothing in them can run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from phq_data.errors import PhqError
from phq_data.files import writing
from phq_data.typed_json import ConfigError
from portraitgan.config import ModelConfig
from portraitgan.deformation.field import Deformation
from portraitgan.networks.discriminator import Discriminator
from portraitgan.networks.generator import HALF_TYPES, Generator

CONFIG_FILE = "config.json"
GENERATOR, GENERATOR_EMA = "generator", "generator_ema"
DISCRIMINATOR, DISCRIMINATOR_EMA = "discriminator", "discriminator_ema"

Network = TypeVar("Network", bound=nn.Module)


class WeightsError(PhqError, ValueError):
    """A folder or file of weights that does not fit; the message names it."""


def make_generator(config: ModelConfig, deformation: Deformation | None = None) -> Generator:
    """A generator with fresh weights."""
    return Generator(config, deformation)


def make_discriminator(config: ModelConfig) -> Discriminator:
    """A discriminator with fresh weights."""
    return Discriminator(
        config.discriminator,
        config.compatibility.discriminator_pose_camera_unmirrored,
        HALF_TYPES[config.precision.half],
    )


def write_config(folder: str | Path, config: ModelConfig) -> None:
    """Write `config.json` into `folder`."""
    (Path(folder) / CONFIG_FILE).write_text(config.to_json() + "\n")


def read_config(folder: str | Path) -> ModelConfig:
    """The config of a folder of weights. Raises `WeightsError` or `ConfigError`."""
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise WeightsError(f"no {CONFIG_FILE} in {folder}: is it a folder written by portraitgan?")
    try:
        return ModelConfig.from_json(path.read_text())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def write_tensors(path: str | Path, tensors: dict[str, Tensor]) -> None:
    """A state dict as a safetensors file, whole or not at all."""
    with writing(path) as temporary:
        save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, temporary)


def load_into(network: Network, path: str | Path) -> Network:
    """Fill `network` from a safetensors file; every key must fit. Raises `WeightsError`."""
    fit(network, read_tensors(path), str(path))
    return network


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises `WeightsError`."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"no weights at {path}") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error


def fit(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Fill `network` from a state dict. Raises `WeightsError` that lists what does not fit."""
    check(network, state, origin)
    network.load_state_dict(state)


def check(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Compare a state dict with a network, which may be on the device "meta" and have no memory yet.

    Raises `WeightsError` that lists what does not fit, and for weights that are not finite.
    """
    own = network.state_dict()
    problems = [f"missing {key}" for key in sorted(set(own) - set(state))]
    problems += [f"unknown {key:.80}" for key in sorted(set(state) - set(own))]
    problems += [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in sorted(set(own) & set(state))
        if own[key].shape != state[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:5])
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise WeightsError(f"{origin} does not fit the config: {shown}{more}")
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(
                f"{origin} holds numbers that are not finite in {key}: take an earlier checkpoint of the run"
            )


def load_generator(folder: str | Path, deformation: Deformation | None = None, ema: bool = True) -> Generator:
    """The generator of a folder, its EMA by default, in evaluation mode."""
    name = GENERATOR_EMA if ema else GENERATOR
    path, config = Path(folder) / f"{name}.safetensors", read_config(folder)
    return _loaded(path, lambda: make_generator(config, deformation))


def load_discriminator(
    folder: str | Path, ema: bool = True, config: ModelConfig | None = None
) -> Discriminator:
    """The discriminator of a folder, its EMA by default, in evaluation mode.

    `config` replaces the folder's, to run the same weights in another precision.
    """
    name = DISCRIMINATOR_EMA if ema else DISCRIMINATOR
    path, asked = Path(folder) / f"{name}.safetensors", config or read_config(folder)
    return _loaded(path, lambda: make_discriminator(asked))


def _loaded(path: Path, make: Callable[[], Network]) -> Network:
    """A network for inference from its file; a config of other shapes is told before they take memory."""
    state = read_tensors(path)
    with torch.device("meta"):
        check(make(), state, str(path))
    network = make()
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def as_float32(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """All floating tensors in float32, as the networks keep them."""
    return {
        key: value.to(torch.float32) if value.is_floating_point() else value for key, value in state.items()
    }
