"""Parquet files, as PHQ writes and reads them: every page carries a checksum, and every reader compares it.

Files without checksums (of PHQ 0.1, or of others) are read as they are. A `sealed` file also carries the
digest of all its bytes, footer included, which `damaged` compares: that costs reading them once and decodes
nothing.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from phq_data.parquet_footer import Chunk, Pages, SizeError, read_footer, read_pages

DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What opening or reading a damaged file may raise; `OSError` also where it cannot be read at all."""

Writer = pq.ParquetWriter

_SEAL = b"sha256 of this file, with zeros here: "
_ZEROS = b"0" * 64
_SEALED = b"phq.sealed"  # a second mark, so that damage to the first does not pass for a file without a seal


class File(pq.ParquetFile):  # type: ignore[misc] # pyarrow has no types
    """A Parquet file to read from; `parquet_limits` reads rows within bounds."""

    def __init__(self, source: Any, **options: Any) -> None:
        mine = isinstance(source, str | Path)
        if mine:
            source = (pa.memory_map if options.get("memory_map") else pa.OSFile)(str(source))
        elif not isinstance(source, pa.NativeFile):
            source = pa.PythonFile(source, mode="r")
        self._source = source
        self.size: int = source.size()
        """Bytes of the file."""
        self._sizes: dict[tuple[int, int], tuple[Chunk, Pages]] = {}
        super().__init__(source, **options)
        self._close_source = mine

    def sizes(self, group: int, column: int) -> tuple[Chunk, Pages]:
        """What footer and page headers say of a column (by its number) of a row group. Raises `SizeError`."""
        key = (group, column)
        if key not in self._sizes:
            chunk = self._footer[group][column]
            self._sizes[key] = chunk, read_pages(self._source.read_at, chunk)
        return self._sizes[key]

    @cached_property
    def _footer(self) -> tuple[tuple[Chunk, ...], ...]:
        found = read_footer(self._source.read_at, self.size)
        if [len(group) for group in found] != [len(self.schema.names)] * self.num_row_groups:
            raise SizeError("its footer is damaged")
        return found


def opened(source: Any, **options: Any) -> File:
    """A Parquet file to read from: a path, an Arrow file or a binary stream.

    This and reading from it raise one of `DAMAGE` where it is damaged.
    """
    return File(source, **{"page_checksum_verification": True, **options})


def schema_of(source: Any) -> pa.Schema:
    """The Arrow schema of a file, its metadata with it. Raises what `opened` does."""
    with opened(source) as file:
        return file.schema_arrow


def writer(target: Any, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """A writer of row groups; a path or a binary stream."""
    options = {"compression": "zstd", "write_page_checksum": True, **options}
    return pq.ParquetWriter(_target(target), schema, **options)


def write(table: pa.Table, target: str | Path | Any, **options: Any) -> None:
    """Write a table as a Parquet file; `options` are those of `pyarrow.parquet.write_table`."""
    options = {"compression": "zstd", "write_page_checksum": True, **options}
    pq.write_table(table, _target(target), **options)


def sealed(table: pa.Table, metadata: Mapping[bytes, str] | None = None, **options: Any) -> bytes:
    """The bytes of a Parquet file of `table` with more `metadata`, and with their own digest."""
    buffer = io.BytesIO()
    row_group_size = options.pop("row_group_size", None)
    schema = table.schema.with_metadata({**(table.schema.metadata or {}), **(metadata or {})})
    with writer(buffer, schema, **options) as file:
        file.write_table(table.replace_schema_metadata(schema.metadata), row_group_size)
        file.add_key_value_metadata({_SEALED.decode(): "seal", "seal": (_SEAL + _ZEROS).decode()})
    data = buffer.getbuffer()
    place = _place(data)
    data[place : place + 64] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def damaged(data: bytes) -> bool | None:
    """Are the bytes of a sealed file others than were written? None for a file without a seal."""
    place = _place(data)
    if place < 0:
        return True if _SEALED in _footer(data) else None
    state = hashlib.sha256(memoryview(data)[:place])
    state.update(_ZEROS)
    state.update(memoryview(data)[place + 64 :])
    return state.hexdigest().encode() != data[place : place + 64]


def _target(target: Any) -> Any:
    """What to write to; a path in full, as Arrow would take `2024::01` for the URL of another file system."""
    return str(Path(target).absolute()) if isinstance(target, str | Path) else target


def _place(data: bytes | memoryview) -> int:
    """Where the digest stands in the footer; -1 when there is none."""
    footer = _footer(data)
    found = footer.rfind(_SEAL)
    return len(data) - len(footer) + found + len(_SEAL) if found >= 0 else -1


def _footer(data: bytes | memoryview) -> bytes:
    length = int.from_bytes(data[-8:-4], "little") + 8
    return bytes(data[max(0, len(data) - length) :])
