"""Dedup: near-duplicate portraits over a whole workspace, by the distance of their perceptual hashes.

The result does not depend on the order of the rows. Portraits are visited from the best to the worst (kept
before rejected, more source pixels first, then the smaller id); one that nobody has claimed yet becomes a
representative and claims every unclaimed portrait within the distance. So every member is that close to its
representative, and no chain of small steps joins images that differ. Two people of one photo are never
duplicates: of portraits from the same photo, a representative claims only the nearest, and none of its own
photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phq_data.config import DedupConfig
from phq_data.images.near import Groups, pairs_within
from phq_data.records import Duplicate, Record


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate(Record):
    """What is asked of a verdict to find its portrait's duplicates."""

    table = "screened"
    portrait_id: str
    photo_id: str
    phash: int
    kept: bool
    effective_resolution: float


def duplicates(candidates: Sequence[Candidate], config: DedupConfig) -> list[Duplicate]:
    """One record a member of every cluster of two or more, sorted by portrait id."""
    if not candidates:
        return []
    ranked = sorted(candidates, key=lambda one: (not one.kept, -one.effective_resolution, one.portrait_id))
    neighbours = _Neighbours(np.array([one.phash for one in ranked], np.uint64), config.max_distance)
    photo = [one.photo_id for one in ranked]
    name = [one.portrait_id for one in ranked]

    claimed = np.zeros(len(ranked), bool)
    found: list[Duplicate] = []
    for best in range(len(ranked)):
        if claimed[best]:
            continue
        claimed[best] = True
        near = [(distance, other) for distance, other in neighbours(best) if not claimed[other]]
        members: list[tuple[int, int]] = [(0, best)]
        photos = {photo[best]}
        for distance, other in sorted(near):  # nearest first, then best first
            if photo[other] not in photos:
                photos.add(photo[other])
                claimed[other] = True
                members.append((distance, other))
        if len(members) > 1:
            cluster = min(name[member] for _, member in members)
            found += [
                Duplicate(
                    portrait_id=name[member],
                    cluster=cluster,
                    representative=member == best,
                    distance=distance,
                )
                for distance, member in members
            ]
    return sorted(found, key=lambda one: one.portrait_id)


def crowded(hashes: NDArray[np.uint64], config: DedupConfig) -> NDArray[np.bool_]:  # [N] -> [N]
    """Which rows have another one within the distance: no other can be a member of a cluster."""
    groups = Groups(hashes)
    near = groups.sizes() > 1
    for side in pairs_within(groups.distinct, config.max_distance):
        near[side] = True
    return np.asarray(near[groups.of], np.bool_)


class _Neighbours:
    """Who is within the distance of a row; rows with equal hashes are looked up once."""

    def __init__(self, hashes: NDArray[np.uint64], max_distance: int) -> None:
        self._groups = Groups(hashes)
        distinct = self._groups.distinct
        first, second = pairs_within(distinct, max_distance)
        distance = np.bitwise_count(distinct[first] ^ distinct[second]).astype(np.int64)
        start = np.concatenate([first, second])
        order = np.argsort(start, kind="stable")
        self._to = np.concatenate([second, first])[order]
        self._distance = np.concatenate([distance, distance])[order]
        self._edges = np.searchsorted(start[order], np.arange(len(distinct) + 1))

    def __call__(self, row: int) -> list[tuple[int, int]]:
        """(distance, other row) of all other rows within the distance."""
        group = int(self._groups.of[row])
        near = [(0, group)]
        for edge in range(self._edges[group], self._edges[group + 1]):
            near.append((int(self._distance[edge]), int(self._to[edge])))
        return [
            (distance, other)
            for distance, member in near
            for other in self._groups.rows(member).tolist()
            if other != row
        ]
