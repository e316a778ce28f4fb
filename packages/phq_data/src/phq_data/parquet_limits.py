"""Parquet files that others made, read within bounds: what they say of their sizes is added up first.

A few kB can stand for many GiB in three ways: pages that compress to nothing, a dictionary whose one large
value every row names, and runs of one value, or of none, over any number of rows. All are in the file's own
words before anything is unpacked: in its footer, and in the headers of its pages where these say more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from phq_data import parquet
from phq_data.parquet_footer import SizeError

FREE = 1 << 28
"""Bytes that any file may unfold to."""
RATIO = 16
"""Times its own size that a larger file may unfold to; those of releases stay below 3."""
ROW_BYTES = 16
"""Bytes of a file that a row takes at least: its ids are digests, which do not compress."""


class _Sizes(NamedTuple):
    """Of some columns of some row groups."""

    bytes: int  # in memory, every text of a dictionary counted once
    repeated: int  # bytes of the largest text that may stand for many values, 0: there is none
    most: int  # bytes, if all values were that text
    columns: int  # in which texts may be repeated


def limit(size: int) -> int:
    """How many bytes a file of `size` bytes may unfold to."""
    return max(FREE, RATIO * size)


def check_rows(rows: int, size: int) -> None:
    """Raise `SizeError` when a table of portraits in a file of `size` bytes cannot have so many rows."""
    if rows * ROW_BYTES > size + FREE // 1024:
        raise SizeError(f"it states {rows:,} rows, more than its {size:,} bytes can hold")


def read_all(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of the Parquet file at `path`, as `read` reads them."""
    with parquet.opened(path) as file:
        return read(file, columns)


def read(
    file: parquet.File,
    columns: Sequence[str] | None = None,
    *,
    group: int | None = None,
    use_threads: bool = False,
) -> pa.Table:
    """The rows of a file (of one row group of it), unless they would take more than `limit`.

    Raises `SizeError` before that memory is spent, and whatever Arrow raises over a damaged file.
    """
    groups = list(range(file.num_row_groups)) if group is None else [group]
    wanted = list(columns) if columns is not None else None
    sizes = _sizes(file, groups, wanted)
    if sizes.bytes + sizes.most <= FREE:
        table = file.read_row_groups(groups, wanted, use_threads=use_threads)
    else:
        found = list(_batches(file, groups, wanted, sizes, 65_536))
        table = pa.Table.from_batches(found) if found else file.read_row_groups([], wanted)
    table.validate(full=True)  # texts are UTF-8, lists lie inside their values
    return table


def batches(file: parquet.File, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file, at most `rows` at a time. Raises what `read` does."""
    wanted, groups = list(columns) if columns is not None else None, list(range(file.num_row_groups))
    for batch in _batches(file, groups, wanted, _sizes(file, groups, wanted), rows):
        batch.validate(full=True)
        yield batch


def _batches(
    file: parquet.File, groups: list[int], columns: list[str] | None, sizes: _Sizes, rows: int
) -> Iterator[pa.RecordBatch]:
    """Rows counted as they come, few at a time where a text may be repeated without an end."""
    if sizes.columns:
        rows = min(rows, max(1, limit(file.size) // (2 * sizes.repeated * sizes.columns)))
    total = 0
    for batch in file.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
        total += batch.nbytes
        if total > limit(file.size):
            most = f"{limit(file.size):,}"
            raise SizeError(f"its {file.size:,} bytes unfold to more than {most}, unlike any of ours")
        yield batch


def _sizes(file: parquet.File, groups: Sequence[int], columns: Sequence[str] | None) -> _Sizes:
    """What is stated of them. Raises `SizeError` where that is more than `limit`."""
    for field in file.schema_arrow:
        if pa.types.is_dictionary(field.type):
            raise SizeError(f"its column {field.name} is a dictionary, as none of ours is")
    paths = [file.schema.column(number).path for number in range(len(file.schema.names))]
    wanted = [n for n, path in enumerate(paths) if columns is None or _is_of(path, columns)]
    total = repeated = most = 0
    repeating = set()
    for group in groups:
        for number in wanted:
            chunk, pages = file.sizes(group, number)
            values = max(chunk.rows, chunk.values, pages.values)
            total += max(chunk.unpacked, pages.unpacked) + values * chunk.width
            repeated = max(repeated, pages.repeated)
            most += pages.repeated * values
            if pages.repeated:
                repeating.add(number)
    if total > limit(file.size):
        raise SizeError(f"its {file.size:,} bytes unfold to {total:,}, more than any of ours do")
    return _Sizes(total, repeated, most, len(repeating))


def _is_of(path: str, columns: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in columns)
