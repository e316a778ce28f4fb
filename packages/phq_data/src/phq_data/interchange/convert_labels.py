"""Labels that were made with one body, carried to another: the same people, seen from the same side.

A label means something together with its rig only: bodies differ in how the neck stands when nothing is
posed, in where the head turns, in proportions. Converted are the camera's angles and the pose of neck and
head, such that the landmarks that both rigs have lie, in front of the camera, as nearly as can be where they
lay: the least squares of their distances in metres, weighing changes of the pose a little, so that what
landmarks do not tell stays. Distance to the camera and intrinsics are those of every label, so a body of
another size keeps an error, which is told for every label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.rig import PortraitRig, RigError

FEWEST = 4
"""Landmarks that rigs must share, those of a turn in space and one to spare."""
ITERATIONS = 15
_STAYING = 0.01  # metres that a radian of change of the pose counts like
_STEP, _DAMPING = 1e-5, 1e-9
_AT_ONCE = 1024
_STEEPEST = np.pi / 2 - 1e-3


@dataclass(frozen=True, eq=False)
class Converted:
    """Labels of the target rig."""

    cameras: NDArray[np.float32]  # [N, 25]
    poses: NDArray[np.float32]  # [N, 6] radians
    error: FloatArray  # [N] root mean square distance of the shared landmarks, metres
    error_before: FloatArray  # [N] the same with the labels as they were


def convert(
    cameras: ArrayLike,  # [N, 25]
    poses: ArrayLike,  # [N, 6] radians
    source: PortraitRig,
    target: PortraitRig,
) -> Converted:
    """Labels of `source` as labels of `target`.

    Raises `RigError` when they share too few landmarks, `CameraError` for a camera that is no label's.
    """
    labels, angles_of_pose = np.asarray(cameras, np.float64), np.asarray(poses, np.float64)
    rows = shared_landmarks(source, target)
    camera.check_label(labels)
    done = [
        _convert(labels[part], angles_of_pose[part], source, target, rows)
        for part in (slice(first, first + _AT_ONCE) for first in range(0, len(labels), _AT_ONCE))
    ]
    if not done:
        nothing = np.zeros(0)
        return Converted(np.zeros((0, 25), np.float32), np.zeros((0, 6), np.float32), nothing, nothing)
    names = ("cameras", "poses", "error", "error_before")
    return Converted(*(np.concatenate([getattr(one, name) for one in done]) for name in names))


def shared_landmarks(source: PortraitRig, target: PortraitRig) -> tuple[list[int], list[int]]:
    """Rows of the landmarks that both rigs have, in the one and in the other. Raises `RigError`."""
    names = [name for name in source.landmark_names if name in target.landmark_names]
    pairs = [source.landmark(name) for name in names], [target.landmark(name) for name in names]
    if len(names) < FEWEST:
        raise RigError(
            f"the rigs of {source.body} and {target.body} share {len(names)} landmarks "
            f"({', '.join(names) or 'none'}): labels are carried over by at least {FEWEST}"
        )
    placed = source.landmarks[pairs[0]].astype(np.float64)
    if np.linalg.matrix_rank(placed - placed.mean(axis=0), tol=1e-3) < 2:
        raise RigError(
            "the landmarks that the rigs share lie on a line: they do not tell how a body is turned"
        )
    return pairs


def _convert(
    labels: FloatArray,
    poses: FloatArray,
    source: PortraitRig,
    target: PortraitRig,
    rows: tuple[list[int], list[int]],
) -> Converted:
    matrices, intrinsics = camera.from_label(labels)
    wanted = _seen(source.posed_landmarks(poses)[:, rows[0]], matrices)
    start = np.concatenate([np.stack(camera.angles(matrices), axis=-1), poses], axis=1)  # [N, 9]

    def residuals(given: FloatArray) -> FloatArray:
        points = target.posed_landmarks(given[:, 3:])[:, rows[1]]
        off = _seen(points, _camera(given)) - wanted
        return np.concatenate([off.reshape(len(given), -1), _STAYING * (given - start)[:, 3:]], axis=1)

    found, costs = start.copy(), (residuals(start) ** 2).sum(axis=1)
    damping = np.full(len(start), _DAMPING)
    for _ in range(ITERATIONS):  # Levenberg and Marquardt's, for all labels at once
        here = residuals(found)
        slopes = np.stack(
            [(residuals(found + _STEP * unit) - here) / _STEP for unit in np.eye(9)], axis=-1
        )  # [N, R, 9]
        normal = np.einsum("nri,nrj->nij", slopes, slopes) + damping[:, None, None] * np.eye(9)
        step = np.linalg.solve(normal, np.einsum("nri,nr->ni", slopes, here)[..., None])[..., 0]
        tried = found - step
        cost = (residuals(tried) ** 2).sum(axis=1)
        better = cost < costs
        found, costs = np.where(better[:, None], tried, found), np.where(better, cost, costs)
        damping = np.where(better, damping / 4, damping * 16)
    count = 3 * len(rows[0])
    errors = [np.sqrt((residuals(one)[:, :count] ** 2).sum(axis=1) / len(rows[0])) for one in (found, start)]
    made = np.concatenate([_camera(found).reshape(-1, 16), intrinsics.reshape(-1, 9)], axis=1)
    return Converted(made.astype(np.float32), found[:, 3:].astype(np.float32), errors[0], errors[1])


def _camera(given: FloatArray) -> FloatArray:
    """Cameras [N, 4, 4] of rows that begin with yaw, pitch and roll; none stands over the head."""
    yaw, pitch, roll = given[:, :3].T
    return camera.from_angles(yaw, np.clip(pitch, -_STEEPEST, _STEEPEST), roll)


def _seen(points: FloatArray, matrices: FloatArray) -> FloatArray:
    """Points [N, L, 3] of the world in the frames of cameras [N, 4, 4], metres."""
    local: FloatArray = (points - matrices[:, None, :3, 3]) @ matrices[:, :3, :3]
    return local
