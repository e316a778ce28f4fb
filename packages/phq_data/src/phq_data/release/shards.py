"""Which row goes into which shard, and writing shards: the same input gives the same bytes.

Rows lie in the order of their ids, which are digests, so neighbours have nothing in common and a reader that
takes whole row groups still sees a mixture. A release that has a parent keeps every row where it was: shards
that nothing happened to are copied, those that lost or changed rows are written again without or with them,
new rows fill new shards.

To bring rows into order with little memory, the parts of the workspace are read once more and every row is
put aside in a file of its shard; each shard is then sorted and written on its own.

Where a row group ends depends on the ids of its rows, not on their number (content-defined chunking): a row
that goes changes its own group, and the groups after it are the same bytes as before. Stores that keep equal
chunks once, as the Hugging Face Hub does, take little of a new version. `python -m benchmarks.deduplication`
measures it, also with pyarrow's `use_content_defined_chunking`, which ends pages so: then more bytes differ,
not fewer, as a page of images holds few rows.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa

from phq_data import parquet
from phq_data.errors import ReleaseError
from phq_data.files import file_sha256
from phq_data.release.manifest import SPLITS, Images, ShardEntry
from phq_data.release.rows import Facts, Truth, joined, stored_schema
from phq_data.release.select import Place
from phq_data.workspace import Workspace

ROW_BYTES = 1_500  # about what a row takes beside its images
_GROUP_BYTES = 4 << 20
_GROUP_ROWS = 256
_LEAST_FULL, _MEAN_REST = 0.25, 0.375
_WAVE = 128  # shards in the making at once


@dataclass(frozen=True)
class ShardPlan:
    """A shard that is to be."""

    path: str  # data/train-00000.parquet
    split: str
    rows: tuple[Facts, ...]  # in order
    copy_of: ShardEntry | None = None  # the parent's shard with exactly these rows and bytes


@dataclass(frozen=True)
class Before:
    """A row of the parent release."""

    shard: int
    row: int
    split: str
    digest: str
    encoded: str
    pixels: str


def plan(
    rows: Sequence[Facts],
    shard_bytes: int,
    parent: Sequence[ShardEntry] = (),
    before: Mapping[str, Before] | None = None,
) -> list[ShardPlan]:
    """The shards of a release, in order of split and number.

    Without a parent (or to pack anew) rows fill shards of about `shard_bytes` in the order of their ids.
    """
    before = before or {}
    stay: dict[int, list[Facts]] = {}
    fresh: dict[str, list[Facts]] = {name: [] for name in SPLITS}
    for row in sorted(rows, key=lambda facts: facts.place.portrait_id):
        old = before.get(row.place.portrait_id)
        if old is not None and old.split == row.split:
            stay.setdefault(old.shard, []).append(row)
        else:
            fresh[row.split].append(row)
    plans: list[ShardPlan] = []
    for number, entry in enumerate(parent):
        kept = sorted(stay.get(number, []), key=lambda facts: before[facts.place.portrait_id].row)
        if kept:
            same = len(kept) == entry.rows and all(_same(before[f.place.portrait_id], f) for f in kept)
            plans.append(ShardPlan(entry.path, entry.split, tuple(kept), entry if same else None))
    taken = {entry.path for entry in parent}
    for split in SPLITS:
        number = 0
        for group in _packed(fresh[split], shard_bytes):
            while (path := f"data/{split}-{number:05d}.parquet") in taken:
                number += 1
            taken.add(path)
            plans.append(ShardPlan(path, split, tuple(group)))
    return sorted(plans, key=lambda shard: (SPLITS.index(shard.split), shard.path))


def write(
    plans: Sequence[ShardPlan],
    workspace: Workspace,
    target: Path,
    images: Images,
    truth: Truth,
    copy: Callable[[ShardEntry, Path], None],
    on_rows: Callable[[int], None] = lambda count: None,
) -> list[ShardEntry]:
    """Write the planned shards below `target`; `copy` brings a shard of the parent. Returns their entries."""
    (target / "data").mkdir(parents=True, exist_ok=True)
    entries: dict[str, ShardEntry] = {}
    for shard in plans:
        if shard.copy_of is not None:
            copy(shard.copy_of, target / shard.path)
            entries[shard.path] = shard.copy_of
            on_rows(len(shard.rows))
    to_write = [shard for shard in plans if shard.copy_of is None]
    aside = target / ".aside"
    for low in range(0, len(to_write), _WAVE):
        wave = to_write[low : low + _WAVE]
        aside.mkdir()
        orders = _put_aside(wave, workspace, aside, images, truth)
        for number, shard in enumerate(wave):
            entries[shard.path] = _write_shard(
                shard, aside / str(number), orders[number], target / shard.path
            )
            (aside / str(number)).unlink()
            on_rows(len(shard.rows))
        shutil.rmtree(aside)
    return [entries[shard.path] for shard in plans]


def _same(old: Before, new: Facts) -> bool:
    return old.digest == new.digest and old.encoded == new.encoded


def _packed(rows: Sequence[Facts], shard_bytes: int) -> Iterator[list[Facts]]:
    group: list[Facts] = []
    size = 0
    for row in rows:
        if group and size + row.bytes + ROW_BYTES > shard_bytes:
            yield group
            group, size = [], 0
        group.append(row)
        size += row.bytes + ROW_BYTES
    if group:
        yield group


def _put_aside(
    wave: Sequence[ShardPlan], workspace: Workspace, aside: Path, images: Images, truth: Truth
) -> list[dict[str, tuple[int, int]]]:
    """Rows of the wave's shards, each in the file of its shard, in the order of the workspace.

    Returns for every shard in which batch of its file, and where in it, a portrait lies.
    """
    kind = stored_schema().remove_metadata()
    shard_of = {facts.place.portrait_id: (n, facts) for n, shard in enumerate(wave) for facts in shard.rows}
    places: dict[int, dict[int, Place]] = {}
    for _, facts in shard_of.values():
        places.setdefault(facts.place.part, {})[facts.place.row] = facts.place
    orders: list[dict[str, tuple[int, int]]] = [{} for _ in wave]
    batches = [0] * len(wave)
    files = [pa.ipc.new_file(str(aside / str(number)), kind) for number in range(len(wave))]
    try:
        for batch in joined(workspace, places):
            by_shard: dict[int, list[dict[str, Any]]] = {}
            for one in batch:
                number, facts = shard_of[one.place.portrait_id]
                rows = by_shard.setdefault(number, [])
                orders[number][one.place.portrait_id] = (batches[number], len(rows))
                rows.append(one.row(facts.split, facts.pixels, facts.mask_pixels, images, truth))
            for number, rows in by_shard.items():
                files[number].write_batch(pa.RecordBatch.from_pylist(rows, schema=kind))
                batches[number] += 1
    finally:
        for file in files:
            file.close()
    return orders


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], kind: pa.Schema) -> None:
    """Write rows of the stored schema `kind` as a shard, in small row groups, holding one group at a time."""
    with path.open("wb") as file, _writer(file, kind) as writer:
        for group in grouped(rows, _row_bytes, lambda row: str(row["portrait_id"])):
            writer.write_table(pa.Table.from_pylist(group, schema=kind), row_group_size=len(group))


def _write_shard(
    shard: ShardPlan, aside: Path, order: Mapping[str, tuple[int, int]], path: Path
) -> ShardEntry:
    if len(order) != len(shard.rows):
        raise ReleaseError(f"{path.name}: {len(order)} rows were found of {len(shard.rows)}")
    kind = stored_schema()
    with pa.memory_map(str(aside)) as mapped, path.open("wb") as file, _writer(file, kind) as writer:
        rows = pa.ipc.open_file(mapped)
        for group in grouped(shard.rows, lambda facts: facts.bytes, lambda facts: facts.place.portrait_id):
            places = [order[facts.place.portrait_id] for facts in group]
            # Row by row without copying: taking rows of the whole file would join it in memory each time.
            found = [rows.get_batch(batch).slice(row, 1) for batch, row in places]
            table = pa.Table.from_batches(found).combine_chunks()
            writer.write_table(table.cast(kind), row_group_size=len(group))
    return ShardEntry(shard.path, shard.split, len(shard.rows), path.stat().st_size, file_sha256(path))


def _writer(file: BinaryIO, kind: pa.Schema) -> parquet.Writer:
    # Images are compressed already. Leaves of lists go by another name than their column.
    compression = {
        f"{field.name}.list.element" if pa.types.is_fixed_size_list(field.type) else field.name: "zstd"
        for field in kind
        if not pa.types.is_struct(field.type)
    }
    return parquet.writer(
        file,
        kind,
        compression=compression,
        use_dictionary=["provider", "author", "license", "models", "split", "codec", "body", "crop_mode"],
        write_statistics=False,
    )


Item = TypeVar("Item")


def grouped(
    rows: Iterable[Item], size_of: Callable[[Item], int], id_of: Callable[[Item], str]
) -> Iterator[list[Item]]:
    """Row groups of at most 4 MiB of images and 256 rows: one is what a random read costs.

    From a quarter of that on, a group ends after a row whose id says so, by chance once in another 3/8 of it:
    rows that come or go before a group do not move its end. `id_of` gives hexadecimal digits.
    """
    group: list[Item] = []
    full = 0.0  # share of the most that a group holds
    for row in rows:
        share = max((size_of(row) + ROW_BYTES) / _GROUP_BYTES, 1 / _GROUP_ROWS)
        if group and full + share > 1:
            yield group
            group, full = [], 0.0
        group.append(row)
        full += share
        if full >= _LEAST_FULL and _chance(id_of(row)) < share / _MEAN_REST:
            yield group
            group, full = [], 0.0
    if group:
        yield group


def _chance(row_id: str) -> float:
    """A number in 0..1 that an id decides; not its first digits, by which rows are in order."""
    return int(hashlib.sha256(row_id.encode()).hexdigest()[:8], 16) / 2**32


def _row_bytes(row: Mapping[str, Any]) -> int:
    return sum(len((row[name] or {}).get("bytes") or b"") for name in ("image", "mask"))
