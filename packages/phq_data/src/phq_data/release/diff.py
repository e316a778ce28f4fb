"""What changed between two releases: added, removed and changed portraits, and what about them changed.

The indexes of both are joined, which reads no shard; only rows that changed are looked up in the shards.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from phq_data import parquet
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
    old, new = _index(a), _index(b)
    added = sorted(set(new) - set(old))
    removed = sorted(set(old) - set(new))
    both = sorted(set(old) & set(new))
    differing = [one for one in both if old[one].digest != new[one].digest]
    repacked = sum(
        old[one].digest == new[one].digest and old[one].encoded != new[one].encoded for one in both
    )
    rows: list[dict[str, Any]] = [_row(one, "added") for one in added]
    for one in removed:
        gone = b.tombstones.hides(one, old[one].photo)
        rows.append(_row(one, "removed", taken_down=gone))
    changed: dict[str, tuple[str, ...]] = {}
    for one, before, after in _pairs(a, b, old, new, differing):
        changed[one] = tuple(before)
        rows.append(_row(one, "changed", before, after))
    rows.sort(key=lambda row: row["portrait_id"])
    table = pa.Table.from_pylist(rows, schema=DIFF_SCHEMA)
    return Diff(a.version, b.version, tuple(added), tuple(removed), changed, repacked, table)


@dataclass(frozen=True, slots=True)
class _Entry:
    shard: int
    row: int
    digest: str
    encoded: str
    photo: str


def _index(release: Release) -> dict[str, _Entry]:
    names = ("portrait_id", "shard", "row", "digest", "encoded", "photo_id")
    columns = (release.index[name].to_pylist() for name in names)
    return {one: _Entry(*rest) for one, *rest in zip(*columns, strict=True)}


def _pairs(
    a: Release, b: Release, old: Mapping[str, _Entry], new: Mapping[str, _Entry], ids: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(portrait, what it said, what it says) for the columns that differ."""
    names_a = [name for name in a.columns if name not in IMAGE_COLUMNS]
    names_b = [name for name in b.columns if name not in IMAGE_COLUMNS]
    # In the order of the shards, so that every row group is read once.
    order = sorted(ids, key=lambda one: (old[one].shard, old[one].row))
    for low in range(0, len(order), _BLOCK):
        some = order[low : low + _BLOCK]
        rows_a = a.read_places([(old[one].shard, old[one].row) for one in some], [*names_a, "image.path"])
        rows_b = b.read_places([(new[one].shard, new[one].row) for one in some], [*names_b, "image.path"])
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
