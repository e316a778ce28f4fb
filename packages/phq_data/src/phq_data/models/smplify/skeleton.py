"""The nine keypoints that a fit uses, as functions of pose and shape, with exact derivatives.

A fit never skins the mesh: nose, eyes and ears ride on the head, shoulders on the chest, hips on the pelvis
below a bent waist. Arrays are batched over M problems (people times starts); frames as in `bodies.anny`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phq_data.arrays import FloatArray
from phq_data.bodies.anny import AnnyBody
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.rig import rotation_matrix

POINT_NAMES: tuple[str, ...] = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_hip", "right_hip",
)  # fmt: skip
COCO_ROWS = np.array([COCO_KEYPOINTS.index(name) for name in POINT_NAMES])
HEAD, CHEST, HIPS = slice(0, 5), slice(5, 7), slice(7, 9)
EXCHANGE = np.array([0, 1, 2, 3, 4, 6, 5, 8, 7])
"""The points with left and right of the torso exchanged."""
ANGLES = 9
"""Pose parameters: axis-angles of neck, head and waist."""


@dataclass(frozen=True)
class Skeleton:
    """The nine points and their pivots as linear functions of K shape coefficients, metres."""

    points: FloatArray  # [9, 3]
    shape_points: FloatArray  # [K, 9, 3]
    head: FloatArray  # [3] head joint
    shape_head: FloatArray  # [K, 3]
    waist: FloatArray  # [3] waist joint
    shape_waist: FloatArray  # [K, 3]

    @classmethod
    def of(cls, body: AnnyBody, directions: int, offsets: dict[str, tuple[float, float, float]]) -> Skeleton:
        """From a body's first shape directions.

        `offsets` move a keypoint away from the body's landmark of that name, in metres in the body's frame:
        what annotators call a shoulder is not the joint's centre. The right side is mirrored from the left.
        """
        rows = [body.landmark(name) for name in POINT_NAMES]
        points = body.landmarks[rows].copy()
        for name, offset in offsets.items():
            points[POINT_NAMES.index(name)] += offset
            if name.startswith("left_"):
                points[POINT_NAMES.index(name.replace("left_", "right_"))] += np.array(offset) * (-1, 1, 1)
        head, waist = body.joint("head"), body.joint("waist")
        return cls(
            points=points,
            shape_points=body.shape_landmarks[:directions, rows],
            head=body.joints[head],
            shape_head=body.shape_joints[:directions, head],
            waist=body.joints[waist],
            shape_waist=body.shape_joints[:directions, waist],
        )

    @property
    def directions(self) -> int:
        """Number K of shape coefficients."""
        return len(self.shape_points)

    def place(
        self,
        angles: FloatArray,  # [M, 9] axis-angles of neck, head, waist, radians
        shape: FloatArray,  # [M, K]
    ) -> tuple[FloatArray, FloatArray]:
        """(points [M, 9, 3] in the body's frame, derivatives [M, 9, 3, 9 + K] by angles and shape)."""
        count, directions = len(angles), self.directions
        points = self.points + np.tensordot(shape, self.shape_points, 1)
        head = self.head + shape @ self.shape_head
        waist = self.waist + shape @ self.shape_waist
        turns = [rotation_matrix(angles[:, 3 * i : 3 * i + 3]) for i in range(3)]
        neck_turn, head_turn, waist_turn = turns
        result = points.copy()
        jacobian = np.zeros((count, len(POINT_NAMES), 3, ANGLES + directions))
        jacobian[..., ANGLES:] = np.moveaxis(self.shape_points, 0, -1)

        # Head: x -> N (H (x - h) + h)
        arm = points[:, HEAD] - head[:, None]
        around_neck = arm @ _transpose(head_turn) + head[:, None]
        both = neck_turn @ head_turn
        result[:, HEAD] = around_neck @ _transpose(neck_turn)
        jacobian[:, HEAD, :, 0:3] = _turned(neck_turn, around_neck, angles[:, 0:3])
        jacobian[:, HEAD, :, 3:6] = _turned(both, arm, angles[:, 3:6])
        lever = np.moveaxis(self.shape_points[:, HEAD] - self.shape_head[:, None], 0, -1)  # [5, 3, K]
        jacobian[:, HEAD, :, ANGLES:] = (
            both[:, None] @ lever + (neck_turn @ np.ascontiguousarray(self.shape_head.T))[:, None]
        )

        # Hips: x -> W (x - w) + w
        arm = points[:, HIPS] - waist[:, None]
        result[:, HIPS] = arm @ _transpose(waist_turn) + waist[:, None]
        jacobian[:, HIPS, :, 6:9] = _turned(waist_turn, arm, angles[:, 6:9])
        lever = np.moveaxis(self.shape_points[:, HIPS] - self.shape_waist[:, None], 0, -1)
        jacobian[:, HIPS, :, ANGLES:] = waist_turn[:, None] @ lever + self.shape_waist.T
        return result, jacobian


def cross_matrix(vectors: FloatArray) -> FloatArray:
    """[..., 3, 3] with cross_matrix(v) @ x = v x x."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vectors.shape, 3)


def right_jacobian(axis_angle: FloatArray) -> FloatArray:
    """J [..., 3, 3] with exp(a + d) = exp(a) exp(J d) to first order in d.

    J = I - (1 - cos t) / t^2 [a] + (t - sin t) / t^3 [a]^2 with t = |a| (Chirikjian, Stochastic Models 2).
    """
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    cross = cross_matrix(axis_angle)
    square = angle**2
    small = angle < 1e-3
    safe = np.where(small, 1.0, angle)
    first = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    second = np.where(small, 1 / 6 - square / 120, (safe - np.sin(safe)) / safe**3)
    return np.asarray(np.eye(3) - first * cross + second * (cross @ cross))


def _turned(turn: FloatArray, arms: FloatArray, axis_angle: FloatArray) -> FloatArray:
    """Derivatives [M, P, 3, 3] of exp(a) x by a, for arms x [M, P, 3] after `turn` = (anything) exp(a)."""
    return -(turn[:, None] @ cross_matrix(arms)) @ right_jacobian(axis_angle)[:, None]


def _transpose(matrices: FloatArray) -> FloatArray:
    return np.swapaxes(matrices, -1, -2)
