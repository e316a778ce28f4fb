"""Parquet files that others made, read within bounds: what they say of their sizes is added up first.

A few kB can stand for many GiB in two ways: pages that compress to nothing, and a dictionary whose one large
value every row names. Both are in the file's own words before anything is unpacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from phq_data import parquet
from phq_data.errors import PhqError

FREE = 1 << 28
"""Bytes that any file may unfold to."""
RATIO = 16
"""Times its own size that a larger file may unfold to; those of releases stay below 3."""
ROW_BYTES = 16
"""Bytes of a file that a row takes at least: its ids are digests, which do not compress."""


class SizeError(PhqError, pa.ArrowInvalid):  # type: ignore[misc] # pyarrow has no types
    """A file that would take far more memory than it has bytes; half a sentence."""


def limit(size: int) -> int:
    """How many bytes a file of `size` bytes may unfold to."""
    return max(FREE, RATIO * size)


def check_rows(rows: int, size: int) -> None:
    """Raise `SizeError` when a table of portraits in a file of `size` bytes cannot have so many rows."""
    if rows * ROW_BYTES > size + FREE // 1024:
        raise SizeError(f"it states {rows:,} rows, more than its {size:,} bytes can hold")


def read(
    file: parquet.File,
    size: int,
    columns: Sequence[str] | None = None,
    *,
    group: int | None = None,
    use_threads: bool = False,
    source: pa.NativeFile | None = None,
) -> pa.Table:
    """The rows of a file of `size` bytes (of one row group of it), unless they would take more than `limit`.

    `source`, the bytes of `file`, makes long tables whose texts are in dictionaries faster to read. Raises
    `SizeError` before that memory is spent, and whatever Arrow raises over a damaged file.
    """
    for field in file.schema_arrow:
        if pa.types.is_dictionary(field.type):
            raise SizeError(f"its column {field.name} is a dictionary, as none of ours is")
    groups = list(range(file.metadata.num_row_groups)) if group is None else [group]
    wanted = list(columns) if columns is not None else None
    chunks = [
        chunk
        for number in groups
        for chunk in _chunks(file.metadata.row_group(number))
        if wanted is None or _is_of(chunk.path_in_schema, wanted)
    ]
    stated = sum(max(chunk.total_uncompressed_size, 0) for chunk in chunks)
    if stated > limit(size):
        raise SizeError(f"its {size:,} bytes unfold to {stated:,}, more than any of ours do")
    repeated = [chunk for chunk in chunks if _repeats(chunk)]
    if stated + sum(chunk.total_uncompressed_size * chunk.num_values for chunk in repeated) <= FREE:
        return _sound(file.read_row_groups(groups, wanted, use_threads=use_threads))
    largest = max(_dictionary_bytes(chunk, source) for chunk in repeated)
    rows = max(1, limit(size) // (2 * largest * len({chunk.path_in_schema for chunk in repeated})))
    return _sound(_read_in_batches(file, size, groups, wanted, min(rows, 65_536)))


def _sound(table: pa.Table) -> pa.Table:
    """The table, whose texts are UTF-8 and whose lists lie inside their values; `ArrowInvalid` otherwise."""
    table.validate(full=True)
    return table


def _read_in_batches(
    file: parquet.File, size: int, groups: list[int], columns: list[str] | None, rows: int
) -> pa.Table:
    """Rows counted as they come: a text of a dictionary may be repeated without an end."""
    batches, total = [], 0
    for batch in file.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
        total += batch.nbytes
        if total > limit(size):
            raise SizeError(f"its {size:,} bytes unfold to more than {limit(size):,}, unlike any of ours")
        batches.append(batch)
    return pa.Table.from_batches(batches) if batches else file.read_row_groups([], columns)


def _chunks(group: Any) -> list[Any]:
    return [group.column(index) for index in range(group.num_columns)]


def _is_of(path: str, columns: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in columns)


def _repeats(chunk: Any) -> bool:
    """Texts or bytes that a dictionary holds once for many rows."""
    kinds = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
    return chunk.physical_type in kinds and any("DICTIONARY" in name for name in chunk.encodings)


def _dictionary_bytes(chunk: Any, source: pa.NativeFile | None) -> int:
    """Bytes of the chunk's dictionary; at most those of the whole chunk, which is said without `source`.

    A page begins with a Thrift structure in compact form: its type and its unpacked size are the first two
    fields (parquet-format, `PageHeader`).
    """
    most: int = max(1, chunk.total_uncompressed_size)
    start = chunk.dictionary_page_offset
    if source is None or not start:
        return most
    source.seek(start)
    head = source.read(24)
    number, shift = 0, 0
    for byte in bytes(head[3:]) if head[:1] + head[2:3] == b"\x15\x15" else b"":
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return min(most, max(1, number >> 1))  # zigzag: sizes are not negative
    return most
