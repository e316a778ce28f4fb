"""A made-up body of SMPL's size, as arrays and as the pickle that Python 2 with chumpy would have written."""

from __future__ import annotations

import pickle
import struct
import sys
import types
from typing import Any, ClassVar

import numpy as np

VERTICES, FACES, JOINTS = 6890, 13776, 24
PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def body_values(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays under SMPL's own names. Joints lie at means of a few vertices each, weights are smooth."""
    rng = np.random.default_rng(seed)
    joints = np.zeros((JOINTS, 3))
    for j in range(1, JOINTS):
        joints[j] = joints[PARENTS[j]] + rng.normal(0, 0.12, 3)
    vertices = joints[np.arange(VERTICES) % JOINTS] + rng.normal(0, 0.05, (VERTICES, 3))
    distance = np.linalg.norm(vertices[:, None] - joints[None], axis=2)
    weights = np.exp(-((distance / 0.06) ** 2)) + 1e-6
    regressor = np.zeros((JOINTS, VERTICES))
    for j in range(JOINTS):
        regressor[j, j + JOINTS * rng.choice(280, 8, replace=False)] = 1 / 8
    tree = np.array([[2**32 - 1, *PARENTS[1:]], range(JOINTS)], np.uint32)
    return {
        "v_template": vertices,
        "shapedirs": rng.normal(0, 0.01, (VERTICES, 3, 10)),
        "posedirs": rng.normal(0, 0.002, (VERTICES, 3, 207)),
        "J_regressor": regressor,
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "f": rng.integers(0, VERTICES, (FACES, 3)).astype(np.uint32),
        "kintree_table": tree,
    }


def smpl_arrays(seed: int = 0):
    from phq_data.bodies.smpl_arrays import SmplArrays

    values = body_values(seed)
    return SmplArrays(
        v_template=values["v_template"].astype(np.float32),
        shapedirs=values["shapedirs"].astype(np.float32),
        posedirs=values["posedirs"].astype(np.float32),
        j_regressor=values["J_regressor"].astype(np.float32),
        weights=values["weights"].astype(np.float32),
        faces=values["f"].astype(np.int32),
    )


class _Python2Pickler(pickle._Pickler):
    """Writes byte strings as Python 2 did."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, data: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(data)) + data)  # type: ignore[attr-defined]
        self.memoize(data)  # type: ignore[attr-defined]

    dispatch[bytes] = save_bytes


def python2_pickle(values: dict[str, np.ndarray], extra: dict[str, Any] | None = None) -> bytes:
    """The official file's form: some arrays as chumpy objects, the regressor a sparse matrix, a string."""
    import io

    from scipy import sparse

    class Ch:
        pass

    class Select:
        pass

    modules = {}
    for module, kind in (("chumpy.ch", Ch), ("chumpy.reordering", Select)):
        kind.__module__, kind.__qualname__ = module, kind.__name__
        modules[module] = types.ModuleType(module)
        setattr(modules[module], kind.__name__, kind)
    modules["chumpy"] = types.ModuleType("chumpy")
    v = Ch()
    v.__dict__.update(x=np.asarray(values["v_template"]), _dirty_vars=set(), _itr=None)
    inner = Ch()
    inner.__dict__.update(x=np.asarray(values["shapedirs"]).ravel())
    shapes = Select()
    chosen = np.arange(values["shapedirs"].size)
    shapes.__dict__.update(a=inner, idxs=chosen, preferred_shape=values["shapedirs"].shape)
    held = dict(values) | {
        "v_template": v,
        "shapedirs": shapes,
        "J_regressor": sparse.csc_matrix(values["J_regressor"]),
        "bs_type": "lrotmin",
    }
    held |= extra or {}
    stream = io.BytesIO()
    sys.modules.update(modules)
    try:
        _Python2Pickler(stream, protocol=2).dump(held)
    finally:
        for name in modules:
            del sys.modules[name]
    renamed = stream.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")
    return renamed.replace(b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n")
