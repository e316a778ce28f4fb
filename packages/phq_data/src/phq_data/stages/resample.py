"""Cut a window out of a photo, anti-aliased, and invent what lies outside of it.

Inside the photo the image is one Lanczos resampling of the raw pixels. Outside, section 6 ("Padding") of
the data specification: the photo is reflected at its border, then fades, over the width of the padding, into
a blurred version of itself and that into its median color.

Differences from the reference, none visible inside the photo: blur and median are taken from what the window
shows rather than from the whole photo, fade weights follow the window's edges exactly instead of in whole
pixels, sides with no or hardly any padding get no line of median color (quirk 15), and where the window is
much larger than the image all this happens on a photo reduced to about twice the image's scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phq_data.stages.crop import CropError, Window

_SUPPORT = 3.0  # of the Lanczos kernel, in image pixels when reducing, in photo pixels when enlarging
_WORK_SCALE = 2.0  # working pixels per image pixel where the photo is reduced first
_LEAST_FADE = 1 / 64  # of the window; narrower padding is only reflected
_LARGEST = 20.0  # sides of the photo; a larger window shows nothing but padding


@dataclass(frozen=True)
class Resampled:
    """What a window shows of a photo."""

    pixels: NDArray[np.uint8]  # [S, S, 3] RGB
    padding: float  # share of the image that lies outside the photo
    effective_resolution: float  # photo pixels per image pixel; below 1 the photo was enlarged


def resample(photo: NDArray[np.uint8], window: Window, size: int) -> Resampled:
    """The image of `size` pixels a side that `window` shows of `photo` [H, W, 3].

    Raises `CropError` for a window that has no side or dwarfs the photo.
    """
    height, width = photo.shape[:2]
    if not 0 < window.side <= _LARGEST * max(width, height):
        raise CropError(f"a window of {window.side:.6g} pixels in a photo of {width} x {height}")
    padding = window.outside_share(width, height)
    left, top = window.x, window.y
    right, bottom = window.x + window.side, window.y + window.side
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        pixels = _inside(photo, window, size)
    else:
        pixels = _padded(photo, window, size)
    return Resampled(pixels, padding, window.side / size)


def fade(
    positions: NDArray[np.float64],  # [N] pixel centres along one axis
    start: float,
    stop: float,
    length: float,
) -> NDArray[np.float64]:
    """How far the padding has won along one axis, [N]: 1 at the window's outer edge, 0 at the photo's border.

    The window reaches from `start` to `stop`, the photo from 0 to `length`. Below 0 inside the photo; minus
    infinity where neither end is padded.
    """
    before, after = max(0.0, -start), max(0.0, stop - length)
    share = np.full(len(positions), np.inf)
    least = _LEAST_FADE * (stop - start)
    if before >= least:
        share = np.minimum(share, (positions - start) / before)
    if after >= least:
        share = np.minimum(share, (stop - positions) / after)
    return 1.0 - share


def reflect(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Indices [...] folded back into 0..length-1, the border pixel repeated, as often as it takes."""
    folded = np.mod(index, 2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def _inside(photo: NDArray[np.uint8], window: Window, size: int) -> NDArray[np.uint8]:
    height, width = photo.shape[:2]
    margin = int(np.ceil(_SUPPORT * max(1.0, window.side / size))) + 1
    x0, y0 = max(0, int(window.x) - margin), max(0, int(window.y) - margin)
    x1 = min(width, int(np.ceil(window.x + window.side)) + margin)
    y1 = min(height, int(np.ceil(window.y + window.side)) + margin)
    region = np.ascontiguousarray(photo[y0:y1, x0:x1])
    box = (window.x - x0, window.y - y0, window.x - x0 + window.side, window.y - y0 + window.side)
    return _resize(region, (size, size), box)


def _padded(photo: NDArray[np.uint8], window: Window, size: int) -> NDArray[np.uint8]:
    height, width = photo.shape[:2]
    shrink = min(1.0, _WORK_SCALE * size / window.side)
    work = photo
    if shrink < 0.8:
        work_size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        work = _resize(photo, work_size, None, Image.Resampling.BOX)
    # The reduced photo covers the same area exactly; its pixels may be a hair off square.
    per_x, per_y = work.shape[1] / width, work.shape[0] / height
    start = np.array([window.x * per_x, window.y * per_y])
    stop = start + np.array([per_x, per_y]) * window.side
    margin = int(np.ceil(_SUPPORT * max(1.0, window.side * max(per_x, per_y) / size))) + 1
    low = np.floor(start).astype(np.int64) - margin
    high = np.ceil(stop).astype(np.int64) + margin
    columns, rows = np.arange(low[0], high[0]), np.arange(low[1], high[1])
    region = work[np.ix_(reflect(rows, work.shape[0]), reflect(columns, work.shape[1]))]

    across = fade((columns + 0.5) / per_x, window.x, window.x + window.side, width)
    down = fade((rows + 0.5) / per_y, window.y, window.y + window.side, height)
    gone = np.maximum(across[None, :], down[:, None])[..., None]
    if np.isfinite(gone).any():
        blurred = _blurred(region, 10 * per_x, 10 * per_y, height)
        median = np.median(blurred.reshape(-1, 3), axis=0)
        smooth = np.asarray(
            _resize(blurred, (region.shape[1], region.shape[0]), None, Image.Resampling.LANCZOS), np.float32
        )
        colors = region.astype(np.float32)
        colors += (smooth - colors) * np.clip(3 * gone + 1, 0, 1).astype(np.float32)
        colors += (median.astype(np.float32) - colors) * np.clip(gone, 0, 1).astype(np.float32)
        region = np.clip(np.rint(colors), 0, 255).astype(np.uint8)
    offset = np.concatenate([low, low])
    box = np.concatenate([start, stop]) - offset
    return _resize(np.ascontiguousarray(region), (size, size), tuple(box.tolist()))


def _blurred(region: NDArray[np.uint8], down_x: float, down_y: float, height: int) -> NDArray[np.uint8]:
    """The region at a tenth of the raw photo's scale, blurred with the reference's kernel for that photo."""
    from scipy.ndimage import gaussian_filter  # takes longer to import than all of ours: only where needed

    wide = (
        max(1, round(region.shape[1] / max(1.0, down_x))),
        max(1, round(region.shape[0] / max(1.0, down_y))),
    )
    small = _resize(np.ascontiguousarray(region), wide, None, Image.Resampling.BOX)
    kernel = 2 * (5 * (height // 512) // 2) + 1
    if kernel == 1:
        return small
    # The tenth of the raw scale may be finer than the working scale: then it was not reduced that far.
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    scale = (min(1.0, down_y), min(1.0, down_x))
    values = small.astype(np.float32)
    radius = tuple(max(1, round((kernel - 1) / 2 * s)) for s in scale)
    blurred = gaussian_filter(
        values, (sigma * scale[0], sigma * scale[1], 0), mode="mirror", radius=(*radius, 0)
    )
    return np.asarray(np.clip(np.rint(blurred), 0, 255).astype(np.uint8))


def _resize(
    pixels: NDArray[np.uint8],
    size: tuple[int, int],  # width, height
    box: tuple[float, float, float, float] | None,
    how: Image.Resampling = Image.Resampling.LANCZOS,
) -> NDArray[np.uint8]:
    resized = Image.fromarray(pixels).resize(size, how, box=box)
    return np.asarray(resized)
