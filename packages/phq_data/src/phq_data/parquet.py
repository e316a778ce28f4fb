"""Parquet files, as PHQ writes and reads them: every page carries a checksum, and every reader compares it.

Files without checksums (of PHQ 0.1, or of others) are read as they are. A `sealed` file also carries the
digest of all its bytes, footer included, which `damaged` compares: that costs reading them once and decodes
nothing.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What opening or reading a damaged file may raise; `OSError` also where it cannot be read at all."""

File = pq.ParquetFile
Writer = pq.ParquetWriter
schema_of = pq.read_schema
"""The Arrow schema of a file, its metadata with it."""
metadata_of = pq.read_metadata
"""The footer of a file."""

_SEAL = b"sha256 of this file, with zeros here: "
_ZEROS = b"0" * 64
_SEALED = b"phq.sealed"  # a second mark, so that damage to the first does not pass for a file without a seal


def opened(source: Any, **options: Any) -> pq.ParquetFile:
    """A Parquet file to read from: a path, an Arrow file or a binary stream.

    This and reading from it raise one of `DAMAGE` where it is damaged.
    """
    return pq.ParquetFile(source, **{"page_checksum_verification": True, **options})


def read(source: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a Parquet file. Raises what `opened` does."""
    with opened(source) as file:
        return file.read(list(columns) if columns is not None else None)


def writer(target: Any, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """A writer of row groups; a path or a binary stream."""
    return pq.ParquetWriter(target, schema, write_page_checksum=True, **{"compression": "zstd", **options})


def write(table: pa.Table, target: str | Path | Any, **options: Any) -> None:
    """Write a table as a Parquet file; `options` are those of `pyarrow.parquet.write_table`."""
    pq.write_table(table, target, write_page_checksum=True, **{"compression": "zstd", **options})


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


def damaged(data: bytes) -> bool:
    """Are the bytes of a file others than were written? Of one without a seal: can they not be read?"""
    place = _place(data)
    if place < 0:
        try:
            opened(pa.BufferReader(data)).read(use_threads=False)
        except DAMAGE:
            return True
        return _SEALED in _footer(data)
    state = hashlib.sha256(memoryview(data)[:place])
    state.update(_ZEROS)
    state.update(memoryview(data)[place + 64 :])
    return state.hexdigest().encode() != data[place : place + 64]


def _place(data: bytes | memoryview) -> int:
    """Where the digest stands in the footer; -1 when there is none."""
    footer = _footer(data)
    found = footer.rfind(_SEAL)
    return len(data) - len(footer) + found + len(_SEAL) if found >= 0 else -1


def _footer(data: bytes | memoryview) -> bytes:
    length = int.from_bytes(data[-8:-4], "little") + 8
    return bytes(data[max(0, len(data) - length) :])
