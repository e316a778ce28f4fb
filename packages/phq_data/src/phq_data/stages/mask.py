"""Mask: the person's share of every pixel of an image, as 8-bit alpha.

The segmenter sees the padded image, as the reference's does: context helps it, and a reflected half of a
torso still looks like a torso. What it says of the padding is thrown away, though, because padding shows a
blurred, reflected person who is not there. Outside the photo the alpha is that of the photo, reflected like
the image itself, times what is left of the image after its fade to one color. So alpha and color belong
together pixel by pixel: a body that the photo's border cuts ends softly where the image does, instead of
on a straight line (the photo's border) or never (the segmenter's opinion of a blur).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data.arrays import FloatArray
from phq_data.models.protocols import BatchSegmenter, Segmenter
from phq_data.stages.crop import Window
from phq_data.stages.resample import fade


@dataclass(frozen=True, eq=False)
class MaskRequest:
    """An image whose mask is wanted."""

    image: NDArray[np.uint8]  # [S, S, 3]
    window: Window
    photo_size: tuple[int, int]  # width, height in pixels
    target: FloatArray  # [17, 3] keypoints in image pixels
    others: Sequence[FloatArray]  # [17, 3] each, bystanders, in image pixels


def images_a_pass(segmenter: Segmenter) -> int:
    """How many requests `person_masks` is best given at once."""
    return max(1, segmenter.batch) if isinstance(segmenter, BatchSegmenter) else 1


def person_masks(requests: Sequence[MaskRequest], segmenter: Segmenter) -> list[NDArray[np.uint8]]:
    """Alpha [S, S] of each target person (or of whom the segmenter was told to keep), in order.

    A `BatchSegmenter` gets the images together, others one at a time.
    """
    if isinstance(segmenter, BatchSegmenter):
        alphas = segmenter.segment_batch(
            [one.image for one in requests],
            [one.target for one in requests],
            [one.others for one in requests],
        )
    else:
        alphas = [segmenter.segment(one.image, one.target, one.others) for one in requests]
    masks = []
    for one, alpha in zip(requests, alphas, strict=True):
        if alpha.shape != one.image.shape[:2] or alpha.dtype != np.uint8:
            raise ValueError(f"segmenter {segmenter.fingerprint} gave {alpha.dtype} {alpha.shape} as a mask")
        masks.append(without_padding(alpha, one.window, one.photo_size))
    return masks


def person_mask(
    image: NDArray[np.uint8],  # [S, S, 3]
    window: Window,
    photo_size: tuple[int, int],  # width, height in pixels
    target: ArrayLike,  # [17, 3] keypoints in image pixels
    others: Sequence[ArrayLike],  # [17, 3] each, bystanders, in image pixels
    segmenter: Segmenter,
) -> NDArray[np.uint8]:
    """Alpha [S, S] of one target person: `person_masks` of a single image."""
    bystanders = [np.asarray(points, np.float64) for points in others]
    request = MaskRequest(image, window, photo_size, np.asarray(target, np.float64), bystanders)
    return person_masks([request], segmenter)[0]


def without_padding(
    alpha: NDArray[np.uint8],  # [S, S]
    window: Window,
    photo_size: tuple[int, int],  # width, height in pixels
) -> NDArray[np.uint8]:
    """`alpha` with the padding's part replaced by the photo's, reflected and faded."""
    size = len(alpha)
    if window.outside_share(*photo_size) == 0.0:
        return alpha
    columns, across = _axis(window.x, window.side, size, photo_size[0])
    rows, down = _axis(window.y, window.side, size, photo_size[1])
    # Reflection beyond what the window shows of the photo finds nothing known: no person there.
    known = (rows >= 0)[:, None] & (columns >= 0)[None, :]
    left = 1.0 - np.clip(np.maximum(across[None, :], down[:, None]), 0.0, 1.0)
    reflected = alpha[np.ix_(np.maximum(rows, 0), np.maximum(columns, 0))]
    return np.asarray(np.rint(reflected * left * known).astype(np.uint8))


def inside_photo(window: Window, size: int, photo_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels [S, S] of the image that show photo rather than padding."""
    step = window.side / size
    across = window.x + (np.arange(size) + 0.5) * step
    down = window.y + (np.arange(size) + 0.5) * step
    return ((down >= 0) & (down <= photo_size[1]))[:, None] & ((across >= 0) & (across <= photo_size[0]))[
        None, :
    ]


def _axis(start: float, side: float, size: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For image pixels along one axis: which pixel they mirror (-1: none in the image), and the fade."""
    step = side / size
    positions = start + (np.arange(size, dtype=np.float64) + 0.5) * step
    folded = np.mod(positions, 2.0 * length)
    folded = np.where(folded <= length, folded, 2.0 * length - folded)
    index = np.floor((folded - start) / step).astype(np.int64)
    outside = (positions < 0) | (positions > length)
    index = np.where(outside, index, np.arange(size))
    return np.where((index >= 0) & (index < size), index, -1), fade(positions, start, start + side, length)
