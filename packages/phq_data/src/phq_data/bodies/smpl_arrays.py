"""SMPL's arrays as all our code uses them: plain numpy, from the safetensors file of `phq models add smpl`.

SMPL is licensed to each user for non-commercial use. Its arrays never enter a release or this package.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from phq_data.bodies.anny import BodyError
from phq_data.files import read_tensors

FORMAT = "phq-smpl-arrays/1"
JOINTS = 24
PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip
"""SMPL's tree of joints."""
FACE_VERTICES: tuple[int, ...] = (331, 2802, 6262, 3489, 3990)
"""Nose, eyes and ears of the 30-joint set: single vertices of SMPL's mesh."""
HEAD_TOP_VERTEX = 411
SHAPES = 10


@dataclass(frozen=True, eq=False)
class SmplArrays:
    """An SMPL body of V vertices (6,890 in the official file). Arrays are read-only by convention."""

    v_template: NDArray[np.float32]  # [V, 3] metres, y up, facing +z
    shapedirs: NDArray[np.float32]  # [V, 3, 10]
    posedirs: NDArray[np.float32]  # [V, 3, 207]
    j_regressor: NDArray[np.float32]  # [24, V]
    weights: NDArray[np.float32]  # [V, 24]
    faces: NDArray[np.int32]  # [F, 3]
    parents: tuple[int, ...] = PARENTS

    def __post_init__(self) -> None:
        count = self.v_template.shape[0] if self.v_template.ndim else 0
        expected = {
            "v_template": (count, 3),
            "shapedirs": (count, 3, SHAPES),
            "posedirs": (count, 3, 9 * (JOINTS - 1)),
            "j_regressor": (JOINTS, count),
            "weights": (count, JOINTS),
            "faces": (self.faces.shape[0] if self.faces.ndim else 0, 3),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise BodyError(f"SMPL's '{name}' has shape {array.shape}, expected {shape}")
            if not np.isfinite(array).all():
                raise BodyError(f"SMPL's '{name}' holds numbers that are not finite")
        if count <= max(*FACE_VERTICES, HEAD_TOP_VERTEX):
            raise BodyError(f"this is not SMPL's mesh: it has {count} vertices")
        if self.faces.min() < 0 or self.faces.max() >= count:
            raise BodyError(f"SMPL's faces name vertices outside 0..{count - 1}")
        if self.parents != PARENTS:
            raise BodyError("the tree of joints is not SMPL's (is this SMPL-H or SMPL-X?)")
        if abs(float(self.weights.sum(axis=1).min()) - 1) > 1e-3:
            raise BodyError("SMPL's skinning weights do not sum to 1")

    @cached_property
    def regressor30(self) -> NDArray[np.float32]:
        """The 30 joints [30, V] of the reference pipeline, to be applied to posed vertices."""
        count = len(self.v_template)
        extra = np.zeros((6, count), np.float32)
        extra[np.arange(6), [*FACE_VERTICES, HEAD_TOP_VERTEX]] = 1.0
        return np.concatenate([self.j_regressor, extra])

    @cached_property
    def digest(self) -> str:
        """Hex digest of everything that moves a vertex."""
        state = hashlib.sha256(FORMAT.encode())
        for name in ("v_template", "shapedirs", "posedirs", "j_regressor", "weights", "faces"):
            array = np.ascontiguousarray(getattr(self, name))
            state.update(f"{name}{array.shape}{array.dtype}".encode())
            state.update(array.tobytes())
        return state.hexdigest()

    def save(self, path: str | Path, source: str = "") -> None:
        """Write the arrays as a safetensors file."""
        names = ("v_template", "shapedirs", "posedirs", "j_regressor", "weights", "faces")
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in names}
        arrays["parents"] = np.array(self.parents, np.int64)
        save_file(arrays, str(path), metadata={"format": FORMAT, "source": source})

    @classmethod
    def load(cls, path: str | Path) -> SmplArrays:
        """Read a file of `save`. Raises `BodyError` naming the file when it is missing or something else."""
        missing = f"no SMPL file at {path}; make one with: phq models add smpl FILE"
        header, arrays = read_tensors(path, BodyError, missing)
        if header.get("format") != FORMAT:
            raise BodyError(f"{path} does not hold SMPL's arrays; make it with: phq models add smpl FILE")
        try:
            parents = tuple(int(p) for p in arrays.pop("parents"))
            return cls(**arrays, parents=parents)
        except (KeyError, TypeError) as error:
            raise BodyError(f"{path} lacks an array of SMPL: {error}") from error
        except BodyError as error:
            raise BodyError(f"{path}: {error}") from error
