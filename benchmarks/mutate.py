"""Mutations of files: of their bytes, of their numbers and texts, and of JSON documents by structure."""

from __future__ import annotations

import copy
import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

_NUMBERS = (
    b"NaN", b"Infinity", b"-1", b"0", b"1e999", b"1e308", b"99999999999999999999", b"2147483648", b"true",
    b"9" * 400, b"null", b'"x"', b"[]", b"{}", b"0.5", b"-0.0",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**40, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "\x00",
    "\ud800", "../..", "é" * 300, [], {}, [None], {"": None}, [1, "a"], {"a": {"b": []}},
)  # fmt: skip
_SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to eight changes of its bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4, 8))):
        if not changed:
            changed += rng.randbytes(rng.randint(1, 64))
        rng.choice(_CHANGES)(changed, rng)
    return bytes(changed)


def mutated_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON document with values replaced, removed, doubled or nested; still JSON but for NaN."""
    document = [json.loads(data)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change_somewhere(document, rng)
    try:
        return json.dumps(document[0]).encode()
    except RecursionError:
        return b"[" * 2000 + b"]" * 2000


def png_with_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the right check sums again."""
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        body = data[position + 4 : position + 8 + length]
        parts += [data[position : position + 4], body, struct.pack(">I", zlib.crc32(body))]
        position += 12 + length
    return b"".join([*parts, data[position:]])


def _flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))


def _size(data: bytearray, rng: random.Random) -> None:
    """Four or eight bytes that may be a size or an offset."""
    value, width = rng.choice(_SIZES), rng.choice((2, 4, 4, 8))
    at = rng.randrange(len(data))
    packed = (value & ((1 << 8 * width) - 1)).to_bytes(width, rng.choice(("little", "big")))
    data[at : at + width] = packed[: len(data) - at]


def _cut(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 4, 16, len(data)))]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((rng.randbytes(rng.randint(1, 16)), bytes(rng.randint(1, 64)), b"[" * 3000))


def _repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    piece = bytes(data[at : at + rng.randint(1, 64)])
    data[at:at] = piece * rng.choice((1, 2, 30))


def _number(data: bytearray, rng: random.Random) -> None:
    """A number in text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", bytes(data[:100_000])))
    if found:
        hit = rng.choice(found)
        data[hit.start() : hit.end()] = rng.choice(_NUMBERS)


def _swap(data: bytearray, rng: random.Random) -> None:
    one, other = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    size = min(rng.randint(1, 32), other - one)
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _byte, _byte, _size, _size, _cut, _insert, _repeat, _number, _number, _swap,
)  # fmt: skip


def _change_somewhere(document: list[Any], rng: random.Random) -> None:
    """Walk down from the outermost list to some place, and change what is there."""
    here: Any = document
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(here[key], dict | list) and here[key] and rng.random() < 0.8:
            here = here[key]
            continue
        break
    action = rng.randrange(6)
    if action == 0 and here is not document:
        del here[key]
    elif action == 1 and isinstance(here, dict) and isinstance(key, str):
        here[rng.choice((key + "x", "", key.upper()))] = here.pop(key)
    elif action == 2:
        here[key] = [here[key]]
    elif action == 3:
        for _ in range(rng.choice((3, 70, 500))):
            here[key] = [here[key]]
    else:
        here[key] = copy.deepcopy(rng.choice(_VALUES))
