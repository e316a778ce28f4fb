"""Scores: the numbers that screening judges a portrait by. Pure functions of pixels, keypoints and fits.

Everything about pixels is measured on the person only: where the mask is at least half, and never on padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.rig import PortraitRig
from phq_data.stages.crop import LabelledCrop, Window, trust_in

NEAR_BLACK, NEAR_WHITE = 8, 250
"""Luminance below and above which no detail is left."""
_REBLUR = 9  # pixels
_NOISE = 1.0  # grey levels a step; smaller steps are coding noise and say nothing of sharpness
_LEAST_PIXELS = 64  # of a person, for its numbers to mean something
_BUST = [COCO_KEYPOINTS.index(n) for n in COCO_KEYPOINTS[:7]]  # face and shoulders
_FACE, _SHOULDERS = slice(0, 5), slice(5, 7)
_CELLS = (np.arange(64) + 0.5) / 64  # where an image is sampled, in image widths


@dataclass(frozen=True)
class PixelScores:
    """What the person's pixels say."""

    blur: float  # sharpness: share of local contrast that a small blur would destroy, 0..1: higher = sharper
    exposure_low: float  # share of the person's pixels near black
    exposure_high: float  # ... near white
    contrast: float  # from the 5th to the 95th percentile of luminance, 0..1
    mask_share: float  # share of the image that the mask covers


@dataclass(frozen=True)
class RigEvidence:
    """What the posed rig says of an image."""

    coverage: float
    """Share of the label's body that lies on the person, of the head or of the rest, the smaller, 0..1. Where
    the rig is, there should be a person; hair and clothes reach further, so the reverse is not asked."""
    head_outside: float  # share of the head in the image that lies outside the photo


def pixel_scores(
    image: NDArray[np.uint8],  # [S, S, 3]
    mask: NDArray[np.uint8],  # [S, S]
    inside: NDArray[np.bool_],  # [S, S] photo rather than padding
    effective_resolution: float,
) -> PixelScores:
    """Sharpness, exposure and contrast of the person in an image. A missing person scores 0."""
    person = (mask >= 128) & inside
    mask_share = float(mask.mean() / 255.0)
    luminance = image.astype(np.float64) @ [0.299, 0.587, 0.114]
    values = luminance[person]
    if len(values) < _LEAST_PIXELS:
        return PixelScores(0.0, 0.0, 0.0, 0.0, mask_share)
    low, high = np.percentile(values, [5, 95])
    return PixelScores(
        blur=sharpness(luminance, person, min(1.0, effective_resolution)),
        exposure_low=float((values <= NEAR_BLACK).mean()),
        exposure_high=float((values >= NEAR_WHITE).mean()),
        contrast=float(high - low) / 255.0,
        mask_share=mask_share,
    )


def sharpness(
    luminance: FloatArray,  # [S, S] 0..255
    person: NDArray[np.bool_],  # [S, S]
    scale: float,  # photo pixels per image pixel, at most 1
) -> float:
    """Share of the person's local contrast that blurring once more would take away, 0..1.

    A sharp image loses much, one that is blurred already has little left to lose. Being a ratio, it depends
    neither on contrast nor on how much there is to see. Measured at the scale at which the photo has
    information: an enlarged image is brought back to the photo's own size first, so enlarging does not
    count as blur (`effective_resolution` tells of it). The worse of the two axes counts: motion blurs only
    one.
    """
    from scipy.ndimage import uniform_filter1d

    if scale < 1.0:
        side = max(24, round(len(luminance) * scale))
        luminance = _shrink(luminance, side)
        person = _shrink(person.astype(np.float64), side) > 0.5
    found = []
    for axis in (0, 1):
        steps = np.abs(np.diff(luminance, axis=axis))
        reblurred = np.abs(
            np.diff(uniform_filter1d(luminance, _REBLUR, axis=axis, mode="nearest"), axis=axis)
        )
        both = person[1:] & person[:-1] if axis == 0 else person[:, 1:] & person[:, :-1]
        steps, reblurred = np.maximum(steps - _NOISE, 0.0)[both], reblurred[both]
        total = steps.sum()
        found.append(float(np.maximum(steps - reblurred, 0.0).sum() / total) if total > 0 else 0.0)
    return min(found)


def laplacian_variance(image: NDArray[np.uint8], side: int) -> float:
    """The reference's blur score (data specification, section 8) of an image [S, S, 3] seen at `side` pixels.

    Variance of the four-neighbour Laplacian of the grey image, 0..255, everything in it counted. The
    reference measured crop A at 1,024 pixels; the final image shows the middle three quarters of that.
    """
    grey = np.rint(image.astype(np.float64) @ [0.299, 0.587, 0.114])
    if len(grey) != side:
        grey = np.rint(_shrink(grey, side))
    padded = np.pad(grey, 1, mode="reflect")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return float((around - 4 * grey).var())


def intrusion(window: Window, target: ArrayLike, others: Sequence[ArrayLike]) -> float:
    """Largest share of the image that one other person's head takes, 0..1.

    A head as large as the target's and wholly in the image takes about 0.3. Counted as far as the detector
    is sure of that person: a crowd brings forth people that are not there. `target` and `others` are
    keypoints [17, 3] in photo pixels. A second detection of the target is no other person.
    """
    own = np.asarray(target, np.float64).reshape(17, 3)
    grid = window.to_photo(np.stack(np.meshgrid(_CELLS, _CELLS), axis=-1))
    worst = 0.0
    for points in others:
        other = np.asarray(points, np.float64).reshape(17, 3)
        circle = head_circle(other)
        if circle is None or same_person(own, other, window.side):
            continue
        x, y, radius = circle
        share = float((((grid - [x, y]) ** 2).sum(axis=-1) <= radius**2).mean())
        worst = max(worst, share * float(trust_in(other[_FACE, 2]).max()))
    return worst


def head_circle(keypoints: FloatArray) -> tuple[float, float, float] | None:
    """(x, y, radius) of a head with keypoints [17, 3]; None when not two face points are seen.

    The spread of nose, eyes and ears is about the head's width from the front and its depth from the side.
    """
    face = keypoints[_FACE]
    seen = face[trust_in(face[:, 2]) > 0.25, :2]
    if len(seen) < 2:
        return None
    centre = seen.mean(axis=0)
    radius = 0.9 * float(np.linalg.norm(seen[:, None] - seen[None, :], axis=-1).max())
    return float(centre[0]), float(centre[1]), radius


def same_person(one: FloatArray, other: FloatArray, side: float) -> bool:
    """Do keypoints [17, 3] mark one person: heads and shoulders within 5 % of the window's side?"""
    weights = trust_in(one[_BUST, 2]) * trust_in(other[_BUST, 2])
    if weights.sum() <= 0:
        return False
    distance = np.linalg.norm(one[_BUST, :2] - other[_BUST, :2], axis=1)
    return float((weights * distance).sum() / weights.sum()) < 0.05 * side


def rig_evidence(
    rig: PortraitRig,
    crop: LabelledCrop,
    mask: NDArray[np.uint8],  # [S, S]
    inside: NDArray[np.bool_],  # [S, S] photo rather than padding
) -> RigEvidence:
    """Where the posed rig, as the label's camera sees it, falls on the image. Counted over its vertices."""
    places, depth = camera.project(rig.posed(crop.pose), crop.camera, crop.intrinsics)
    size = len(mask)
    pixels = np.floor(places * size).astype(np.int64)
    shown = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < size).all(axis=1)
    columns, rows = np.clip(pixels, 0, size - 1).T
    known = shown & inside[rows, columns]
    on_person = mask[rows, columns] >= 128
    head = rig.weights[:, 1] > 0.5
    shares = [float(on_person[part & known].mean()) for part in (head, ~head) if (part & known).any()]
    in_image = float((shown & head).sum())
    return RigEvidence(
        coverage=min(shares, default=1.0),
        head_outside=1.0 - float((known & head).sum()) / in_image if in_image else 1.0,
    )


def _shrink(values: FloatArray, side: int) -> FloatArray:
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float64)
