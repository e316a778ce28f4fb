"""Splits that do not leak: no photo, near-duplicate cluster, author-and-day or series lies in two of them.

Photos are joined into groups by everything that makes images alike: the photo itself, near-duplicates, and
one session, which mostly shows one person in many poses. A session is the same author on the same day, and of
users' own folders what `series_of` says. A group falls into a split by a digest of its smallest photo id, so
the result does not depend on the order of anything. Where the photo of an author on the web has no date it
may be of any of his days: then all his photos are one group. (In folders he may own everything.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from phq_data.errors import ReleaseError
from phq_data.release.manifest import SPLITS


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


@dataclass(frozen=True)
class Grouped:
    """What ties a portrait to others."""

    portrait_id: str
    photo_id: str
    author: str | None
    day: str | None  # ISO date
    cluster: str  # near-duplicates share it; its own id when it has none
    series: tuple[str, ...] = ()  # sessions that a user's own photo is of


def assign(
    portraits: Sequence[Grouped],
    shares: SplitShares,
    before: Mapping[str, str],  # portrait_id -> split in the parent release
) -> list[str]:
    """The split of every portrait, in order.

    A group stays where its portraits were in the parent. If new photos join groups that were in different
    splits, all go to train: a test set may shrink, but nothing that was trained on may enter it.
    """
    if not portraits:
        return []
    group = groups(portraits)
    keys: dict[int, str] = {}
    known: dict[int, set[str]] = {}
    for number, one in zip(group, portraits, strict=True):
        keys[number] = min(keys.get(number, one.photo_id), one.photo_id)
        if one.portrait_id in before:
            known.setdefault(number, set()).add(before[one.portrait_id])
    chosen: dict[int, str] = {}
    for number, key in keys.items():
        splits = known.get(number, set())
        if len(splits) == 1:
            chosen[number] = next(iter(splits))
        elif splits:
            chosen[number] = "train"
        else:
            chosen[number] = _by_digest(key, shares)
    return [chosen[number] for number in group]


def groups(portraits: Sequence[Grouped]) -> list[int]:
    """The number of every portrait's group, in order; portraits that must stay together share one."""
    parent = list(range(len(portraits)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    undated = {_name(one.author) for one in portraits if one.author and not one.day}
    first: dict[tuple[str, ...], int] = {}
    for node, one in enumerate(portraits):
        ties: list[tuple[str, ...]] = [("photo", one.photo_id), ("cluster", one.cluster)]
        if one.author:
            name = _name(one.author)
            ties.append(("author", name) if name in undated else ("day", name, str(one.day)))
        ties += [("series", name) for name in one.series]
        for tie in ties:
            other = first.setdefault(tie, node)
            low, high = sorted((root(node), root(other)))
            parent[high] = low
    return [root(node) for node in range(len(portraits))]


MOST_IN_A_FOLDER = 50
"""Photos in a folder that may be one session; a larger one is a collection."""


def series_of(photos: Iterable[Mapping[str, str | None]]) -> dict[str, tuple[str, ...]]:
    """Sessions by photo id, of photos in users' folders.

    `photos` are rows with `photo_id`, `provider`, `source`, `uri`, `author` and `day`. A session is all that
    was taken on one day of what the user named (`source`), and, where that is more than one folder, a folder
    with few photos.
    """
    found: dict[str, list[str]] = {}
    folders: dict[str, dict[str, set[str]]] = {}  # source -> folder -> photos
    for photo in photos:
        if photo["provider"] != "folder":
            continue
        name, source = str(photo["photo_id"]), str(photo["source"])
        sessions = found.setdefault(name, [])
        if photo["day"]:
            sessions.append(f"{source} {photo['day']}")
        folder = str(photo["uri"]).rpartition("/")[0]
        folders.setdefault(source, {}).setdefault(folder, set()).add(name)
    for inside in folders.values():
        for folder, names in inside.items():
            if len(inside) > 1 and len(names) <= MOST_IN_A_FOLDER:
                for name in names:
                    found[name].append(folder)
    return {name: tuple(sessions) for name, sessions in found.items()}


def _by_digest(key: str, shares: SplitShares) -> str:
    draw = int.from_bytes(hashlib.sha256(f"phq-split/1:{key}".encode()).digest()[:8], "big") / 2**64
    total = 0.0
    for name, share in zip(SPLITS, shares.as_tuple(), strict=True):
        total += share
        if draw < total:
            return name
    return "train"


def _name(author: str | None) -> str:
    return " ".join((author or "").split()).casefold()
