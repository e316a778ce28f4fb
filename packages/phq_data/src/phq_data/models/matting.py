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
    small = np.asarray(resize_image(image, mask.shape[0]), np.float32) / np.float32(255)
    guide = _Guide.of(small, radius, smoothness)
    # One pass only goes half the way to an edge; a second one, from where the first came to, arrives.
    slope, offset = guide.fit(mask)
    closer = np.clip((slope * small).sum(axis=-1) + offset, 0, 1)
    slope, offset = guide.fit(np.clip((closer - 0.5) * CONTRAST + 0.5, 0, 1))

    size = image.shape[0]
    full = image.astype(np.float32) / np.float32(255)
    fitted = resize_plane(offset, size).copy()
    for channel in range(3):
        fitted += resize_plane(slope[..., channel], size) * full[..., channel]
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


@dataclass(frozen=True)
class _Guide:
    """An image to which masks are fitted: what does not depend on the mask is computed once."""

    colors: Float32Array  # [m, m, 3]
    mean: Float32Array  # [m, m, 3] of every window
    inverse: Float32Array  # [m, m, 3, 3] of every window's covariance plus the smoothness
    radius: int

    @classmethod
    def of(cls, colors: Float32Array, radius: int, smoothness: float) -> _Guide:
        mean = _box(colors, radius)
        r, g, b = (colors[..., channel] for channel in range(3))
        pairs = _box(np.stack([r * r, r * g, r * b, g * g, g * b, b * b], axis=-1), radius)
        pairs -= mean[..., [0, 0, 0, 1, 1, 2]] * mean[..., [0, 1, 2, 1, 2, 2]]
        rr, rg, rb, gg, gb, bb = (pairs[..., channel] for channel in range(6))
        rr, gg, bb = rr + smoothness, gg + smoothness, bb + smoothness
        # Inverse of the symmetric 3 x 3 matrix by cofactors, for all pixels at once.
        c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
        c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
        cofactors = np.stack([c_rr, c_rg, c_rb, c_rg, c_gg, c_gb, c_rb, c_gb, c_bb], axis=-1)
        inverse = cofactors / (rr * c_rr + rg * c_rg + rb * c_rb)[..., None]
        return cls(colors, mean, inverse.reshape(*mean.shape, 3), radius)

    def fit(self, mask: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Slope [m, m, 3] and offset [m, m] of the mask, linear in the guide (equations 19 to 21)."""
        mean_mask = _box(mask, self.radius)
        covariance = _box(self.colors * mask[..., None], self.radius) - self.mean * mean_mask[..., None]
        slope = (self.inverse * covariance[..., None, :]).sum(axis=-1)
        offset = mean_mask - (slope * self.mean).sum(axis=-1)
        return _box(slope, self.radius), _box(offset, self.radius)


def _box(values: Float32Array, radius: int) -> Float32Array:
    """Mean over a square window of the first two axes."""
    size = 2 * radius + 1
    result: Float32Array = ndimage.uniform_filter(
        values, (size, size, *[1] * (values.ndim - 2)), mode="nearest"
    )
    return result
