"""A z-buffer rasteriser in numpy: which triangle does each pixel see, and where on it.

The software path of every image of a mesh in PHQ. It needs no graphics library, gives the same result
everywhere, and draws a portrait rig of 7,000 faces on 512 x 512 pixels in a few hundredths of a second.

It is a scanline rasteriser without the loops: every triangle becomes one span a row, every span becomes its
pixels, and an atomic maximum over (inverse depth, triangle) leaves the nearest triangle in each pixel.
A pixel belongs to a triangle when its centre does; edges shared by two triangles are evaluated from the same
numbers in the same order, so neighbours leave neither gaps nor double pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray

NEAR = 1e-3
"""Metres. Triangles that come nearer to the camera plane than this are left out, not clipped."""
_THIN = 1e-7
"""Twice the area in square pixels below which a triangle is seen edge on and covers nothing."""


@dataclass(frozen=True, eq=False)
class Visible:
    """What the pixels of an image see. Row-major; N pixels see something."""

    pixel: NDArray[np.intp]  # [N] index into the flattened image, ascending
    face: NDArray[np.intp]  # [N] index of the triangle
    weights: NDArray[np.float32]  # [N, 3] perspective-correct barycentric weights of its corners
    depth: NDArray[np.float32]  # [N] metres along the viewing direction
    shape: tuple[int, int]  # height, width

    def image(self, values: np.ndarray, empty: float = 0) -> np.ndarray:
        """Per-pixel values [N] or [N, C] as an image [H, W] or [H, W, C]; `empty` where nothing is seen."""
        height, width = self.shape
        flat = np.full((height * width, *values.shape[1:]), empty, dtype=values.dtype)
        flat[self.pixel] = values
        return flat.reshape(height, width, *values.shape[1:])

    def interpolate(self, corners: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Vertex values [V, C] at the visible points, [N, C] float32. `faces` [F, 3] are those drawn."""
        chosen = faces[self.face]
        values = corners.astype(np.float32, copy=False)
        result: np.ndarray = values[chosen[:, 0]] * self.weights[:, :1]
        result += values[chosen[:, 1]] * self.weights[:, 1:2]
        result += values[chosen[:, 2]] * self.weights[:, 2:]
        return result


def rasterise(
    points: np.ndarray,  # [V, 2] pixels, x right, y down, 0 at the left/top edge of the first pixel
    depth: np.ndarray,  # [V] metres along the viewing direction
    faces: np.ndarray,  # [F, 3]
    shape: tuple[int, int],  # height, width
    *,
    cull: bool = False,
) -> Visible:
    """The nearest triangle in every pixel.

    With `cull`, triangles whose corners run clockwise on the screen (counter-clockwise from outside means
    they look away) are not drawn: twice as fast for closed meshes.
    """
    height, width = shape
    corner = np.asarray(points, np.float64)[faces]  # [F, 3, 2]
    z = np.asarray(depth, np.float64)[faces]
    area = _cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    low, high = _bounds(corner)
    with np.errstate(invalid="ignore"):
        keep = (
            (np.minimum(np.minimum(z[:, 0], z[:, 1]), z[:, 2]) > NEAR)
            & np.isfinite(area)
            & (np.abs(area) > _THIN)
        )
        # y points down, so a triangle that is counter-clockwise from outside has negative area here.
        keep &= (area < 0) if cull else True
        keep &= (high[:, 0] > 0) & (high[:, 1] > 0) & (low[:, 0] < width) & (low[:, 1] < height)
    index = np.flatnonzero(keep)
    face, pixel, x, y = _fragments(corner[index], np.asarray(faces)[index], shape)
    if len(face) == 0:
        empty = np.zeros(0, np.intp)
        return Visible(empty, empty, np.zeros((0, 3), np.float32), np.zeros(0, np.float32), shape)

    # 1/z is affine on the screen: value + slope_x * (x - x0) + slope_y * (y - y0) for every triangle.
    inverse = 1.0 / z[index]
    gradient = _gradients(corner[index], area[index])  # [F', 3, 2] of the screen barycentric weights
    slope = np.einsum("fk,fkc->fc", inverse, gradient)
    origin = inverse[:, 0] - (slope * corner[index, 0]).sum(axis=1)
    near = origin[face]
    near += slope[face, 0] * x
    near += slope[face, 1] * y
    near = np.maximum(near, 1e-9).astype(np.float32)

    # Positive floats sort like their bits, so one 64-bit number orders fragments by depth, then triangle.
    key = (near.view(np.uint32).astype(np.uint64) << np.uint64(32)) | (face + 1).astype(np.uint64)
    buffer = np.zeros(height * width, np.uint64)
    np.maximum.at(buffer, pixel, key)
    seen = np.flatnonzero(buffer)
    winner = (buffer[seen] & np.uint64(0xFFFFFFFF)).astype(np.intp) - 1
    inverse_depth = (buffer[seen] >> np.uint64(32)).astype(np.uint32).view(np.float32)

    start = corner[index, 0][winner]
    across, down = seen % width + 0.5 - start[:, 0], seen // width + 0.5 - start[:, 1]
    weights = np.empty((len(seen), 3), np.float32)
    for k in range(3):
        share = gradient[:, k, 0][winner] * across + gradient[:, k, 1][winner] * down
        weights[:, k] = np.clip(share + (k == 0), 0, 1) * inverse[:, k][winner]
    weights /= (weights[:, 0] + weights[:, 1] + weights[:, 2])[:, None]
    return Visible(seen, index[winner], weights, 1.0 / inverse_depth, shape)


def _fragments(
    corner: FloatArray,  # [F, 3, 2] pixels
    faces: np.ndarray,  # [F, 3] vertex indices, for the canonical order of edges
    shape: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every (triangle, pixel) pair whose pixel centre lies is inside: face, pixel, centre x, centre y."""
    height, width = shape
    low, high = _bounds(corner[:, :, 1])
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.intp)
    last = np.clip(np.ceil(high - 0.5), 0, height).astype(np.intp)
    face, row = _ranges(first, last)
    y = row + 0.5
    left, right = np.full(len(face), -np.inf), np.full(len(face), np.inf)
    for k in range(3):
        here, there, opposite = k, (k + 1) % 3, (k + 2) % 3
        # Both triangles at an edge must compute the same crossing, so it starts at the lower vertex index.
        swap = (faces[:, here] > faces[:, there])[:, None]
        start = np.where(swap, corner[:, there], corner[:, here])
        end = np.where(swap, corner[:, here], corner[:, there])
        rise = end[:, 1] - start[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (end[:, 0] - start[:, 0]) / rise
            # Which side of the edge is inside? The one where the third corner lies.
            side = corner[:, opposite, 0] - (start[:, 0] + slope * (corner[:, opposite, 1] - start[:, 1]))
            crossing = start[face, 0] + slope[face] * (y - start[face, 1])
        sloped = rise[face] != 0
        is_left = sloped & (side > 0)[face]
        is_right = sloped & (side <= 0)[face]
        left = np.where(is_left, np.maximum(left, crossing), left)
        right = np.where(is_right, np.minimum(right, crossing), right)
    begin = np.clip(np.ceil(left - 0.5), 0, width).astype(np.intp)
    stop = np.clip(np.ceil(right - 0.5), 0, width).astype(np.intp)
    span, column = _ranges(begin, stop)
    at_x = column + 0.5
    return face[span], row[span] * width + column, at_x, y[span]


def _bounds(corner: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest over the three corners [F, 3, ...]; numpy is slow along short axes."""
    first, second, third = corner[:, 0], corner[:, 1], corner[:, 2]
    low = np.minimum(np.minimum(first, second), third)
    return low, np.maximum(np.maximum(first, second), third)


def _ranges(first: NDArray[np.intp], last: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Concatenated `range(first[i], last[i])`: (i of every element, the element)."""
    count = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(first)), count)
    before = np.cumsum(count) - count
    return owner, np.arange(len(owner)) - before[owner] + first[owner]


def _gradients(corner: FloatArray, area: FloatArray) -> FloatArray:
    """Screen gradients [F, 3, 2] of the three barycentric weights; `area` is twice the signed area."""
    opposite = np.roll(corner, -2, axis=1) - np.roll(corner, -1, axis=1)  # edge facing each corner
    return np.stack([-opposite[..., 1], opposite[..., 0]], axis=-1) / area[:, None, None]


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
