"""Reading a release: metadata without images, random access, streaming. Needs no pillow and no torch.

    release = reader.open("releases/1.2.0")          # or s3://…, gs://…, hf://…
    train = release.split("train")
    train.metadata(["portrait_id", "camera"])         # an Arrow table; no image is read
    train[17]["image"]["bytes"]                       # one row: one small row group is read
    for row in train.stream(): ...                    # all rows in order, a row group in memory at a time

What was taken down is left out by every one of these, from the moment that the list beside the release says
so. A `Release` can be pickled and shared by threads; each process opens its own files.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from phq_data import old_schema, parquet, parquet_limits, schema
from phq_data.errors import ObjectStoreError, ReleaseError
from phq_data.files import file_system
from phq_data.foreign import first_line
from phq_data.release import manifest as manifests
from phq_data.release import tombstones, withheld
from phq_data.release.manifest import Manifest, ShardEntry
from phq_data.rig import PortraitRig, RigError

__all__ = ["Release", "ReleaseError", "Split", "open"]

IMAGE_COLUMNS: tuple[str, ...] = ("image", "mask")
_OPEN_FILES = 32
_KEPT_GROUPS = 4


class Folder:
    """A folder of any file system, and how to read files in it. Picklable."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self.fs, root = file_system(self.url)
        except (ValueError, ImportError) as error:
            raise ReleaseError(f"cannot open {url}: {error}") from error
        self.root = str(root).rstrip("/")
        self.is_local = isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """The full path of file `name`."""
        return f"{self.root}/{name}"

    @property
    def name(self) -> str:
        """Its last part: the version, of a release's folder."""
        return self.root.rpartition("/")[2]

    def exists(self, name: str) -> bool:
        """Is there a file `name`?"""
        return bool(self.fs.exists(self.path(name)))

    def read(self, name: str) -> bytes:
        """The bytes of a small file. `FileNotFoundError` or `ReleaseError`."""
        try:
            return bytes(self.fs.cat_file(self.path(name)))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ReleaseError(f"cannot read {self.path(name)}: {error}") from error

    def sizes(self) -> dict[str, int]:
        """Every file below the folder: its name and its size in bytes."""
        try:
            found = self.fs.find(self.root, detail=True)
        except OSError as error:
            raise ReleaseError(f"cannot list {self.url}: {error}") from error
        return {
            str(path).removeprefix(self.root).lstrip("/"): int(info.get("size") or 0)
            for path, info in found.items()
        }


def open(path_or_url: str | Path, *, digest: str | None = None) -> Release:
    """The release in a folder or at an fsspec URL.

    Reads the manifest and lists the folder; no shard is opened. `digest` is the manifest digest that you
    expect (or its first digits), if you know it from elsewhere.

    Raises `ReleaseError`: no release there, an unfinished push, a damaged, edited or newer manifest, a shard
    that is missing or has another size. (`verify` reads every byte; this does not.)
    """
    folder = Folder(str(path_or_url))
    try:
        data = folder.read(manifests.NAME)
    except FileNotFoundError:
        raise ReleaseError(_why_nothing(folder)) from None
    except (IsADirectoryError, NotADirectoryError) as error:
        raise ReleaseError(f"{path_or_url} is no release: {error}") from error
    found = Manifest.from_bytes(data, folder.path(manifests.NAME))
    if digest is not None and not (len(digest) >= 8 and found.digest.startswith(digest)):
        raise ReleaseError(
            f"{path_or_url} has the digest {found.digest}, not {digest}: it is another release"
        )
    sizes = folder.sizes()
    today = withheld.read(folder.fs, folder.root)
    for entry in map(today.now, found.entries):
        if entry.path not in sizes:
            raise ReleaseError(
                f"the release {path_or_url} lacks {entry.path}: get it again (phq release pull resumes)"
            )
        if sizes[entry.path] != entry.bytes:
            raise ReleaseError(
                f"{entry.path} of the release {path_or_url} has {sizes[entry.path]:,} bytes instead of "
                f"{entry.bytes:,}: it is damaged; get it again (phq release pull)"
            )
    return Release(folder, found)


class Release:
    """An opened release: its manifest, and its rows without those taken down. Made by `open`."""

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._shards = _Shards(folder, manifest.shards)
        self.refresh()

    @property
    def url(self) -> str:
        """Where it was opened."""
        return self.folder.url

    @property
    def version(self) -> str:
        """Its version."""
        return self.manifest.version

    @cached_property
    def shards(self) -> tuple[ShardEntry, ...]:
        """Its shards as they are: other than the manifest says where rows were withheld after publication."""
        today = withheld.read(self.folder.fs, self.folder.root)
        return tuple(today.now(shard) for shard in self.manifest.shards)

    @property
    def splits(self) -> tuple[str, ...]:
        """Its splits that have rows."""
        return tuple(self.manifest.counts())

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its shards."""
        return tuple(self._shards.schema.names)

    @property
    def stored_columns(self) -> list[str]:
        """The columns that its shards have: an older release lacks some of `columns`."""
        return self._shards.stored_columns

    def refresh(self) -> None:
        """Read the list of taken-down portraits again (a long run may do this now and then)."""
        self.tombstones = tombstones.of_release(self.folder.fs, self.folder.root, self.manifest.about)
        self._alive: NDArray[np.bool_] | None = None

    @cached_property
    def index(self) -> pa.Table:
        """One row a released portrait, taken-down ones included: `manifest.INDEX_SCHEMA`.

        Raises `ReleaseError` when the index is not the one that the manifest names.
        """
        data = self._checked(manifests.INDEX)
        try:
            # On this thread alone: a worker that lets go of Python's bytes while the program ends aborts it.
            source = pa.BufferReader(data)
            file = parquet.opened(source)
            parquet_limits.check_rows(file.metadata.num_rows, len(data))
            table = parquet_limits.read(file).cast(manifests.INDEX_SCHEMA)
        except (*parquet.DAMAGE, ValueError, KeyError, TypeError) as error:
            where = self.folder.path(manifests.INDEX)
            raise ReleaseError(f"{where} is damaged: {first_line(error)}") from error
        if table.num_rows != self.manifest.rows:
            raise ReleaseError(
                f"{self.folder.path(manifests.INDEX)} has {table.num_rows} rows, the shards have "
                f"{self.manifest.rows}"
            )
        return table

    def alive(self) -> NDArray[np.bool_]:
        """Which rows of the index may be read, [N]."""
        if self._alive is None:
            self._alive = ~self.tombstones.hidden(self.index["portrait_id"], self.index["photo_id"])
        return self._alive

    def split(self, name: str) -> Split:
        """The rows of one split. Raises `ReleaseError` when it has none."""
        if name not in self.splits:
            raise ReleaseError(
                f"the release {self.url} has no split '{name}'; it has {', '.join(self.splits) or 'no rows'}"
            )
        return Split(self, name)

    def all(self) -> Split:
        """The rows of all splits."""
        return Split(self, None)

    def find(self, portrait_id: str) -> dict[str, Any] | None:
        """The row of a portrait, or None: not released or taken down. Raises if several ids start so."""
        starts = pc.starts_with(self.index["portrait_id"], pattern=portrait_id).to_numpy()
        hits = np.flatnonzero(self.alive() & starts)
        if len(hits) > 1:
            raise ReleaseError(f"{len(hits)} portraits start with {portrait_id!r}: give more of the id")
        return self.all().take_rows(hits)[0] if len(hits) else None

    @property
    def has_rig(self) -> bool:
        """Does it hold a rig, not only a recipe for one?"""
        return any(file.path == manifests.RIG for file in self.manifest.files)

    def rig(self, built: str | Path | None = None) -> PortraitRig:
        """The rig that the labels refer to.

        A release made with a licensed body brings a recipe instead: `built` is the rig file that you made by
        it. Raises `ReleaseError` with the recipe when it is needed, or when `built` is another rig.
        """
        if self.has_rig:
            data = self._checked(manifests.RIG)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / manifests.RIG
                path.write_bytes(data)
                try:
                    return PortraitRig.load(path)
                except RigError as error:
                    raise ReleaseError(f"{self.folder.path(manifests.RIG)}: {error}") from error
        recipe = self.manifest.about.get("rig", {})
        if built is None:
            raise ReleaseError(
                f"the labels of {self.url} refer to the body '{recipe.get('body')}', whose numbers may not "
                "be given away. Make the rig from your own licensed file and name it: "
                f"{recipe.get('command')}"
            )
        rig = PortraitRig.load(built)
        if rig.digest != recipe.get("digest"):
            raise ReleaseError(
                f"{built} is not the rig of this release (digest {rig.digest[:12]}, wanted "
                f"{str(recipe.get('digest'))[:12]}): make it with {recipe.get('command')}"
            )
        return rig

    def read_shard(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A whole shard, taken-down rows included (for `verify` and the like)."""
        return self._shards.whole(shard, columns)

    def read_places(self, places: Sequence[tuple[int, int]], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows at (shard, row) places, in the order asked for."""
        return self._shards.rows(places, columns)

    def trust_pages(self) -> None:
        """Read without comparing the checksums of pages from now on, because whole shards were just compared.

        That is a quarter of what a random row costs. The default finds damage wherever it is read.
        """
        self._shards.trust()

    def row_groups(self, shard: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row group of `shard` that each of `rows` [N] lies in: rows of one group cost one read."""
        return self._shards.groups_of(shard, rows)

    def _checked(self, name: str) -> bytes:
        entry = next((file for file in self.manifest.files if file.path == name), None)
        if entry is None:
            raise ReleaseError(f"the manifest of {self.url} names no {name}")
        try:
            data = self.folder.read(name)
        except FileNotFoundError as error:
            raise ReleaseError(f"the release {self.url} lacks {name}") from error
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise ReleaseError(f"{self.folder.path(name)} was changed after the release: its sha256 differs")
        return data


class Split:
    """Rows of a release, in fixed order, without those taken down."""

    def __init__(self, release: Release, name: str | None) -> None:
        self.release = release
        self.name = name
        index = release.index
        wanted = release.alive().copy()
        if name is not None:
            wanted &= pc.equal(index["split"], name).to_numpy()
        self._positions = np.flatnonzero(wanted)  # [M] rows of the index

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Row `position` with its images. Raises `IndexError` beyond the end."""
        if not -len(self) <= position < len(self):
            raise IndexError(f"row {position} of {len(self)}")
        return self.take([position])[0]

    def take(self, positions: Sequence[int], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Rows at `positions` in that order; neighbours share a read. All columns unless named."""
        return self.take_rows(self._positions[np.asarray(positions, np.int64)], columns)

    def take_rows(
        self, index_rows: NDArray[np.int64], columns: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The rows at these places [N] of the release's index, in this order."""
        index = self.release.index
        shards, rows = (index[name].to_numpy()[index_rows] for name in ("shard", "row"))
        places = list(zip(shards.tolist(), rows.tolist(), strict=True))
        return self.release.read_places(places, columns or self.release.columns)

    def metadata(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows as an Arrow table, without images unless `columns` names them."""
        release = self.release
        names = list(columns) if columns else [c for c in release.columns if c not in IMAGE_COLUMNS]
        index = release.index
        shards, rows = (index[name].to_numpy()[self._positions] for name in ("shard", "row"))
        tables = []
        for shard in np.unique(shards).tolist():
            tables.append(release.read_shard(shard, names).take(pa.array(rows[shards == shard])))
        if not tables:
            return pa.schema([schema.RELEASE.field(name) for name in names]).empty_table()
        return pa.concat_tables(tables)

    def stream(
        self, columns: Sequence[str] | None = None, *, shard: int = 0, shards: int = 1
    ) -> Iterator[dict[str, Any]]:
        """All rows in order. `shard` of `shards` takes every `shards`-th row group, for parallel readers."""
        names = list(columns or self.release.columns)
        for number, group in enumerate(self._groups()):
            if number % shards == shard:
                yield from self.release.read_places(group, names)

    def _groups(self) -> Iterator[list[tuple[int, int]]]:
        index = self.release.index
        places = (index[name].to_numpy()[self._positions] for name in ("shard", "row"))
        group: list[tuple[int, int]] = []
        last: tuple[int, int] | None = None
        for shard, row in zip(*(one.tolist() for one in places), strict=True):
            here = (shard, self.release._shards.group_of(shard, row))
            if last not in (None, here):
                yield group
                group = []
            group.append((shard, row))
            last = here
        if group:
            yield group


class _Shards:
    """Open shard files, a bounded number at once, and the last few row groups read."""

    def __init__(self, folder: Folder, entries: Sequence[ShardEntry]) -> None:
        self._folder = folder
        self._entries = tuple(entries)
        self._check_pages = True
        self._reset()

    def trust(self) -> None:
        with self._lock:
            self._check_pages = False
            self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._files: OrderedDict[int, parquet.File] = OrderedDict()
        self._starts: dict[int, NDArray[np.int64]] = {}
        self._groups: OrderedDict[tuple[int, int, tuple[str, ...]], pa.Table] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_folder", "_entries", "_check_pages")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    @property
    def schema(self) -> pa.Schema:
        if not self._entries:
            return schema.RELEASE
        with self._lock:
            return old_schema.upgrade_schema("release", self._file(0))

    @property
    def stored_columns(self) -> list[str]:
        if not self._entries:
            return list(schema.RELEASE.names)
        with self._lock:
            return list(self._file(0).schema_arrow.names)

    def group_of(self, shard: int, row: int) -> int:
        with self._lock:
            self._file(shard)
            return int(np.searchsorted(self._starts[shard], row, side="right")) - 1

    def groups_of(self, shard: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        with self._lock:
            self._file(shard)
            return np.searchsorted(self._starts[shard], rows, side="right") - 1

    def whole(self, shard: int, columns: Sequence[str] | None) -> pa.Table:
        with self._lock:
            file = self._file(shard)
            try:
                found = old_schema.read(file, "release", columns or None, use_threads=True)
                return found.replace_schema_metadata(None)
            except ObjectStoreError:
                raise
            except (*parquet.DAMAGE, ValueError, KeyError, TypeError) as error:
                raise self._broken(shard, error) from error

    def rows(self, places: Sequence[tuple[int, int]], columns: Sequence[str]) -> list[dict[str, Any]]:
        names = tuple(columns)
        by_group: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for position, (shard, row) in enumerate(places):
            by_group.setdefault((shard, self.group_of(shard, row)), []).append((position, row))
        found: list[dict[str, Any]] = [{} for _ in places]
        for (shard, group), wanted in by_group.items():
            table = self._group(shard, group, names)
            start = int(self._starts[shard][group])
            for position, row in wanted:
                # A slice copies nothing; `take` would copy the images once more.
                found[position] = table.slice(row - start, 1).to_pylist()[0]
        return found

    def _group(self, shard: int, group: int, columns: tuple[str, ...]) -> pa.Table:
        key = (shard, group, columns)
        with self._lock:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
            file = self._file(shard)
            try:
                table = old_schema.read(file, "release", columns, group=group)
            except ObjectStoreError:
                raise
            except (*parquet.DAMAGE, ValueError, KeyError, TypeError) as error:
                raise self._broken(shard, error) from error
            self._groups[key] = table
            while len(self._groups) > _KEPT_GROUPS:
                self._groups.popitem(last=False)
            return table

    def _file(self, shard: int) -> parquet.File:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        entry = self._entries[shard]
        path = self._folder.path(entry.path)
        try:
            if self._folder.is_local:
                file = parquet.opened(path, memory_map=True, page_checksum_verification=self._check_pages)
            else:
                # Arrow asks for what it needs in few ranges: reading ahead would bring twice as much.
                source = self._folder.fs.open(path, "rb", cache_type="none")
                file = parquet.opened(source, pre_buffer=True, page_checksum_verification=self._check_pages)
        except FileNotFoundError:
            raise ReleaseError(f"the shard {path} is missing: get it again (phq release pull)") from None
        except ObjectStoreError:
            raise
        except (*parquet.DAMAGE, ValueError, KeyError, TypeError) as error:
            raise self._broken(shard, error) from error
        if file.metadata.num_rows != entry.rows:
            raise ReleaseError(f"{path} has {file.metadata.num_rows} rows, the manifest says {entry.rows}")
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        self._starts[shard] = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self._files[shard] = file
        while len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return file

    def _broken(self, shard: int, error: Exception) -> ReleaseError:
        path = self._folder.path(self._entries[shard].path)
        return ReleaseError(
            f"{path} is damaged ({first_line(error)}): `phq release verify` names the rows; get "
            "it again (phq release pull)"
        )


def _why_nothing(folder: Folder) -> str:
    if folder.fs.exists(folder.path(".incomplete.json")):
        return f"the release at {folder.url} is incomplete: a push or pull was interrupted; run it again"
    try:
        children = [str(path).rpartition("/")[2] for path in folder.fs.ls(folder.root, detail=False)]
    except OSError:
        return f"there is no release at {folder.url}"
    versions = sorted(name for name in children if folder.fs.exists(folder.path(f"{name}/{manifests.NAME}")))
    if versions:
        return f"{folder.url} holds releases; open one of them: {', '.join(versions)}"
    return f"there is no release at {folder.url} (no {manifests.NAME})"
