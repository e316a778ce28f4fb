"""From a coarse mask to soft edges at full resolution: the guided filter, own implementation.

After He, Sun, Tang, "Guided Image Filtering" (TPAMI 2013) with a color guide, and "Fast Guided Filter"
(2015): within every small window the mask is a linear function of the image's color, so its edges move
to where the image has edges. The coefficients are found at the mask's own resolution and applied to the
full image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from phq_data.arrays import Float32Array

CONTRAST = 1.6  # between the two passes: half-way edges made steeper


def refine(
    mask: Float32Array,  # [m, m] 0..1
    image: NDArray[np.uint8],  # [S, S, 3] RGB
    radius: int,
    smoothness: float,
) -> Float32Array:
    """The mask [S, S] in 0..1 with its edges on the image's.

    `radius` (pixels of the mask) is the neighbourhood of an edge; it moves about half as far. `smoothness` is
    the color variance (0..1 squared) below which the image counts as flat. Away from the mask's own edges
    nothing changes.
    """
    small = _planes(resize_image(image, mask.shape[0]))
    guide = _Guide.of(small, radius, smoothness)
    # One pass only goes half the way to an edge; a second one, from where the first came to, arrives.
    slope, offset = guide.fit(mask)
    closer = np.clip(_sum_of_products(slope, small) + offset, 0, 1)
    slope, offset = guide.fit(np.clip((closer - 0.5) * CONTRAST + 0.5, 0, 1))

    size = image.shape[0]
    fitted = resize_plane(offset, size).copy()
    for plane, channel in zip(slope, _planes(image), strict=True):
        fitted += resize_plane(plane, size) * channel
    # Colors of the inside that also occur outside must not eat holes: only the band around edges is refined.
    edge = ndimage.maximum_filter(mask, 2 * radius + 1) - ndimage.minimum_filter(mask, 2 * radius + 1)
    band = resize_plane(ndimage.uniform_filter(np.clip(2 * edge, 0, 1), radius), size)
    coarse = resize_plane(mask, size)
    return np.clip(coarse + band * (np.clip(fitted, 0, 1) - coarse), 0, 1)


def resize_plane(plane: Float32Array, size: int) -> Float32Array:
    """Bilinear [size, size]; averages when shrinking."""
    if plane.shape == (size, size):
        return plane.astype(np.float32)
    return np.asarray(
        Image.fromarray(plane.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
    )


def resize_image(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bilinear [size, size, 3]; averages when shrinking."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def _planes(image: NDArray[np.uint8]) -> Float32Array:
    """An image [m, m, 3] as planes [3, m, m] in 0..1: a plane that lies together is filtered much faster."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def _sum_of_products(first: Float32Array, second: Float32Array) -> Float32Array:
    """Over the three planes of [3, m, m]: [m, m]."""
    total: Float32Array = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    return total


@dataclass(frozen=True)
class _Guide:
    """An image to which masks are fitted: what does not depend on the mask is computed once."""

    colors: Float32Array  # [3, m, m]
    mean: Float32Array  # [3, m, m] of every window
    inverse: tuple[Float32Array, ...]
    """Of every window's covariance plus the smoothness: the rows [3, m, m] of that 3 x 3 matrix."""
    radius: int

    @classmethod
    def of(cls, colors: Float32Array, radius: int, smoothness: float) -> _Guide:
        mean = _box(colors, radius)
        r, g, b = colors
        pairs = _box(np.stack([r * r, r * g, r * b, g * g, g * b, b * b]), radius)
        pairs -= mean[[0, 0, 0, 1, 1, 2]] * mean[[0, 1, 2, 1, 2, 2]]
        rr, rg, rb, gg, gb, bb = pairs
        rr, gg, bb = rr + smoothness, gg + smoothness, bb + smoothness
        # Inverse of the symmetric 3 x 3 matrix by cofactors, for all pixels at once.
        c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
        c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
        determinant = rr * c_rr + rg * c_rg + rb * c_rb
        rows = ((c_rr, c_rg, c_rb), (c_rg, c_gg, c_gb), (c_rb, c_gb, c_bb))
        return cls(colors, mean, tuple(np.stack(row) / determinant for row in rows), radius)

    def fit(self, mask: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Slope [3, m, m] and offset [m, m] of the mask, linear in the guide (equations 19 to 21)."""
        mean_mask = _box(mask, self.radius)
        covariance = _box(self.colors * mask, self.radius) - self.mean * mean_mask
        slope = np.stack([_sum_of_products(row, covariance) for row in self.inverse])
        offset = mean_mask - _sum_of_products(slope, self.mean)
        return _box(slope, self.radius), _box(offset, self.radius)


def _box(values: Float32Array, radius: int) -> Float32Array:
    """Mean over a square window of the last two axes."""
    size = 2 * radius + 1
    result: Float32Array = ndimage.uniform_filter(
        values, (*[1] * (values.ndim - 2), size, size), mode="nearest"
    )
    return result
