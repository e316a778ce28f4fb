"""Is a release what it was when it was made? Every byte is read; what is wrong is named by file and row."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from phq_data import camera, parquet, parquet_limits, schema
from phq_data.errors import ReleaseError
from phq_data.files import stream_sha256
from phq_data.foreign import first_line
from phq_data.images.near import Groups, pairs_between
from phq_data.old_schema import upgrade_schema
from phq_data.release import manifest as manifests
from phq_data.release import tombstones, withheld
from phq_data.release.manifest import FileEntry, Manifest, ShardEntry, encoded_digest, row_digest
from phq_data.release.reader import IMAGE_COLUMNS, Folder, Release
from phq_data.rig import RigError

_CHUNK = 4 << 20
_BESIDE = (tombstones.NAME, withheld.NAME)  # may lie in the folder without being part of the release


@dataclass(frozen=True)
class Problem:
    """Something that is wrong."""

    file: str
    what: str
    row: int | None = None  # in the file
    portrait_id: str = ""

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}, row {self.row}"
        return f"{where}{f' (portrait {self.portrait_id[:12]})' if self.portrait_id else ''}: {self.what}"


def verify(
    path_or_url: str | Path,
    *,
    pixels: bool = False,
    duplicate_distance: int | None = None,
    workers: int = 2,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> list[Problem]:
    """Everything that is wrong with the release at `path_or_url`; empty when it is whole.

    Checked: the manifest, every file's size and sha256, files that the manifest does not name, the schema,
    every row's digest, camera labels, unique ids, the index, and that the splits do not leak. With `pixels`
    every image is decoded and compared with its digest as well (slow; sha256 covers the same bytes).
    """
    folder = Folder(str(path_or_url))
    try:
        manifest = Manifest.from_bytes(folder.read(manifests.NAME), manifests.NAME)
    except FileNotFoundError:
        return [Problem(manifests.NAME, "is missing: this is no release, or a push was interrupted")]
    except ReleaseError as error:
        return [Problem(manifests.NAME, str(error))]
    try:
        today = withheld.read(folder.fs, folder.root)
        problems, broken = _check_files(folder, manifest, today, workers, on_bytes)
        lists = tombstones.missing(folder.fs, folder.root, manifest.about)
        problems += [Problem(tombstones.NAME, f"is missing: the release {one.text}") for one in lists]
        if not all(one.is_readable for one in lists):
            return problems
    except ReleaseError as error:
        return [Problem(manifests.NAME, str(error))]
    try:
        release = Release(folder, manifest)
        index = release.index
    except ReleaseError as error:
        return [*problems, Problem(manifests.INDEX, str(error))]
    rows = list(_check_index(manifest, index))
    problems += rows
    for number, shard in enumerate(manifest.shards):
        missing = any(p.file == shard.path and "missing" in p.what for p in problems)
        if not missing and not rows:
            problems += _check_shard(
                release, number, index, today, damaged=shard.path in broken, pixels=pixels
            )
    if not broken:
        problems += _check_leaks(release, _distance(manifest, duplicate_distance))
        problems += _check_rig(release)
    return problems


def _check_files(
    folder: Folder,
    manifest: Manifest,
    today: withheld.Withheld,
    workers: int,
    on_bytes: Callable[[int, int], None],
) -> tuple[list[Problem], set[str]]:
    """Problems of files as bytes, and the files that have any."""
    sizes = folder.sizes()
    entries = [today.now(entry) for entry in manifest.entries]
    total = sum(entry.bytes for entry in entries)
    done = 0

    def check(entry: ShardEntry | FileEntry) -> tuple[str, int]:
        if entry.path not in sizes:
            return "is missing", 0
        size = sizes[entry.path]
        if size != entry.bytes:
            return f"has {size:,} bytes instead of {entry.bytes:,}", size
        with folder.fs.open(folder.path(entry.path), "rb") as file:
            found = stream_sha256(file)
        return ("" if found == entry.sha256 else "was changed: its sha256 differs"), size

    problems, broken = [], set()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for entry, (what, size) in zip(entries, pool.map(check, entries), strict=True):
            done += size
            on_bytes(done, total)
            if what:
                problems.append(Problem(entry.path, what))
                broken.add(entry.path)
    known = {entry.path for entry in entries} | {manifests.NAME, *_BESIDE}
    problems += [
        Problem(name, "is not part of the release: remove it")
        for name in sorted(set(sizes) - known)
        if not name.rpartition("/")[2].startswith(".")
    ]
    return problems, broken


def _check_index(manifest: Manifest, index: pa.Table) -> Iterator[Problem]:
    """The index names every row of every shard once, in order."""
    shards, rows = index["shard"].to_numpy(), index["row"].to_numpy()
    wanted_shards = np.repeat(np.arange(len(manifest.shards)), [s.rows for s in manifest.shards])
    wanted_rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(s.rows) for s in manifest.shards)])
    if not (np.array_equal(shards, wanted_shards) and np.array_equal(rows, wanted_rows)):
        yield Problem(manifests.INDEX, "does not list the rows of the shards in order")
        return
    ids = index["portrait_id"]
    order = pc.sort_indices(ids).to_numpy()  # stable
    ordered = ids.take(pa.array(order))
    for at in np.flatnonzero(pc.equal(ordered[1:], ordered[:-1]).to_numpy()).tolist():
        before, row = order[at : at + 2].tolist()
        one = ids[row].as_py()
        yield Problem(manifests.INDEX, f"lists this portrait twice (also row {before})", row, one)


def _check_shard(
    release: Release, number: int, index: pa.Table, today: withheld.Withheld, *, damaged: bool, pixels: bool
) -> Iterator[Problem]:
    """Rows of one shard against the index. Images are read only where the file is known to be damaged."""
    shard = release.manifest.shards[number]
    start = sum(entry.rows for entry in release.manifest.shards[:number])
    expected = index.slice(start, shard.rows).to_pylist()
    for row, alive in zip(expected, release.alive()[start : start + shard.rows], strict=True):
        if not alive and row["portrait_id"] in today.portraits:
            row["digest"] = None
    try:
        with release.folder.fs.open(release.folder.path(shard.path), "rb") as source:
            file = parquet.opened(source)
            parquet_limits.check_rows(file.metadata.num_rows, shard.bytes)
            names = file.schema_arrow.names  # of the version that wrote it, like everything below
            found = upgrade_schema("release", file)
            if not found.equals(schema.RELEASE):
                yield Problem(shard.path, f"does not follow the schema: {_difference(found)}")
                return
            if file.metadata.num_rows != shard.rows:
                yield Problem(shard.path, f"has {file.metadata.num_rows} rows instead of {shard.rows}")
                return
            plain = [name for name in names if name not in IMAGE_COLUMNS]
            first = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                wanted = expected[first : first + count]
                yield from _check_group(
                    file, group, first, wanted, shard, plain, images=damaged or pixels, pixels=pixels
                )
                first += count
    except (*parquet.DAMAGE, ValueError, KeyError, TypeError) as error:
        yield Problem(shard.path, f"cannot be read: {first_line(error)}")


def _check_group(
    file: parquet.File,
    group: int,
    first: int,
    wanted: Sequence[dict[str, Any]],
    shard: ShardEntry,
    plain: list[str],
    *,
    images: bool,
    pixels: bool,
) -> Iterator[Problem]:
    columns = [*plain, *IMAGE_COLUMNS] if images else plain
    # Whether images are there is told by their validity, at the price of their smallest leaf.
    if not images:
        columns = [*plain, "image.path", "mask.path"]
    rows: list[dict[str, Any]] | None
    try:
        rows = parquet_limits.read(file, columns, group=group).to_pylist()
    except (*parquet.DAMAGE, ValueError, KeyError, TypeError) as error:
        rows = None
        why = first_line(error)
    if rows is None:
        ids = f"{wanted[0]['portrait_id'][:12]} to {wanted[-1]['portrait_id'][:12]}" if wanted else ""
        yield Problem(
            shard.path,
            f"rows {first} to {first + len(wanted) - 1} (portraits {ids}) cannot be read: {why}",
            first,
        )
        return
    for offset, (row, entry) in enumerate(zip(rows, wanted, strict=True)):
        here = (first + offset, entry["portrait_id"])
        if row["portrait_id"] != entry["portrait_id"]:
            yield Problem(shard.path, f"holds portrait {row['portrait_id'][:12]} instead", *here)
            continue
        if entry["digest"] is None:
            continue  # taken down after it was published, and empty since
        if row_digest(row) != entry["digest"]:
            yield Problem(shard.path, "says something else than it was released with", *here)
        elif row["split"] != shard.split:
            yield Problem(shard.path, f"is of the split '{row['split']}'", *here)
        elif images and encoded_digest(row) != entry["encoded"]:
            yield Problem(shard.path, "its image or mask was changed", *here)
        try:
            camera.check_label(row["camera"])
        except camera.CameraError as error:
            yield Problem(shard.path, str(error), *here)
        if pixels:
            yield from _check_pixels(shard.path, row, here)


def _check_pixels(path: str, row: dict[str, Any], here: tuple[int, str]) -> Iterator[Problem]:
    from phq_data.images.codecs import PhotoError, decode_struct
    from phq_data.release.rows import pixel_digest

    for name, digest in (("image", row["pixels"]), ("mask", row["mask_pixels"])):
        if row[name] is None:
            continue
        try:
            if pixel_digest(decode_struct(row[name])) != digest:
                yield Problem(path, f"its {name} shows other pixels than it was released with", *here)
        except (PhotoError, OSError) as error:
            yield Problem(path, f"its {name} cannot be decoded: {error}", *here)


def _check_leaks(release: Release, distance: int) -> Iterator[Problem]:
    """What must not straddle the splits: photos, near-duplicates, one author's photos of a day."""
    table = release.all().metadata(["portrait_id", "photo_id", "split", "author", "day", "phash"])
    table = table.combine_chunks()
    splits = table["split"].combine_chunks().dictionary_encode()
    split = splits.indices.to_numpy()
    known = pc.and_(*(pc.greater(pc.binary_length(table[name]), 0) for name in ("author", "day")))
    days = pc.binary_join_element_wise(table["author"], table["day"], "\n")
    for what, names, rows in (
        ("photo", table["photo_id"], np.arange(len(table))),
        ("author and day", days.filter(known), np.flatnonzero(pc.fill_null(known, False).to_numpy())),
    ):
        codes = names.combine_chunks().dictionary_encode().indices.to_numpy()
        first = rows[np.unique(codes, return_index=True)[1]][codes]  # of those with the same name
        for row, other in zip(rows, first, strict=True) if (split[rows] != split[first]).any() else ():
            if split[row] != split[other]:
                yield Problem(
                    manifests.INDEX,
                    f"the {what} of this portrait is in '{table['split'][other]}' too (portrait "
                    f"{table['portrait_id'][other].as_py()[:12]})",
                    portrait_id=table["portrait_id"][row].as_py(),
                )
    groups = Groups(np.asarray(table["phash"].to_numpy(), np.uint64))
    outside = pc.not_equal(table["split"], "train").to_numpy()
    few = np.unique(groups.of[outside])
    for number, group in zip(*pairs_between(groups.distinct[few], groups.distinct, distance), strict=True):
        rows = groups.rows(few[number])
        for one, other in itertools.product(rows[outside[rows]], groups.rows(group)):
            if split[one] != split[other]:
                yield Problem(
                    manifests.INDEX,
                    f"it looks like portrait {table['portrait_id'][other].as_py()[:12]} of the split "
                    f"'{table['split'][other]}'",
                    portrait_id=table["portrait_id"][one].as_py(),
                )


def _check_rig(release: Release) -> Iterator[Problem]:
    recipe = release.manifest.about.get("rig", {})
    if not any(file.path == manifests.RIG for file in release.manifest.files):
        return
    try:
        rig = release.rig()
    except (ReleaseError, RigError) as error:
        yield Problem(manifests.RIG, str(error))
        return
    if rig.digest != recipe.get("digest"):
        yield Problem(manifests.RIG, "is not the rig that the manifest names")


def _distance(manifest: Manifest, given: int | None) -> int:
    if given is not None:
        return given
    config = manifest.about.get("config") or {}
    return int(config.get("dedup", {}).get("max_distance", 6))


def _difference(found: pa.Schema) -> str:
    missing = [name for name in schema.RELEASE.names if name not in found.names]
    extra = [name for name in found.names if name not in schema.RELEASE.names]
    if missing or extra:
        return f"missing {missing or 'nothing'}, unknown {extra or 'nothing'}"
    other = [name for name in found.names if found.field(name) != schema.RELEASE.field(name)]
    return (
        f"column '{other[0]}' is {found.field(other[0]).type}"
        if other
        else "its columns are in another order"
    )
