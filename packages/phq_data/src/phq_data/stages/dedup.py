"""Dedup: near-duplicate portraits over a whole workspace, by the distance of their perceptual hashes.

The result does not depend on the order of the rows. Portraits are visited from the best to the worst (kept
before rejected, more source pixels first, then the smaller id); one that nobody has claimed yet becomes a
representative and claims every unclaimed portrait within the distance. So every member is that close to its
representative, and no chain of small steps joins images that differ. Two people of one photo are never
duplicates: of portraits from the same photo, a representative claims only the nearest, and none of its own
photo.

All pairs within the distance are found by multi-index hashing: of four 16-bit quarters of two 64-bit hashes
at distance d, at least one differs in no more than d // 4 bits, so it is enough to look up each quarter of
each hash with every change of that many bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from phq_data.config import DedupConfig
from phq_data.records import Duplicate, Record

_QUARTERS, _BITS = 4, 16
_CHUNK = 1 << 22  # candidate pairs compared at a time


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


def close_pairs(
    hashes: NDArray[np.uint64],  # [N]
    max_distance: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(first [P], second [P], distance [P]) of all index pairs first < second within `max_distance` bits."""
    pairs: list[NDArray[np.int64]] = []
    masks = _changes(max_distance // _QUARTERS)
    for quarter in range(_QUARTERS):
        keys = ((hashes >> np.uint64(_BITS * quarter)) & np.uint64(0xFFFF)).astype(np.int64)
        by_key = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[by_key], np.arange((1 << _BITS) + 1))
        for mask in masks:
            wanted = keys ^ mask
            counts = starts[wanted + 1] - starts[wanted]
            for low, high in _chunks(counts):
                count = counts[low:high]
                first = np.repeat(np.arange(low, high), count)
                within = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
                second = by_key[np.repeat(starts[wanted[low:high]], count) + within]
                ordered = first < second
                first, second = first[ordered], second[ordered]
                near = np.bitwise_count(hashes[first] ^ hashes[second]) <= max_distance
                pairs.append(np.stack([first[near], second[near]]))
    joined = np.unique(np.concatenate(pairs, axis=1), axis=1)
    first, second = joined
    return first, second, np.bitwise_count(hashes[first] ^ hashes[second]).astype(np.int64)


class _Neighbours:
    """Who is within the distance of a row; rows with equal hashes are looked up once."""

    def __init__(self, hashes: NDArray[np.uint64], max_distance: int) -> None:
        distinct, self._group = np.unique(hashes, return_inverse=True)
        first, second, distance = close_pairs(distinct, max_distance)
        start = np.concatenate([first, second])
        order = np.argsort(start, kind="stable")
        self._to = np.concatenate([second, first])[order]
        self._distance = np.concatenate([distance, distance])[order]
        self._edges = np.searchsorted(start[order], np.arange(len(distinct) + 1))
        self._rows = np.argsort(self._group, kind="stable")
        self._bounds = np.searchsorted(self._group[self._rows], np.arange(len(distinct) + 1))

    def __call__(self, row: int) -> list[tuple[int, int]]:
        """(distance, other row) of all other rows within the distance."""
        group = int(self._group[row])
        near = [(0, group)]
        for edge in range(self._edges[group], self._edges[group + 1]):
            near.append((int(self._distance[edge]), int(self._to[edge])))
        return [
            (distance, int(other))
            for distance, member in near
            for other in self._rows[self._bounds[member] : self._bounds[member + 1]]
            if other != row
        ]


@lru_cache(maxsize=8)
def _changes(bits: int) -> tuple[int, ...]:
    """All 16-bit masks with at most `bits` bits set."""
    return tuple(
        sum(1 << place for place in places)
        for count in range(bits + 1)
        for places in combinations(range(_BITS), count)
    )


def _chunks(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of rows whose candidates number about `_CHUNK` together."""
    total = np.cumsum(counts)
    if len(total) == 0 or total[-1] == 0:
        return []
    cuts = np.searchsorted(total, np.arange(_CHUNK, total[-1] + _CHUNK, _CHUNK), side="left") + 1
    edges = np.unique(np.clip(np.concatenate([[0], cuts, [len(counts)]]), 0, len(counts)))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
