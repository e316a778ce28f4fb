"""Are the last changes of a SQLite file whole, those that its journal (`-wal`) still holds?

SQLite compares the journal's checksums when the first program opens the file, and takes what follows a page
that differs for a change that was never finished: decisions that were confirmed would be gone without a
word. So this looks first: changes that were finished must all be read. A power cut may tear the last one,
so that frames of an earlier round of the journal stand among its own: it was confirmed to nobody, because a
change is confirmed after all of it came to the disk. SQLite is right to leave that one out.
The format: sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

_HEADER, _FRAME = 32, 24  # bytes
_BIG_ENDIAN = 0x377F0683  # the last bit of the magic number
_WORD = 0xFFFFFFFF
_TRIES = 5  # a program may be writing


def is_whole(file: Path) -> bool:
    """Would SQLite read every finished change in the journal of `file`? Raises `OSError`."""
    for attempt in range(_TRIES):
        try:
            data = file.with_name(f"{file.name}-wal").read_bytes()
        except FileNotFoundError:
            return True
        if len(data) <= _HEADER or _finished(data) == _read(data) or _is_torn(data):
            return True
        time.sleep(0.05 * attempt)
    return False


def _finished(data: bytes) -> int:
    """The last frame that ends a change and belongs to this round of the journal; -1 for a damaged header."""
    if _sum(data, data[:24], (0, 0)) != struct.unpack(">II", data[24:32]):
        return -1
    found = 0
    for number, place in enumerate(_places(data), 1):
        _, pages, *salts = struct.unpack(">IIII", data[place : place + 16])
        if pages and tuple(salts) == struct.unpack(">II", data[16:24]):
            found = number
    return found


def _read(data: bytes) -> int:
    """The last frame that ends a change, up to the first one that is not what was written."""
    state = struct.unpack(">II", data[24:32])
    found = 0
    for number, place in enumerate(_places(data), 1):
        end = place + _FRAME + _page_size(data)
        _, pages, *salts = struct.unpack(">IIII", data[place : place + 16])
        state = _sum(data, data[place : place + 8] + data[place + _FRAME : end], state)
        written = struct.unpack(">II", data[place + 16 : place + 24])
        if state != written or tuple(salts) != struct.unpack(">II", data[16:24]):
            break
        if pages:
            found = number
    return found


def _is_torn(data: bytes) -> bool:
    """Is what cannot be read the last change alone, with frames that never came to the disk?"""
    first, last = _read(data), _finished(data)
    if last < 0 or last != first + len(_last_change(data, first)):
        return False
    return any(_is_of_another_round(data, place) for place in _places(data)[first:last])


def _last_change(data: bytes, first: int) -> list[int]:
    """Places of the frames after number `first`, up to the next that ends a change of this round."""
    found = []
    for place in _places(data)[first:]:
        found.append(place)
        _, pages, *salts = struct.unpack(">IIII", data[place : place + 16])
        if pages and tuple(salts) == struct.unpack(">II", data[16:24]):
            break
    return found


def _is_of_another_round(data: bytes, place: int) -> bool:
    """Does this frame stem from an earlier round of the journal? (A flipped bit is no other round.)"""
    salts = zip(data[place + 8 : place + 16], data[16:24], strict=True)
    return sum((one ^ other).bit_count() for one, other in salts) > 1


def _places(data: bytes) -> range:
    """Where the frames begin."""
    size = _FRAME + _page_size(data)
    return range(_HEADER, len(data) - size + 1, size)


def _page_size(data: bytes) -> int:
    return max(512, int(struct.unpack(">I", data[8:12])[0]))


def _sum(data: bytes, part: bytes, state: tuple[int, ...]) -> tuple[int, ...]:
    """The journal's checksum over `part`, continued from `state`."""
    order = ">" if struct.unpack(">I", data[:4])[0] == _BIG_ENDIAN else "<"
    first, second = state
    for one, other in struct.iter_unpack(f"{order}II", part):
        first = (first + one + second) & _WORD
        second = (second + other + first) & _WORD
    return first, second
