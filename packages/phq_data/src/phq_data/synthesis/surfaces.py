"""Surfaces around the neutral body: caps, brims, curtains, tubes. Everything a wardrobe is cut from.

Frame: the neutral body's, metres. Azimuth 0 is the front (+z), positive towards the person's left (+x).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from phq_data.arrays import FloatArray
from phq_data.synthesis.figure import body

HEAD_CENTRE: FloatArray = np.array([0.0, 0.165, 0.03])
"""The middle of the skull, from which caps are measured."""
NECK_CENTRE: FloatArray = np.array([0.0, 0.0, 0.0])


@lru_cache(maxsize=1)
def _skull() -> tuple[cKDTree, FloatArray]:
    """Directions (as a tree) and radii of the head's surface, without the ears."""
    model = body()
    head = (model.weights[:, model.joint("head")] > 0.5) & ~model.region("ear", "sclera", "iris")
    away = model.vertices[head] - HEAD_CENTRE
    radius = np.linalg.norm(away, axis=1)
    return cKDTree(away / radius[:, None]), radius


def skull_radius(directions: FloatArray) -> FloatArray:
    """Distance [N] of the head's surface from `HEAD_CENTRE` along unit directions [N, 3]."""
    tree, radius = _skull()
    distance, near = tree.query(directions, k=4)
    share = 1 / (distance + 0.02) ** 2
    found = (share * radius[near]).sum(axis=1) / share.sum(axis=1)
    return np.asarray(found)


def direction(azimuth: FloatArray, elevation: FloatArray) -> FloatArray:
    """Unit vectors [..., 3] from the head's centre. Radians."""
    flat = np.cos(elevation)
    return np.stack([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat], axis=-1)


def cap(
    line: Callable[[FloatArray], FloatArray],  # azimuth -> elevation of the lower edge
    thickness: Callable[[FloatArray, FloatArray], FloatArray],  # azimuth, share of the way up -> metres
    columns: int = 56,
    rows: int = 18,
) -> tuple[FloatArray, NDArray[np.int32]]:
    """A dome over the head from an edge line up to the crown: ([N, 3], faces)."""
    azimuth = np.linspace(-np.pi, np.pi, columns, endpoint=False)
    share = np.linspace(0, 1, rows)
    around, up = np.meshgrid(azimuth, share)
    low = line(around)
    elevation = low + (np.pi / 2 - 1e-3 - low) * up
    towards = direction(around, elevation).reshape(-1, 3)
    radius = skull_radius(towards) + thickness(around, up).reshape(-1)
    return HEAD_CENTRE + towards * radius[:, None], grid_faces(rows, columns, around=True)


def brim(
    edge: FloatArray, width: FloatArray, droop: float, rows: int = 4
) -> tuple[FloatArray, NDArray[np.int32]]:
    """A brim around a cap's edge loop [N, 3], `width` [N] metres wide, falling by `droop` (a slope)."""
    middle = edge.mean(axis=0)
    out = edge - middle
    out[:, 1] = 0
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)
    loops = [
        edge + out * (width * t)[:, None] - np.array([0.0, droop, 0.0]) * (width * t)[:, None]
        for t in np.linspace(-0.05, 1, rows)
    ]
    return np.concatenate(loops), grid_faces(rows, len(edge), around=True)


def tube(
    path: FloatArray, radius: FloatArray, sides: int = 12, closed: bool = False
) -> tuple[FloatArray, NDArray[np.int32]]:
    """A tube along a path [N, 3] with radii [N]."""
    if closed:
        tangent = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
    else:
        tangent = np.gradient(path, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    hint = np.where(np.abs(tangent[:, :1]) < 0.8, [[1.0, 0, 0]], [[0.0, 1, 0]])
    first = np.cross(tangent, hint)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(tangent, first)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = first[:, None] * np.cos(angle)[:, None] + second[:, None] * np.sin(angle)[:, None]
    points = path[:, None] + ring * radius[:, None, None]
    faces = grid_faces(len(path), sides, around=True)
    if closed:
        here = (len(path) - 1) * sides + np.arange(sides)
        right = (len(path) - 1) * sides + (np.arange(sides) + 1) % sides
        below, across = np.arange(sides), (np.arange(sides) + 1) % sides
        last = np.stack([here, right, below, right, across, below], -1).reshape(-1, 3)
        faces = np.concatenate([faces, last.astype(np.int32)])
    return points.reshape(-1, 3), faces


def ball(
    centre: FloatArray, radius: FloatArray | float, rings: int = 10
) -> tuple[FloatArray, NDArray[np.int32]]:
    """An ellipsoid with radii [3] (or one radius)."""
    polar = np.linspace(0.05, np.pi - 0.05, rings)
    azimuth = np.linspace(-np.pi, np.pi, 2 * rings, endpoint=False)
    p, a = np.meshgrid(np.pi / 2 - polar, azimuth, indexing="ij")
    points = direction(a, p).reshape(-1, 3) * radius + centre
    return points, grid_faces(rings, 2 * rings, around=True)


def block(centre: FloatArray, size: FloatArray) -> tuple[FloatArray, NDArray[np.int32]]:
    """A box: vertices [8, 3] and triangles [12, 3] for a centre [3] and sides [3], metres."""
    sign = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    faces = [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ]  # fmt: skip
    return centre + sign * size / 2, np.array(faces, np.int32)


def grid_faces(rows: int, columns: int, *, around: bool) -> NDArray[np.int32]:
    """Triangles [F, 3] of a rows x columns grid of vertices; `around`: the last column joins the first."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns if around else columns - 1), indexing="ij")
    here, right = i * columns + j, i * columns + (j + 1) % columns
    below, across = here + columns, right + columns
    return np.stack([here, right, below, right, across, below], -1).reshape(-1, 3).astype(np.int32)


@lru_cache(maxsize=1)
def _back_profile() -> tuple[FloatArray, FloatArray]:
    """(heights, z of the rearmost surface near the middle plane at each), neutral body."""
    points = body().vertices
    heights = np.linspace(-0.5, 0.26, 39)
    deepest = []
    for y in heights:
        near = (np.abs(points[:, 1] - y) < 0.025) & (np.abs(points[:, 0]) < 0.09)
        deepest.append(points[near, 2].min() if near.any() else 0.0)
    return heights, np.array(deepest)


def back_surface(y: FloatArray) -> FloatArray:
    """z [...] of the body's rearmost surface near the middle plane at heights `y` [...], metres."""
    heights, deepest = _back_profile()
    return np.interp(y, heights, deepest)


def neck_ring(azimuth: FloatArray, y: FloatArray) -> FloatArray:
    """Points [..., 3] on the neck's surface at an azimuth and a height (above the collar bones), metres."""
    model = body()
    column = np.flatnonzero(model.region("neck") | model.region("torso") & (model.vertices[:, 1] > -0.12))
    points = model.vertices[column].astype(np.float64)
    centre_z = np.interp(points[:, 1], [-0.1, 0.0, 0.1], [0.0, 0.0, 0.03])
    angle = np.arctan2(points[:, 0], points[:, 2] - centre_z)
    key = np.stack([np.sin(angle) * 0.07, np.cos(angle) * 0.07, points[:, 1] * 1.5], axis=1)
    wanted = np.stack([np.sin(azimuth) * 0.07, np.cos(azimuth) * 0.07, y * 1.5], axis=-1)
    radius = np.hypot(points[:, 0], points[:, 2] - centre_z)
    distance, near = cKDTree(key).query(wanted.reshape(-1, 3), k=4)
    share = 1 / (distance + 0.004) ** 2
    found = ((share * radius[near]).sum(1) / share.sum(1)).reshape(azimuth.shape)
    middle = np.interp(y, [-0.1, 0.0, 0.1], [0.0, 0.0, 0.03])
    return np.stack([found * np.sin(azimuth), y, middle + found * np.cos(azimuth)], axis=-1)
