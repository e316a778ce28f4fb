"""Putting images back into a release that went out without them, for whoever may have them.

Photos come from folders of files that the user has, or from their recorded URLs, one at a time and slowly.
A photo counts only if its bytes have the recorded sha256; an image only if its pixels have the recorded
digest. What cannot be filled stays empty and is reported. The result is a local copy, VERSION+filled.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from phq_data import parquet, parquet_limits
from phq_data.errors import ReleaseError
from phq_data.files import file_sha256
from phq_data.foreign import parse_json
from phq_data.release import manifest as manifests
from phq_data.release import reader, rights, tombstones
from phq_data.release.manifest import FileEntry, Manifest, ShardEntry, encoded_digest, row_digest
from phq_data.release.reader import Folder
from phq_data.release.rights import Permission, RightsError
from phq_data.release.rows import pixel_digest
from phq_data.release.shards import write_rows
from phq_data.release.shelf import Shelf
from phq_data.release.takedown import settle
from phq_data.release.transfer import complete, send
from phq_data.sources import RefusedFileError

MARK = "filled"
Fetch = Callable[[Mapping[str, Any]], bytes | None]
"""Provenance of a photo to its bytes; None when it has no such photo. Raises `OSError`."""


@dataclass(frozen=True)
class Filled:
    """What filling came to."""

    folder: str  # or URL
    filled: int
    missing: Mapping[str, int]  # reason -> portraits that stay empty


def fill(
    release_folder: str | Path,
    releases: str | Path,
    fetchers: Sequence[Fetch],
    *,
    permissions: Sequence[Permission] = (),
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> Filled:
    """Write `releases`/VERSION+filled: the release with its images, as far as `fetchers` find them.

    Fetchers are asked in order. Finished shards are kept when it is stopped and run again, but not where
    `releases` is at an object store: they are made among the temporary files, and sent at the end. Raises
    `RightsError` for rows that may not be used, `ReleaseError` when there is nothing to fill.
    """
    shelf = Shelf(releases)
    if shelf.is_local:
        made = _fill(release_folder, Path(shelf.root), fetchers, permissions, on_rows)
        settle(shelf, Folder(made.folder), reader.open(made.folder).manifest)
        return made
    with shelf.building() as (scratch, check):
        made = _fill(release_folder, scratch, fetchers, permissions, on_rows)
        here = reader.open(made.folder)
        target = shelf.release(Path(made.folder).name)
        if target.exists(manifests.NAME):
            raise ReleaseError(f"{target.url} is there already")
        send(here.folder, here.manifest, target, check=check)
        tombstones.add(shelf.fs, shelf.root, here.tombstones)
        tombstones.add(target.fs, target.root, here.tombstones, copy=True)
        complete(target, here.manifest, check)
        settle(shelf, target, here.manifest)
    return replace(made, folder=target.url)


def _fill(
    release_folder: str | Path,
    releases: Path,
    fetchers: Sequence[Fetch],
    permissions: Sequence[Permission],
    on_rows: Callable[[int, int], None],
) -> Filled:
    """`fill` into a folder of this machine."""
    release = reader.open(release_folder)
    manifest = release.manifest
    if manifest.images != "none":
        raise ReleaseError(f"{release_folder} has its images already")
    table = release.all().metadata(["portrait_id", "provider", "file_url", "license", "permission"])
    refused = rights.check(table.to_pylist(), "train", permissions)
    if refused:
        raise RightsError(rights.explain(refused, "train"))
    target = releases / f"{manifest.version}+{MARK}"
    if (target / manifests.NAME).exists():
        raise ReleaseError(f"{target} is there already")
    (target / "data").mkdir(parents=True, exist_ok=True)
    done_before = _journal(target, manifest)
    missing: Counter[str] = Counter()
    filled = 0
    rows_done = 0
    entries: list[ShardEntry] = []
    index_rows: list[dict[str, Any]] = []
    for number, shard in enumerate(manifest.shards):
        path = target / shard.path
        known = done_before.get(shard.path)
        if known is None or not path.exists() or file_sha256(path) != known:
            why: Counter[str] = Counter()
            write_rows(path, _all_filled(_rows(release, number), fetchers, why), _schema(release, number))
            (target / "data" / f".{path.name}.json").write_text(json.dumps(why))
        reasons = Counter(parse_json((target / "data" / f".{path.name}.json").read_text()))
        missing.update(reasons)
        digest, size = file_sha256(path), path.stat().st_size
        done_before[shard.path] = digest
        _save_journal(target, manifest, done_before)
        entries.append(ShardEntry(shard.path, shard.split, _count(path), size, digest))
        rows_done += shard.rows
        filled += entries[-1].rows - sum(reasons.values())
        index_rows += _index_rows(path, len(entries) - 1, shard.split)
        on_rows(rows_done, manifest.rows)
    _finish(target, release, entries, index_rows, {"filled": filled, "missing": dict(missing)})
    return Filled(str(target), filled, dict(missing))


def from_folders(folders: Iterable[Path]) -> Fetch:
    """Photos that lie in folders, found by their sha256 (every file is read once)."""
    by_digest: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                by_digest[file_sha256(path)] = path

    def fetch(row: Mapping[str, Any]) -> bytes | None:
        path = by_digest.get(row["photo_id"])
        return path.read_bytes() if path else None

    return fetch


def from_web(
    contact: str,
    pause: float = 1.0,
    attempts: int = 3,
    limit: int = 200_000_000,
    *,
    allow_private: bool = False,
) -> Fetch:
    """Photos at their recorded URLs, one at a time, at most one a `pause` seconds and host.

    `contact` is told to the servers. What robots.txt, X-Robots-Tag and TDM reservations say now counts, not
    what they said when the photo was scraped: `RefusedFileError` then. Other failures are `OSError`.
    """
    try:
        from phq_data.sources.wikimedia import policies
    except ImportError as error:
        raise ReleaseError(f"fetching needs {error.name}: pip install 'phq-data[scrape]'") from error
    from phq_data.sources.web import FetchError, RefusedError
    from phq_data.sources.web.fetch import Fetcher
    from phq_data.sources.web.http import Web
    from phq_data.sources.web.limits import HostPolicy
    from phq_data.sources.web.robots import RobotsPolicy

    web = Web(
        contact,
        policies=policies(),
        default=HostPolicy(connections=1, per_second=1.0 / pause if pause else 0.0),
        attempts=attempts,
        allow_private=allow_private,
    )
    robots = RobotsPolicy(web)

    def fetch(row: Mapping[str, Any]) -> bytes | None:
        url = row["file_url"]
        if not url or urlsplit(url).scheme not in ("http", "https"):
            return None
        with tempfile.TemporaryDirectory(prefix="phq-fill-") as folder:
            try:
                found = Fetcher(web, robots, Path(folder), limit).fetch(url)
            except RefusedError as error:
                raise RefusedFileError(error.reason, f"{url} is not fetched: {error}") from None
            except FetchError as error:
                raise OSError(f"{url} cannot be fetched: {error}") from None
            return found.path.read_bytes() if found.path else None

    return fetch


def _rows(release: reader.Release, shard: int) -> Iterable[dict[str, Any]]:
    """Rows of a shard, a row group in memory at a time, without those taken down."""
    hides = release.tombstones.hides
    entry = release.manifest.shards[shard]
    path = release.folder.path(entry.path)
    with release.folder.fs.open(path, "rb") as source:
        file = parquet.opened(source)
        for group in range(file.num_row_groups):
            for row in parquet_limits.read(file, group=group).to_pylist():
                if not hides(row["portrait_id"], row["photo_id"]):
                    yield row


def _schema(release: reader.Release, shard: int) -> pa.Schema:
    """The schema of a shard as it was written: a filled copy is of the version of its release."""
    path = release.folder.path(release.manifest.shards[shard].path)
    with release.folder.fs.open(path, "rb") as source:
        return parquet.schema_of(source)


def _all_filled(
    rows: Iterable[dict[str, Any]], fetchers: Sequence[Fetch], why: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The rows, filled one after another; `why` counts those that were not."""
    for row in rows:
        found, reason = _filled(row, fetchers)
        if reason:
            why[reason] += 1
        yield found


def _filled(row: dict[str, Any], fetchers: Sequence[Fetch]) -> tuple[dict[str, Any], str]:
    """The row with its image, and why it has none."""
    from phq_data.images.codecs import PhotoError, decode, encode_image, image_struct
    from phq_data.stages.crop import CropError, Window
    from phq_data.stages.resample import resample

    try:
        photo = _photo(row, fetchers)
    except RefusedFileError as refusal:
        return row, refusal.reason
    except OSError:
        return row, "unreachable"
    if photo is None:
        return row, "not_found"
    if hashlib.sha256(photo).hexdigest() != row["photo_id"]:
        return row, "another_photo"
    try:
        pixels = decode(photo, max_pixels=150_000_000).pixels
        image = resample(pixels, Window(*row["window"]), row["size"]).pixels
        data, extension = encode_image(image, row["codec"])
        struct = image_struct(data, f"{row['portrait_id']}.{extension}")
        if row["codec"].startswith("jpeg"):
            from phq_data.images.codecs import decode_struct

            image = decode_struct(struct)
    except (PhotoError, CropError) as error:
        return row, type(error).__name__
    if pixel_digest(image) != row["pixels"]:
        return row, "other_pixels"
    return {**row, "image": struct}, ""


def _photo(row: Mapping[str, Any], fetchers: Sequence[Fetch]) -> bytes | None:
    for fetch in fetchers:
        found = fetch(row)
        if found is not None:
            return found
    return None


def _index_rows(path: Path, shard: int, split: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    file = parquet.opened(path)
    for group in range(file.num_row_groups):
        for row in parquet_limits.read(file, group=group).to_pylist():
            found.append(
                {
                    "portrait_id": row["portrait_id"],
                    "photo_id": row["photo_id"],
                    "split": split,
                    "shard": shard,
                    "row": len(found),
                    "digest": row_digest(row),
                    "pixels": row["pixels"],
                    "encoded": encoded_digest(row),
                }
            )
    return found


def _finish(
    target: Path,
    release: reader.Release,
    entries: Sequence[ShardEntry],
    index_rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> None:
    """Copy the documents, write index and manifest, clear the traces of the work."""
    manifest = release.manifest
    parquet.write(
        pa.Table.from_pylist(list(index_rows), schema=manifests.INDEX_SCHEMA),
        target / manifests.INDEX,
    )
    files = []
    for entry in manifest.files:
        path = target / entry.path
        if entry.path != manifests.INDEX:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(release.folder.read(entry.path))
        digest, size = file_sha256(path), path.stat().st_size
        files.append(FileEntry(entry.path, size, digest))
    for path in target.rglob(".*"):
        path.unlink()
    done = replace(
        manifest,
        version=f"{manifest.version}+{MARK}",
        images="all",
        shards=tuple(entries),
        files=tuple(files),
        parent={"version": manifest.version, "digest": manifest.digest},
        about={**manifest.about, "fill": dict(about)},
    )
    tombstones.add(LocalFileSystem(), str(target), release.tombstones, copy=True)
    tombstones.add(LocalFileSystem(), str(target.parent), release.tombstones)
    (target / manifests.NAME).write_bytes(done.to_bytes())


def _count(path: Path) -> int:
    return int(parquet.opened(path).metadata.num_rows)


def _journal(target: Path, manifest: Manifest) -> dict[str, str]:
    try:
        found = parse_json((target / ".incomplete.json").read_text())
        return dict(found["files"]) if found["digest"] == manifest.digest else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _save_journal(target: Path, manifest: Manifest, files: Mapping[str, str]) -> None:
    text = json.dumps({"digest": manifest.digest, "files": files})
    (target / ".incomplete.json").write_text(text)
