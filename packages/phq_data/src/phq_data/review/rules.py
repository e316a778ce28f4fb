"""What reviewers are asked, the reasons they can give, and the yaw bins that progress is counted by.

`VERSION` is written beside every decision: a decision means something only together with the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phq_data.review.consensus import ReviewError

VERSION = "shoulders-1"
CRITERION = (
    "Accept when the mesh is aligned with the person's shoulders and the photo is neither blurry nor noisy. "
    "The neck and the head need not be aligned."
)

REASONS: Mapping[str, str] = {
    "shoulders": "The mesh is off the shoulders",
    "blur": "Blurry or noisy",
    "wrong_person": "The mesh is on another person",
    "occluded": "Something covers the person",
    "truncated": "The person is cut off",
    "other": "Something else",
    "sides": "Left and right are exchanged",
    "front_back": "Front and back are exchanged",
    "minor": "A minor, or perhaps one",
}
"""Why a portrait is rejected: the word that is stored, and how it is said to people.

Their order is that of the digit keys, which fingers know: new ones come last."""

YAW_BINS = 12
"""Bins of 30 degrees, the first centred on the front."""


@dataclass(frozen=True)
class Policy:
    """How a team reviews; kept in the store's table `settings`."""

    overlap_share: float = 0.08  # of the portraits that `overlap_votes` reviewers are asked about
    overlap_votes: int = 2
    gold_share: float = 0.03  # of a reviewer's queue that are gold items, once there are any
    gold_feedback: bool = False  # whether reviewers are told what is known of a gold item they judged
    lease_seconds: int = 900
    min_votes: int = 1  # the consensus rule, as in `consensus.ConsensusRule`
    min_share: float = 0.5

    def __post_init__(self) -> None:
        problems = [
            (0 <= self.overlap_share <= 1, "overlap_share is a share, 0..1", self.overlap_share),
            (0 <= self.gold_share <= 0.5, "gold_share is a share, 0..0.5", self.gold_share),
            (1 <= self.overlap_votes <= 20, "overlap_votes is 1..20", self.overlap_votes),
            (10 <= self.lease_seconds <= 86_400, "lease_seconds is 10..86400", self.lease_seconds),
            (1 <= self.min_votes <= 20, "min_votes is 1..20", self.min_votes),
            (0.5 <= self.min_share < 1, "min_share is 0.5..1", self.min_share),
        ]
        for holds, rule, value in problems:
            if not holds:
                raise ReviewError(f"{rule}, not {value!r}")

    def required(self, overlap_draw: float) -> int:
        """The votes that a portrait is asked for, by its `overlap_draw` (0..1)."""
        overlap = overlap_draw < self.overlap_share
        return max(self.overlap_votes, self.min_votes) if overlap else self.min_votes


def yaw_bin(yaw: float) -> int:
    """The bin, 0..11, of a yaw in radians: 0 is the front, 3 yaw +90 degrees, 6 the back."""
    return round(float(np.degrees(yaw)) / (360 / YAW_BINS)) % YAW_BINS


def bin_centre(index: int) -> float:
    """The yaw in degrees, -150..180, at the centre of bin `index`."""
    centre = index * 360 / YAW_BINS
    return centre if centre <= 180 else centre - 360


def bin_name(index: int) -> str:
    """A yaw bin in words: "front", "+30°", ..., "back"."""
    if index == 0:
        return "front"
    return "back" if index == YAW_BINS // 2 else f"{bin_centre(index):+.0f}°"
