"""The screen for minors: what an age network that the user brought says of heads, and what follows.

Three outcomes: adult, minor, or unsure, which a person decides. A network sees a head only where its face
is turned to the camera and was seen by the person detector; of other heads, rear views above all, nothing is
known but what is known of the photo's other people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phq_data import camera
from phq_data.config import ScreenConfig
from phq_data.models.protocols import COCO_KEYPOINTS, AgeEstimate, AgeEstimator
from phq_data.records import Keypoints
from phq_data.rig import PortraitRig, rotation_matrix
from phq_data.stages.crop import LabelledCrop, Window, trust_in
from phq_data.stages.resample import resample

ADULTHOOD = 18.0  # years
FACING = np.radians(60.0)
"""Angle between a face and the direction to the camera from which on no age is asked: age networks are
trained on faces that look at the camera."""
_TRUST = 0.25  # of nose and one eye, from which on a face is seen
_NOSE = COCO_KEYPOINTS.index("nose")
_EYES = [COCO_KEYPOINTS.index(name) for name in ("left_eye", "right_eye")]

MINOR, UNSURE, UNSEEN = "minor", "maybe_minor", "age_unseen"
"""Reasons to reject a portrait: judged a minor; perhaps one; no face to judge."""
UNDECIDED = frozenset({UNSURE, UNSEEN})
"""Reasons that a person decides about."""


@dataclass(frozen=True)
class AgeVerdict:
    """What the screen for minors says of a portrait."""

    outcome: Literal["adult", "minor", "unsure"]
    reason: str  # to reject it, or ""
    estimate: AgeEstimate | None = None  # None: no face to judge


def age_verdict(estimate: AgeEstimate | None, config: ScreenConfig) -> AgeVerdict:
    """The outcome for one portrait, by its own face alone; None: there is none to judge.

    Adult from `adult_from` years on, if two standard deviations less are still 18 years.
    """
    if estimate is None:
        return AgeVerdict("unsure", UNSEEN if config.age_unseen == "review" else "")
    if estimate.years < config.minor_below:
        return AgeVerdict("minor", MINOR, estimate)
    sure = estimate.years - 2 * (estimate.spread or 0.0) >= ADULTHOOD
    if sure and estimate.years >= config.adult_from:
        return AgeVerdict("adult", "", estimate)
    return AgeVerdict("unsure", UNSURE, estimate)


def with_photo(photos: Sequence[str], verdicts: Sequence[AgeVerdict]) -> list[AgeVerdict]:
    """The verdicts on portraits of these photos: where one person may be a minor, nobody without a face is
    kept."""
    families = {
        photo
        for photo, one in zip(photos, verdicts, strict=True)
        if one.estimate is not None and one.outcome != "adult"
    }
    return [
        replace(one, reason=UNSEEN) if one.estimate is None and photo in families else one
        for photo, one in zip(photos, verdicts, strict=True)
    ]


def estimate_age(
    image: NDArray[np.uint8],  # [S, S, 3]
    crop: LabelledCrop,
    keypoints: Keypoints,  # [17, 3] in image pixels
    rig: PortraitRig,
    estimator: AgeEstimator,
) -> AgeEstimate | None:
    """The age of a portrait's person; None where no face is seen. Raises `ModelError`."""
    if not face_seen(crop, keypoints):
        return None
    head = resample(image, head_window(crop, rig).scaled(estimator.padding), estimator.side)
    return estimator.estimate(head.pixels[None])[0]


def face_seen(crop: LabelledCrop, keypoints: Keypoints) -> bool:
    """Is the face turned to the camera, by the label, and were nose and an eye seen, by the detector?"""
    turned = rotation_matrix(crop.pose[:3]) @ rotation_matrix(crop.pose[3:])
    to_camera = crop.camera[:3, 3] / np.linalg.norm(crop.camera[:3, 3])
    trust = trust_in(keypoints[:, 2])
    seen = min(trust[_NOSE], trust[_EYES].max()) > _TRUST
    return bool(seen and turned[:, 2] @ to_camera >= np.cos(FACING))


def head_window(crop: LabelledCrop, rig: PortraitRig) -> Window:
    """The square around the label's head, in image pixels."""
    head = rig.posed(crop.pose)[rig.weights[:, 1] > 0.5]
    places = camera.project(head, crop.camera, crop.intrinsics)[0] * crop.size
    low, high = places.min(axis=0), places.max(axis=0)
    side = float((high - low).max())
    x, y = ((low + high) / 2 - side / 2).tolist()
    return Window(x, y, side)
