"""What a release has of its parent: rows that stay, what was decoded already, and what became of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from phq_data.release import manifest as manifests
from phq_data.release import reader, tombstones
from phq_data.release.decoded import Decoded
from phq_data.release.places import Places, digests, packed
from phq_data.release.rows import BEFORE


@dataclass(frozen=True)
class Changes:
    """What became of the rows since the parent."""

    added: int
    removed: int
    changed: int
    taken_down: int  # of the removed ones
    shards_copied: int
    shards_written: int


def compare(
    facts: NDArray[Any],  # [N] `rows.FACTS`
    before: NDArray[Any],  # [N] of `rows_before`
    removed: NDArray[np.int64],  # [M]
    parent: reader.Release | None,
    gone: tombstones.Tombstones,
) -> Changes:
    """What the rows are to those of the parent."""
    known = before["shard"] >= 0
    ids: list[tuple[str, str]] = []
    if parent is not None and gone.entries:
        columns = (parent.index[name].take(removed).to_pylist() for name in ("portrait_id", "photo_id"))
        ids = list(zip(*columns, strict=True))
    return Changes(
        added=int((~known).sum()),
        removed=len(removed),
        changed=int((known & (facts["digest"] != before["digest"]).any(1)).sum()),
        taken_down=sum(gone.hides(portrait, photo) for portrait, photo in ids),
        shards_copied=0,
        shards_written=0,
    )


def rows_before(parent: reader.Release | None, places: Places) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """What the parent has of each row [N], `rows.BEFORE`, and which rows [M] of its index are gone."""
    nothing = np.zeros((), BEFORE)
    nothing["shard"] = nothing["split"] = -1
    if parent is None:
        return np.broadcast_to(nothing, (len(places),)), np.zeros(0, np.int64)
    found = np.full(len(places), nothing)
    index = parent.index
    ids = packed(index["portrait_id"])
    order = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids, places.ids, sorter=order), len(ids) - 1)
    at = order[at] if len(ids) else at
    there = ids[at] == places.ids if len(ids) else np.zeros(len(places), bool)
    split = pc.index_in(index["split"], pa.array(manifests.SPLITS)).to_numpy()
    columns = {
        "shard": index["shard"].to_numpy(), "row": index["row"].to_numpy(), "split": split,
        "digest": digests(index["digest"], 32), "encoded": digests(index["encoded"], 32),
    }  # fmt: skip
    for name, values in columns.items():
        found[name][there] = values[at[there]]
    gone = np.ones(len(ids), bool)
    gone[at[there]] = False
    return found, np.flatnonzero(gone)


def decoded_of(parent: reader.Release | None) -> Decoded:
    """What was decoded for a parent, if there is one."""
    if parent is None or parent.manifest.images == "none":
        return Decoded(np.zeros(0, "S16"), np.zeros((0, 2, 32), np.uint8))
    encoded = digests(parent.index["encoded"], 32)
    found, start = [], 0
    for number in range(len(parent.manifest.shards)):
        table = parent.read_shard(number, ["pixels", "mask_pixels"])
        whole = pc.greater(pc.binary_length(table["pixels"]), 0)  # not of what was withheld
        rows = np.flatnonzero(whole.to_numpy()) + start
        columns = [digests(table[name].filter(whole), 64) for name in ("pixels", "mask_pixels")]
        found.append((rows, np.stack(columns, 1)))
        start += table.num_rows
    rows = np.concatenate([np.zeros(0, np.int64), *(one for one, _ in found)])
    pixels = np.concatenate([np.zeros((0, 2, 32), np.uint8), *(one for _, one in found)])
    keys = encoded[rows].reshape(-1).view("S16")
    order = np.argsort(keys)
    return Decoded(keys[order], pixels[order])
