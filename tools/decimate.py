"""Mesh simplification by half-edge collapses with quadric errors (Garland and Heckbert, 1997).

A half-edge collapse moves one end of an edge onto the other, so the simplified mesh uses a subset of the old
vertices. That is what a skinned mesh wants: blend shapes and skinning weights are simply indexed.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray


def decimate(
    vertices: NDArray[np.float64],  # [V, 3]
    faces: NDArray[np.int64],  # [F, 3]
    target_faces: int,
    importance: NDArray[np.float64],  # [V] multiplies the cost of removing a vertex; inf keeps it
) -> NDArray[np.int64]:
    """Faces [about target_faces, 3] over the old vertex indices; winding and manifoldness are kept."""
    quadrics = _quadrics(vertices, faces)
    live: dict[int, tuple[int, ...]] = {i: tuple(int(v) for v in face) for i, face in enumerate(faces)}
    around: list[set[int]] = [set() for _ in vertices]
    for index, face in live.items():
        for vertex in face:
            around[vertex].add(index)
    version = np.zeros(len(vertices), np.int64)
    heap: list[tuple[float, int, int, int, int]] = []

    def neighbours(vertex: int) -> set[int]:
        return {v for f in around[vertex] for v in live[f]} - {vertex}

    def push(vertex: int) -> None:
        for other in neighbours(vertex):
            for gone, kept in ((vertex, other), (other, vertex)):
                point = np.append(vertices[kept], 1.0)
                cost = float(point @ (quadrics[gone] + quadrics[kept]) @ point) + 1e-12
                length = float(np.sum((vertices[gone] - vertices[kept]) ** 2))
                # The length term spreads vertices evenly where the surface is flat.
                cost = (cost + 1e-7 * length) * importance[gone]
                if np.isfinite(cost):
                    heapq.heappush(heap, (cost, gone, kept, int(version[gone]), int(version[kept])))

    for vertex in range(len(vertices)):
        push(vertex)
    while len(live) > target_faces and heap:
        _, gone, kept, seen_gone, seen_kept = heapq.heappop(heap)
        if version[gone] != seen_gone or version[kept] != seen_kept or not around[gone]:
            continue
        shared = around[gone] & around[kept]
        opposite = {v for f in shared for v in live[f]} - {gone, kept}
        # Link condition: otherwise the collapse pinches the surface. One shared face is a border edge.
        if len(shared) != 2 or neighbours(gone) & neighbours(kept) != opposite:
            continue
        if any(_flips(vertices, live[f], gone, kept) for f in around[gone] - shared):
            continue
        for f in shared:
            for v in live.pop(f):
                around[v].discard(f)
        for f in list(around[gone]):
            live[f] = tuple(kept if v == gone else v for v in live[f])
            around[kept].add(f)
        around[gone].clear()
        quadrics[kept] = quadrics[kept] + quadrics[gone]
        version[gone] += 1
        version[kept] += 1
        push(kept)
    return np.array([live[i] for i in sorted(live)], np.int64)


def _quadrics(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Area-weighted plane quadrics [V, 4, 4]."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = normal / np.maximum(area, 1e-15)
    plane = np.concatenate([normal, -np.sum(normal * a, axis=1, keepdims=True)], axis=1)
    each = plane[:, :, None] * plane[:, None, :] * area[:, :, None]
    quadrics = np.zeros((len(vertices), 4, 4))
    for corner in range(3):
        np.add.at(quadrics, faces[:, corner], each)
    return quadrics


def _flips(vertices: NDArray[np.float64], face: tuple[int, ...], gone: int, kept: int) -> bool:
    """Whether moving `gone` onto `kept` turns this face around or makes it a sliver."""
    before = vertices[list(face)]
    after = vertices[[kept if v == gone else v for v in face]]
    old = np.cross(before[1] - before[0], before[2] - before[0])
    new = np.cross(after[1] - after[0], after[2] - after[0])
    longest = max(np.sum((after[i] - after[i - 1]) ** 2) for i in range(3))
    scale = np.linalg.norm(old) * np.linalg.norm(new)
    return bool(old @ new < 0.3 * scale or np.linalg.norm(new) < 0.06 * longest)
