"""What changed between two releases: added, removed and changed portraits, and what about them changed.

The indexes of both are joined, which reads no shard; only rows that changed are looked up in the shards.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phq_data import parquet
from phq_data.release.places import digests, packed, texts
from phq_data.release.reader import IMAGE_COLUMNS, Release

DIFF_SCHEMA = pa.schema(
    [
        pa.field("portrait_id", pa.string(), nullable=False),
        pa.field("change", pa.string(), nullable=False),  # added, removed, changed
        pa.field("columns", pa.list_(pa.string()), nullable=False),  # what changed; empty unless changed
        pa.field("before", pa.string()),  # JSON of those columns
        pa.field("after", pa.string()),
        pa.field("taken_down", pa.bool_(), nullable=False),  # removed because somebody asked for it
    ]
)
_BLOCK = 1024


@dataclass(frozen=True)
class Diff:
    """The difference; ids in order."""

    before: str  # versions
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]  # portrait_id -> columns
    repacked: int  # rows that say the same in other bytes
    table: pa.Table  # DIFF_SCHEMA

    def columns(self) -> dict[str, int]:
        """How many rows changed in which column, most first."""
        counts = Counter(name for names in self.changed.values() for name in names)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def save(self, path: str | Path) -> None:
        """Write the table as Parquet."""
        parquet.write(self.table, path)


def diff(a: Release, b: Release) -> Diff:
    """What leads from release `a` to release `b`, as they were released (taken-down rows included)."""
    old, new = _Index.of(a), _Index.of(b)
    at = np.minimum(np.searchsorted(new.ids, old.ids), max(0, len(new.ids) - 1))
    both = new.ids[at] == old.ids if len(new.ids) else np.zeros(len(old.ids), bool)
    one, two = np.flatnonzero(both), at[both]
    fresh = np.ones(len(new.ids), bool)
    fresh[two] = False
    added, removed = texts(new.ids[fresh]), texts(old.ids[~both])
    differs = (old.digest[one] != new.digest[two]).any(1)
    repacked = int((~differs & (old.encoded[one] != new.encoded[two]).any(1)).sum())
    rows: list[dict[str, Any]] = [_row(portrait, "added") for portrait in added]
    photos = (
        a.index["photo_id"].take(pa.array(old.order[~both])).to_pylist() if b.tombstones.entries else removed
    )
    for portrait, photo in zip(removed, photos, strict=True):
        rows.append(_row(portrait, "removed", taken_down=b.tombstones.hides(portrait, photo)))
    changed: dict[str, tuple[str, ...]] = {}
    for portrait, before, after in _pairs(a, b, old.order[one[differs]], new.order[two[differs]]):
        changed[portrait] = tuple(before)
        rows.append(_row(portrait, "changed", before, after))
    rows.sort(key=lambda row: row["portrait_id"])
    table = pa.Table.from_pylist(rows, schema=DIFF_SCHEMA)
    return Diff(a.version, b.version, tuple(added), tuple(removed), changed, repacked, table)


@dataclass(frozen=True)
class _Index:
    """The index of a release in the order of the ids."""

    order: NDArray[np.int64]  # [N] rows of the index
    ids: NDArray[np.bytes_]
    digest: NDArray[np.uint8]  # [N, 16]
    encoded: NDArray[np.uint8]  # [N, 16]

    @classmethod
    def of(cls, release: Release) -> _Index:
        ids = packed(release.index["portrait_id"])
        order = np.argsort(ids, kind="stable")
        return cls(order, ids[order], *(digests(release.index[n], 32)[order] for n in ("digest", "encoded")))


def _pairs(
    a: Release, b: Release, old: NDArray[np.int64], new: NDArray[np.int64]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(portrait, what it said, what it says) for the columns that differ; `old` and `new` [M]: rows of the
    indexes."""
    names_a = [name for name in a.columns if name not in IMAGE_COLUMNS]
    names_b = [name for name in b.columns if name not in IMAGE_COLUMNS]
    # In the order of the shards, so that every row group is read once.
    order = np.argsort(old)
    for low in range(0, len(order), _BLOCK):
        here, there = (rows[order[low : low + _BLOCK]] for rows in (old, new))
        some = a.index["portrait_id"].take(pa.array(here)).to_pylist()
        rows_a = a.read_places(_places(a, here), [*names_a, "image.path"])
        rows_b = b.read_places(_places(b, there), [*names_b, "image.path"])
        for one, before, after in zip(some, rows_a, rows_b, strict=True):
            for row in (before, after):
                row["image"] = row.get("image") is not None
            names = [
                name
                for name in dict.fromkeys([*before, *after])
                if _json(before.get(name)) != _json(after.get(name))
            ]
            yield (
                one,
                {name: before.get(name) for name in names},
                {name: after.get(name) for name in names},
            )


def _places(release: Release, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    shard, row = (release.index[name].to_numpy()[rows].tolist() for name in ("shard", "row"))
    return list(zip(shard, row, strict=True))


def _row(
    portrait_id: str,
    change: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    *,
    taken_down: bool = False,
) -> dict[str, Any]:
    return {
        "portrait_id": portrait_id,
        "change": change,
        "columns": list(before or ()),
        "before": _json(before) if before is not None else None,
        "after": _json(after) if after is not None else None,
        "taken_down": taken_down,
    }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
