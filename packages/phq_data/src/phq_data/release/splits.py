"""Splits that do not leak: no photo, near-duplicate cluster, author-and-day or series lies in two of them.

Photos are joined into groups by everything that makes images alike: the photo itself, near-duplicates, and
one session, which mostly shows one person in many poses. A session is the same author on the same day, and of
users' own folders what `series` says. A group falls into a split by a digest of its smallest photo id, so
the result does not depend on the order of anything. Where the photo of an author on the web has no date it
may be of any of his days: then all his photos are one group. (In folders he may own everything.)

Everything is numbers here, some 50 bytes a portrait: names are 64 bits of their digests. (Two names that
share them, once in a million releases of ten million portraits, would be one group, and leak nothing.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phq_data.errors import ReleaseError
from phq_data.release.manifest import SPLITS

Codes = NDArray[np.uint64]
"""What ties each portrait to others: those of equal numbers belong together, 0 to nobody."""


@dataclass(frozen=True)
class SplitShares:
    """How much of the portraits each split gets, about."""

    train: float = 0.96
    validation: float = 0.02
    test: float = 0.02

    def __post_init__(self) -> None:
        shares = self.as_tuple()
        if min(shares) < 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
            raise ReleaseError(f"the shares of the splits must sum to 1, not {sum(shares):g}")

    def as_tuple(self) -> tuple[float, ...]:
        """In the order of `manifest.SPLITS`."""
        return (self.train, self.validation, self.test)


class Ties(NamedTuple):
    """What decides the splits of N portraits."""

    photo: NDArray[np.uint64]  # [N] the first 64 bits of the photo's id
    draw: NDArray[np.uint64]  # [N] `draw_of` the photo
    others: Sequence[Codes] = ()  # [N] each


NO_TIES = Ties(np.zeros(0, np.uint64), np.zeros(0, np.uint64))


def assign(ties: Ties, shares: SplitShares, before: NDArray[np.int8]) -> NDArray[np.int8]:
    """The split of every portrait [N], as its place in `SPLITS`; `before`: in the parent release, or -1.

    A group stays where its portraits were in the parent. If new photos join groups that were in different
    splits, all go to train: a test set may shrink, but nothing that was trained on may enter it.
    """
    group = groups(ties)
    smallest = np.lexsort((ties.photo, group))
    first = smallest[np.diff(group[smallest], prepend=-1) != 0]  # of each group, the smallest photo
    chosen = np.zeros(len(group), np.int8)
    bounds = np.cumsum(shares.as_tuple())
    place = np.searchsorted(bounds, ties.draw[first] / 2.0**64, side="right")
    chosen[group[first]] = np.where(place < len(SPLITS), place, SPLITS.index("train"))
    lowest, highest = np.full(len(group), 127, np.int8), np.full(len(group), -1, np.int8)
    known = before >= 0
    np.minimum.at(lowest, group[known], before[known])
    np.maximum.at(highest, group[known], before[known])
    inherited = np.where(lowest == highest, lowest, np.int8(SPLITS.index("train")))
    return np.where(highest >= 0, inherited, chosen)[group]


def groups(ties: Ties) -> NDArray[np.int64]:
    """The number of every portrait's group [N]: the first place of one of it; ties hold it together."""
    rows = np.arange(len(ties.photo))
    pairs = [(rows, ties.photo), *((np.flatnonzero(code), code[code != 0]) for code in ties.others)]
    return components(len(rows), pairs)


def components(count: int, ties: Sequence[tuple[NDArray[np.int64], NDArray[np.uint64]]]) -> NDArray[np.int64]:
    """[count] the smallest member of each one's component; `ties` are (members [K], codes [K]) of which equal
    codes hold together.
    """
    listed = [(rows, np.unique(codes, return_inverse=True)[1].astype(np.int32)) for rows, codes in ties]
    label = np.arange(count)
    while True:
        before = label.copy()
        for rows, codes in listed:
            least = np.full(int(codes.max(initial=-1)) + 1, count)
            np.minimum.at(least, codes, label[rows])
            # The members' labels as well: what is tied to them learns of it at once.
            np.minimum.at(label, label[rows], least[codes])
            np.minimum.at(label, rows, least[codes])
        while not np.array_equal(label, shorter := label[label]):
            label = shorter
        if np.array_equal(label, before):
            return label


def draw_of(photo_id: str) -> int:
    """Where a group falls whose smallest photo this is: 64 bits, the same everywhere."""
    return int.from_bytes(hashlib.sha256(f"phq-split/1:{photo_id}".encode()).digest()[:8], "big")


def code_of(text: str) -> int:
    """64 bits for a name."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") or 1


def author_code(author: str | None) -> int:
    """The same for spellings of one name; 0 for nobody."""
    return code_of(" ".join(author.split()).casefold()) if author else 0


def sessions(author: Codes, day: NDArray[np.int32]) -> Codes:
    """Codes [N]: one author's portraits of one day, or all of an author who has one without a day (0)."""
    undated = np.unique(author[day == 0])
    with np.errstate(over="ignore"):
        own = author * np.uint64(0x9E3779B97F4A7C15) + day.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)
    return np.where((author == 0) | np.isin(author, undated), author, own)


MOST_IN_A_FOLDER = 50
"""Photos in a folder that may be one session; a larger one is a collection."""
OWN = np.dtype([("source", "u8"), ("folder", "u8"), ("session", "u8")])
"""A photo in one of the user's folders: codes of what was named, of its folder, of its day (0: none)."""


def own_photo(source: str, uri: str, day: str | None) -> tuple[int, int, int]:
    """A photo of the user as `OWN` has it."""
    return code_of(source), code_of(uri.rpartition("/")[0]), code_of(f"{source} {day}") if day else 0


def series(photos: np.ndarray) -> tuple[Codes, Codes]:
    """Two sessions of each photo of the user, as codes; `photos` are `OWN` [N], every photo once.

    A session is all that was taken on one day of what the user named (`source`), and, where that is more than
    one folder, a folder with few photos.
    """
    both, place, count = np.unique(photos[["source", "folder"]], return_inverse=True, return_counts=True)
    source, folders = np.unique(both["source"], return_counts=True)
    several = folders[np.searchsorted(source, both["source"])] > 1
    small = (count <= MOST_IN_A_FOLDER) & several
    return photos["session"], np.where(small[place], photos["folder"], 0).astype(np.uint64)
