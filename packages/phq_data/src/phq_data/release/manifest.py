"""`manifest.json`: what a release consists of, written last, so that a folder without one is no release.

    manifest.json               this file
    data/train-00000.parquet    shards: rows of `schema.RELEASE`, small row groups
    index.parquet               one row a portrait: where it lies, its digests
    rig.safetensors             the rig of the labels, or rig-recipe.json where it may not be given away
    README.md, croissant.json, DATASHEET.md, LICENSES.md, attribution.csv, CHANGELOG.md, report.html

The manifest names every other file with its sha256 and holds a digest of itself. The digest finds damage and
careless edits. Against somebody who means to deceive, compare it with one you have from elsewhere (a paper,
the child's manifest): `reader.open(..., digest=...)`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa

from phq_data import parquet_limits, schema
from phq_data.compatibility import first_columns
from phq_data.errors import PhqError, ReleaseError
from phq_data.foreign import parse_json
from phq_data.release.version import Version

FORMAT = "phq-release/1"
NAME = "manifest.json"
INDEX = "index.parquet"
RIG = "rig.safetensors"
RECIPE = "rig-recipe.json"
SPLITS: tuple[str, ...] = ("train", "validation", "test")
Images = Literal["all", "none"]

INDEX_SCHEMA = pa.schema(
    [
        pa.field("portrait_id", pa.string(), nullable=False),
        pa.field("photo_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),  # position in the manifest's list of shards
        pa.field("row", pa.int32(), nullable=False),  # in the shard
        pa.field("digest", pa.string(), nullable=False),  # of the row's facts, however they are packed
        pa.field("pixels", pa.string(), nullable=False),  # sha256 of the decoded image
        pa.field("encoded", pa.string(), nullable=False),  # of the stored bytes of image and mask
    ]
)
"""Rows in the order of the shards."""


@dataclass(frozen=True)
class FileEntry:
    """A file of a release."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardEntry:
    """A shard of a release."""

    path: str
    split: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a release says of itself."""

    name: str
    version: str
    created: str  # ISO date
    schema_version: int
    images: Images
    reviewed: bool
    shards: tuple[ShardEntry, ...]
    files: tuple[FileEntry, ...]  # everything else but the manifest
    parent: Mapping[str, str] | None = None  # version and digest
    about: Mapping[str, Any] = field(default_factory=dict)  # counts, config, models, rights, splits, ...

    @property
    def rows(self) -> int:
        """How many portraits were released (taken-down ones included)."""
        return sum(shard.rows for shard in self.shards)

    @property
    def entries(self) -> list[ShardEntry | FileEntry]:
        """Every file but the manifest, shards first."""
        return [*self.shards, *self.files]

    def counts(self) -> dict[str, int]:
        """Rows by split, in the order of `SPLITS`; empty splits are left out."""
        tally = {name: sum(s.rows for s in self.shards if s.split == name) for name in SPLITS}
        return {name: rows for name, rows in tally.items() if rows}

    @property
    def digest(self) -> str:
        """Hex digest of everything the manifest says."""
        return hashlib.sha256(_canonical(self._plain())).hexdigest()

    def to_bytes(self) -> bytes:
        """The file."""
        document = {**self._plain(), "digest": self.digest}
        return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """The manifest in `data`. Raises `ReleaseError` naming `where` if it is damaged, edited or newer."""
        try:
            document = parse_json(data)
            if not isinstance(document, dict):
                raise TypeError("not a JSON object")
            found = str(document.pop("format"))
            version = int(document["schema_version"])
        except (ValueError, KeyError, TypeError) as error:
            raise ReleaseError(f"{where} is damaged: {error}") from error
        if found != FORMAT or version > schema.SCHEMA_VERSION:
            raise ReleaseError(
                f"{where} is of a newer PHQ ({found}, schema {version}); this one reads {FORMAT}, schema "
                f"{schema.SCHEMA_VERSION}: upgrade phq-data"
            )
        stated = document.pop("digest", None)
        try:
            if not isinstance(document["about"], dict):
                raise TypeError("'about' is no object")
            document["shards"] = tuple(ShardEntry(**shard) for shard in document["shards"])
            document["files"] = tuple(FileEntry(**file) for file in document["files"])
            manifest = cls(**document)
            Version.parse(manifest.version)
            for entry in manifest.entries:
                _check_entry(entry)
            digest = manifest.digest
        except (KeyError, TypeError, ValueError, AttributeError, PhqError) as error:
            raise ReleaseError(f"{where} is damaged: {error}") from error
        if stated != digest:
            raise ReleaseError(
                f"{where} was changed after it was written: its content does not match its digest "
                f"{stated}. Get the release again (phq release pull)"
            )
        return manifest

    def _plain(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _check_entry(entry: FileEntry | ShardEntry) -> None:
    """A path that leaves the release's folder must not be followed, whoever wrote it."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*", entry.path):
        raise ReleaseError(f"{entry.path!r} is no file name of a release")
    if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
        raise ReleaseError(f"{entry.path} has no sha256")
    sizes = [entry.bytes, *([entry.rows] if isinstance(entry, ShardEntry) else [])]
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise ReleaseError(f"{entry.path} has no size")
    if isinstance(entry, ShardEntry):
        parquet_limits.check_rows(entry.rows, entry.bytes)
    if isinstance(entry, ShardEntry) and entry.split not in SPLITS:
        raise ReleaseError(f"{entry.path} is of an unknown split {entry.split!r}")


def row_digest(row: Mapping[str, Any]) -> str:
    """Digest of what a row says, however it is packed: 32 hex digits.

    Everything counts but the encoded bytes and their codec; the images count by the digests of their
    pixels and by being there or not. Columns count under the names that they had first, so that a row of a
    release of version 1 that did not change has the digest it had.
    """
    facts = {
        name: _finite(value)
        for name, value in first_columns("release", row).items()
        if name not in ("image", "mask", "codec") and value is not None
    }
    for name in ("image", "mask"):
        facts[name] = row.get(name) is not None
    return hashlib.sha256(_canonical(facts)).hexdigest()[:32]


def encoded_digest(row: Mapping[str, Any]) -> str:
    """Digest of the stored bytes of a row's image and mask: 32 hex digits."""
    state = hashlib.sha256()
    for name in ("image", "mask"):
        data = (row.get(name) or {}).get("bytes") or b""
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()[:32]


def _finite(value: Any) -> Any:
    """JSON has no nan; a row may (a keypoint that nobody saw)."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
