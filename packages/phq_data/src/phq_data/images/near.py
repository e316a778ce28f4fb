"""Perceptual hashes that are near each other, found by multi-index hashing and not by comparing all with all.

The 64 bits are cut into blocks, and block i may differ in r_i bits, with the sum of all r_i + 1 above the
distance d: two hashes at distance d differ in more than r_i bits of no more than all but one block, so it is
enough to look up each block of each hash with every change of that many bits (Norouzi, Punjani and Fleet,
"Fast Search in Hamming Space with Multi-Index Hashing", 2012). How many blocks is chosen by what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

_WIDTH = 64
_WIDEST = 22  # bits of a block: its table of places has 4 million entries
_CHUNK = 1 << 21  # candidate pairs compared at a time

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


class Groups:
    """Rows of equal hashes, looked up together: thousands of black images make few pairs so."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:  # [N]
        self.distinct, self.of = np.unique(hashes, return_inverse=True)  # [D], [N] group of every row
        self._rows = np.argsort(self.of, kind="stable")
        self._bounds = np.searchsorted(self.of[self._rows], np.arange(len(self.distinct) + 1))

    def rows(self, group: int) -> NDArray[np.int64]:
        """The rows [K] of a group, ascending."""
        return np.asarray(self._rows[self._bounds[group] : self._bounds[group + 1]], np.int64)

    def rows_of(self, groups: NDArray[np.int64]) -> Pairs:  # [P]
        """(place in `groups` [K], row [K]) of all rows of all these groups."""
        count = self.sizes()[groups]
        place = np.repeat(np.arange(len(groups)), count)
        within = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
        return place, self._rows[self._bounds[groups][place] + within]

    def sizes(self) -> NDArray[np.int64]:
        """[D] rows of every group."""
        return np.asarray(np.diff(self._bounds), np.int64)


def pairs_between(
    hashes: NDArray[np.uint64],  # [N]
    others: NDArray[np.uint64],  # [M]
    distance: int,
) -> Pairs:
    """(row of `hashes` [P], row of `others` [P]) of all pairs within `distance` bits, sorted."""
    return _joined(_candidates(hashes, others, distance, ordered=False), max(1, len(others)))


def pairs_within(
    hashes: NDArray[np.uint64],  # [N]
    distance: int,
) -> Pairs:
    """(first [P], second [P]) of all pairs first < second that differ in at most `distance` bits, sorted."""
    return _joined(_candidates(hashes, hashes, distance, ordered=True), max(1, len(hashes)))


def _candidates(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64], distance: int, *, ordered: bool
) -> Iterator[Pairs]:
    if not len(hashes) or not len(others):
        return
    low = 0
    for width, bits in _plan(len(others), distance):
        shift, full = np.uint64(low), np.uint64((1 << width) - 1)
        low += width
        keys = ((others >> shift) & full).astype(np.int64)
        by_key = np.argsort(keys, kind="stable")
        starts = np.zeros((1 << width) + 1, np.int64)
        np.cumsum(np.bincount(keys, minlength=1 << width), out=starts[1:])
        own = ((hashes >> shift) & full).astype(np.int64)
        for change in _changes(width, bits):
            wanted = own ^ change
            begin = starts[wanted]
            counts = starts[wanted + 1] - begin
            for first, last in _chunks(counts):
                count = counts[first:last]
                row = np.repeat(np.arange(first, last), count)
                within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
                other = by_key[np.repeat(begin[first:last], count) + within]
                near = np.bitwise_count(hashes[row] ^ others[other]) <= distance
                if ordered:
                    near &= row < other
                yield row[near], other[near]


def _joined(found: Iterator[Pairs], span: int) -> Pairs:
    """The pairs once each: most are found by more than one block."""
    codes = [np.unique(row * span + other) for row, other in found if len(row)]
    every = np.unique(np.concatenate(codes)) if codes else np.zeros(0, np.int64)
    return every // span, every % span


@lru_cache(maxsize=64)
def _plan(count: int, distance: int) -> tuple[tuple[int, int], ...]:
    """(bits of the block, bits of it that may differ) of every block: the cheapest for `count` hashes."""
    plans = [_blocks(number, distance) for number in range(-(-_WIDTH // _WIDEST), 17)]

    def cost(plan: tuple[tuple[int, int], ...]) -> float:
        """In elements of arrays; a call of NumPy counts as some thousand."""
        looks = [sum(math.comb(width, some) for some in range(bits + 1)) for width, bits in plan]
        return sum(
            look * (5_000 + count + count * count / (1 << width)) + 2.0 * (1 << width)
            for look, (width, _) in zip(looks, plan, strict=True)
        )

    return min(plans, key=cost)


def _blocks(number: int, distance: int) -> tuple[tuple[int, int], ...]:
    widths = [_WIDTH // number + (place < _WIDTH % number) for place in range(number)]
    # The sum of bits + 1 is distance + 1; a block of -1 bits cannot be the one, and is passed over.
    extra, most = (distance + 1) % number, (distance + 1) // number - 1
    allowed = [most + (place < extra) for place in range(number)]
    kept = [(width, bits) for width, bits in zip(widths, allowed, strict=True) if bits >= 0]
    return tuple((width, min(width, bits)) for width, bits in kept)


@lru_cache(maxsize=64)
def _changes(width: int, bits: int) -> tuple[int, ...]:
    """All masks of `width` bits with at most `bits` bits set."""
    return tuple(
        sum(1 << place for place in places)
        for count in range(bits + 1)
        for places in combinations(range(width), count)
    )


def _chunks(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of rows whose candidates number about `_CHUNK` together."""
    total = np.cumsum(counts)
    if len(total) == 0 or total[-1] == 0:
        return []
    cuts = np.searchsorted(total, np.arange(_CHUNK, total[-1] + _CHUNK, _CHUNK), side="left") + 1
    edges = np.unique(np.clip(np.concatenate([[0], cuts, [len(counts)]]), 0, len(counts)))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
