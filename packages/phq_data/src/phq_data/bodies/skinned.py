"""Bodies of other projects as a `PortraitRig`: a mesh at rest, a tree of joints, skinning weights.

Shapes, expressions and pose correctives are left out: a rig is the neutral body, moved by neck and head.
Everything that hangs from the head joint turns with the head (jaw, eyes), everything else that hangs from the
neck joint with the neck.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.bodies.anny import BodyError
from phq_data.foreign import read_member, reading
from phq_data.rig import PortraitRig

CENTIMETRES = 0.01
_SHOULDERS, _NECK_TO_HEAD = (0.15, 0.8), (0.02, 0.35)  # metres, of any grown person, with room
_NOSE_OFF = 0.015  # metres that the tip of the nose may lie to a side of the eyes' middle
_ON_HEAD = 0.9  # share of the head joint from which on a vertex is the head's


@dataclass(frozen=True)
class JointNames:
    """What a body calls the joints that a rig needs; `landmarks` are others that it names by theirs."""

    neck: str
    head: str
    landmarks: Mapping[str, str]  # ours (`bodies.JOINT_NAMES`) to the body's


@dataclass(frozen=True, eq=False)
class SkinnedBody:
    """A body of V vertices and J joints at rest: metres, y up, facing +z, the body's left is +x."""

    name: str
    vertices: FloatArray  # [V, 3]
    faces: NDArray[np.integer[Any]]  # [F, 3] counter-clockwise seen from outside
    joint_names: Sequence[str]  # J
    parents: NDArray[np.integer[Any]]  # [J]; of a root: itself, or less than 0
    joints: FloatArray  # [J, 3]
    skin_joints: NDArray[np.integer[Any]]  # [V, K] which joints carry a vertex
    skin_weights: FloatArray  # [V, K] and by how much

    def __post_init__(self) -> None:
        shapes = {
            "vertices": (self.vertices, (len(self.vertices), 3)),
            "faces": (self.faces, (len(self.faces), 3)),
            "joints": (self.joints, (len(self.joint_names), 3)),
            "parents": (self.parents, (len(self.joint_names),)),
            "skinning weights": (self.skin_weights, (len(self.vertices), *self.skin_joints.shape[1:])),
            "skinned joints": (self.skin_joints, self.skin_weights.shape),
        }
        for what, (array, shape) in shapes.items():
            if array.shape != shape or not array.size:
                raise BodyError(f"the {what} of {self.name} have shape {array.shape}, expected {shape}")
            if not np.isfinite(array).all():
                raise BodyError(f"the {what} of {self.name} hold numbers that are not finite")
        ends = (
            (self.skin_joints, len(self.joints)),
            (self.parents, len(self.joints)),
            (self.faces, len(self.vertices)),
        )
        if any(one.max() >= end for one, end in ends) or min(self.skin_joints.min(), self.faces.min()) < 0:
            raise BodyError(f"{self.name} names joints or vertices that it does not have")
        if self.skin_weights.min() < 0 or np.abs(self.skin_weights.sum(axis=1) - 1).max() > 0.01:
            raise BodyError(f"the skinning weights of {self.name} do not sum to 1")

    def joint(self, name: str) -> int:
        """The row of a named joint. Raises `BodyError`."""
        if name not in self.joint_names:
            known = ", ".join(list(self.joint_names)[:12])
            raise BodyError(f"{self.name} has no joint {name!r} here (it has {known}, ...)")
        return list(self.joint_names).index(name)

    def below(self, name: str) -> NDArray[np.bool_]:
        """Which joints [J] hang from a named one, itself among them."""
        found = np.zeros(len(self.joints), bool)
        found[self.joint(name)] = True
        up = np.where(self.parents < 0, np.arange(len(found)), self.parents)
        for _ in range(len(found)):  # the longest chain there can be
            further = found | found[up]
            if (further == found).all():
                break
            found = further
        return found


def portrait_rig(body: SkinnedBody, names: JointNames, metadata: Mapping[str, str]) -> PortraitRig:
    """The rig of a body around its neck joint. Raises `BodyError` for one that stands in another frame."""
    neck, head = body.joints[body.joint(names.neck)], body.joints[body.joint(names.head)]
    by_head = body.below(names.head)
    by_neck = body.below(names.neck) & ~by_head
    if not body.below(names.neck)[body.joint(names.head)]:
        raise BodyError(f"the head of {body.name} does not hang from its neck: its tree of joints is another")
    total = body.skin_weights.sum(axis=1)
    weights = np.stack(
        [(body.skin_weights * one[body.skin_joints]).sum(axis=1) / total for one in (by_neck, by_head)],
        axis=1,
    )
    places = {ours: body.joints[body.joint(theirs)] for ours, theirs in names.landmarks.items()}
    carried = {ours: by_head[body.joint(theirs)] for ours, theirs in names.landmarks.items()}
    _check_stance(body.name, places, neck, head)
    on_head = body.vertices[weights[:, 1] > _ON_HEAD]
    if not len(on_head):
        raise BodyError(f"no vertex of {body.name} belongs to its head")
    # Anatomy alone: where a rig's head joint lies is its maker's choice, and no label is carried over by it.
    places["neck"], carried["neck"] = neck, False
    nose = on_head[on_head[:, 2].argmax()]
    eyes = (places["left_eye"] + places["right_eye"]) / 2
    if nose[1] < eyes[1] and abs(nose[0] - eyes[0]) < _NOSE_OFF:  # a bowed head's foremost point is its brow
        places["nose"], carried["nose"] = nose, True
    return PortraitRig(
        vertices=(body.vertices - neck).astype(np.float32),
        faces=np.ascontiguousarray(body.faces, np.int32),
        weights=weights.astype(np.float32),
        head_joint=(head - neck).astype(np.float32),
        landmarks=(np.stack(list(places.values())) - neck).astype(np.float32),
        landmark_weights=np.array([(0.0, float(carried[one])) for one in places], np.float32),
        landmark_names=tuple(places),
        body=body.name,
        metadata=metadata,
    )


def read_npz(path: str | Path, names: Sequence[str], advice: str) -> dict[str, NDArray[Any]]:
    """Named arrays of an .npz file, as far as it has them; nothing in it is run.

    Raises `BodyError` for a file that is missing or no such archive, ending in `advice`.
    """
    if not Path(path).is_file():
        raise BodyError(f"there is no file {path}: {advice}")
    found: dict[str, NDArray[Any]] = {}
    with reading(path, BodyError, advice), ZipFile(path) as archive:
        members = set(archive.namelist())
        for name in names:
            if f"{name}.npy" in members:
                data = io.BytesIO(read_member(archive, f"{name}.npy"))
                found[name] = np.lib.format.read_array(data, allow_pickle=False)
    return found


def _check_stance(name: str, places: Mapping[str, FloatArray], neck: FloatArray, head: FloatArray) -> None:
    apart = float(places["left_shoulder"][0] - places["right_shoulder"][0])
    above = float(head[1] - neck[1])
    ahead = float(min(places["left_eye"][2], places["right_eye"][2]) - places["left_shoulder"][2])
    for what, value, (least, most) in (
        ("its left shoulder lies +x of its right one by", apart, _SHOULDERS),
        ("its head joint lies above its neck joint by", above, _NECK_TO_HEAD),
        ("its eyes lie before its shoulders by", ahead, (0.0, 0.5)),
    ):
        if not least <= value <= most:
            raise BodyError(
                f"this {name} does not stand y up, facing +z, with lengths in centimetres: "
                f"{what} {value:.3f} m, expected {least:g} to {most:g}"
            )
