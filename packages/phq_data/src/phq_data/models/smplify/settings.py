"""Settings of the keypoint fit: what people do, how well keypoints are known, how long to search.

There are two of them. `SmplifyConfig` was tuned on rendered people (PHQ 0.1); workspaces that were built
with it keep it. `Smplify2Config` is for photos: their people carry their heads forward and have longer
trunks, and their keypoints are better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from phq_data.arrays import FloatArray


@dataclass(frozen=True)
class SmplifyConfig:
    """Settings of `SmplifyFitter`. Standard deviations; angles in degrees, lengths in metres on the body."""

    NAME: ClassVar[str] = "smplify"
    PRIOR: ClassVar[str] = "image_orientation_prior.safetensors"

    focal_long_sides: float = 1.4
    """Focal length over the photo's long side: between a phone's wide lens (0.75) and a portrait lens (2)."""
    initializations: int = 4
    """Yaws around the circle that every person is fitted from, as detected and exchanged."""
    exchange_cost: float = 6.0
    """Detectors take the left shoulder for the right now and then, in views from behind with the head turned
    most of all. What believing so costs: -2 log of how often it happens."""
    first_iterations: int = 10
    """Steps that every initialization gets."""
    finalists: int = 3
    """Initializations that go on."""
    iterations: int = 40
    """Steps that a finalist gets at most."""
    shape_directions: int = 5

    # How far a detected keypoint lies from the body's point: standard deviation at score 0 in metres, and
    # how fast it falls with the score: deviation * exp(-decay * score). Measured with MoveNet on rendered
    # people, where the truth is known; what it cannot see, it scores low.
    nose: tuple[float, float] = (0.080, 3.1)
    eye: tuple[float, float] = (0.070, 3.2)
    ear: tuple[float, float] = (0.060, 2.6)
    shoulder: tuple[float, float] = (0.130, 2.6)
    hip: tuple[float, float] = (0.400, 2.4)
    trust: float = 1.0
    """Keypoints' share of the cost: below 1 because the errors of one person's keypoints go together."""
    outlier: float = 3.0
    """Deviations at which a keypoint's pull on the fit begins to fade (Geman-McClure)."""
    score_floor: float = 0.05
    """Keypoints below this score are not used."""
    outside: float = 2.5
    """Factor on the deviation of a keypoint outside the photo: it was guessed."""
    # Where a detector puts a keypoint, from the body's landmark: metres, body's frame, left side.
    nose_offset: tuple[float, float, float] = (0.0, 0.008, -0.008)
    shoulder_offset: tuple[float, float, float] = (0.0, 0.026, -0.004)
    shoulder_slide: tuple[float, float, float] = (0.030, 0.35, 0.40)
    """How shoulders leave the joints in views from the side: metres, and where between profile (0) and front
    (1) it is strongest, and how wide that is. See `objective.Objective._shoulder_slide`."""
    hip_offset: tuple[float, float, float] = (-0.011, 0.040, 0.020)

    # The orientation prior: `image_prior`, or `keypoint_prior` alone.
    orientation_prior_image: bool = True
    """Use the image, which is opened once more and costs two passes of Thunder a person."""
    orientation_prior_weight: float = 3.0
    """Its share of the cost; 0 = do without. Measured on rendered people that it was not trained on: above 1
    because keypoints' errors go together, which the cost does not know."""
    orientation_prior_floor: float = 0.05
    """Added to the prior's own standard deviation of a direction's coordinates."""

    # What people do.
    upright_pitch: float = 22.0
    """Torso leaning towards or away from the camera (the camera's own elevation is in it)."""
    upright_roll: float = 12.0
    """Torso leaning sideways in the image."""
    head_turn: tuple[float, float, float] = (18.0, 30.0, 11.0)
    """Neck and head together: nod, turn, tilt."""
    neck_head_difference: float = 9.0
    """Neck against head: both share a turn."""
    head_limit: tuple[float, float, float] = (50.0, 75.0, 40.0)
    """Beyond these a neck is hurt: nod, turn, tilt of neck and head together."""
    waist_bend: tuple[float, float, float] = (20.0, 15.0, 10.0)
    """Forward bend, twist, side bend of the waist."""

    def neck_against_head(self) -> tuple[FloatArray, FloatArray]:
        """Neck minus head at rest [3] and how far people differ from that [3], degrees: nod, turn, tilt."""
        return np.zeros(3), np.full(3, self.neck_head_difference)


@dataclass(frozen=True)
class Smplify2Config(SmplifyConfig):
    """Settings of `SmplifyFitter` for photos: what differs from renders, from the literature or measured."""

    NAME: ClassVar[str] = "smplify2"
    PRIOR: ClassVar[str] = "image_orientation_prior_2.safetensors"

    hip: tuple[float, float] = (0.250, 2.4)
    """Hips of photos agree between calibrated cameras within 2 to 3 cm where their score is 0.7 to 0.9."""
    shoulder_slide: tuple[float, float, float] = (0.0, 0.35, 0.40)
    """None: that shoulders leave their joints in views from the side was true of renders."""
    hip_offset: tuple[float, float, float] = (-0.011, -0.022, 0.0)
    """Down by what real trunks are longer than the model's: between acromion and greater trochanter lie 0.288
    of the height (Drillis and Contini 1966), 0.275 in the model. Renders' hips are detected 4 cm higher."""
    orientation_prior_weight: float = 1.0
    orientation_prior_floor: float = 0.15
    """The prior's deviations were measured on renders: on photos it errs more, and keypoints less."""
    upright_pitch: float = 45.0
    """Photos are taken from everywhere: a tighter one draws steep views towards level."""
    head_turn: tuple[float, float, float] = (25.0, 45.0, 14.0)
    """Wider, so that a turned head does not draw the chest along."""
    waist_bend: tuple[float, float, float] = (12.0, 15.0, 10.0)
    neck_forward: float = 24.0
    """Nod of the neck minus that of the head at rest. Necks lean forward and heads look level on them: the
    craniovertebral angle (tragus over the seventh vertebra) is near 50 degrees, 61 in the model at rest: 12
    for each joint. Without this the fit leans the chest instead."""
    neck_forward_deviation: float = 20.0

    def neck_against_head(self) -> tuple[FloatArray, FloatArray]:
        """Neck minus head at rest [3] and how far people differ from that [3], degrees: nod, turn, tilt."""
        difference = self.neck_head_difference
        rest = np.array([self.neck_forward, 0.0, 0.0])
        return rest, np.array([self.neck_forward_deviation, difference, difference])
