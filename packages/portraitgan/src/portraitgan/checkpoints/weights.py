"""Networks on disk: safetensors beside the config they were built from. Nothing in them can run."""

from __future__ import annotations

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
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"no weights at {path}") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    fit(network, state, str(path))
    return network


def fit(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Fill `network` from a state dict. Raises `WeightsError` that lists what does not fit."""
    own = network.state_dict()
    problems = [f"missing {key}" for key in sorted(set(own) - set(state))]
    problems += [f"unknown {key}" for key in sorted(set(state) - set(own))]
    problems += [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in sorted(set(own) & set(state))
        if own[key].shape != state[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:5])
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise WeightsError(f"{origin} does not fit the config: {shown}{more}")
    network.load_state_dict(state)


def load_generator(folder: str | Path, deformation: Deformation | None = None, ema: bool = True) -> Generator:
    """The generator of a folder, its EMA by default, in evaluation mode."""
    name = GENERATOR_EMA if ema else GENERATOR
    network = make_generator(read_config(folder), deformation)
    return load_into(network, Path(folder) / f"{name}.safetensors").eval().requires_grad_(False)


def load_discriminator(
    folder: str | Path, ema: bool = True, config: ModelConfig | None = None
) -> Discriminator:
    """The discriminator of a folder, its EMA by default, in evaluation mode.

    `config` replaces the folder's, to run the same weights in another precision.
    """
    name = DISCRIMINATOR_EMA if ema else DISCRIMINATOR
    network = make_discriminator(config or read_config(folder))
    return load_into(network, Path(folder) / f"{name}.safetensors").eval().requires_grad_(False)


def as_float32(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """All floating tensors in float32, as the networks keep them."""
    return {
        key: value.to(torch.float32) if value.is_floating_point() else value for key, value in state.items()
    }
