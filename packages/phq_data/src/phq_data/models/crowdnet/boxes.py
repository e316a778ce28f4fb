"""The boxes around keypoints that become network inputs, and who is worth a pass.

Boxes are x, y, width, height in photo pixels, float32 as in the reference (3DCrowdNet specification,
section 2). The thresholds are those of the 360-degree portrait pipeline; `UPSTREAM` has the demo's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data.arrays import FloatArray

_HIPS, _SHOULDERS = (11, 12), (5, 6)


@dataclass(frozen=True)
class Thresholds:
    """Which joints count and which people are tried."""

    joint_score: float = 0.05  # a joint counts above this
    min_score_sum: float = 0.3  # over the 19 joints; people below are not tried
    twin_distance: float = 20.0  # pixels; people nearer than this on average are the same
    min_side: float = 50.0  # pixels of the tight box
    box_of_all: bool = True  # the tight box holds all 19 joints, not only those that count


UPSTREAM = Thresholds(joint_score=0.1, min_score_sum=1.0, min_side=0.0, box_of_all=False)
"""The thresholds of the network's own demo."""


def with_pelvis_and_neck(keypoints: ArrayLike) -> FloatArray:
    """COCO-17 rows (x, y, score) [..., 17, 3] and two more: mean of the hips, mean of the shoulders.

    An added joint's score is the product of its parents' scores.
    """
    points = np.asarray(keypoints, np.float64)
    extra = []
    for left, right in (_HIPS, _SHOULDERS):
        middle = (points[..., left, :] + points[..., right, :]) / 2
        middle[..., 2] = points[..., left, 2] * points[..., right, 2]
        extra.append(middle)
    return np.concatenate([points, np.stack(extra, axis=-2)], axis=-2)


def tight_box(points: ArrayLike, grow: float = 1.2) -> NDArray[np.float32]:
    """Box [4] of points [N, 2], each side grown about the centre."""
    xy = np.asarray(points, np.float64)
    low, high = xy.min(axis=0), xy.max(axis=0)
    half = (high - low) / 2 * grow
    centre = (low + high) / 2
    return np.concatenate([centre - half, 2 * half]).astype(np.float32)


def network_box(
    box: ArrayLike,  # [4] x, y, width, height in pixels
    photo_size: tuple[int, int],  # width, height in pixels
    grow: float = 1.25,
) -> NDArray[np.float32] | None:
    """The square box [4] that the network sees; it may leave the photo. None when nothing is left of it.

    As in the reference, a box that begins outside the photo is moved in, not shortened.
    """
    x, y, width, height = (float(v) for v in np.asarray(box, np.float64))
    left, top = max(0.0, x), max(0.0, y)
    right = min(photo_size[0] - 1.0, left + max(0.0, width - 1.0))
    bottom = min(photo_size[1] - 1.0, top + max(0.0, height - 1.0))
    if width * height <= 0 or right < left or bottom < top:
        return None
    side = max(right - left, bottom - top) * grow
    if side <= 0:
        return None
    centre = ((left + right) / 2, (top + bottom) / 2)
    return np.array([centre[0] - side / 2, centre[1] - side / 2, side, side], np.float32)


def box_of_person(
    joints: ArrayLike,  # [19, 3] of `with_pelvis_and_neck`
    photo_size: tuple[int, int],
    thresholds: Thresholds,
) -> NDArray[np.float32] | None:
    """The network's box [4] of one person, or None when the person is too vague or too small."""
    points = np.asarray(joints, np.float64)
    if not np.isfinite(points).all() or points[:, 2].sum() < thresholds.min_score_sum:
        return None
    counted = points if thresholds.box_of_all else points[points[:, 2] > thresholds.joint_score]
    if len(counted) == 0:
        return None
    box = tight_box(counted[:, :2])
    if min(box[2], box[3]) < thresholds.min_side:
        return None
    return network_box(box, photo_size)


def twins(people: Sequence[ArrayLike], thresholds: Thresholds) -> list[bool]:
    """For each person [19, 3] of one photo, in order: is it an earlier person once more?

    So it is when the joints that both show lie less than `twin_distance` apart on average, or when no joint
    shows both (then nothing tells them apart). People called twins are not compared with.
    """
    kept: list[FloatArray] = []
    verdicts = []
    for joints in people:
        points = np.asarray(joints, np.float64)
        verdict = any(_same(points, other, thresholds) for other in kept)
        verdicts.append(verdict)
        if not verdict:
            kept.append(points)
    return verdicts


def _same(a: FloatArray, b: FloatArray, thresholds: Thresholds) -> bool:
    both = (a[:, 2] > thresholds.joint_score) & (b[:, 2] > thresholds.joint_score)
    apart = np.abs(a[both, :2] - b[both, :2])
    apart = apart[apart > 0]  # coordinates that agree exactly say nothing, as in the reference
    if not both.any():
        return True
    return apart.size == 0 or float(apart.mean()) < thresholds.twin_distance
