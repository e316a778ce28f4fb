"""The camera label: a pinhole camera on a sphere around the subject's neck.

Conventions (the label of 3DPortraitGAN; 25 numbers, row-major 4x4 camera-to-world then row-major 3x3
intrinsics normalised by the image size):

* World: metres, y up, the subject faces +z, the subject's left is +x, the neck joint is the origin.
* Camera: OpenCV, x right, y down, z forward. The columns of `cam2world[:3, :3]` are right, down, forward.
* The centre lies on the sphere of radius `RADIUS` around the origin and the camera looks at `LOOK_AT`;
  the focal length is `FOCAL`. So a label has three degrees of freedom: yaw, pitch and roll.

Angles of this module are radians. `yaw = atan2(x, z)` of the camera centre: 0 in front of the subject,
+pi/2 on the subject's left, +-pi behind. `pitch` is the elevation of the centre seen from the neck, positive
above. `roll` is positive when the camera is turned counter-clockwise, so that the image's content appears
turned clockwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data.arrays import FloatArray
from phq_data.errors import PhqError

RADIUS = 2.7
"""Distance of the camera centre from the neck joint, metres."""
LOOK_AT: FloatArray = np.array([0.0, 0.0649, 0.0])
"""The point every camera looks at: the height of SMPL's head joint over its neck joint, metres."""
FOCAL = 5000.0 / 1024.0 / 0.75
"""Focal length in image widths (6.510416667)."""
INTRINSICS: FloatArray = np.array([[FOCAL, 0.0, 0.5], [0.0, FOCAL, 0.5], [0.0, 0.0, 1.0]])
"""Normalised intrinsics shared by every portrait."""
LABEL_SIZE = 25
POSE_SIZE = 6

_MIRROR_POSE: FloatArray = np.array([1.0, -1.0, -1.0, 1.0, -1.0, -1.0])
_FLIP_X: FloatArray = np.diag([-1.0, 1.0, 1.0, 1.0])


class CameraError(PhqError, ValueError):
    """A camera label that cannot be one."""


def from_angles(yaw: ArrayLike, pitch: ArrayLike, roll: ArrayLike = 0.0) -> FloatArray:
    """Camera-to-world matrices [..., 4, 4] of the look-at sphere for angles in radians (broadcast).

    Raises `CameraError` for non-finite angles or |pitch| within 1e-4 of a pole, where yaw and roll are one.
    """
    yaw, pitch, roll = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (yaw, pitch, roll)))
    if not (np.isfinite(yaw).all() and np.isfinite(pitch).all() and np.isfinite(roll).all()):
        raise CameraError("camera angles must be finite numbers")
    if (np.abs(pitch) > np.pi / 2 - 1e-4).any():
        raise CameraError("camera pitch must stay below 90 degrees")
    direction = np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], axis=-1)
    level = look_from(direction, np.broadcast_to([0.0, 1.0, 0.0], direction.shape))
    cos, sin = np.cos(roll)[..., None], np.sin(roll)[..., None]
    right, down = level[..., :3, 0], level[..., :3, 1]
    turned = level.copy()
    turned[..., :3, 0] = cos * right - sin * down
    turned[..., :3, 1] = sin * right + cos * down
    return turned


def look_from(direction: ArrayLike, up: ArrayLike) -> FloatArray:
    """Camera-to-world [..., 4, 4] from the direction origin -> camera and an up hint, both [..., 3], world.

    Steps 4 to 6 of the reference alignment: put the centre on the sphere, aim at `LOOK_AT`, keep the roll
    that `up` implies. Raises `CameraError` when a direction is zero or parallel to `up`.
    """
    direction, up = np.asarray(direction, np.float64), np.asarray(up, np.float64)
    norm = np.linalg.norm(direction, axis=-1, keepdims=True)
    if not np.isfinite(direction).all() or (norm < 1e-9).any():
        raise CameraError("the direction from the subject to the camera is zero or not finite")
    centre = RADIUS * direction / norm
    forward = _unit(LOOK_AT - centre)
    side = np.cross(forward, up)
    if not np.isfinite(side).all() or (np.linalg.norm(side, axis=-1) < 1e-9).any():
        raise CameraError("the camera's up direction is parallel to its viewing direction")
    right = _unit(side)
    above = _unit(np.cross(right, forward))
    pose = np.zeros((*centre.shape[:-1], 4, 4))
    pose[..., :3, 0], pose[..., :3, 1], pose[..., :3, 2], pose[..., :3, 3] = right, -above, forward, centre
    pose[..., 3, 3] = 1.0
    return pose


def angles(cam2world: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(yaw, pitch, roll) in radians, each [...], of matrices [..., 4, 4]; the inverse of `from_angles`."""
    pose = np.asarray(cam2world, np.float64)
    centre = pose[..., :3, 3]
    yaw = np.arctan2(centre[..., 0], centre[..., 2])
    pitch = np.arctan2(centre[..., 1], np.hypot(centre[..., 0], centre[..., 2]))
    level = look_from(centre, np.broadcast_to([0.0, 1.0, 0.0], centre.shape))
    right = pose[..., :3, 0]
    roll = np.arctan2(
        -np.sum(right * level[..., :3, 1], axis=-1),
        np.sum(right * level[..., :3, 0], axis=-1),
    )
    return yaw, pitch, roll


def spherical(cam2world: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The paper's (theta, phi) [...] of cameras [..., 4, 4], radians.

    theta = atan2(z, x), phi = acos(y / r); the front is (pi/2, pi/2).
    """
    centre = np.asarray(cam2world, np.float64)[..., :3, 3]
    radius = np.linalg.norm(centre, axis=-1)
    return np.arctan2(centre[..., 2], centre[..., 0]), np.arccos(np.clip(centre[..., 1] / radius, -1, 1))


def to_label(cam2world: ArrayLike, intrinsics: ArrayLike = INTRINSICS) -> NDArray[np.float32]:
    """The 25 numbers [..., 25] of camera matrices [..., 4, 4]."""
    pose = np.asarray(cam2world, np.float64)
    flat = pose.reshape(*pose.shape[:-2], 16)
    inner = np.broadcast_to(np.asarray(intrinsics, np.float64).reshape(9), (*flat.shape[:-1], 9))
    return np.concatenate([flat, inner], axis=-1).astype(np.float32)


def from_label(label: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """(cam2world [..., 4, 4], intrinsics [..., 3, 3]) of labels [..., 25]."""
    values = np.asarray(label, np.float64)
    if values.shape[-1:] != (LABEL_SIZE,):
        raise CameraError(f"a camera label has {LABEL_SIZE} numbers, not {values.shape[-1:]}")
    lead = values.shape[:-1]
    return values[..., :16].reshape(*lead, 4, 4), values[..., 16:].reshape(*lead, 3, 3)


def check_label(label: ArrayLike, tolerance: float = 1e-3) -> None:
    """Raise `CameraError` with the reason unless every label [..., 25] is a camera of this sphere.

    Checked: finite, orthonormal right-handed rotation, radius, aim, last row, intrinsics.
    """
    pose, intrinsics = from_label(label)
    if not (np.isfinite(pose).all() and np.isfinite(intrinsics).all()):
        raise CameraError("the camera label holds numbers that are not finite")
    rotation, centre = pose[..., :3, :3], pose[..., :3, 3]
    gram = np.swapaxes(rotation, -1, -2) @ rotation
    if np.abs(gram - np.eye(3)).max(initial=0) > tolerance or (np.linalg.det(rotation) < 0).any():
        raise CameraError("the camera's rotation is not a rotation (columns must be right, down, forward)")
    if np.abs(pose[..., 3, :] - [0, 0, 0, 1]).max(initial=0) > tolerance:
        raise CameraError("the last row of the camera matrix must be 0 0 0 1")
    if np.abs(np.linalg.norm(centre, axis=-1) - RADIUS).max(initial=0) > tolerance:
        raise CameraError(f"the camera centre is not {RADIUS} m away from the neck joint")
    if np.abs(rotation[..., 2] - _unit(LOOK_AT - centre)).max(initial=0) > tolerance:
        raise CameraError(f"the camera does not look at {LOOK_AT.tolist()}")
    if np.abs(intrinsics - INTRINSICS).max(initial=0) > tolerance:
        raise CameraError(f"the intrinsics differ from the shared ones (focal {FOCAL:.9g}, centre 0.5)")


def project(
    points: ArrayLike,  # [..., N, 3] metres, world
    cam2world: ArrayLike,  # [..., 4, 4]
    intrinsics: ArrayLike = INTRINSICS,  # [..., 3, 3]
) -> tuple[FloatArray, FloatArray]:
    """Image positions [..., N, 2] in image widths (0 at the left/top edge) and depths [..., N] in metres."""
    pose = np.asarray(cam2world, np.float64)
    local = (np.asarray(points, np.float64) - pose[..., None, :3, 3]) @ pose[..., :3, :3]
    image = local @ np.swapaxes(np.asarray(intrinsics, np.float64), -1, -2)
    return image[..., :2] / image[..., 2:], local[..., 2]


def mirror_camera(cam2world: ArrayLike) -> FloatArray:
    """The camera [..., 4, 4] that sees the mirrored subject as `cam2world` sees the subject, mirrored."""
    return _FLIP_X @ np.asarray(cam2world, np.float64) @ _FLIP_X


def mirror_label(label: ArrayLike) -> NDArray[np.float32]:
    """`mirror_camera` on labels [..., 25]; intrinsics stay."""
    pose, intrinsics = from_label(label)
    inner = intrinsics.reshape(*intrinsics.shape[:-2], 9)
    flat = mirror_camera(pose).reshape(*pose.shape[:-2], 16)
    return np.concatenate([flat, inner], axis=-1).astype(np.float32)


def mirror_pose(pose: ArrayLike) -> FloatArray:
    """Neck and head axis-angles [..., 6] of the mirrored subject: (a, b, c) -> (a, -b, -c) each."""
    return np.asarray(pose, np.float64) * _MIRROR_POSE


def mirror_image(image: np.ndarray) -> np.ndarray:
    """Image or mask [H, W] or [H, W, C] flipped left-right (a contiguous copy)."""
    return np.ascontiguousarray(image[:, ::-1])


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
