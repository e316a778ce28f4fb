"""What a store of content-defined chunks takes of a second release: `python -m benchmarks.deduplication`.

A shard of synthetic rows (noise for images, of a photo's encoded size) is written, and again after one row in
a hundred has gone, was replaced by another, or was labelled anew. Both files are cut into chunks of 64 KiB on
average where a rolling (gear) hash of 32 bytes says so, as the Hugging Face Hub's storage does; what counts
is the share of the second file in chunks that the first does not have. Row groups of a fixed number of bytes,
and pages ended by pyarrow's `use_content_defined_chunking`, are written beside those of `release.shards`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from phq_data import parquet
from phq_data.release import shards
from phq_data.release.rows import stored_schema

AVERAGE, LEAST, MOST = 1 << 16, 1 << 13, 1 << 17
"""Bytes of a chunk."""
_GEAR = np.random.default_rng(7).integers(0, 2**32, 256, dtype=np.uint32)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print a table, and with --json one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found = measure(given.rows)
    for way, shares in found.items():
        print(f"{way:<44}" + "".join(f"{name} {share:6.1%}   " for name, share in shares.items()))
    if given.json:
        print(json.dumps(found))


def measure(rows: int, ways: Iterable[str] | None = None) -> dict[str, dict[str, float]]:
    """Share of a second version's bytes that are new, by how shards are written and what changed."""
    every: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "row groups by content (what releases have)": (shards.grouped, {}),
        "row groups by size": (_by_size, {}),
        "row groups by content, pages by content": (shards.grouped, _PAGES),
        "row groups by size, pages by content": (_by_size, _PAGES),
    }
    first = [_row(number) for number in range(rows)]
    gone = set(np.random.default_rng(0).choice(rows, max(1, rows // 100), replace=False).tolist())
    versions = {
        "removed": [row for number, row in enumerate(first) if number not in gone],
        "replaced": [_row(rows + number) if number in gone else row for number, row in enumerate(first)],
        "relabelled": [row | {"pose": [0.5] * 6} if n in gone else row for n, row in enumerate(first)],
    }
    chosen = list(every) if ways is None else list(ways)
    return {way: _shares(first, versions, *every[way]) for way in chosen}


_PAGES: dict[str, Any] = {"use_content_defined_chunking": True}


def _shares(
    first: list[dict[str, Any]],
    versions: dict[str, list[dict[str, Any]]],
    grouped: Callable[..., Any],
    options: dict[str, Any],
) -> dict[str, float]:
    known = {digest for digest, _ in chunks(_shard(first, grouped, options))}
    shares = {}
    for name, rows in versions.items():
        found = chunks(_shard(rows, grouped, options))
        new = sum(size for digest, size in found if digest not in known)
        shares[name] = new / sum(size for _, size in found)
    return shares


def _shard(rows: list[dict[str, Any]], grouped: Callable[..., Any], options: dict[str, Any]) -> bytes:
    """The bytes of a shard of `rows`, grouped so, with these options of the writer."""
    made: Callable[..., parquet.Writer] = parquet.writer
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(shards, "grouped", grouped),
        mock.patch.object(parquet, "writer", lambda *a, **kwargs: made(*a, **kwargs, **options)),
    ):
        path = Path(folder) / "shard.parquet"
        shards.write_rows(path, rows, stored_schema())
        return path.read_bytes()


def chunks(data: bytes) -> list[tuple[bytes, int]]:
    """(digest, bytes) of every chunk of `data`."""
    hashed = _GEAR[np.frombuffer(data, np.uint8)]
    width = 1
    while width < 32:  # the hash of 32 bytes from those of 1, 2, 4, ...
        wider = hashed.copy()
        wider[width:] += hashed[:-width] << np.uint32(width)
        hashed, width = wider, 2 * width
    ends = np.flatnonzero(hashed >> np.uint32(32 - (AVERAGE.bit_length() - 1)) == 0) + 1
    found, begin = [], 0
    while begin < len(data):
        at = int(np.searchsorted(ends, begin + LEAST))
        end = min(int(ends[at]) if at < len(ends) else len(data), begin + MOST, len(data))
        found.append((hashlib.blake2b(data[begin:end], digest_size=16).digest(), end - begin))
        begin = end
    return found


def _by_size(rows: Iterable[Any], size_of: Callable[[Any], int], id_of: Any) -> Iterator[list[Any]]:
    """Row groups of at most 4 MiB, as releases had them before."""
    group: list[Any] = []
    size = 0
    for row in rows:
        here = size_of(row) + shards.ROW_BYTES
        if group and size + here > 4 << 20:
            yield group
            group, size = [], 0
        group.append(row)
        size += here
    yield group


def _row(number: int) -> dict[str, Any]:
    return {field.name: _value(field, number) for field in stored_schema()}


def _value(field: pa.Field, number: int) -> Any:
    """A value of a column, of its type, decided by the row's number."""
    random = np.random.default_rng([number, *field.name.encode()])
    kind = field.type
    if pa.types.is_struct(kind):
        size = int(random.integers(80_000, 220_000)) if field.name == "image" else 4_000
        return {"bytes": random.bytes(size), "path": f"{number}.webp"}
    if pa.types.is_fixed_size_list(kind):
        return random.normal(size=kind.list_size).tolist()
    if pa.types.is_string(kind):
        return random.bytes(16).hex()
    if pa.types.is_list(kind):
        return []
    return bool(number % 2) if pa.types.is_boolean(kind) else int(random.integers(0, 1000))


if __name__ == "__main__":
    main()
