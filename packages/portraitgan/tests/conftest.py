"""Shared by the generator's tests: one thread, the golden folder, seeded weights, a body made here."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from phq_data.rig import PortraitRig
from portraitgan.bench.body import bust

torch.set_num_threads(1)

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Where the golden files lie: PHQ_GOLDEN, or the repository's copy."""
    return Path(os.environ.get("PHQ_GOLDEN") or REPOSITORY / "tests" / "golden")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def seeded(name: str) -> np.random.RandomState:
    """The golden files' random numbers: seeded by a name."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def fill_weights(module: nn.Module, value: Callable[[str, np.ndarray], np.ndarray], prefix: str = "") -> None:
    """Every tensor of the state dict from `value(key, normals)`; the seed's name is `prefix` + key."""
    state = module.state_dict()
    for key, tensor in state.items():
        normal = seeded(prefix + key).standard_normal(tuple(tensor.shape))
        state[key] = torch.from_numpy(np.asarray(value(key, normal.astype(np.float32)), np.float32))
    module.load_state_dict(state)


@pytest.fixture(scope="session")
def weights() -> Callable[..., None]:
    """`fill_weights`, for tests."""
    return fill_weights


@pytest.fixture(scope="session")
def normals() -> Callable[[str], np.random.RandomState]:
    """`seeded`, for tests."""
    return seeded


@pytest.fixture(scope="session")
def make_bust() -> Callable[..., PortraitRig]:
    """A body made by a formula, of any fineness."""
    return bust
