"""`PortraitRig`: a neutral head-and-shoulders mesh around the neck joint that two joints move.

The rig is what ties a camera label to an image: rendering the posed rig with the label's camera must cover
the person in the portrait. It travels with a release, so that the generator needs no body-model package.

Frame: metres, y up, the subject faces +z, the subject's left is +x, the neck joint is the origin.

Skinning (two joints of linear blend skinning; everything below the neck stays put). With pose
p = (neck axis-angle, head axis-angle), R_n = exp(p[0:3]), R_h = exp(p[3:6]), head joint h, and n the joint
that the neck turns about (the origin, unless a body's skeleton has its neck elsewhere than its labels do):

    neck transform  N(x) = R_n (x - n) + n
    head transform  H(x) = N(R_h (x - h) + h)
    posed(v) = (1 - w_n - w_h) v' + w_n N(v') + w_h H(v'),   v' = v + sum_k f_k(p) D_k

where f(p) = (R_n - I, R_h - I) flattened row-major (18 numbers) and D are the pose-corrective rows
(SMPL has them, Anny does not).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import save as save_safetensors

from phq_data.arrays import FloatArray
from phq_data.compatibility import upgrade_provenance
from phq_data.errors import PhqError
from phq_data.files import read_tensors, writing
from phq_data.foreign import parse_json

FORMAT = "phq-portrait-rig/1"
FORMAT_WITH_NECK = "phq-portrait-rig/2"
"""Of rigs whose neck turns about another point than the origin: readers that do not know it must refuse."""


class RigError(PhqError, ValueError):
    """A rig file or arrays that cannot be a `PortraitRig`."""


@dataclass(frozen=True, eq=False)
class PortraitRig:
    """A neutral mesh with two-joint skinning. Arrays are read-only by convention.

    `landmarks` are named points (the joints of `bodies.JOINT_NAMES` that the rig knows) that move with the
    mesh by their own two weights.
    """

    vertices: NDArray[np.float32]  # [V, 3] metres
    faces: NDArray[np.int32]  # [F, 3] counter-clockwise seen from outside
    weights: NDArray[np.float32]  # [V, 2] skinning weights of neck and head; the rest is static
    head_joint: NDArray[np.float32]  # [3] metres
    landmarks: NDArray[np.float32]  # [L, 3] metres, neutral
    landmark_weights: NDArray[np.float32]  # [L, 2]
    landmark_names: tuple[str, ...]  # L names
    correctives: NDArray[np.float32] | None = None  # [18, V, 3] metres
    body: str = "anny"  # which body model it was made from
    metadata: Mapping[str, str] = field(default_factory=dict)  # origin, license, ...
    neck_joint: NDArray[np.float32] = field(default_factory=lambda: np.zeros(3, np.float32))  # [3] metres

    def __post_init__(self) -> None:
        count = self.vertices.shape[0] if self.vertices.ndim else 0
        expected: list[tuple[str, np.ndarray, tuple[int, ...]]] = [
            ("vertices", self.vertices, (count, 3)),
            ("faces", self.faces, (self.faces.shape[0] if self.faces.ndim else 0, 3)),
            ("weights", self.weights, (count, 2)),
            ("head_joint", self.head_joint, (3,)),
            ("neck_joint", self.neck_joint, (3,)),
            ("landmarks", self.landmarks, (len(self.landmark_names), 3)),
            ("landmark_weights", self.landmark_weights, (len(self.landmark_names), 2)),
        ]
        if self.correctives is not None:
            expected.append(("correctives", self.correctives, (18, count, 3)))
        for name, array, shape in expected:
            if array.shape != shape:
                raise RigError(f"rig array '{name}' has shape {array.shape}, expected {shape}")
            if not np.isfinite(array).all():
                raise RigError(f"rig array '{name}' holds numbers that are not finite")
            if (array.dtype.kind in "iu") != (name == "faces"):
                wanted = "whole numbers" if name == "faces" else "floats"
                raise RigError(f"rig array '{name}' must hold {wanted}, not {array.dtype}")
        if count == 0 or len(self.faces) == 0:
            raise RigError("a rig needs vertices and faces")
        if self.faces.min() < 0 or self.faces.max() >= count:
            raise RigError(f"rig faces name vertices outside 0..{count - 1}")
        for name, weights in (("weights", self.weights), ("landmark_weights", self.landmark_weights)):
            if weights.min(initial=0) < -1e-5 or weights.sum(axis=1).max(initial=0) > 1 + 1e-4:
                raise RigError(f"rig array '{name}' must lie in 0..1 and sum to at most 1 in every row")

    def posed(self, pose: ArrayLike) -> FloatArray:
        """Vertices [..., V, 3] in metres for neck and head axis-angles `pose` [..., 6] in radians."""
        return self._skin(self.vertices, self.weights, self.correctives, pose)

    def posed_landmarks(self, pose: ArrayLike) -> FloatArray:
        """Landmarks [..., L, 3] in metres for `pose` [..., 6] in radians."""
        return self._skin(self.landmarks, self.landmark_weights, None, pose)

    def landmark(self, name: str) -> int:
        """The row of a named landmark; `RigError` when the rig has none of that name."""
        try:
            return self.landmark_names.index(name)
        except ValueError:
            raise RigError(
                f"this rig has no landmark '{name}' (it has {', '.join(self.landmark_names)})"
            ) from None

    @cached_property
    def digest(self) -> str:
        """Hex digest of everything that moves a pixel: equal rigs have equal digests."""
        state = hashlib.sha256(FORMAT.encode())
        for name, array in sorted(self._arrays().items()):
            state.update(f"{name}{array.shape}{array.dtype}".encode())
            state.update(np.ascontiguousarray(array).tobytes())
        state.update(json.dumps([self.body, *self.landmark_names]).encode())
        return state.hexdigest()

    def to_bytes(self) -> bytes:
        """The rig as a safetensors file; equal rigs give equal bytes."""
        header = {
            **{f"meta.{key}": value for key, value in self.metadata.items()},
            "format": FORMAT_WITH_NECK if self.neck_joint.any() else FORMAT,
            "body": self.body,
            "landmark_names": json.dumps(self.landmark_names),
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in self._arrays().items()}
        return _with_sorted_header(save_safetensors(arrays, metadata=header))

    def save(self, path: str | Path) -> None:
        """Write the rig to `path`, whole or not at all. Raises `OutputError`."""
        with writing(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> PortraitRig:
        """Read a rig file. Raises `RigError` naming the file when it is missing, damaged or no rig."""
        header, arrays = read_tensors(path, RigError, f"no rig file at {path}")
        if header.get("format") not in (FORMAT, FORMAT_WITH_NECK):
            raise RigError(f"{path} is not a portrait rig ({FORMAT}); it says {header.get('format')!r}")
        try:
            return cls(
                vertices=arrays["vertices"],
                faces=arrays["faces"],
                weights=arrays["weights"],
                head_joint=arrays["head_joint"],
                landmarks=arrays["landmarks"],
                landmark_weights=arrays["landmark_weights"],
                landmark_names=_names(header["landmark_names"]),
                correctives=arrays.get("correctives"),
                body=header["body"],
                metadata=upgrade_provenance(
                    {k.removeprefix("meta."): v for k, v in header.items() if k.startswith("meta.")}
                ),
                neck_joint=(
                    arrays["neck_joint"] if header["format"] == FORMAT_WITH_NECK else np.zeros(3, np.float32)
                ),
            )
        except KeyError as error:
            raise RigError(f"{path} lacks {error}") from error
        except RigError as error:  # of the arrays or the names
            raise RigError(f"{path}: {error}") from error

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {
            "vertices": self.vertices.astype(np.float32, copy=False),
            "faces": self.faces.astype(np.int32, copy=False),
            "weights": self.weights.astype(np.float32, copy=False),
            "head_joint": self.head_joint.astype(np.float32, copy=False),
            "landmarks": self.landmarks.astype(np.float32, copy=False),
            "landmark_weights": self.landmark_weights.astype(np.float32, copy=False),
        }
        if self.correctives is not None:
            arrays["correctives"] = self.correctives.astype(np.float32, copy=False)
        if self.neck_joint.any():
            arrays["neck_joint"] = self.neck_joint.astype(np.float32, copy=False)
        return arrays

    def _skin(
        self, points: np.ndarray, weights: np.ndarray, correctives: np.ndarray | None, pose: ArrayLike
    ) -> FloatArray:
        angles = np.asarray(pose, np.float64)
        if angles.shape[-1:] != (6,) or not np.isfinite(angles).all():
            raise RigError(f"a pose is 6 finite numbers (neck, head axis-angle), got shape {angles.shape}")
        neck = rotation_matrix(angles[..., :3])
        head = neck @ rotation_matrix(angles[..., 3:])
        rest = points.astype(np.float64)
        if correctives is not None:
            local = rotation_matrix(angles[..., 3:])
            feature = np.concatenate(
                [(r - np.eye(3)).reshape(*r.shape[:-2], 9) for r in (neck, local)], axis=-1
            )
            rest = rest + np.einsum("...k,kvc->...vc", feature, correctives.astype(np.float64))
        centre, joint = self.neck_joint.astype(np.float64), self.head_joint.astype(np.float64)
        by_neck = np.einsum("...ij,...vj->...vi", neck, rest - centre) + centre
        head_origin = np.einsum("...ij,j->...i", neck, joint - centre) + centre
        by_head = np.einsum("...ij,...vj->...vi", head, rest - joint) + head_origin[..., None, :]
        w_neck, w_head = weights[:, :1].astype(np.float64), weights[:, 1:].astype(np.float64)
        return np.asarray((1 - w_neck - w_head) * rest + w_neck * by_neck + w_head * by_head)


def rotation_matrix(axis_angle: ArrayLike) -> FloatArray:
    """Rotation matrices [..., 3, 3] of axis-angles [..., 3] in radians (Rodrigues' formula)."""
    vector = np.asarray(axis_angle, np.float64)
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape[:-1], 3, 3)
    # sin(a)/a and (1 - cos(a))/a^2, stable at 0 through sinc.
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.asarray(np.eye(3) + first * cross + second * (cross @ cross))


def _names(text: str) -> tuple[str, ...]:
    try:
        names = parse_json(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RigError(f"'landmark_names' must be a JSON list of names, not {text[:80]!r}")
    return tuple(names)


def _with_sorted_header(data: bytes) -> bytes:
    """A safetensors file with its JSON header in a fixed order (the library's changes from run to run)."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]
