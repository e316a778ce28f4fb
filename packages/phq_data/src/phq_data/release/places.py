"""Where the portraits of a release lie in the workspace, as columns: 24 bytes each."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from phq_data.errors import ReleaseError

_DIGITS = 32  # hexadecimal, of a portrait's id


@dataclass(frozen=True)
class Places:
    """Portraits in the order of their ids."""

    ids: NDArray[np.bytes_]  # [N] `packed`
    part: NDArray[np.int32]  # [N]
    row: NDArray[np.int32]  # [N] in the part

    def __len__(self) -> int:
        return len(self.ids)

    def twice(self) -> str:
        """A portrait that is there twice, or ""."""
        again = np.flatnonzero(self.ids[1:] == self.ids[:-1])
        return texts(self.ids[again[:1]])[0] if len(again) else ""

    def rows(self, numbers: NDArray[np.int64] | None = None) -> Rows:
        """Portraits by their numbers [M] (default: all), by the parts that they lie in."""
        chosen = np.arange(len(self)) if numbers is None else numbers
        chosen = chosen[np.argsort(self.part[chosen], kind="stable")]
        parts, starts = np.unique(self.part[chosen], return_index=True)
        return Rows(parts, np.append(starts, len(chosen)), self.row[chosen], chosen.astype(np.int32))

    def known(self, numbers: NDArray[np.int64], truth: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a mapping by portrait has of those with these numbers [M]."""
        ids = texts(self.ids[numbers]) if truth else ()
        return {portrait: truth[portrait] for portrait in ids if portrait in truth}


@dataclass(frozen=True, eq=False)
class Rows(Mapping[int, Mapping[int, int]]):
    """part -> row in it -> number in the release, 8 bytes a row; a part's are made when it is asked for."""

    parts: NDArray[np.int32]  # [P] ascending
    bounds: NDArray[np.int64]  # [P + 1] where each part's begin in the following
    row: NDArray[np.int32]  # [N]
    number: NDArray[np.int32]  # [N]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[int]:
        return iter(self.parts.tolist())

    def __getitem__(self, part: int) -> Mapping[int, int]:
        at = int(np.searchsorted(self.parts, part))
        if at == len(self.parts) or self.parts[at] != part:
            raise KeyError(part)
        here = slice(*self.bounds[at : at + 2])
        return dict(zip(self.row[here].tolist(), self.number[here].tolist(), strict=True))

    def numbers(self) -> NDArray[np.int64]:
        """Those of all rows [N], ascending."""
        return np.sort(self.number).astype(np.int64)

    def pieces(self, count: int) -> Iterator[Rows]:
        """About `count` runs of parts."""
        size = max(1, -(-len(self) // max(1, count)))
        for start in range(0, len(self), size):
            bounds = self.bounds[start : start + size + 1]
            here = slice(bounds[0], bounds[-1])
            yield Rows(
                self.parts[start : start + size], bounds - bounds[0], self.row[here], self.number[here]
            )


def packed(ids: Any) -> NDArray[np.bytes_]:  # Arrow texts [N] -> [N] of 16 bytes
    """Portrait ids as bytes, in the order of the ids. Raises `ReleaseError` for one that is no digest."""
    return digests(ids, _DIGITS).reshape(-1).view(f"S{_DIGITS // 2}")


def digests(column: Any, digits: int) -> NDArray[np.uint8]:  # Arrow texts [N] -> [N, digits / 2]
    """Digests of so many hexadecimal digits as bytes. Raises `ReleaseError` for another text."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return np.concatenate([np.zeros((0, digits // 2), np.uint8), *(_bytes(one, digits) for one in chunks)])


def _bytes(texts: pa.Array, digits: int) -> NDArray[np.uint8]:
    right = pc.match_substring_regex(texts, f"^[0-9a-f]{{{digits}}}$")
    if texts.null_count or not pc.all(right, min_count=0).as_py():
        wrong = texts.filter(pc.invert(pc.fill_null(right, False)))[:1].to_pylist() or [None]
        raise ReleaseError(f"{wrong[0]!r} is no digest of {digits} hexadecimal digits, as ids of PHQ are")
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    whole = memoryview(data)[ends[0] : ends[-1]] if len(texts) else b""
    return np.frombuffer(binascii.unhexlify(whole), np.uint8).reshape(len(texts), digits // 2)


def texts(ids: NDArray[np.bytes_]) -> list[str]:
    """Ids [N] as texts."""
    digits = np.ascontiguousarray(ids).tobytes().hex()
    return [digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS)]
