"""People at one instant, as several calibrated cameras agree on them.

Nobody has to know who is who: people are matched over the views by where their shoulders and faces meet in
space. The truth is defined by joints: x along the shoulders, up from the middle of the hips, the neck between
the shoulders. A label means the rig's chest and neck joint. The two differ from person to person, where arms
are raised or the waist is bent, and by 2 degrees of pitch in the rig itself (measured in docs/accuracy.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.evaluation.triangulation import Chest, Rays, chest, yaw_std
from phq_data.stages.align import camera_on_sphere
from phq_data.views import CalibratedCamera

TRUSTED = 6.0
"""Degrees of the truth's own standard error up to which a truth is trusted; three views at least."""
TWO_VIEWS = 12.0
"""Degrees that stand for the standard error of what only two views saw: leaving one out leaves nothing."""
_MEET, _MEET_TWO = 0.20, 0.10
"""Metres between a person and the rays of a view that sees them, on average over shoulders and face; for
two views alone."""
_DISAGREE = 0.10
"""Metres of the shoulders' median residual from which views do not show one person."""


@dataclass(frozen=True, eq=False)
class TruePose:
    """A person at one instant, as the views agree."""

    instant: str
    number: int  # among the people of the instant, those of most views first
    members: Mapping[str, str]  # camera name -> person_id
    chest: Chest
    sigma: float  # degrees, standard error of the yaw; `TWO_VIEWS` for two views
    swapped: tuple[str, ...]  # cameras whose shoulders were exchanged

    @property
    def trusted(self) -> bool:
        """May labels be judged by it?"""
        return len(self.members) >= 3 and self.sigma <= TRUSTED


def true_poses(
    instant: str,
    own: Sequence[CalibratedCamera],
    found: Sequence[Sequence[tuple[str, FloatArray]]],  # by camera: id and keypoints [17, 3] of each person
) -> list[TruePose]:
    """Everybody whom two cameras saw at one instant, with the uncertainty of the truth."""
    poses: list[TruePose] = []
    for group in matched_people(own, [[keypoints for _, keypoints in people] for people in found]):
        rays = Rays.of([own[view] for view in group], [found[view][one][1] for view, one in group.items()])
        pose = chest(rays)
        if pose is None or not pose.residual < _DISAGREE or not _is_body(pose):
            continue
        sigma = float(np.degrees(yaw_std(rays, pose)))
        names = [own[view].name for view in group]
        poses.append(
            TruePose(
                instant=instant,
                number=len(poses),
                members={own[view].name: found[view][one][0] for view, one in group.items()},
                chest=pose,
                sigma=sigma if np.isfinite(sigma) else TWO_VIEWS,
                swapped=tuple(name for name, flag in zip(names, pose.swapped, strict=True) if flag),
            )
        )
    return poses


def matched_people(
    own: Sequence[CalibratedCamera],
    keypoints: Sequence[Sequence[FloatArray]],  # by camera: [17, 3] of each person
) -> list[dict[int, int]]:
    """Groups of detections that show one person: camera -> person, those of most views first.

    Middles of shoulders and faces are used, so that exchanged sides do not matter. Any two detections
    propose where somebody stands; the proposal that most views agree with wins, and its people are taken.
    """
    at = [(view, one) for view, people in enumerate(keypoints) for one in range(len(people))]
    if len({view for view, _ in at}) < 2:
        return []
    rays = Rays.of([own[view] for view, _ in at], [keypoints[view][one] for view, one in at])
    view_of = np.array([view for view, _ in at])
    i, j = np.array(
        [(a, b) for a, b in itertools.combinations(range(len(at)), 2) if view_of[a] != view_of[b]]
    ).T
    shoulders, near = _approaches(rays, slice(5, 7), i, j)
    face, beside = _approaches(rays, slice(0, 5), i, j)
    neck = np.linalg.norm(shoulders - face, axis=1)  # nan where two views do not see the face
    distance = np.where(np.isnan(beside), near, (near + beside) / 2)
    ahead = np.stack([own[view].local(shoulders)[:, 2] for view in view_of], axis=1) > 0.2
    distance[~ahead | np.isnan(distance) | ((neck < 0.03) | (neck > 0.6))[:, None]] = np.inf
    groups: list[dict[int, int]] = []
    while True:
        best = np.full((len(i), len(own)), np.inf)
        for view in range(len(own)):
            if (view_of == view).any():
                best[:, view] = distance[:, view_of == view].min(axis=1)
        support = np.clip(1 - (best / _MEET) ** 2, 0, None)
        winner = int(np.argmax(support.sum(axis=1)))
        agree = best[winner] < _MEET
        if agree.sum() < 2 or (agree.sum() == 2 and best[winner][agree].max() > _MEET_TWO):
            return groups
        taken = [
            int(np.flatnonzero(view_of == view)[np.argmin(distance[winner, view_of == view])])
            for view in np.flatnonzero(agree)
        ]
        groups.append({at[one][0]: at[one][1] for one in taken})
        distance[:, taken] = np.inf


def true_label(pose: Chest, camera: CalibratedCamera) -> FloatArray:
    """The label's camera-to-world matrix [4, 4] of a chest that is seen by a camera."""
    return camera_on_sphere(np.array(camera.R) @ pose.rotation, camera.local(pose.neck))


def chest_rotation(
    cam2world: FloatArray,  # [4, 4] a label
    ray: FloatArray,  # [3] direction to the neck in the photo's camera frame
) -> FloatArray:
    """The rotation [3, 3] from the chest's frame to the photo's camera that a label states.

    The inverse of `stages.align.camera_on_sphere`, which aims the camera anew: the label gives the direction
    from the neck to the camera, and its up axis the one turn about it that is left.
    """
    towards, n = cam2world[:3, 3] / np.linalg.norm(cam2world[:3, 3]), ray / np.linalg.norm(ray)
    above, forward = -cam2world[:3, 1], cam2world[:3, 2]
    # The photo's up is above * cos + forward * sin, as steep against the ray as the image says.
    p, q, k = float(above @ towards), float(forward @ towards), float(n[1])
    angle = np.arctan2(q, p) + np.arccos(np.clip(k / np.hypot(p, q), -1, 1))
    down = -(np.cos(angle) * above + np.sin(angle) * forward)
    return _basis(n, np.array([0.0, 1.0, 0.0])) @ _basis(-towards, down).T


def _basis(first: FloatArray, second: FloatArray) -> FloatArray:
    """Orthonormal columns [3, 3]: `first`, what of `second` is perpendicular, their cross product."""
    other = second - (second @ first) * first
    other = other / np.linalg.norm(other)
    return np.stack([first, other, np.cross(first, other)], axis=1)


def _approaches(
    rays: Rays, rows: slice, i: NDArray[np.intp], j: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray]:
    """Where the middles of some keypoints of detections `i` and `j` [K] meet [K, 3], and how far the middles
    of all D detections pass by [K, D], metres; nan where they are not seen."""
    share = rays.weights[:, rows] / (rays.weights[:, rows].sum(axis=1, keepdims=True) + 1e-12)
    seen = share.any(axis=1)
    A = np.einsum("vk,vkij->vij", share, rays.A[:, rows])
    b = np.einsum("vk,vki->vi", share, rays.b[:, rows])
    both, at = np.concatenate([A[i], A[j]], axis=1), np.concatenate([b[i], b[j]], axis=1)
    normal = np.swapaxes(both, 1, 2) @ both + 1e-9 * np.eye(3)  # parallel rays meet far away
    points = np.linalg.solve(normal, np.einsum("kij,ki->kj", both, at)[..., None])[..., 0]
    points[~(seen[i] & seen[j])] = np.nan
    off = np.linalg.norm(np.einsum("vij,kj->kvi", A, points) - b, axis=-1)
    off[:, ~seen] = np.nan
    return points, off


def _is_body(pose: Chest) -> bool:
    points = pose.points
    width = float(np.linalg.norm(points["left_shoulder"] - points["right_shoulder"]))
    trunk = float(np.linalg.norm(pose.neck - (points["left_hip"] + points["right_hip"]) / 2))
    return 0.15 < width < 0.65 and 0.2 < trunk < 0.9
