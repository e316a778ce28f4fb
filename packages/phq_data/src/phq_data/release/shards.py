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

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phq_data import parquet
from phq_data.errors import ReleaseError
from phq_data.files import file_sha256
from phq_data.release.manifest import SPLITS, Images, ShardEntry
from phq_data.release.parts import AT, Run, aside, put_aside
from phq_data.release.places import Places, texts
from phq_data.release.rows import Truth, stored_schema
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
    rows: NDArray[np.int64]  # numbers of its rows, in order
    copy_of: ShardEntry | None = None  # the parent's shard with exactly these rows and bytes


def plan(
    facts: NDArray[Any],  # [N] `FACTS`, in the order of their ids
    shard_bytes: int,
    parent: Sequence[ShardEntry] = (),
    before: NDArray[Any] | None = None,  # [N] `BEFORE`
) -> list[ShardPlan]:
    """The shards of a release, in order of split and number.

    Without a parent (or to pack anew) rows fill shards of about `shard_bytes` in the order of their ids.
    """
    stays = np.zeros(len(facts), bool)
    plans: list[ShardPlan] = []
    if parent and before is not None:
        stays = (before["shard"] >= 0) & (before["split"] == facts["split"].astype(np.int8))
        same = (
            stays
            & (facts["digest"] == before["digest"]).all(1)
            & (facts["encoded"] == before["encoded"]).all(1)
        )
        staying = np.flatnonzero(stays)
        staying = staying[np.lexsort((before["row"][staying], before["shard"][staying]))]
        bounds = np.searchsorted(before["shard"][staying], np.arange(len(parent) + 1))
        for number, entry in enumerate(parent):
            kept = staying[bounds[number] : bounds[number + 1]]
            if len(kept):
                whole = len(kept) == entry.rows and bool(same[kept].all())
                plans.append(ShardPlan(entry.path, entry.split, kept, entry if whole else None))
    taken = {entry.path for entry in parent}
    for place, split in enumerate(SPLITS):
        fresh = np.flatnonzero(~stays & (facts["split"] == place))
        number = 0
        for group in _packed(fresh, facts["bytes"][fresh] + ROW_BYTES, shard_bytes):
            while (path := f"data/{split}-{number:05d}.parquet") in taken:
                number += 1
            taken.add(path)
            plans.append(ShardPlan(path, split, group))
    return sorted(plans, key=lambda shard: (SPLITS.index(shard.split), shard.path))


def write(
    plans: Sequence[ShardPlan],
    facts: NDArray[Any],  # [N] `rows.FACTS`
    places: Places,
    workspace: Workspace,
    target: Path,
    images: Images,
    truth: Truth,
    copy: Callable[[ShardEntry, Path], None],
    run: Run,
    on_rows: Callable[[int], None] = lambda count: None,
) -> list[ShardEntry]:
    """Write the planned shards below `target`; `copy` brings a shard of the parent. Returns their entries.

    The same bytes come of it whoever does the pieces.
    """
    (target / "data").mkdir(parents=True, exist_ok=True)
    entries: dict[str, ShardEntry] = {}
    for shard in plans:
        if shard.copy_of is not None:
            copy(shard.copy_of, target / shard.path)
            entries[shard.path] = shard.copy_of
            on_rows(len(shard.rows))
    to_write = [shard for shard in plans if shard.copy_of is None]
    folder = target / ".aside"
    for low in range(0, len(to_write), _WAVE):
        wave = to_write[low : low + _WAVE]
        folder.mkdir()
        at = _put_aside(wave, facts, places, workspace, folder, images, truth, run)
        folders = (str(folder), str(target))
        calls = (
            (
                shard.path, shard.split, places.ids[shard.rows], facts["bytes"][shard.rows], at[shard.rows],
                number, *folders,
            )
            for number, shard in enumerate(wave)
        )  # fmt: skip
        for number, entry in enumerate(run(write_shard, calls)):
            for file in folder.glob(f"{number}-*"):
                file.unlink()
            entries[entry.path] = entry
            on_rows(entry.rows)
        shutil.rmtree(folder)
    return [entries[shard.path] for shard in plans]


def _packed(numbers: NDArray[np.int64], sizes: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Runs of numbers whose sizes sum up to `most`, or of one that is larger."""
    total = np.cumsum(sizes)
    start = 0
    while start < len(numbers):
        used = total[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(total, used + most, side="right")))
        yield numbers[start:end]
        start = end


def _put_aside(
    wave: Sequence[ShardPlan],
    facts: NDArray[Any],
    places: Places,
    workspace: Workspace,
    folder: Path,
    images: Images,
    truth: Truth,
    run: Run,
) -> NDArray[Any]:
    """Rows of the wave's shards, put aside; [N] `parts.AT`."""
    shard_of = np.full(len(facts), -1, np.int16)
    for number, shard in enumerate(wave):
        shard_of[shard.rows] = number
    at = np.full(len(facts), -1, AT)
    rows = places.rows(np.flatnonzero(shard_of >= 0))

    def calls() -> Iterator[tuple[Any, ...]]:
        for file, some in enumerate(rows.pieces(run.at_once)):
            own = some.numbers()
            known = places.known(own, truth)
            yield workspace.url, some, shard_of[own], facts[own], str(folder), file, images, known

    for numbers, found in run(put_aside, calls()):
        at[numbers] = found
    return at


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], kind: pa.Schema) -> None:
    """Write rows of the stored schema `kind` as a shard, in small row groups, holding one group at a time."""
    with path.open("wb") as file, _writer(file, kind) as writer:
        for group in grouped(rows, _row_bytes, lambda row: str(row["portrait_id"])):
            writer.write_table(pa.Table.from_pylist(group, schema=kind), row_group_size=len(group))


def write_shard(
    name: str,
    split: str,
    ids: NDArray[np.bytes_],  # [N] `places.packed` portrait ids
    sizes: NDArray[np.int64],  # [N] bytes of the images of each row
    at: NDArray[Any],  # [N] `parts.AT`
    number: int,
    folder: str,
    target: str,
) -> ShardEntry:
    """Write a shard of the rows that were put aside for it in `folder` under its number."""
    path, kind, names = Path(target, name), stored_schema(), texts(ids)
    files = np.unique(at["file"]).tolist()
    if lost := int((at["file"] < 0).sum()):
        raise ReleaseError(f"{path.name}: {lost} rows of {len(at)} were not found")
    with contextlib.ExitStack() as stack:
        mapped = [stack.enter_context(pa.memory_map(str(aside(folder, number, file)))) for file in files]
        rows = {file: pa.ipc.open_file(one) for file, one in zip(files, mapped, strict=True)}
        with path.open("wb") as written, _writer(written, kind) as writer:
            for group in grouped(range(len(at)), lambda row: int(sizes[row]), names.__getitem__):
                # Row by row without copying: taking rows of the whole file would join it in memory each time.
                found = [rows[file].get_batch(batch).slice(row, 1) for file, batch, row in at[group].tolist()]
                table = pa.Table.from_batches(found).combine_chunks()
                writer.write_table(table.cast(kind), row_group_size=len(group))
    return ShardEntry(name, split, len(at), path.stat().st_size, file_sha256(path))


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
