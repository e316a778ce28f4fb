"""The crops that Thunder is given, and what it detects in them: squares of a photo, and keypoints."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phq_data.arrays import FloatArray
from phq_data.models.keypoints import UPPER, box_overlap, head_centre, head_score, shoulder_score

CROP = 256  # Thunder's input side


@dataclass(frozen=True)
class CropRegion:
    """A square of the photo for Thunder, and where in the photo the head should be."""

    x0: float
    y0: float
    side: float
    aim: FloatArray  # [2] x, y; nan: unknown

    def overlap(self, other: CropRegion) -> float:
        """Intersection over union of the two squares."""
        first, second = (np.array([v.x0, v.y0, v.x0 + v.side, v.y0 + v.side]) for v in (self, other))
        return box_overlap(first, second)

    def scaled(self, factor: float) -> CropRegion:
        """The same region with another side; the aimed head keeps its place in it."""
        fixed = np.where(np.isnan(self.aim), [self.x0 + self.side / 2, self.y0 + self.side / 2], self.aim)
        corner = fixed + factor * (np.array([self.x0, self.y0]) - fixed)
        return CropRegion(corner[0], corner[1], factor * self.side, self.aim)

    def unaimed(self) -> CropRegion:
        """The same square, for whoever is in its middle."""
        return replace(self, aim=np.full(2, np.nan))

    def resembles(self, other: CropRegion) -> bool:
        """Whether the two squares are about one place and of about one size."""
        apart = np.hypot(self.x0 + self.side / 2 - other.x0 - other.side / 2,
                         self.y0 + self.side / 2 - other.y0 - other.side / 2)  # fmt: skip
        return bool(apart < 0.25 * min(self.side, other.side) and 0.6 < self.side / other.side < 1.6)


@dataclass(frozen=True)
class Detection:
    """What Thunder detected in a region."""

    region: CropRegion
    keypoints: FloatArray  # [17, 3] x, y in photo pixels, score

    @property
    def score(self) -> float:
        """How sure it is that this is a person: head and shoulders together, 0..1."""
        return float(np.sqrt(head_score(self.keypoints) * shoulder_score(self.keypoints)))

    @property
    def missed(self) -> bool:
        """Whether it found another head than the one aimed at; never, if the aim is unknown."""
        return bool(np.hypot(*(head_centre(self.keypoints) - self.region.aim)) > 0.12 * self.region.side)

    def with_lower_body(self, earlier: FloatArray) -> Detection:
        """With hips, legs and hands of earlier keypoints [17, 3], of a wider crop, that saw them better."""
        better = (np.arange(17) >= UPPER.stop) & (earlier[:, 2] > self.keypoints[:, 2])
        return replace(self, keypoints=np.where(better[:, None], earlier, self.keypoints))


def crop_square(image: NDArray[np.uint8], x: float, y: float, side: float) -> NDArray[np.uint8]:
    """A square of a photo [H, W, 3], rounded to whole pixels, as Thunder takes it: [256, 256, 3], black
    outside the photo.
    """
    x0, y0, size = whole_square(x, y, side)
    return crop_rectangle(image, (x0, y0, size, size), (CROP, CROP))


def crop_rectangle(
    image: NDArray[np.uint8],  # [H, W, 3]
    rectangle: tuple[int, int, int, int],  # x, y, width, height in pixels, also beyond the photo
    size: tuple[int, int],  # width, height of the result
) -> NDArray[np.uint8]:
    """A part of a photo scaled to `size`, black outside the photo."""
    x0, y0, across, down = rectangle
    height, width = image.shape[:2]
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x0 + across, width), min(y0 + down, height)
    part = np.zeros((down, across, 3), np.uint8)
    if right > left and bottom > top:
        part[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def whole_square(x: float, y: float, side: float) -> tuple[int, int, int]:
    """A square (x, y, side) in whole pixels."""
    return round(x), round(y), max(8, round(side))
