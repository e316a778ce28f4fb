"""What a Parquet file says of its sizes, read here before Arrow reads it: its footer and its page headers.

Arrow trusts both: it ends the process over some footers, and unpacks pages whatever the footer said of them.
The bytes are Thrift structures in compact form. Numbers of fields are those of parquet.thrift (Apache
parquet-format), types of fields those of thrift-compact-protocol.md (Apache Thrift).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa

from phq_data.errors import PhqError

MOST_FOOTER = 8 << 20
"""Bytes of a footer; that of a shard of 1 GiB has less than 1 MiB."""
MOST_HEADER = 1 << 20
"""Bytes of a page header, in which two values of its column may stand."""

_TEXTS, _FIXED = 6, 7  # physical types: BYTE_ARRAY, FIXED_LEN_BYTE_ARRAY
_WHOLE = {0, 6}  # encodings of texts that stand in the page whole: PLAIN, DELTA_LENGTH_BYTE_ARRAY
_PREFIXES = 7  # DELTA_BYTE_ARRAY: a text starts as the one before, of which ends alone stand there
_DICTIONARY = 2  # type of a page

_BOOLS, _BYTE, _DOUBLE, _BYTES, _LIST, _STRUCT, _UUID = (1, 2), 3, 7, 8, 9, 12, 13
_SHORT, _INT, _LONG = 4, 5, 6
_WIDTHS = {_BYTE: 1, _DOUBLE: 8, _UUID: 16}
_DEEPEST = 16  # structures and lists in one another; Parquet's have up to eight levels

Read = Callable[[int, int], bytes]
"""(bytes, place) -> so many bytes of the file from there, fewer at its end."""


class SizeError(PhqError, pa.ArrowInvalid):  # type: ignore[misc] # pyarrow has no types
    """A file that would take far more memory than it has bytes, or that is damaged; half a sentence."""


class Chunk(NamedTuple):
    """A column of a row group, as the footer has it."""

    rows: int  # of the row group
    values: int
    unpacked: int  # bytes, page headers included
    start: int  # of its first page in the file
    packed: int  # bytes, page headers included
    texts: bool  # or bytes: values of any length
    width: int  # bytes that a value takes in memory, without those of a text


class Pages(NamedTuple):
    """What the headers of a chunk's pages say together."""

    unpacked: int  # bytes
    values: int
    repeated: int  # bytes of the largest text that may stand for any number of values; 0: there is none


def read_footer(read: Read, size: int) -> tuple[tuple[Chunk, ...], ...]:
    """The chunks of each row group of a file of `size` bytes. Raises `SizeError` for a damaged footer."""
    end = read(8, max(0, size - 8))
    length = int.from_bytes(end[:4], "little")
    if end[4:] != b"PAR1" or length > size - 12:
        raise SizeError("it is no Parquet file, or its end is missing")
    if length > MOST_FOOTER:
        raise SizeError(f"its footer has {length:,} bytes, more than any of ours")
    try:
        footer, _ = _struct(read(length, size - 8 - length), 0)
        elements = footer[_key(2, _LIST)][1:]  # without the root
        kinds = [
            (element[_key(1, _INT)], element.get(_key(2, _INT), 0))
            for element in elements
            if element.get(_key(5, _INT), 0) == 0  # children
        ]
        return tuple(_chunks(group, kinds, size) for group in footer.get(_key(4, _LIST), []))
    except (IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise SizeError("its footer is damaged") from error


def read_pages(read: Read, chunk: Chunk) -> Pages:
    """What the pages of a chunk say of themselves. Raises `SizeError`."""
    unpacked = values = dictionary = repeated = 0
    place, end = chunk.start, chunk.start + chunk.packed
    while place < end and chunk.values:  # pages of none are not read; Arrow writes no place for them
        header, length = _header(read, place, end)
        try:
            size, packed = header[_key(2, _INT)], header[_key(3, _INT)]
            body: dict[int, Any] = next((header[key] for key in _BODIES if key in header), {})
            count = body.get(_key(1, _INT), 0)
            encoding = body.get(_key(4 if _BODIES[1] in header else 2, _INT), -1)
            kind = header[_key(1, _INT)]
        except (KeyError, AttributeError) as error:
            raise SizeError("a page header is damaged") from error
        if min(size, packed, count) < 0:
            raise SizeError("a page states a size below 0")
        unpacked += size
        if kind == _DICTIONARY:
            dictionary = max(dictionary, size)
        else:
            values += count
            if chunk.texts and encoding not in _WHOLE:
                repeated = max(repeated, unpacked if encoding == _PREFIXES else dictionary, 1)
        place += length + packed
    return Pages(unpacked, values, repeated)


def _chunks(group: dict[int, Any], kinds: list[tuple[int, int]], size: int) -> tuple[Chunk, ...]:
    rows = group[_key(3, _LONG)]
    found = []
    for column, (kind, width) in zip(group[_key(1, _LIST)], kinds, strict=True):
        about = column[_key(3, _STRUCT)]
        start, dictionary = about[_key(9, _LONG)], about.get(_key(11, _LONG), 0)
        chunk = Chunk(
            rows,
            values=about[_key(5, _LONG)],
            unpacked=about[_key(6, _LONG)],
            start=dictionary if 0 < dictionary < start else start,  # as Arrow takes it
            packed=about[_key(7, _LONG)],
            texts=kind == _TEXTS,
            width=max(8, width) if kind == _FIXED else 8,
        )
        if min(chunk) < 0 or chunk.start + chunk.packed > size:
            raise ValueError
        found.append(chunk)
    return tuple(found)


def _header(read: Read, place: int, end: int) -> tuple[dict[int, Any], int]:
    for most in (128, 8192, MOST_HEADER):  # most have 30 to 60 bytes
        data = read(min(most, end - place), place)
        try:
            return _struct(data, 0)
        except IndexError:
            if len(data) < most:
                break
        except (ValueError, KeyError):
            break
    raise SizeError("a page header is damaged")


# ---- Thrift ----------------------------------------------------------------------------------------------


def _key(number: int, kind: int) -> int:
    return number << 4 | kind


_BODIES = tuple(_key(number, _STRUCT) for number in (5, 8, 7))  # of data, data in version 2, a dictionary


def _struct(data: bytes, place: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """The fields of a structure by `_key`, and the place behind it. Raises `IndexError` where bytes are
    missing, `ValueError` for what is none; a field that stands there twice is none."""
    if depth > _DEEPEST:
        raise ValueError
    fields: dict[int, Any] = {}
    number = 0
    while head := data[place]:
        place += 1
        kind = head & 15
        if head > 15:
            number += head >> 4
        else:
            number, place = _integer(data, place)
        key = number << 4 | kind
        if key in fields:
            raise ValueError
        if _SHORT <= kind <= _LONG and (byte := data[place]) < 128:  # most numbers: no call for these
            fields[key] = (byte >> 1) ^ -(byte & 1)
            place += 1
        else:
            fields[key], place = _value(data, place, kind, depth)
    return fields, place + 1


def _value(data: bytes, place: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind == _BYTES:
        length = data[place]
        if length < 128:
            place += 1
        else:
            length, place = _unsigned(data, place)
        end = place + length
        if end > len(data):
            raise IndexError
        return data[place:end], end
    if kind in (_INT, _LONG, _SHORT):
        return _integer(data, place)
    if kind == _STRUCT:
        return _struct(data, place, depth + 1)
    if kind == _LIST:
        return _list(data, place, depth + 1)
    if kind in _BOOLS:
        return kind == 1, place
    return None, place + _WIDTHS[kind]  # no structure of Parquet has sets or maps


def _list(data: bytes, place: int, depth: int) -> tuple[list[Any], int]:
    if depth > _DEEPEST:
        raise ValueError
    head = data[place]
    place += 1
    count, kind = head >> 4, head & 15
    if count == 15:
        count, place = _unsigned(data, place)
    if count > len(data) - place:  # each takes a byte at least
        raise IndexError
    if kind in _BOOLS:
        kind = _BYTE
    found = []
    if kind == _STRUCT:
        for _ in range(count):
            value, place = _struct(data, place, depth + 1)
            found.append(value)
    else:
        for _ in range(count):
            value, place = _value(data, place, kind, depth)
            found.append(value)
    return found, place


def _integer(data: bytes, place: int) -> tuple[int, int]:
    """A whole number in zigzag form."""
    byte = data[place]
    place += 1
    value, shift = byte & 127, 7
    while byte > 127:
        if shift > 63:
            raise ValueError
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
    return (value >> 1) ^ -(value & 1), place


def _unsigned(data: bytes, place: int) -> tuple[int, int]:
    value, place = _integer(data, place)
    return value << 1 if value >= 0 else (-value << 1) - 1, place
