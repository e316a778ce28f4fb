"""Decoded portraits on disk: uint8 pixels that all processes of a machine map. An epoch then costs a copy.

    CACHE/0123456789abcdef-train-256/
      about.json    which release, split and size this is
      pixels        [rows, 4, H, W] uint8: red, green, blue, mask
      state         [rows] uint64: 0 = empty, 1 << 32 | crc32 of the pixels = stored, 2 << 32 = taken down

A row is written before its state, and its first reading in every process compares the checksum, so that a
kill, a power cut or a bad disk costs only the rows concerned: they are decoded again. The whole room is
reserved when the cache is made; afterwards a full disk can no longer stop the run.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phq_data.errors import PhqError
from phq_data.foreign import parse_json

FORMAT = "portraitgan-pixels/1"
CHANNELS = 4
_STORED, _GONE = np.uint64(1), np.uint64(2)
_SHIFT = np.uint64(32)


class CacheError(PhqError, ValueError):
    """A cache that cannot be made; the message says why."""


@dataclass(frozen=True)
class CacheKey:
    """What the cached pixels are of."""

    release: str  # digest of the release's manifest
    split: str
    resolution: int
    rows: int

    @property
    def name(self) -> str:
        """The cache's folder name."""
        return f"{self.release[:16]}-{self.split}-{self.resolution}"

    @property
    def bytes(self) -> int:
        """Room on the disk."""
        return self.rows * (CHANNELS * self.resolution**2 + 8)


class PixelCache:
    """The pixels of one split at one size, shared by threads and processes of a machine. Made by `open`."""

    def __init__(self, folder: Path, key: CacheKey) -> None:
        self.folder = folder
        self.key = key
        side = key.resolution
        self._pixels = np.memmap(folder / "pixels", np.uint8, "r", shape=(key.rows, CHANNELS, side, side))
        self._file = (folder / "pixels").open("r+b", buffering=0)
        self._state = np.memmap(folder / "state", np.uint64, "r+", shape=(key.rows,))
        self._checked = np.zeros(key.rows, bool)
        self.damaged = 0

    @classmethod
    def open(cls, parent: Path, key: CacheKey, say: Callable[[str], None] = lambda line: None) -> PixelCache:
        """The cache of `key` below `parent`, made if it is not there, made anew if it is damaged.

        Raises `CacheError` when the disk has not the room, before anything is written.
        """
        folder = parent / key.name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with _alone(parent):
                _clear_unfinished(parent)
                problem = _problem(folder, key)
                if problem and folder.exists():
                    say(f"the cache {folder} is damaged ({problem}): it is made anew")
                    shutil.rmtree(folder)
                if problem:
                    _make(folder, key, say)
                else:
                    say(f"decoded portraits are kept in {folder}")
        except OSError as error:
            raise CacheError(
                f"cannot keep decoded portraits in {folder}: {error.strerror or error}. Name another folder, "
                "or train without a cache"
            ) from error
        return cls(folder, key)

    @classmethod
    def is_whole(cls, parent: Path, key: CacheKey, wanted: NDArray[np.bool_]) -> bool:
        """Whether the cache of `key` is there with all rows of `wanted` [rows] stored."""
        folder = parent / key.name
        if _problem(folder, key):
            return False
        state = np.fromfile(folder / "state", np.uint64)
        return bool((state[wanted] >> _SHIFT == _STORED).all())

    @property
    def stored(self) -> int:
        """How many rows are there."""
        return int((self._state >> _SHIFT == _STORED).sum())

    def has(self, row: int) -> bool:
        """Is the row there and whole? A damaged row is forgotten and counted in `damaged`."""
        state = self._state[row]
        if state >> _SHIFT != _STORED:
            return False
        if not self._checked[row]:
            if _stored(self._pixels[row]) != state:
                self._state[row] = 0
                self.damaged += 1
                return False
            self._checked[row] = True
        return True

    def read(self, row: int, out: NDArray[np.uint8], mirrored: bool = False) -> bool:
        """Copy a row into `out` [4, H, W], flipped left-right if `mirrored`; False when it is not there."""
        if not self.has(row):
            return False
        pixels = self._pixels[row]
        np.copyto(out, pixels[..., ::-1] if mirrored else pixels)
        return True

    def write(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Store a row [4, H, W]. A row that was taken down is not stored."""
        if self._state[row] >> _SHIFT == _GONE:
            return
        # Written, not copied into the map: no page has to be brought in first, and errors are errors.
        self._put(row, pixels)
        if self._state[row] >> _SHIFT == _GONE:  # taken down in this very moment by another process
            self._put(row, np.zeros_like(pixels))
            return
        self._state[row] = _stored(pixels)
        self._checked[row] = True

    def forget(self, rows: Sequence[int] | NDArray[np.int64]) -> int:
        """Erase rows [K] that were taken down, for good; how many were there."""
        erased = 0
        for row in np.asarray(rows, np.int64).tolist():
            if self._state[row] >> _SHIFT != _GONE:
                erased += int(self._state[row] != 0)
                self._state[row] = _GONE << _SHIFT
                self._put(row, np.zeros(self._pixels.shape[1:], np.uint8))
        if erased:
            os.fsync(self._file.fileno())
            self._state.flush()
        return erased

    def _put(self, row: int, pixels: NDArray[np.uint8]) -> None:
        data = np.ascontiguousarray(pixels).data.cast("B")
        try:
            written = os.pwrite(self._file.fileno(), data, row * len(data))
        except OSError as error:
            raise CacheError(f"cannot write {self.folder / 'pixels'}: {error.strerror or error}") from error
        if written != len(data):
            raise CacheError(f"cannot write {self.folder / 'pixels'}: the disk is full")


def _stored(pixels: NDArray[np.uint8]) -> np.uint64:
    return (_STORED << _SHIFT) | np.uint64(zlib.crc32(np.ascontiguousarray(pixels).data))


def _problem(folder: Path, key: CacheKey) -> str:
    """Why the cache cannot be used, or ""."""
    try:
        about = parse_json((folder / "about.json").read_bytes())
    except (OSError, ValueError):
        return "about.json cannot be read"
    if about != _about(key):
        return "it is of something else"
    sizes = {"pixels": key.bytes - 8 * key.rows, "state": 8 * key.rows}
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{name} has not {size:,} bytes"
    return ""


def _make(folder: Path, key: CacheKey, say: Callable[[str], None]) -> None:
    free = shutil.disk_usage(folder.parent).free
    gib = 2**30
    if key.bytes > free:
        raise CacheError(
            f"decoded portraits need {key.bytes / gib:.2f} GiB in {folder.parent}, which has "
            f"{free / gib:.2f} GiB left: name another folder, or train without a cache"
        )
    say(
        f"decoded portraits will be kept in {folder}: {key.bytes / gib:.2f} GiB for {key.rows:,} portraits "
        f"at {key.resolution}x{key.resolution} ({free / gib:.1f} GiB are free); deleting it frees them"
    )
    partial = folder.with_name(f".{folder.name}.making")
    partial.mkdir()
    try:
        for name, size in (("pixels", key.bytes - 8 * key.rows), ("state", 8 * key.rows)):
            with (partial / name).open("wb") as file:
                _reserve(file.fileno(), size)
        (partial / "about.json").write_text(json.dumps(_about(key)) + "\n")
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _reserve(file: int, size: int) -> None:
    """Zeros that have their place on the disk: a mapped file without it dies of SIGBUS on a full disk."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # macOS
        os.ftruncate(file, size)


def _clear_unfinished(parent: Path) -> None:
    for partial in parent.glob(".*.making"):
        shutil.rmtree(partial)


def _about(key: CacheKey) -> dict[str, object]:
    return {"format": FORMAT, **asdict(key)}


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """One process of the machine at a time; a killed one lets go by itself."""
    with (parent / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
