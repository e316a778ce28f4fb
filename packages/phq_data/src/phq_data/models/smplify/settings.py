"""Settings of the keypoint fit: what people do, how well keypoints are known, how long to look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SmplifyConfig:
    """Settings of `SmplifyFitter`. Standard deviations; angles in degrees, lengths in metres on the body."""

    focal_long_sides: float = 1.2
    """Focal length over the photo's long side: between a phone's wide lens (0.75) and a portrait lens (2)."""
    starts: int = 8
    """Yaws around the circle that every person is fitted from."""
    first_iterations: int = 10
    """Steps that every start gets."""
    finalists: int = 3
    """Starts that go on."""
    iterations: int = 40
    """Steps that a finalist gets at most."""
    shape_directions: int = 5

    # How far a detected keypoint lies from the body's point.
    nose_deviation: float = 0.010
    eye_deviation: float = 0.010
    ear_deviation: float = 0.016
    shoulder_deviation: float = 0.026
    hip_deviation: float = 0.06
    outlier: float = 3.0
    """Deviations at which a keypoint's pull on the fit begins to fade (Geman-McClure)."""
    score_floor: float = 0.05
    """Keypoints below this score are not used; the weight grows from here ..."""
    score_full: float = 0.5
    """... to full weight at this score."""
    outside_weight: float = 0.15
    """What is left of the weight of a keypoint outside the photo: it was guessed."""

    # What people do.
    upright_pitch: float = 22.0
    """Torso leaning towards or away from the camera (the camera's own elevation is in it)."""
    upright_roll: float = 12.0
    """Torso leaning sideways in the picture."""
    head_turn: tuple[float, float, float] = (18.0, 30.0, 11.0)
    """Neck and head together: nod, turn, tilt."""
    neck_head_difference: float = 9.0
    """Neck against head: both share a turn."""
    head_limit: tuple[float, float, float] = (50.0, 75.0, 40.0)
    """Beyond these a neck is hurt: nod, turn, tilt of neck and head together."""
    waist_bend: tuple[float, float, float] = (20.0, 15.0, 10.0)
    """Forward bend, twist, side bend of the waist."""
