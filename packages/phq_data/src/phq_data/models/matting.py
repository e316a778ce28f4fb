"""From a coarse mask to soft edges at full resolution: the guided filter, own implementation.

After He, Sun, Tang, "Guided Image Filtering" (TPAMI 2013) with a colour guide, and "Fast Guided Filter"
(2015): within every small window the mask is a linear function of the picture's colour, so its edges move
to where the picture has edges. The coefficients are found at the mask's own resolution and applied to the
full picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Plane = NDArray[np.float32]


def refine(
    mask: Plane,  # [m, m] 0..1
    picture: NDArray[np.uint8],  # [S, S, 3] RGB
    radius: int,
    smoothness: float,
) -> Plane:
    """The mask [S, S] in 0..1 with its edges on the picture's.

    `radius` (pixels of the mask) is how far an edge may move; `smoothness` is the colour variance (0..1
    squared) below which the picture counts as flat. Away from the mask's own edges nothing changes.
    """
    small = np.asarray(resize_picture(picture, mask.shape[0]), np.float32) / np.float32(255)
    slope, offset = _linear_model(small, mask, radius, smoothness)
    size = picture.shape[0]
    full = picture.astype(np.float32) / np.float32(255)
    fitted = resize_plane(offset, size).copy()
    for channel in range(3):
        fitted += resize_plane(slope[..., channel], size) * full[..., channel]
    # Colours of the inside that also occur outside must not eat holes: only the band around edges is refined.
    edge = ndimage.maximum_filter(mask, 2 * radius + 1) - ndimage.minimum_filter(mask, 2 * radius + 1)
    band = resize_plane(ndimage.uniform_filter(np.clip(2 * edge, 0, 1), radius), size)
    coarse = resize_plane(mask, size)
    return np.clip(coarse + band * (np.clip(fitted, 0, 1) - coarse), 0, 1)


def resize_plane(plane: Plane, size: int) -> Plane:
    """Bilinear [size, size]; averages when shrinking."""
    if plane.shape == (size, size):
        return plane.astype(np.float32)
    return np.asarray(
        Image.fromarray(plane.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
    )


def resize_picture(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bilinear [size, size, 3]; averages when shrinking."""
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))


def _linear_model(
    guide: Plane,  # [m, m, 3]
    mask: Plane,  # [m, m]
    radius: int,
    smoothness: float,
) -> tuple[Plane, Plane]:
    """Slope [m, m, 3] and offset [m, m] of the mask, linear in the guide (equations 19 to 21)."""
    mean_guide, mean_mask = _box(guide, radius), _box(mask, radius)
    covariance = _box(guide * mask[..., None], radius) - mean_guide * mean_mask[..., None]
    r, g, b = (guide[..., channel] for channel in range(3))
    pairs = _box(np.stack([r * r, r * g, r * b, g * g, g * b, b * b], axis=-1), radius)
    i, j = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])
    pairs -= mean_guide[..., i] * mean_guide[..., j]
    rr, rg, rb, gg, gb, bb = (pairs[..., channel] for channel in range(6))
    rr, gg, bb = rr + smoothness, gg + smoothness, bb + smoothness
    # Inverse of the symmetric 3 x 3 matrix by cofactors, for all pixels at once.
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    x, y, z = (covariance[..., channel] for channel in range(3))
    slope = np.stack(
        [c_rr * x + c_rg * y + c_rb * z, c_rg * x + c_gg * y + c_gb * z, c_rb * x + c_gb * y + c_bb * z],
        axis=-1,
    )
    slope /= determinant[..., None]
    offset = mean_mask - (slope * mean_guide).sum(axis=-1)
    return _box(slope, radius), _box(offset, radius)


def _box(values: Plane, radius: int) -> Plane:
    """Mean over a square window of the first two axes."""
    size = 2 * radius + 1
    result: Plane = ndimage.uniform_filter(values, (size, size, *[1] * (values.ndim - 2)), mode="nearest")
    return result
