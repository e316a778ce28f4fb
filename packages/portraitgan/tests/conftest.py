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


def bust(rings: int = 24, around: int = 32, correctives: bool = False) -> PortraitRig:
    """A head on a neck on shoulders: a closed surface of revolution, squashed, with smooth weights.

    2 * around * (rings - 1) faces plus two caps, all inside the cube; the top moves with the head, a band
    with both joints, the rest not at all.
    """
    heights = np.linspace(-0.42, 0.30, rings)
    profile = np.interp(
        heights,
        [-0.42, -0.2, -0.08, 0.0, 0.05, 0.12, 0.22, 0.30],
        [0.26, 0.24, 0.14, 0.06, 0.06, 0.1, 0.1, 0.01],
    )
    angle = np.arange(around) * 2 * np.pi / around
    ring = np.stack([np.sin(angle), np.zeros(around), np.cos(angle)], axis=1)
    wobble = 1 + 0.06 * np.sin(3 * angle)[None] * np.cos(9 * heights)[:, None]
    body = ring[None] * (profile[:, None] * wobble)[..., None] * np.array([1.3, 1, 0.9])
    body[..., 1] = heights[:, None]
    caps = np.array([[0, -0.43, 0], [0, 0.31, 0]])
    vertices = np.concatenate([body.reshape(-1, 3), caps])
    faces = []
    for r in range(rings - 1):
        for k in range(around):
            a, b = r * around + k, r * around + (k + 1) % around
            c, d = a + around, b + around
            faces += [(a, b, d), (a, d, c)]
    for k in range(around):
        low, high = k, (rings - 1) * around + k
        faces.append(((k + 1) % around, low, len(vertices) - 2))
        faces.append((high, (rings - 1) * around + (k + 1) % around, len(vertices) - 1))
    y = vertices[:, 1]
    moving = np.clip((y + 0.08) / 0.1, 0, 1)
    head = np.clip(y / 0.08, 0, 1)
    skin = np.stack([moving - head * moving, head * moving], axis=1)
    rows = None
    if correctives:
        bump = np.exp(-((y - 0.02) ** 2) / 0.002)[None, :, None]
        rows = (np.random.RandomState(3).standard_normal((18, 1, 3)) * 0.01 * bump).astype(np.float32)
    return PortraitRig(
        vertices=vertices.astype(np.float32),
        faces=np.array(faces, np.int32),
        weights=skin.astype(np.float32),
        head_joint=np.array([0, 0.0649, 0], np.float32),
        landmarks=np.zeros((0, 3), np.float32),
        landmark_weights=np.zeros((0, 2), np.float32),
        landmark_names=(),
        correctives=rows,
        body="test bust",
    )


@pytest.fixture(scope="session")
def make_bust() -> Callable[..., PortraitRig]:
    """`bust`, for tests."""
    return bust
