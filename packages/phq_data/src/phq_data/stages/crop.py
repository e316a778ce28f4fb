"""Crop: which square of the photo becomes the image.

A label fixes how large and where the body appears in its image, so the window is not a matter of taste: it
is the similarity between image and photo. Two ways to find it (`CropConfig.mode`):

* `fit` (default): the window, without rotation, in which the posed rig as the label's camera sees it lies
  best on the person's head, neck and shoulders. Label and image agree by construction.
* `reference`: sections 6 and 10 of the data specification: the side from the head (or from the projected
  shoulder width), the centre from the shoulders, then 0.75 of the side.

Which positions `fit` aims at. The fitted body's own joints, projected with the camera of the fit, are the
same points as the rig's: where the fit explains a keypoint, its joint is the target. The keypoint itself is
not, because a detector puts its shoulder on the skin, slides it around a profile, and now and then takes the
left for the right, all of which a fit can know and a window cannot. Where the fit misses a keypoint that the
detector is sure of, beyond `EXPLAINED` and at the latest at `MISSED`, the fitted body is in the wrong place
there (image-based networks do not always land on them), and the keypoint is the target. Measured on
120 rendered photos with known joints, aiming at joints instead of keypoints takes the median distance of
rig and true joints from 0.100 to 0.086 of the image at the shoulders and from 0.075 to 0.041 at the head.

Shoulders weigh most, because reviewers judge the shoulders. Head points that lie far off are outvoted;
shoulders are not, until they are absurd, since a person broader than the rig must not lose their shoulders
to a perfect head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.errors import PhqError
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.records import Fit, Portrait
from phq_data.rig import PortraitRig
from phq_data.schema import make_id
from phq_data.stages.align import Alignment, Template, by_name

CANVAS_FOCAL = 5000.0 / 1024.0
"""Focal length of crop A in image widths (section 4)."""
HEAD_FACTOR = 2.6
"""Side of crop A over the head box's shorter side (section 6, step 1)."""
SHOULDER_FACTOR = 1.6
"""Side of crop A over the frontal shoulder width where there is no head box (section 6, step 1)."""
TIGHTER = 0.75
"""Side of the final window over that of crop A (section 10, step 8)."""
FACE_GROWTH, FACE_SCORE = 1.3, 0.5
"""Head box made from face keypoints (section 2, rule 3)."""

UNSURE, SURE = 0.1, 0.5
"""Keypoint scores up to which a point is a guess, and from which on it is as good as they get."""
EXPLAINED, MISSED = 0.15, 0.35
"""Reprojection errors (shoulder breadths) up to which a fit explains a keypoint, and from which on
it has missed it."""

_LANDMARKS: Mapping[str, tuple[float, float]] = {
    # name: (weight, distance in image widths beyond which the point is outvoted)
    "left_shoulder": (1.0, 0.15),
    "right_shoulder": (1.0, 0.15),
    "neck": (0.5, 0.15),
    "left_ear": (0.3, 0.06),
    "right_ear": (0.3, 0.06),
    "left_eye": (0.2, 0.06),
    "right_eye": (0.2, 0.06),
    "nose": (0.2, 0.06),
    "head_top": (0.3, 0.06),
}
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_SHOULDERS = ("left_shoulder", "right_shoulder")
_ROUNDS = 30


LOSSY = ("jpeg-95",)
"""Codecs that change what a reviewer sees, and therefore the portrait's id."""


class CropError(PhqError, ValueError):
    """A person for whom no window can be found."""


@dataclass(frozen=True)
class Window:
    """A square of the upright photo: corner and side in pixels. It may leave the photo."""

    x: float
    y: float
    side: float

    def to_image(self, points: ArrayLike, size: float = 1.0) -> FloatArray:
        """Photo positions [..., 2] in pixels as positions in an image of `size` pixels a side."""
        return (np.asarray(points, np.float64) - [self.x, self.y]) * (size / self.side)

    def to_photo(self, points: ArrayLike, size: float = 1.0) -> FloatArray:
        """The inverse of `to_image`, for positions [..., 2]."""
        return np.asarray(points, np.float64) * (self.side / size) + [self.x, self.y]

    def keypoints(self, keypoints: ArrayLike, size: float) -> FloatArray:
        """Keypoints [..., 3] (x, y, score) in image pixels."""
        values = np.array(keypoints, np.float64)
        values[..., :2] = self.to_image(values[..., :2], size)
        return values

    def scaled(self, factor: float) -> Window:
        """The window with the same centre and `factor` times the side."""
        shift = (1.0 - factor) * self.side / 2
        return Window(self.x + shift, self.y + shift, self.side * factor)

    def outside_share(self, width: int, height: int) -> float:
        """Which share of the window lies outside a photo of that size, 0..1."""
        across = max(0.0, min(self.x + self.side, width) - max(self.x, 0.0))
        down = max(0.0, min(self.y + self.side, height) - max(self.y, 0.0))
        return max(0.0, 1.0 - across * down / self.side**2)


def _intrinsics() -> FloatArray:
    return camera.INTRINSICS  # of the module: inside the class, `camera` is the field


@dataclass(frozen=True, eq=False)
class LabelledCrop:
    """Where a person is in the image: camera, pose and window belong together and are made once."""

    camera: FloatArray  # [4, 4] camera-to-world on the look-at sphere, metres
    pose: FloatArray  # [6] neck and head axis-angles, radians
    window: Window
    size: int  # side of the image, pixels
    intrinsics: FloatArray = field(default_factory=_intrinsics)  # [3, 3] in image widths

    @classmethod
    def of(cls, portrait: Portrait) -> LabelledCrop:
        """What a finished portrait says of itself."""
        cam2world, intrinsics = camera.from_label(portrait.camera)
        return cls(cam2world, portrait.pose, Window(*portrait.window.tolist()), portrait.size, intrinsics)

    @cached_property
    def label(self) -> NDArray[np.float32]:
        """The camera as a label [25]."""
        return camera.to_label(self.camera, self.intrinsics)

    @property
    def angles(self) -> tuple[float, float, float]:
        """(yaw, pitch, roll) of the camera, radians."""
        yaw, pitch, roll = camera.angles(self.camera)
        return float(yaw), float(pitch), float(roll)

    def keypoints(self, points: FloatArray) -> FloatArray:
        """Keypoints [..., 3] (x, y, score) in photo pixels as they lie in the image, in its pixels."""
        return self.window.keypoints(points, self.size)

    def portrait_id(self, photo_id: str, codec: str) -> str:
        """The id of the portrait that this crop of a photo gives: what a reviewer sees and a trainer gets.

        Windows are rounded to 0.01 photo pixels, cameras and poses to 1e-4: less cannot be seen, and a fit
        that is repeated on another machine keeps its ids.
        """
        place = [round(float(value) * 100) for value in (self.window.x, self.window.y, self.window.side)]
        camera_key = [round(float(value) * 10_000) for value in self.label]
        pose_key = [round(float(value) * 10_000) for value in self.pose]
        seen = codec if codec in LOSSY else "lossless"
        return make_id(photo_id, place, camera_key, pose_key, self.size, seen)


def fit_window(aligned: Alignment, rig: PortraitRig, keypoints: ArrayLike, fit: Fit) -> Window:
    """The window that best puts the posed rig on the person with `keypoints` [17, 3] in photo pixels.

    Weighted least squares in closed form, re-weighted for robustness.
    Raises `CropError` when nothing usable is known of the person.
    """
    names = [name for name in _LANDMARKS if name in rig.landmark_names]
    rig_points = _rig_points(names, rig, aligned.camera, aligned.pose)
    points = np.asarray(keypoints, np.float64).reshape(-1, 3)
    fitted, known = _fitted(names, fit)
    detected, aim, left = _detected(names, points, _errors(names, fit), known)
    base = np.array([_LANDMARKS[name][0] for name in names])
    reach = np.array([_LANDMARKS[name][1] for name in names])
    P = np.concatenate([rig_points, rig_points])
    Q = np.concatenate([detected, fitted])
    weights = np.concatenate([base * aim, base * left * known])
    window = _similarity(P, Q, weights, np.concatenate([reach, reach]))
    if window is None:
        # The detected points contradict each other; the fitted body at least hangs together.
        window = _similarity(rig_points, fitted, base * known, reach)
    if window is None:
        raise CropError("neither the keypoints nor the fitted body say where head and shoulders are")
    return window


def reference_window(
    aligned: Alignment,
    template: Template,
    shoulders: ArrayLike,  # [2, 2] detected left and right shoulder, photo pixels
    head_box: ArrayLike | None,  # [4] x, y, width, height in photo pixels
    focal: float,  # of the fit, pixels
) -> Window:
    """Crop A of the reference (section 6, steps 1 to 4); the image is its `scaled(TIGHTER)`."""
    known = by_name(template)
    pair = np.stack([known[name] for name in _SHOULDERS])
    if head_box is not None:
        side = HEAD_FACTOR * float(np.min(np.asarray(head_box, np.float64)[2:4]))
    else:
        # The frontal template at the person's place: its shoulder width does not depend on the person's yaw.
        upright = pair * [1.0, -1.0, -1.0] + aligned.neck_cam
        seen = focal * upright[:, :2] / upright[:, 2:]
        side = SHOULDER_FACTOR * float(np.linalg.norm(seen[0] - seen[1]))
    if not (np.isfinite(side) and side > 0):
        raise CropError("the head box is empty")
    K = np.array([[CANVAS_FOCAL, 0, 0.5], [0, CANVAS_FOCAL, 0.5], [0, 0, 1]])
    middle = camera.project(pair, aligned.camera, K)[0].mean(axis=0)
    centre = np.asarray(shoulders, np.float64).mean(axis=0) - (middle - 0.5) * side
    return Window(float(centre[0] - side / 2), float(centre[1] - side / 2), side)


def head_box(keypoints: ArrayLike) -> FloatArray | None:
    """A head box [4] (x, y, width, height) from face keypoints, or None (section 2, rule 3).

    The reference looks for a detected head box first and falls back to this; where no detector's boxes are
    given, this is all there is.
    """
    points = np.asarray(keypoints, np.float64).reshape(-1, 3)[: len(_FACE)]
    if (points[:, 2] > FACE_SCORE).sum() < 2:
        return None
    side = FACE_GROWTH * float(np.ptp(points[:, :2], axis=0).max())
    if side <= 0:
        return None
    return np.array([*(points[:, :2].mean(axis=0) - side / 2), side, side])


def first_window(
    aligned: Alignment, template: Template, keypoints: ArrayLike, fit: Fit, head: ArrayLike | None
) -> Window:
    """Crop A of one person with `keypoints` [17, 3] and head box `head` [4], if any (`reference_window`)."""
    points = np.asarray(keypoints, np.float64).reshape(-1, 3)
    shoulders = points[[COCO_KEYPOINTS.index(name) for name in _SHOULDERS], :2]
    return _finite(reference_window(aligned, template, shoulders, head, fit.focal))


def choose_window(
    mode: str,
    aligned: Alignment,
    rig: PortraitRig,
    template: Template,
    keypoints: ArrayLike,
    fit: Fit,
) -> Window:
    """The window of one person with `keypoints` [17, 3] in `CropConfig.mode`. Raises `CropError`."""
    points = np.asarray(keypoints, np.float64).reshape(-1, 3)
    if mode == "reference":
        return first_window(aligned, template, points, fit, head_box(points)).scaled(TIGHTER)
    return _finite(fit_window(aligned, rig, points, fit))


def landmark_errors(
    crop: LabelledCrop,
    rig: PortraitRig,
    keypoints: FloatArray,  # [17, 3] x, y in photo pixels, score
    fit: Fit,
) -> tuple[float, float]:
    """(all, shoulders): how far the label's rig is from the person's keypoints, as share of the side.

    Per point, the distance from the rig's landmark to the fitted body's, and from there to the keypoint as
    the fit sees it (`residuals` of `fits`), root of the sum of squares. Means over face, ears and shoulders,
    `keypoints` counting as far as the detector is sure of them; where it is sure of none, by their bare
    scores. 1.0 when there is nothing to compare with.
    """
    names = [name for name in (*_FACE, *_SHOULDERS) if name in rig.landmark_names]
    rig_points = _rig_points(names, rig, crop.camera, crop.pose)
    fitted, known = _fitted(names, fit)
    errors = _errors(names, fit)
    scores = keypoints[[COCO_KEYPOINTS.index(name) for name in names], 2]
    usable = known * np.isfinite(errors)
    missed = np.nan_to_num(errors) * _person_size(fit) / crop.window.side
    distance = np.hypot(np.linalg.norm(crop.window.to_image(fitted) - rig_points, axis=1), missed)
    shoulder = np.array([name in _SHOULDERS for name in names])
    trust, scores = trust_in(scores) * usable, scores * usable
    return _mean(distance, trust, scores), _mean(distance[shoulder], trust[shoulder], scores[shoulder])


def trust_in(scores: ArrayLike) -> FloatArray:
    """How far keypoints with scores [...] are measurements rather than guesses, 0..1, in the same shape."""
    return np.clip((np.asarray(scores, np.float64) - UNSURE) / (SURE - UNSURE), 0.0, 1.0)


def _rig_points(names: list[str], rig: PortraitRig, cam2world: FloatArray, pose: FloatArray) -> FloatArray:
    """The posed rig's landmarks [L, 2] as the label's camera sees them, in image widths."""
    places = rig.posed_landmarks(pose)[[rig.landmark(name) for name in names]]
    return camera.project(places, cam2world)[0]


def _finite(window: Window) -> Window:
    if not np.isfinite([window.x, window.y, window.side]).all():
        raise CropError("the window has numbers that are not finite")
    return window


def _mean(distance: FloatArray, trust: FloatArray, scores: FloatArray) -> float:
    weights = trust if trust.sum() > 0 else scores
    return float((weights * distance).sum() / weights.sum()) if weights.sum() > 0 else 1.0


def _detected(
    names: list[str], keypoints: FloatArray, errors: FloatArray, known: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Detected positions [L, 2] of landmarks in photo pixels, how far to aim at them [L], and how far at the
    fitted joint instead [L], both 0..1.

    Keypoints that the fit left unused are not aimed at. COCO has no neck and no head top: their joints count
    as far as those of shoulders and face do.
    """
    positions = np.zeros((len(names), 2))
    aim = dict.fromkeys((*_LANDMARKS, *_FACE), 0.0)
    for row, name in enumerate(names):
        if name in COCO_KEYPOINTS:
            x, y, score = keypoints[COCO_KEYPOINTS.index(name)]
            if np.isfinite([x, y]).all():
                positions[row] = x, y
                missed = np.clip((errors[row] - EXPLAINED) / (MISSED - EXPLAINED), 0.0, 1.0)
                aim[name] = float(trust_in(score)) * (float(np.nan_to_num(missed)) if known[row] else 1.0)
    left = {name: 1.0 - share for name, share in aim.items()}
    left["neck"] = float(np.mean([left[name] for name in _SHOULDERS]))
    left["head_top"] = min(left[name] for name in _FACE)
    return positions, np.array([aim[name] for name in names]), np.array([left[name] for name in names])


def _errors(names: list[str], fit: Fit) -> FloatArray:
    """Reprojection errors [L], shoulder breadths; nan where the fit used no keypoint."""
    return np.array(
        [fit.residuals[COCO_KEYPOINTS.index(n)] if n in COCO_KEYPOINTS else np.nan for n in names]
    )


def _person_size(fit: Fit) -> float:
    """The unit of a fit's residuals: how many photo pixels wide its shoulders are from the front."""
    left, right, neck = (fit.joints[JOINT_NAMES.index(name)] for name in (*_SHOULDERS, "neck"))
    return fit.focal * float(np.linalg.norm(left - right)) / max(float(neck[2]), 1e-6)


def _fitted(names: list[str], fit: Fit) -> tuple[FloatArray, FloatArray]:
    """Projected joints [L, 2] of the fitted body in photo pixels, and 1.0 where they can be seen."""
    joints = fit.joints[[JOINT_NAMES.index(name) for name in names]]
    known = (np.isfinite(joints).all(axis=1) & (joints[:, 2] > 0)).astype(np.float64)
    depth = np.where(known > 0, joints[:, 2], 1.0)[:, None]
    seen = fit.focal * joints[:, :2] / depth + fit.principal
    return np.where(known[:, None] > 0, seen, 0.0), known


def _similarity(P: FloatArray, Q: FloatArray, weights: FloatArray, reach: FloatArray) -> Window | None:
    """The window (x, y, side) with Q ~ (x, y) + side P; None when the points do not give one."""
    robust = np.ones(len(P))
    window: Window | None = None
    for _ in range(_ROUNDS):
        w = weights * robust
        if w.sum() <= 0:
            return None
        w = w / w.sum()
        p, q = w @ P, w @ Q
        spread = float(w @ ((P - p) ** 2).sum(axis=1))
        if spread < 1e-6:
            return None
        side = float(w @ ((P - p) * (Q - q)).sum(axis=1)) / spread
        if not side > 0:
            return None
        corner = q - side * p
        window = Window(float(corner[0]), float(corner[1]), side)
        # Geman-McClure: quadratic nearby, indifferent far away.
        off = np.linalg.norm(window.to_image(Q) - P, axis=1) / reach
        robust = 1.0 / (1.0 + off**2) ** 2
    return window
