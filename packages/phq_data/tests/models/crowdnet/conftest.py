"""The golden file's weights, body and inputs, made by the formulas that it describes."""

from __future__ import annotations

import importlib.util
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

# 3DCrowdNet needs the extra 'paper'.
if any(importlib.util.find_spec(name) is None for name in ("torch", "torchvision")):
    collect_ignore_glob = ["test_*.py"]

FOLDER = Path(os.environ.get("PHQ_GOLDEN", Path(__file__).parents[5] / "tests" / "golden"))
VERTICES = 6890


def uniform(key: str, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) that belong to a key."""
    mask = np.uint64(0xFFFFFFFF)
    seed = np.uint64(zlib.crc32(key.encode()))
    i = np.arange(1, count + 1, dtype=np.uint64)
    x = (i * np.uint64(0x9E3779B1) + seed * np.uint64(0x85EBCA77)) & mask
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(0x2C1B3C6D)) & mask
    x ^= x >> np.uint64(12)
    x = (x * np.uint64(0x297A2D39)) & mask
    x ^= x >> np.uint64(15)
    return (x >> np.uint64(8)).astype(np.float64) * 2.0**-24


def made_weight(key: str, shape: tuple[int, ...], is_norm: bool, prefix: str) -> np.ndarray:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    u = uniform(prefix + key, int(np.prod(shape))).reshape(shape)
    kind = key.rsplit(".", 1)[1]
    if is_norm:
        value = {"weight": 0.5 + 0.5 * u, "running_var": 0.5 + u}.get(kind, 0.2 * (u - 0.5))
    elif kind == "bias":
        value = 0.1 * (2 * u - 1)
    else:
        value = np.sqrt(3 / np.prod(shape[1:])) * (2 * u - 1)
        if key == "position_net.conv.0.weight":
            value = value * 16
    return value.astype(np.float32)


@pytest.fixture(scope="session")
def golden():
    with np.load(FOLDER / "golden_3dcrowdnet.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="session")
def official_table():
    return json.loads((FOLDER / "official-3dcrowdnet-state-dict.json").read_text())["tensors"]


@pytest.fixture(scope="session")
def official_state(golden, official_table):
    """Every tensor of an official checkpoint but SMPL's, named as there."""
    import torch

    prefix = str(golden["key_prefix"])
    shapes = {
        row["key"].removeprefix("module."): tuple(row["shape"])
        for row in official_table
        if row["role"] != "smpl_buffer"
    }
    norms = {key.rsplit(".", 1)[0] for key in shapes if key.endswith("running_mean")}
    return {
        "module." + key: torch.from_numpy(
            np.asarray(made_weight(key, shape, key.rsplit(".", 1)[0] in norms, prefix))
        )
        for key, shape in shapes.items()
    }


@pytest.fixture(scope="session")
def network(official_state):
    from phq_data.models.crowdnet import checkpoint

    bare = {key.removeprefix("module."): value for key, value in official_state.items()}
    return checkpoint.build(checkpoint.checked(bare, "the golden weights")[0])


@pytest.fixture(scope="session")
def golden_inputs(golden):
    """(image [2, 3, 256, 256], joints, mask, boxes) as tensors."""
    import torch

    prefix = str(golden["key_prefix"])
    first = uniform(prefix + "input.img", 2 * 3 * 256 * 256)[: 3 * 256 * 256].reshape(3, 256, 256)
    blocks = uniform(prefix + "input.img.blocks", 3 * 16 * 16).reshape(3, 16, 16)
    second = blocks.repeat(16, axis=1).repeat(16, axis=2)
    image = np.stack([first, second]).astype(np.float32)
    np.testing.assert_allclose(image.reshape(2, -1)[:, :8], golden["in_img_first8"], atol=1e-7)
    arrays = (image, golden["in_joints"], golden["in_joints_mask"], golden["in_bbox"])
    return tuple(torch.from_numpy(array) for array in arrays)


@pytest.fixture(scope="session")
def golden_body(golden):
    """(the golden file's synthetic SMPL, its 30-joint regressor as a tensor)."""
    import torch

    from phq_data.bodies.smpl_arrays import SmplArrays

    prefix = str(golden["key_prefix"])

    def draw(name: str, shape: tuple[int, ...], scale: float) -> np.ndarray:
        u = uniform(prefix + name, int(np.prod(shape))).reshape(shape)
        return (scale * (2 * u - 1)).astype(np.float32)

    v = np.arange(VERTICES)
    weights = np.zeros((VERTICES, 24), np.float32)
    np.add.at(weights, (v, v % 24), 0.75)
    np.add.at(weights, (v, (7 * v + 3) % 24), 0.25)
    regressor = np.zeros((24, VERTICES), np.float32)
    for j in range(24):
        for m in range(4):
            regressor[j, (287 * j + 7 * m) % VERTICES] += 0.25
    arrays = SmplArrays(
        v_template=draw("smpl.v_template", (VERTICES, 3), 0.5),
        shapedirs=draw("smpl.shapedirs", (VERTICES, 3, 10), 0.01),
        posedirs=draw("smpl.posedirs", (VERTICES, 3, 207), 0.001),
        j_regressor=regressor,
        weights=weights,
        faces=np.array([[0, 1, 2]], np.int32),
    )
    wide = arrays.regressor30.copy()
    wide[29] = 0.0
    wide[29, [(500 * 3 + 11 * m) % VERTICES for m in range(4)]] = 0.25
    return arrays, torch.from_numpy(wide)
