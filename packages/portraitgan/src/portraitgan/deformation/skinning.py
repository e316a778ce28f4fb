"""Two-joint linear blend skinning in torch, from a `PortraitRig`, and the faces that deform the volume.

The formulas are those of `phq_data.rig`; here they are differentiable in the pose, batched and run on any
device. Everything below the neck stays put.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor, nn

from phq_data.rig import PortraitRig
from portraitgan.deformation.errors import DeformationError

DEGENERATE_AREA = 1e-12
"""Faces smaller than this (square metres) have no frame and are left out."""


class FaceClass(IntEnum):
    """How a face moves: not at all, rigidly with the head, or otherwise."""

    STATIC = 0
    HEAD = 1
    BLENDED = 2


@dataclass(frozen=True)
class JointTransforms:
    """Rigid maps x -> R x + t of neck and head."""

    neck: Tensor  # [B, 3, 4]
    head: Tensor  # [B, 3, 4]


def rotation_matrix(axis_angle: Tensor) -> Tensor:
    """Rotations [..., 3, 3] of axis-angles [..., 3] in radians (Rodrigues); differentiable at zero."""
    # The tiny number keeps the square root's slope finite at zero and changes nothing else.
    angle = (axis_angle.square().sum(dim=-1) + 1e-24).sqrt()[..., None, None]
    x, y, z = axis_angle.unbind(dim=-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    cross = torch.stack(rows, dim=-1).reshape(*axis_angle.shape[:-1], 3, 3)
    half = torch.sin(angle / 2) / (angle / 2)
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + torch.sin(angle) / angle * cross + 0.5 * half.square() * (cross @ cross)


class SkinnedMesh(nn.Module):
    """The part of a rig inside the tri-grid cube, ready to be posed.

    A face is kept if its three neutral vertices lie strictly inside the cube (spec section 3.2); `kept`
    are their numbers in the rig. Nothing here is part of a state dict.
    """

    inside_box: Tensor
    vertices: Tensor
    weights: Tensor
    faces: Tensor
    kept: Tensor
    neck_joint: Tensor
    head_joint: Tensor
    correctives: Tensor | None
    static: Tensor
    """Which faces [F] never move at all: their map is the identity, exactly."""

    def __init__(
        self,
        vertices: Tensor,  # [V, 3] metres, neck joint at (or near) the origin
        faces: Tensor,  # [F, 3]
        weights: Tensor,  # [V, 2] of neck and head
        head_joint: Tensor,  # [3]
        neck_joint: Tensor | None = None,  # [3]; none: the origin
        correctives: Tensor | None = None,  # [18, V, 3]
        box_size: float = 1.0,
    ) -> None:
        super().__init__()
        half = box_size / 2
        inside = (vertices.abs() < half).all(dim=1)[faces.long()].all(dim=1)
        self.register_buffer("inside_box", inside, persistent=False)
        corners = vertices[faces.long()].double()
        double_area = torch.linalg.cross(
            corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=-1
        ).norm(dim=-1)
        kept = (inside & (double_area > 2 * DEGENERATE_AREA)).nonzero()[:, 0]
        if len(kept) == 0:
            raise DeformationError(
                f"none of the rig's {len(faces)} faces lies in the {box_size} m cube around the neck joint"
            )
        used, local = faces.long()[kept].unique(return_inverse=True)
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("faces", local.reshape(-1, 3), persistent=False)
        self.register_buffer("vertices", vertices[used].float(), persistent=False)
        self.register_buffer("weights", weights[used].float(), persistent=False)
        self.register_buffer("head_joint", head_joint.float(), persistent=False)
        origin = torch.zeros(3, device=vertices.device)
        self.register_buffer("neck_joint", origin if neck_joint is None else neck_joint.float(), False)
        rows = None if correctives is None else correctives[:, used].float()
        self.register_buffer("correctives", rows, persistent=False)
        moving = (self.weights != 0).any(dim=1)
        if rows is not None:
            moving = moving | (rows != 0).any(dim=2).any(dim=0)
        self.register_buffer("static", ~moving[self.faces].any(dim=1), persistent=False)

    @classmethod
    def from_rig(cls, rig: PortraitRig, box_size: float = 1.0) -> SkinnedMesh:
        """The mesh of a portrait rig of any topology. Raises `DeformationError` if nothing is left."""

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.array(array))

        return cls(
            tensor(rig.vertices),
            tensor(rig.faces),
            tensor(rig.weights),
            tensor(rig.head_joint),
            tensor(rig.neck_joint),
            correctives=None if rig.correctives is None else tensor(rig.correctives),
            box_size=box_size,
        )

    def joints(self, pose: Tensor) -> JointTransforms:
        """Neck and head transforms for poses [B, 6] in radians, in the pose's dtype."""
        neck, head = rotation_matrix(pose[:, :3]), rotation_matrix(pose[:, 3:])
        at_neck, at_head = self.neck_joint.to(pose.dtype), self.head_joint.to(pose.dtype)
        neck_shift = at_neck - neck @ at_neck
        chained = neck @ head
        head_shift = (neck @ (at_head - head @ at_head)[..., None])[..., 0] + neck_shift
        return JointTransforms(
            torch.cat([neck, neck_shift[..., None]], dim=-1),
            torch.cat([chained, head_shift[..., None]], dim=-1),
        )

    def forward(self, pose: Tensor, joints: JointTransforms | None = None) -> Tensor:
        """Posed vertices [B, V, 3] in metres for poses [B, 6] in radians, differentiable in the pose."""
        joints = joints or self.joints(pose)
        rest = self.corrected(pose)
        weights = self.weights.to(pose.dtype)
        moved = [
            rest @ transform[:, :, :3].transpose(1, 2) + transform[:, None, :, 3]
            for transform in (joints.neck, joints.head)
        ]
        fixed = 1 - weights.sum(dim=1, keepdim=True)
        return fixed * rest + weights[:, :1] * moved[0] + weights[:, 1:] * moved[1]

    def corrected(self, pose: Tensor) -> Tensor:
        """Neutral vertices plus pose correctives: [B, V, 3] ([1, V, 3] for a rig without correctives)."""
        rest = self.vertices.to(pose.dtype)[None]
        if self.correctives is None:
            return rest
        identity = torch.eye(3, dtype=pose.dtype, device=pose.device)
        rotations = rotation_matrix(pose.reshape(-1, 2, 3))
        feature = (rotations - identity).reshape(-1, 18)
        return rest + torch.einsum("bk,kvc->bvc", feature, self.correctives.to(pose.dtype))

    def face_classes(self, tolerance: float = 1e-4, corrective_tolerance: float = 1e-3) -> Tensor:
        """`FaceClass` [F] int64 of every face: how the candidate tables may treat it.

        A weight may differ from 0 or 1 by `tolerance`, and correctives may move a vertex by up to
        `corrective_tolerance` metres at a rotation of about one radian.
        """
        weights = self.weights[self.faces]  # [F, 3, 2]
        static = (weights.sum(dim=2) <= tolerance).all(dim=1)
        head = (weights[..., 1] >= 1 - tolerance).all(dim=1)
        if self.correctives is not None:
            reach = self.correctives.norm(dim=2).square().sum(dim=0).sqrt()
            rigid = (reach[self.faces] <= corrective_tolerance).all(dim=1)
            static, head = static & rigid, head & rigid
        classes = torch.full_like(self.kept, FaceClass.BLENDED)
        classes[static] = FaceClass.STATIC
        classes[head] = FaceClass.HEAD
        return classes


def check_pose(pose: Tensor) -> None:
    """Raise `DeformationError` unless `pose` is [B, 6] finite numbers. On a GPU this waits for them."""
    check_shape(pose)
    finite = torch.isfinite(pose).all(dim=1)
    if not bool(finite.all()):
        rows = (~finite).nonzero()[:, 0].tolist()
        raise DeformationError(
            f"the poses of samples {rows} hold numbers that are not finite; "
            "a pose predictor that produced them has diverged"
        )


def check_shape(pose: Tensor) -> None:
    """Raise `DeformationError` unless `pose` is [B, 6]."""
    if pose.ndim != 2 or pose.shape[1] != 6:
        raise DeformationError(
            f"poses must have shape [batch, 6] (neck, head axis-angle), not {tuple(pose.shape)}"
        )
