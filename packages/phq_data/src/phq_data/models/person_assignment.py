"""Whose pixel is it: the person's or a bystander's?

A segmentation network sees people, not persons. The key points say where each person surely is: head, neck,
shoulders, arms. From there everybody claims the neighbouring pixels, and claims travel cheaply over smooth
surfaces, dearly across edges of the image and hardly at all through background. A pixel belongs to whoever
reaches it first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import MCP_Geometric

from phq_data.arrays import Float32Array, FloatArray
from phq_data.models.keypoints import head_centre, upper_size
from phq_data.models.matting import resize_image, resize_plane

GRID = 128  # claims travel on a grid of this many cells a side
SEEN = 0.2  # key points below this score claim nothing
EDGE_COST = 25.0  # a strong edge is as far as this many cells of smooth surface
BACKGROUND_COST = 12.0
SOFTNESS = 4.0  # claims closer than this share the pixel


def share_of(
    target: FloatArray,  # [17, 3] key points in image pixels
    others: Sequence[FloatArray],
    person: Float32Array,  # [m, m] 0..1: how sure the network is that there is somebody
    image: NDArray[np.uint8],  # [S, S, 3] RGB
) -> Float32Array:
    """The target's share [m, m] of every pixel, 0..1, with the bystanders `others` claiming the rest."""
    scale = GRID / image.shape[0]
    everybody = [_scaled(keypoints, scale) for keypoints in [target, *others]]
    owner = _seeds(everybody)
    if not (owner == 0).any() or not (owner > 0).any():
        return np.ones(person.shape, np.float32)
    cost = _cost(resize_plane(person, GRID), resize_image(image, GRID))
    mine = _reach(cost, owner == 0)
    theirs = _reach(cost, owner > 0)
    share = 1 / (1 + np.exp(np.clip((mine - theirs) / SOFTNESS, -30, 30)))
    return resize_plane(share.astype(np.float32), person.shape[0])


def body_of(target: FloatArray, shape: tuple[int, int], image_size: int) -> NDArray[np.bool_]:
    """Where the person surely is, [m, m]: head, neck and shoulders; all false if none of them was seen."""
    owner = np.full(shape, -1)
    _paint(owner, _scaled(target, shape[0] / image_size), 0, arms=False)
    return np.asarray(owner == 0)


def _seeds(people: Sequence[FloatArray]) -> NDArray[np.int64]:
    """Index of the person who surely owns a cell [GRID, GRID], -1 for nobody."""
    owner = np.full((GRID, GRID), -1)
    # Small people stand behind: who is painted later, and so on top, is the larger one. Heads come last.
    order = sorted(range(len(people)), key=lambda index: upper_size(people[index]))
    for index in order:
        _paint(owner, people[index], index, arms=True, head=False)
    for index in order:
        _paint(owner, people[index], index, arms=False, body=False)
    return owner


def _paint(
    owner: NDArray[np.int64],
    keypoints: FloatArray,  # [17, 3] in cells
    index: int,
    *,
    arms: bool,
    head: bool = True,
    body: bool = True,
) -> None:
    """Marks the cells under a person's bones as that person's."""
    points, seen = keypoints[:, :2], keypoints[:, 2] >= SEEN
    size = upper_size(keypoints)
    has_head = seen[:5].sum() >= 2
    middle = head_centre(keypoints)
    neck = points[5:7].mean(axis=0)
    if body and seen[5] and seen[6]:
        _capsule(owner, points[5], points[6], 0.06 * size, index)
    if body and has_head and seen[5:7].any():
        # Down the neck and a little of the chest: the rest may be hidden by others.
        chest = neck + 0.35 * (neck - middle)
        _capsule(owner, middle, chest, 0.08 * size, index)
    if arms:
        for first, second in ((5, 7), (7, 9), (6, 8), (8, 10)):
            if seen[first] and seen[second]:
                _capsule(owner, points[first], points[second], 0.05 * size, index)
    if head and has_head:
        _capsule(owner, middle, middle, 0.2 * size, index)


def _capsule(owner: NDArray[np.int64], start: FloatArray, end: FloatArray, radius: float, index: int) -> None:
    """Marks the cells within `radius` of the line from start to end."""
    reach = max(radius, 0.8)
    if not np.isfinite([start, end]).all():
        return
    size = np.array(owner.shape[::-1])  # only cells of the box around it can be that near
    x0, y0 = np.clip(np.floor(np.minimum(start, end) - reach), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(np.maximum(start, end) + reach), 0, size).astype(int)
    rows, columns = np.mgrid[y0:y1, x0:x1] + 0.5
    along = end - start
    length = max(float(along @ along), 1e-9)
    position = np.clip(((columns - start[0]) * along[0] + (rows - start[1]) * along[1]) / length, 0, 1)
    distance = np.hypot(columns - start[0] - position * along[0], rows - start[1] - position * along[1])
    owner[y0:y1, x0:x1][distance <= reach] = index


def _cost(person: Float32Array, image: NDArray[np.uint8]) -> Float32Array:
    """What a claim pays to cross a cell."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32) / 255, (0.7, 0.7, 0))
    edges = np.sqrt(sum((ndimage.sobel(smooth, axis) ** 2).sum(axis=-1) for axis in (0, 1))) / 4
    strong = max(float(np.quantile(edges, 0.95)), 0.02)
    background = np.clip(1 - person, 0, 1)
    cost = 1 + EDGE_COST * np.minimum(edges / strong, 1) ** 2 + BACKGROUND_COST * background
    return np.asarray(cost.astype(np.float32))


def _reach(cost: Float32Array, seeds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Cost [GRID, GRID] of the cheapest way from the seeds to every cell."""
    # Starting from their rim is as good as from all of them, and much faster.
    rim = seeds & ~ndimage.binary_erosion(seeds)
    distance, _ = MCP_Geometric(cost.astype(np.float64)).find_costs(np.argwhere(rim).tolist())
    return np.where(seeds, 0.0, distance)


def _scaled(keypoints: FloatArray, scale: float) -> FloatArray:
    scaled = keypoints.astype(np.float64).copy()
    scaled[:, :2] *= scale
    return scaled
