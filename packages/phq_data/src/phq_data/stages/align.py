"""Align: from a fitted body in front of the photo's camera to the camera label on the look-at sphere.

The reference alignment is section 5 of the data specification: a rotation between the neutral template and
the fitted joints, the neck as the only translation, and then the camera moves instead of the body. Which
joints enter the rotation is a setting (`AlignConfig.joints`):

* `reference`: Kabsch over both shoulders, neck and pelvis, as in the reference code. The pelvis is usually
  outside a portrait; the fit invents it, and so tilts the camera.
* `torso` (default): the rotation of the chest alone, since the rig's chest is what must cover the person's.
  SMPLify bends no spine: its body below the neck is one rigid piece, so the fit's `root_orient` *is* the
  rotation of the chest and nothing has to be estimated again. SMPL fits of image-based networks bend the
  spine, so their `root_orient` is the rotation of the pelvis, which is what we want to be rid of.
  There the rotation comes from what a portrait shows, shoulders, neck, head and face. Shoulders and neck
  alone span a triangle only six centimetres high, which leaves the camera's elevation to chance. The head
  steadies it, once the template's head has been turned as the fit turned its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.config import AlignConfig
from phq_data.errors import PhqError
from phq_data.records import Fit
from phq_data.rig import rotation_matrix

Template = Mapping[str, ArrayLike] | NDArray[np.floating]
"""Neutral joints in metres in the world frame around the neck: by name, [3] each, or [13, 3] in the order of
`bodies.JOINT_NAMES`."""

REFERENCE_JOINTS = ("left_shoulder", "right_shoulder", "neck", "pelvis")
"""Section 5, step 1."""
_HEAD_JOINTS = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")
UPPER_JOINTS = ("left_shoulder", "right_shoulder", "neck", "head", *_HEAD_JOINTS)
"""What a portrait shows of a body."""


class AlignError(PhqError, ValueError):
    """A fit that no camera can be derived from."""


@dataclass(frozen=True)
class Alignment:
    """The label of a fitted person, and what the crop needs to know of the fit."""

    camera: FloatArray  # [4, 4] camera-to-world on the look-at sphere
    pose: FloatArray  # [6] neck and head axis-angle, radians
    neck_cam: FloatArray  # [3] neck joint in the photo's camera frame, metres
    rotation: FloatArray  # [3, 3] world (body) to the photo's camera frame


def align(fit: Fit, config: AlignConfig, template: Template) -> Alignment:
    """The alignment of one fit. Raises `AlignError` when it implies no camera."""
    joints, pose = fit.joints, fit.pose
    if not (np.isfinite(joints).all() and np.isfinite(pose).all() and np.isfinite(fit.root_orient).all()):
        raise AlignError("the fitted body has numbers that are not finite")
    neck = joints[JOINT_NAMES.index("neck")]
    if neck[2] <= 0:
        raise AlignError(f"the fitted neck lies behind the camera (depth {neck[2]:.3g} m)")
    if config.joints == "reference":
        rotation = _rotation_over(REFERENCE_JOINTS, template, joints)
    elif fit.body == "anny":
        rotation = rotation_matrix(fit.root_orient)
    else:
        rotation = _rotation_over(UPPER_JOINTS, posed_template(template, pose), joints)
    try:
        label = camera_on_sphere(rotation, neck)
        camera.check_label(camera.to_label(label))
    except camera.CameraError as error:
        raise AlignError(str(error)) from error
    return Alignment(camera=label, pose=pose, neck_cam=neck, rotation=rotation)


def by_name(template: Template) -> dict[str, FloatArray]:
    """The template as a dictionary of joints [3]."""
    if isinstance(template, Mapping):
        return {name: np.asarray(point, np.float64) for name, point in template.items()}
    points = np.asarray(template, np.float64)
    if points.shape != (len(JOINT_NAMES), 3):
        raise AlignError(
            f"a template has {len(JOINT_NAMES)} joints of 3 coordinates, not shape {points.shape}"
        )
    return dict(zip(JOINT_NAMES, points, strict=True))


def kabsch(
    source: ArrayLike,  # [..., J, 3]
    target: ArrayLike,  # [..., J, 3]
) -> FloatArray:
    """The rotation [..., 3, 3] that best turns centred `source` onto centred `target` (least squares)."""
    A, B = np.asarray(source, np.float64), np.asarray(target, np.float64)
    A = A - A.mean(axis=-2, keepdims=True)
    B = B - B.mean(axis=-2, keepdims=True)
    U, _, Vt = np.linalg.svd(np.swapaxes(A, -1, -2) @ B)
    V = np.swapaxes(Vt, -1, -2).copy()
    # A reflection would fit mirrored joints better; the least certain axis is turned back.
    V[..., 2] *= np.sign(np.linalg.det(V @ np.swapaxes(U, -1, -2)))[..., None]
    return np.asarray(V @ np.swapaxes(U, -1, -2))


def camera_on_sphere(
    rotation: ArrayLike,  # [..., 3, 3] body to photo's camera frame
    neck_cam: ArrayLike,  # [..., 3] metres, photo's camera frame
) -> FloatArray:
    """Camera-to-world [..., 4, 4] of a body turned by `rotation` whose neck is at `neck_cam` (steps 3 to 6).

    With x_cam = R x + n the photo's camera stands at -R^T n of the body's frame and its up is -R^T e_y.
    """
    R, n = np.asarray(rotation, np.float64), np.asarray(neck_cam, np.float64)
    back = np.swapaxes(R, -1, -2)
    return camera.look_from(-(back @ n[..., None])[..., 0], -back[..., 1])


def posed_template(template: Template, pose: ArrayLike) -> dict[str, FloatArray]:
    """The template with its head joint and face turned by neck and head axis-angles `pose` [6], radians."""
    angles = np.asarray(pose, np.float64)
    neck = rotation_matrix(angles[:3])
    both = neck @ rotation_matrix(angles[3:])
    posed = by_name(template)
    if "head" not in posed:
        raise AlignError("the body's template lacks the joint 'head'")
    head = posed["head"]
    for name in _HEAD_JOINTS:
        if name in posed:
            posed[name] = both @ (posed[name] - head) + neck @ head
    posed["head"] = neck @ head
    return posed


def _rotation_over(names: Sequence[str], template: Template, joints: FloatArray) -> FloatArray:
    known = by_name(template)
    missing = [name for name in names if name not in known]
    if missing:
        raise AlignError(f"the body's template lacks the joint '{missing[0]}'")
    source = np.stack([known[name] for name in names])
    return kabsch(source, joints[[JOINT_NAMES.index(name) for name in names]])
