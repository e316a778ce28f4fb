"""The chest of a person in space, from their keypoints in several calibrated views.

A view says of a point X that it lies on a ray. Written as A X = b with residuals in metres at the person (how
far the ray passes by, in the camera's plane), rays of several views are one linear problem: a detector's
error grows with the person in the image, so metres are also what its errors are alike in.

A detector may exchange left and right in single views, also with high scores. So both points of a pair are
triangulated together: every pair of views with equal or with exchanged sides proposes two points, every other
view takes the sides that fit them better, and the proposal with the least bounded residual wins; then both
points are refined with Huber weights. Which of the two is the left one is the majority's word, and
the nose's, which lies in front.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.views import CalibratedCamera

LEAST_SCORE = 0.1
"""Keypoints that the detector is less sure of are left out."""
_NOSE = COCO_KEYPOINTS.index("nose")
_SHOULDERS = (COCO_KEYPOINTS.index("left_shoulder"), COCO_KEYPOINTS.index("right_shoulder"))
_HIPS = (COCO_KEYPOINTS.index("left_hip"), COCO_KEYPOINTS.index("right_hip"))
_WIDTHS = {_SHOULDERS: (0.15, 0.65), _HIPS: (0.06, 0.6)}
"""Metres between the two points of a pair that a body can have."""
_TOLERANCE, _HUBER, _FAR = 0.06, 0.03, 0.25
"""Metres: where a bounded residual is half of its bound, where Huber's loss turns linear, and what is no
sight of the same point."""
_SWAP, _IMPLAUSIBLE = 0.1, 1.0
"""What a proposal pays for each exchanged view (times the scores) and for an impossible width."""
_FLATTEST = 2 * np.sin(np.radians(4.0)) ** 2
"""Least determinant of the equations of two unit rays: they meet at 4 degrees or more."""


@dataclass(frozen=True, eq=False)
class Rays:
    """Equations of the keypoints of one person in V views: `A X = b`, residuals in metres."""

    A: FloatArray  # [V, 17, 2, 3]
    b: FloatArray  # [V, 17, 2]
    weights: FloatArray  # [V, 17] scores; 0 = not seen

    @staticmethod
    def of(cameras: Sequence[CalibratedCamera], keypoints: Sequence[FloatArray]) -> Rays:
        """Of keypoints [17, 3] (pixels, score), one array a camera; points outside of the image count not."""
        A, b, weights = [], [], []
        for camera, points in zip(cameras, keypoints, strict=True):
            seen = points[:, :2]
            bearing = camera.bearings(seen)
            inside = ((seen >= 0) & (seen <= (camera.width, camera.height))).all(axis=1)
            inside &= np.isfinite(bearing).all(axis=1) & (points[:, 2] >= LEAST_SCORE)
            bearing = np.where(inside[:, None], bearing, 0.0)
            R, t = np.array(camera.R), np.array(camera.t)
            A.append(bearing[..., None] * R[2] - R[:2])
            b.append(t[:2] - bearing * t[2])
            weights.append(np.where(inside, np.minimum(points[:, 2], 1.0), 0.0))
        return Rays(np.stack(A), np.stack(b), np.stack(weights))

    def without(self, view: int) -> Rays:
        """The same without one view."""
        return Rays(*(np.delete(values, view, axis=0) for values in (self.A, self.b, self.weights)))

    def distances(self, points: FloatArray, index: int) -> FloatArray:
        """Metres [..., V] between points [..., 3] and what the views saw of keypoint `index`."""
        off = np.einsum("vij,...j->...vi", self.A[:, index], points) - self.b[:, index]
        return np.asarray(np.linalg.norm(off, axis=-1))


@dataclass(frozen=True, eq=False)
class Chest:
    """A chest in the world: x along the shoulders, y up from mid-hips, z forward."""

    rotation: FloatArray  # [3, 3] chest frame to world
    neck: FloatArray  # [3] metres; between the shoulders
    points: dict[str, FloatArray] = field(default_factory=dict)  # [3] metres: shoulders, hips, nose if seen
    swapped: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))  # [V] shoulders exchanged
    residual: float = 0.0  # metres, median of the shoulders over the views that saw them


def chest(rays: Rays) -> Chest | None:
    """The chest that the views agree on; None where shoulders or hips are not seen by two of them."""
    shoulders, hips = _pair(rays, _SHOULDERS), _pair(rays, _HIPS)
    if shoulders is None or hips is None:
        return None
    left, right = shoulders.left, shoulders.right
    frame = frame_of(left, right, (hips.left + hips.right) / 2)
    if frame is None:
        return None
    nose = point(rays, _NOSE)
    swapped = shoulders.swapped
    if nose is not None:
        ahead = float((nose - (left + right) / 2) @ frame[:, 2])
        near = rays.distances(nose, _NOSE) < _TOLERANCE
        says = _SWAP * float(rays.weights[near, _NOSE].sum()) if near.sum() >= 2 else 0.0
        if ahead < 0 and says > shoulders.margin:
            left, right, swapped = right, left, ~swapped
            frame = frame * (-1, 1, -1)
    seen = rays.weights[:, _SHOULDERS].min(axis=1) > 0
    names = ["left_shoulder", "right_shoulder", "left_hip", "right_hip"]
    points = dict(zip(names, (left, right, hips.left, hips.right), strict=True))
    return Chest(
        rotation=frame,
        neck=(left + right) / 2,
        points=points if nose is None else {**points, "nose": nose},
        swapped=swapped & seen,
        residual=shoulders.residual,
    )


def frame_of(left: FloatArray, right: FloatArray, hips: FloatArray) -> FloatArray | None:
    """Axes [3, 3] (columns: to the left, up, forward) of shoulders and mid-hips [3]; None of a line."""
    x, up = left - right, (left + right) / 2 - hips
    z = np.cross(x, up)
    if np.linalg.norm(z) < 1e-3 * max(float(np.linalg.norm(up)), 1e-9):
        return None
    x, z = x / np.linalg.norm(x), z / np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z], axis=1)


def yaw_std(rays: Rays, whole: Chest) -> float:
    """Standard error (radians) of the chest's yaw: the jackknife over views; nan with fewer than three."""
    views = np.flatnonzero(rays.weights[:, _SHOULDERS].min(axis=1) > 0)
    if len(views) < 3:
        return float("nan")
    turns = []
    for view in views:
        other = chest(rays.without(int(view)))
        turns.append(np.pi / 2 if other is None else turn_between(whole.rotation, other.rotation))
    spread = np.array(turns) - np.mean(turns)
    return float(np.sqrt((len(views) - 1) / len(views) * np.sum(spread**2)))


def turn_between(one: FloatArray, other: FloatArray) -> float:
    """Radians about the up axis (y) from rotation `one` [3, 3] to `other`, best in least squares."""
    between = one.T @ other
    return float(np.arctan2(between[0, 2] - between[2, 0], between[0, 0] + between[2, 2]))


def point(rays: Rays, index: int) -> FloatArray | None:
    """Keypoint `index` [3] in the world; None where fewer than two views saw it."""
    found = _proposals(rays, index, index)
    if found is None:
        return None
    bounded = _bounded(rays, found[0], index).sum(axis=1)
    return _refined(rays, found[0][np.argmin(bounded)], np.full(len(rays.A), index))


@dataclass(frozen=True, eq=False)
class _Pair:
    left: FloatArray  # [3]
    right: FloatArray  # [3]
    swapped: NDArray[np.bool_]  # [V]
    margin: float  # how much worse it is that all sides are exchanged
    residual: float


def _pair(rays: Rays, pair: tuple[int, int]) -> _Pair | None:
    """Both points of a pair of keypoints, sides exchanged or not in each view."""
    a, b = pair
    same, crossed = _proposals(rays, a, a), _proposals(rays, a, b)
    if same is None or crossed is None:
        return None
    mirrored = (_proposals(rays, b, b), _proposals(rays, b, a))
    if mirrored[0] is None or mirrored[1] is None:
        return None
    # [2 K, 3]: proposals with equal, then with exchanged sides in the second view
    first, second = np.concatenate([same[0], crossed[0]]), np.concatenate([mirrored[0][0], mirrored[1][0]])
    straight = _bounded(rays, first, a) + _bounded(rays, second, b)
    exchanged = _bounded(rays, first, b) + _bounded(rays, second, a)
    fine = _SWAP * rays.weights[:, pair].mean(axis=1)
    width = np.linalg.norm(first - second, axis=1)
    low, high = _WIDTHS[pair]
    extra = np.where((width < low) | (width > high), _IMPLAUSIBLE, 0.0)
    as_named = np.minimum(straight, exchanged + fine).sum(axis=1) + extra
    reversed_ = np.minimum(exchanged, straight + fine).sum(axis=1) + extra
    best = int(np.argmin(np.minimum(as_named, reversed_)))
    if not np.isfinite(min(as_named[best], reversed_[best])):
        return None
    turn = bool(reversed_[best] < as_named[best])
    fits_straight = straight[best] <= exchanged[best] + np.where(turn, -fine, fine)
    swapped = fits_straight if turn else ~fits_straight
    left, right = (second[best], first[best]) if turn else (first[best], second[best])
    index = np.where(swapped, b, a)
    other = np.where(swapped, a, b)
    left, right = _refined(rays, left, index), _refined(rays, right, other)
    views = np.arange(len(rays.A))
    seen = (rays.weights[:, pair] > 0).all(axis=1)
    off = [_off(rays, left, views, index)[seen], _off(rays, right, views, other)[seen]]
    residual = float(np.median(np.concatenate(off))) if seen.any() else float("nan")
    return _Pair(left, right, swapped, float(abs(reversed_[best] - as_named[best])), residual)


def _proposals(rays: Rays, index: int, other: int) -> tuple[FloatArray, list[tuple[int, int]]] | None:
    """Points [K, 3] where `index` of one view and `other` of a later one meet, for all pairs of views.

    nan where one view did not see it or both look along one line; None without any.
    """
    count = len(rays.A)
    pairs = list(itertools.combinations(range(count), 2))
    if not pairs:
        return None
    i, j = np.array(pairs).T
    A = np.concatenate([rays.A[i, index], rays.A[j, other]], axis=1)
    b = np.concatenate([rays.b[i, index], rays.b[j, other]], axis=1)
    normal = np.swapaxes(A, 1, 2) @ A
    scale = np.trace(normal, axis1=1, axis2=2) / 4
    usable = (rays.weights[i, index] > 0) & (rays.weights[j, other] > 0)
    usable &= np.linalg.det(normal) > _FLATTEST * scale**3
    if not usable.any():
        return None
    points = np.full((len(pairs), 3), np.nan)
    right = np.einsum("kij,ki->kj", A[usable], b[usable])
    points[usable] = np.linalg.solve(normal[usable], right[..., None])[..., 0]
    return points, pairs


def _bounded(rays: Rays, points: FloatArray, index: int) -> FloatArray:
    """Geman and McClure's bounded loss [K, V] of points [K, 3], times scores; inf for proposals of nan."""
    square = rays.distances(points, index) ** 2
    loss = rays.weights[:, index] * square / (square + _TOLERANCE**2)
    return np.where(np.isnan(loss), np.inf, loss)


def _off(rays: Rays, at: FloatArray, views: NDArray[np.intp], index: NDArray[np.intp]) -> FloatArray:
    """Metres [V] between a point [3] and keypoint `index` [V] of each view."""
    off = np.einsum("vij,j->vi", rays.A[views, index], at) - rays.b[views, index]
    return np.asarray(np.linalg.norm(off, axis=1))


def _refined(rays: Rays, start: FloatArray, index: NDArray[np.intp]) -> FloatArray:
    """The point [3] nearest to keypoint `index` [V] of each view, with Huber weights, from `start` [3]."""
    views = np.arange(len(rays.A))
    A, b, at = rays.A[views, index], rays.b[views, index], start
    for _ in range(10):
        off = _off(rays, at, views, index)
        weight = rays.weights[views, index] * np.where(off < _FAR, np.minimum(1, _HUBER / (off + 1e-12)), 0)
        normal = np.einsum("v,vij,vik->jk", weight, A, A)
        if np.linalg.det(normal) <= _FLATTEST * (np.trace(normal) / 4) ** 3:
            return at
        at = np.linalg.solve(normal, np.einsum("v,vij,vi->j", weight, A, b))
    return np.asarray(at)
