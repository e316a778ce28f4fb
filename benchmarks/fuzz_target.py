"""A kind of file for `benchmarks.fuzz`: small whole files, how they are changed, and what reads them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutate import mutated, mutated_json

Read = Callable[[bytes, Path], object]
"""Reads the bytes of a changed file, in a folder of its own; raises `PhqError` for what is wrong with it."""
Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """One kind of file."""

    name: str
    seeds: tuple[bytes, ...]
    read: Read
    change: Change = mutated


def json_or_bytes(data: bytes, rng: random.Random) -> bytes:
    """A JSON document changed by its structure, or its bytes changed."""
    return mutated_json(data, rng) if rng.random() < 0.7 else mutated(data, rng)


def sealed(seal: Callable[[dict[str, Any]], str]) -> Change:
    """Changes of a document that carries its own digest, half of them with the digest that fits."""

    def change(data: bytes, rng: random.Random) -> bytes:
        changed = json_or_bytes(data, rng)
        try:
            document = json.loads(changed)
            document.pop("digest", None)
            document["digest"] = seal(document)
            return json.dumps(document).encode() if rng.random() < 0.5 else changed
        except (ValueError, AttributeError, TypeError, RecursionError):
            return changed

    return change


def digest_of(document: Mapping[str, Any]) -> str:
    """The digest that manifests and states of checkpoints carry."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_reader(name: str, read: Callable[[Path], object]) -> Read:
    """A reader of a path, as a reader of bytes."""

    def from_bytes(data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return from_bytes
