"""A label that a person corrected: checked, as a fit, and as other cameras see it.

A `PlacedLabel` says where the rig lies in the photo: a camera whose intrinsics hold in a square of it. It
need not be normalised: people turn and move the camera as they like. `corrected_fit` makes the fit from which
`align_crop` makes the normal label, window and image; `through` the same view by a camera with another focal
length and principal point: the photo's, to fit again, or that of another window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.errors import PhqError
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.records import Correction, Fit
from phq_data.rig import PortraitRig
from phq_data.stages.align import Alignment, Template, camera_on_sphere, posed_template
from phq_data.stages.crop import Window

TOLERANCE = 1e-3  # of matrices that came through JSON
NEAREST, FARTHEST = 0.3, 300.0  # metres from the camera to the neck
FOCALS = (0.2, 100.0)  # in window widths
LARGEST_WINDOW = 1e6  # pixels
WIDEST = 5.0  # sides of the photo that a window may span
LARGEST_NUMBER = 1e4  # of matrices and poses
INTRINSICS = camera.INTRINSICS  # of the module: inside the class, `camera` is the field
_SEEN = 0.05  # score from which on a keypoint counts


class RelabelError(PhqError, ValueError):
    """A label that cannot be one; the message says what is wrong with it."""


@dataclass(frozen=True, eq=False)
class PlacedLabel:
    """Where the rig lies in a photo."""

    camera: FloatArray  # [4, 4] camera-to-world, metres
    intrinsics: FloatArray  # [3, 3] in widths of the window
    pose: FloatArray  # [6] neck and head axis-angle, radians
    window: Window  # of the upright photo, pixels

    @classmethod
    def of(cls, label: ArrayLike, pose: ArrayLike, window: Sequence[float]) -> PlacedLabel:
        """From the columns `camera` [25], `pose` [6] and `window` [3]. Raises `RelabelError`."""
        numbers = [np.asarray(values, np.float64).ravel() for values in (label, pose, window)]
        sizes = tuple(len(values) for values in numbers)
        if sizes != (camera.LABEL_SIZE, camera.POSE_SIZE, 3):
            raise RelabelError(
                f"a label has 25 numbers of a camera, 6 of a pose and 3 of a window, not {sizes}"
            )
        cam2world, intrinsics = camera.from_label(numbers[0])
        found = cls(cam2world, intrinsics, numbers[1], Window(*numbers[2].tolist()))
        _check(found)
        return found

    @property
    def rotation(self) -> FloatArray:
        """[3, 3] world to camera."""
        return self.camera[:3, :3].T

    @property
    def neck(self) -> FloatArray:
        """[3] the neck joint in the camera frame, metres."""
        return -self.rotation @ self.camera[:3, 3]

    @property
    def focal(self) -> float:
        """Photo pixels."""
        return float(self.intrinsics[0, 0]) * self.window.side

    @property
    def principal(self) -> FloatArray:
        """[2] photo pixels."""
        return self.window.to_photo(self.intrinsics[:2, 2])

    @property
    def on_sphere(self) -> FloatArray:
        """[4, 4] the normalised camera: the same view from the look-at sphere."""
        return camera_on_sphere(self.rotation, self.neck)

    @property
    def normal_side(self) -> float:
        """Side of the window that the normalised camera has, about; photo pixels."""
        return self.focal / float(self.neck[2]) * camera.RADIUS / camera.FOCAL

    def check_in(self, photo: tuple[int, int], smallest: float) -> None:
        """Raise `RelabelError` where no portrait of at least `smallest` photo pixels can be cut from a photo
        of this width and height.
        """
        side, neck = self.normal_side, self.to_photo(np.zeros((1, 3)))[0]
        most = WIDEST * max(photo)
        if not smallest <= side <= most:
            raise RelabelError(
                f"the person's window would be {side:.0f} photo pixels wide: portraits are made of at least "
                f"{smallest:.0f} and at most {most:.0f}"
            )
        if (neck < -side / 2).any() or (neck > np.array(photo) + side / 2).any():
            raise RelabelError("the person lies outside of the photo")

    def columns(self) -> tuple[list[float], list[float], list[float]]:
        """`camera`, `pose` and `window` as the tables have them."""
        flat = [*self.camera.ravel().tolist(), *self.intrinsics.ravel().tolist()]
        return flat, self.pose.tolist(), [self.window.x, self.window.y, self.window.side]

    def to_photo(self, points: FloatArray) -> FloatArray:
        """Photo pixels [..., 2] of points [..., 3] of the world."""
        return self.window.to_photo(camera.project(points, self.camera, self.intrinsics)[0])

    def seen_in(self, window: Window, intrinsics: FloatArray = INTRINSICS) -> PlacedLabel:
        """The same view of the person by a camera whose `intrinsics` [3, 3] hold in another window."""
        focal = float(intrinsics[0, 0]) * window.side
        R, n = through(self, focal, window.to_photo(intrinsics[:2, 2]))
        cam2world = np.eye(4)
        cam2world[:3, :3], cam2world[:3, 3] = R.T, -R.T @ n
        return PlacedLabel(cam2world, np.array(intrinsics), self.pose, window)


@dataclass(frozen=True)
class AppliedCorrection:
    """A label of a person that holds: numbers as the tables have them."""

    person_id: str
    photo_id: str
    portrait_id: str  # what the corrector saw
    correction_id: str
    reviewer: str
    camera: tuple[float, ...]  # [25]
    pose: tuple[float, ...]  # [6]
    window: tuple[float, ...]  # [3]

    @classmethod
    def of(cls, one: Correction) -> AppliedCorrection:
        """From the log. Raises `RelabelError` for a label that cannot be one."""
        assert one.to_camera is not None and one.to_pose is not None and one.to_window is not None
        numbers = (one.to_camera.tolist(), one.to_pose.tolist(), one.to_window.tolist())
        PlacedLabel.of(*numbers)
        return cls(
            one.person_id, one.photo_id, one.portrait_id, one.correction_id, one.reviewer,
            *(tuple(values) for values in numbers),
        )  # fmt: skip

    def told(self) -> dict[str, str]:
        """What a portrait that was made of it says of itself."""
        return {
            "corrected_from": self.portrait_id,
            "corrected_by": self.reviewer,
            "correction": self.correction_id,
        }

    @property
    def label(self) -> PlacedLabel:
        """The label. Raises `RelabelError`."""
        return PlacedLabel.of(self.camera, self.pose, self.window)


def aligned_label(label: PlacedLabel) -> Alignment:
    """What `stages.align` would find for a body that lies exactly so."""
    return Alignment(label.on_sphere, label.pose, label.neck, label.rotation)


def corrected_fit(
    label: PlacedLabel, fit: Fit, keypoints: FloatArray, rig: PortraitRig, template: Template
) -> Fit:
    """`fit` with its body where the label has the rig; `residuals` are those of `keypoints` [17, 3]."""
    from scipy.spatial.transform import Rotation  # takes long to import, and the review starts without

    joints = _joints(label.pose, rig, template) @ label.rotation.T + label.neck
    seen = label.focal * joints[:, :2] / joints[:, 2:] + label.principal
    left, right = (joints[JOINT_NAMES.index(name)] for name in ("left_shoulder", "right_shoulder"))
    breadth = label.focal * float(np.linalg.norm(left - right)) / float(label.neck[2])
    residuals = np.full(len(COCO_KEYPOINTS), np.nan)
    for row, name in enumerate(COCO_KEYPOINTS):
        if name in rig.landmark_names and name in JOINT_NAMES and keypoints[row, 2] >= _SEEN:
            off = np.linalg.norm(seen[JOINT_NAMES.index(name)] - keypoints[row, :2])
            residuals[row] = off / max(breadth, 1e-9)
    used = np.isfinite(residuals)
    weights = keypoints[used, 2]
    mean = float(weights @ np.minimum(residuals[used], 1.0) / weights.sum()) if used.any() else 1.0
    return replace(
        fit,
        focal=label.focal,
        principal=label.principal,
        root_orient=np.asarray(Rotation.from_matrix(label.rotation).as_rotvec(), np.float64),
        translation=label.neck,
        pose=label.pose,
        joints=joints,
        residual=mean,
        residuals=residuals,
    )


def through(
    label: PlacedLabel,
    focal: float,  # pixels
    principal: ArrayLike,  # [2] pixels
) -> tuple[FloatArray, FloatArray]:
    """(rotation [3, 3] world to camera, neck [3] in metres) of the body before another camera of the photo.

    The neck is seen at the same pixel and in the same size, the body from the same direction and with the
    same roll: both views have the same normalised camera.
    """
    neck = label.neck
    pixel = label.focal * neck[:2] / neck[2] + label.principal
    ray = np.array([*(pixel - np.asarray(principal, np.float64)) / focal, 1.0])
    n = ray * (neck[2] * focal / label.focal)
    towards = label.camera[:3, 3] / np.linalg.norm(label.camera[:3, 3])  # from the neck to the camera
    sphere = label.on_sphere
    forward, above = sphere[:3, 2], -sphere[:3, 1]
    # The camera's up (-e_y), seen from the body, lies in the plane of the label's forward and up, and stands
    # to the ray as it does in the photo: cos(t) forward + sin(t) above with a known component towards us.
    unit = n / np.linalg.norm(n)
    along, across = float(forward @ towards), float(above @ towards)
    t = np.arctan2(across, along) - np.arccos(np.clip(unit[1] / np.hypot(along, across), -1, 1))
    if np.sin(t) < 0:
        t = 2 * np.arctan2(across, along) - t
    up = np.cos(t) * forward + np.sin(t) * above
    return _frame(-unit, np.array([0.0, -1.0, 0.0])) @ _frame(towards, up).T, n


def _frame(first: FloatArray, second: FloatArray) -> FloatArray:
    """[3, 3] right-handed axes, as columns, of two directions."""
    third = np.cross(first, second)
    third /= np.linalg.norm(third)
    return np.stack([first, np.cross(third, first), third], axis=1)


def _joints(pose: FloatArray, rig: PortraitRig, template: Template) -> FloatArray:
    """The 13 joints [13, 3] of a pose: the rig's landmarks, what it does not know from the template."""
    known = posed_template(template, pose)
    places = dict(zip(rig.landmark_names, rig.posed_landmarks(pose), strict=True))
    return np.stack([np.asarray(places.get(name, known[name]), np.float64) for name in JOINT_NAMES])


def _check(label: PlacedLabel) -> None:
    """Raise `RelabelError` for what can be no label."""
    numbers = [label.camera.ravel(), label.intrinsics.ravel(), label.pose]
    place = [label.window.x, label.window.y, label.window.side]
    if not np.isfinite(np.concatenate([*numbers, place])).all():
        raise RelabelError("the label has numbers that are not finite")
    if max(np.abs(values).max() for values in numbers) > LARGEST_NUMBER:
        raise RelabelError("the label has numbers beyond all cameras")
    rotation = label.camera[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > TOLERANCE or np.linalg.det(rotation) < 0:
        raise RelabelError("the camera's matrix is no rotation: its columns must be right, down, forward")
    if np.abs(label.camera[3] - [0, 0, 0, 1]).max() > TOLERANCE:
        raise RelabelError("the last row of the camera's matrix must be 0 0 0 1")
    focal, K = float(label.intrinsics[0, 0]), label.intrinsics
    expected = np.array([[focal, 0, K[0, 2]], [0, focal, K[1, 2]], [0, 0, 1]])
    if not FOCALS[0] <= focal <= FOCALS[1] or np.abs(K - expected).max() > TOLERANCE * focal:
        raise RelabelError("the intrinsics are those of no camera with square pixels")
    if np.abs(K[:2, 2]).max() > 10:
        raise RelabelError("the camera's principal point lies far outside of the window")
    if not 1 <= label.window.side <= LARGEST_WINDOW or np.abs(place).max() > LARGEST_WINDOW:
        raise RelabelError(f"the window has its corner at {place[:2]} and a side of {place[2]:g} pixels")
    if np.linalg.norm(label.pose.reshape(2, 3), axis=1).max() > np.pi + TOLERANCE:
        raise RelabelError("neck and head turn by at most 180 degrees")
    if not label.neck[2] > 0:
        raise RelabelError("the person lies behind the camera")
    if not NEAREST <= label.neck[2] <= FARTHEST:
        raise RelabelError(f"the camera is {label.neck[2]:.3g} m away from the neck: that is no portrait")
    try:
        camera.check_label(camera.to_label(label.on_sphere))
    except camera.CameraError as error:
        raise RelabelError(str(error)) from error
