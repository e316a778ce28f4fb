"""Moving releases: `push` to and `pull` from any file system that fsspec knows, with resume and checksums.

A copy is complete when it has its manifest, and the manifest goes last. While a transfer runs, or after it
was cut off, the copy holds `.incomplete.json` instead, which lists the files that arrived; the same command
goes on from there. The list of taken-down portraits goes before the manifest, merged with what is there. What
is published already and was taken down since is withheld by the next push (`release.withheld`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from phq_data.errors import ReleaseError
from phq_data.files import file_sha256, stream_sha256
from phq_data.foreign import parse_json
from phq_data.release import manifest as manifests
from phq_data.release import reader, rights, tombstones, withheld
from phq_data.release.manifest import FileEntry, Manifest, ShardEntry
from phq_data.release.reader import Folder
from phq_data.release.rights import Permission, RightsError, Use
from phq_data.release.select import PROVENANCE
from phq_data.release.shelf import Shelf
from phq_data.release.takedown import resolved, settle

INCOMPLETE = ".incomplete.json"
_CHUNK = 4 << 20
_ATTEMPTS = 4
_PAUSE = 0.5  # seconds before the second attempt; doubles

OnBytes = Callable[[int, int], None]
"""Told of (bytes done, bytes in all)."""


class TransferError(ReleaseError):
    """A transfer that could not be finished; running it again goes on where it stopped."""


@dataclass(frozen=True)
class Transfer:
    """What a transfer came to."""

    url: str  # the copy
    sent: int  # files that were transferred
    kept: int  # files that were there already
    copied: int  # files that the far side copied from the parent version
    bytes: int  # transferred


def push(
    release_folder: str | Path,
    url: str,
    *,
    permissions: Sequence[Permission] = (),
    flat: bool = False,
    check: bool = False,
    on_bytes: OnBytes = lambda done, total: None,
) -> Transfer:
    """Copy a release to `url`/VERSION, or with `flat` to `url` itself (for a Hugging Face repository).

    The rights gate is asked again, row by row: publishing needs more than building. With `check` every file
    is read back and compared. Raises `RightsError`; `ReleaseError` when the version is there with other
    content, or when it still holds what was taken down; `TransferError` when the far side fails.
    """
    release = reader.open(release_folder)
    manifest = release.manifest
    shelf = Folder(url)
    target = shelf if flat else Folder(f"{shelf.url}/{manifest.version}")
    _check_rights(release, permissions)
    there = _remote_manifest(target)
    if there is not None and there.digest == manifest.digest:
        total = sum(entry.bytes for entry in manifest.entries)
        _push_tombstones(release, shelf, target)
        sent = _withhold(release, target)
        if sent:
            _take_over(release, shelf, target)
        on_bytes(total, total)
        size = sum(file.bytes for file in sent)
        return Transfer(target.url, len(sent), len(manifest.entries) - len(sent), 0, size)
    if there is not None and not flat:
        raise ReleaseError(
            f"{target.url} holds another release that calls itself {manifest.version} (digest "
            f"{there.digest[:12]}, yours {manifest.digest[:12]}); a published version never changes: build "
            "the next one"
        )
    _take_over(release, shelf, target)
    release = reader.open(release_folder)
    hidden = int((~release.alive()).sum())
    if hidden:
        raise ReleaseError(
            f"{manifest.version} still holds {hidden} portraits that were taken down; build the next "
            "version, which leaves them out, and push that"
        )
    if there is not None:  # flat: the old release stops being one before its files change
        target.fs.rm_file(target.path(manifests.NAME))
    parent = None if flat else _remote_parent(shelf, manifest)
    done = send(release.folder, manifest, target, parent=parent, flat=flat, on_bytes=on_bytes)
    if check:
        for entry in manifest.entries:
            if _remote_sha256(target, entry.path) != entry.sha256:
                _Journal(target, manifest).forget(entry)
                raise TransferError(f"{target.url}/{entry.path} did not arrive whole: push again")
    _retrying(lambda: _push_tombstones(release, shelf, target), shelf.url)
    _withhold(release, target)  # what was taken down at the far side while this was sent
    complete(target, manifest)
    return done


def send(
    source: Folder,
    manifest: Manifest,
    target: Folder,
    *,
    parent: tuple[Folder, Manifest] | None = None,
    flat: bool = False,
    check: Callable[[], None] = lambda: None,
    on_bytes: OnBytes = lambda done, total: None,
) -> Transfer:
    """Bring all files of a release from `source` to `target` but the manifest and the list: see `complete`.

    What an earlier try brought stays; shards that `parent`, beside `target`, has are copied there. `check` is
    asked before every file. Raises `TransferError`.
    """
    journal = _Journal(target, manifest)
    counts = {"sent": 0, "kept": 0, "copied": 0, "bytes": 0}
    done, total = 0, sum(entry.bytes for entry in manifest.entries)
    for entry in manifest.entries:
        check()
        if journal.has(entry):
            counts["kept"] += 1
        elif parent is not None and _copy_from(parent, target, entry):
            journal.add(entry)
            counts["copied"] += 1
        else:
            _retrying(partial(_upload, source, target, entry), f"{target.url}/{entry.path}")
            journal.add(entry)
            counts["sent"] += 1
            counts["bytes"] += entry.bytes
        done += entry.bytes
        on_bytes(done, total)
    _remove_strangers(target, manifest, "data/" if flat else "")
    return Transfer(target.url, **counts)


def complete(target: Folder, manifest: Manifest, check: Callable[[], None] = lambda: None) -> None:
    """Make what was sent to `target` a release: its manifest goes last, and the journal of the transfer."""
    check()
    if hasattr(target.fs, "put_if"):
        _retrying(lambda: _publish(target, manifest), target.url)
    else:
        _retrying(lambda: _put(target, manifests.NAME, manifest.to_bytes()), target.url)
    with contextlib.suppress(FileNotFoundError):
        target.fs.rm_file(target.path(INCOMPLETE))


def _publish(target: Folder, manifest: Manifest) -> None:
    """Write the manifest, if nobody else has published the version meanwhile."""
    path = target.path(manifests.NAME)
    if target.fs.put_if(path, manifest.to_bytes(), None) is None:
        there = _remote_manifest(target)
        if there is None or there.digest != manifest.digest:  # else the answer to an earlier try was lost
            raise ReleaseError(
                f"{target.url} was published by somebody else meanwhile: build the next version"
            )


def pull(
    url: str, releases: str | Path, *, version: str = "", on_bytes: OnBytes = lambda done, total: None
) -> Transfer:
    """Bring a release at `url` (or the `version` below it) into `releases`/VERSION, a folder or URL.

    Files are checked by sha256 as they arrive and half a file is continued. Raises `ReleaseError` when there
    is no release, `TransferError` when it cannot be brought whole.
    """
    source = Folder(f"{url.rstrip('/')}/{version}" if version else url)
    try:
        manifest = Manifest.from_bytes(source.read(manifests.NAME), source.path(manifests.NAME))
    except FileNotFoundError:
        # `open` knows how to say what is there instead.
        manifest = reader.open(source.url).manifest
    shelf = Folder(str(releases))
    target = Folder(f"{shelf.url}/{manifest.version}")
    here = _remote_manifest(target)
    if here is not None and here.digest != manifest.digest:
        raise ReleaseError(
            f"{target.url} holds another release that calls itself {manifest.version}: move it away first"
        )
    listed = tombstones.joined(tombstones.of_its_own(source.fs, source.root, manifest.about))
    listed = listed.known_to(manifest.about)
    tombstones.add(shelf.fs, shelf.root, listed)
    tombstones.add(target.fs, target.root, listed, copy=True)
    today, ours = withheld.read(source.fs, source.root), withheld.read(target.fs, target.root)
    if emptied := set(ours.portraits) > set(today.portraits):
        today = ours  # what is withheld here does not come back
    counts = {"sent": 0, "kept": 0, "copied": 0, "bytes": 0}
    total = sum(entry.bytes for entry in manifest.entries)
    journal = _Journal(target, manifest) if here is None else None
    done, sizes = 0, target.sizes()
    for entry in map(today.now, manifest.entries):
        if sizes.get(entry.path) == entry.bytes and _remote_sha256(target, entry.path) == entry.sha256:
            counts["kept"] += 1
        else:
            counts["sent"] += 1
            if target.is_local:
                counts["bytes"] += _download(source, entry, Path(target.path(entry.path)))
            else:
                _retrying(partial(_upload, source, target, entry), f"{target.url}/{entry.path}")
                counts["bytes"] += entry.bytes
        if journal is not None:
            journal.add(entry)
        done += entry.bytes
        on_bytes(done, total)
    if today.files or ours.files:
        _put(target, withheld.NAME, today.to_bytes())
    settle(shelf, target, manifest)
    if ours.portraits and not emptied:
        _withhold(reader.Release(target, manifest), target)
    if journal is not None:
        complete(target, manifest)
    return Transfer(target.url, **counts)


class _Journal:
    """`.incomplete.json`: which files of which release arrived."""

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self._folder = folder
        self._digest = manifest.digest
        self._files: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        try:
            found = parse_json(folder.read(INCOMPLETE))
            if found["digest"] == self._digest:
                self._files = dict(found["files"])
                self._sizes = folder.sizes()
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass  # nothing arrived yet, or nobody knows what did: everything is sent again
        self._write()

    def has(self, entry: ShardEntry | FileEntry) -> bool:
        return self._files.get(entry.path) == entry.sha256 and self._sizes.get(entry.path) == entry.bytes

    def add(self, entry: ShardEntry | FileEntry) -> None:
        self._files[entry.path] = entry.sha256
        self._write()

    def forget(self, entry: ShardEntry | FileEntry) -> None:
        self._files.pop(entry.path, None)
        self._write()

    def _write(self) -> None:
        text = json.dumps({"digest": self._digest, "files": self._files}, sort_keys=True)
        _retrying(lambda: _put(self._folder, INCOMPLETE, text.encode()), self._folder.url)


def _check_rights(release: reader.Release, permissions: Sequence[Permission]) -> None:
    use: Use = "publish-ids" if release.manifest.images == "none" else "publish-images"
    stated = [*permissions, *rights.stated(release.manifest.about)]
    rows = release.all().metadata(["portrait_id", *PROVENANCE]).to_pylist()
    refused = rights.check(rows, use, stated)
    if refused:
        hint = (
            ""
            if use == "publish-ids"
            else "\nOr publish without the images: phq release build --images none."
        )
        raise RightsError(rights.explain(refused, use) + hint)


def _remote_manifest(folder: Folder) -> Manifest | None:
    try:
        return Manifest.from_bytes(folder.read(manifests.NAME), folder.path(manifests.NAME))
    except FileNotFoundError:
        return None


def _remote_parent(shelf: Folder, manifest: Manifest) -> tuple[Folder, Manifest] | None:
    """The parent release on the far side, if it is the very one."""
    if not manifest.parent:
        return None
    folder = Folder(f"{shelf.url}/{manifest.parent['version']}")
    with contextlib.suppress(ReleaseError):
        found = _remote_manifest(folder)
        if found is not None and found.digest == manifest.parent["digest"]:
            return folder, found
    return None


def _copy_from(parent: tuple[Folder, Manifest], target: Folder, entry: ShardEntry | FileEntry) -> bool:
    """Let the far side copy a shard that did not change; False when it must be sent."""
    folder, manifest = parent
    if entry not in manifest.shards:
        return False
    try:
        target.fs.makedirs(target.path(entry.path).rpartition("/")[0], exist_ok=True)
        target.fs.cp_file(folder.path(entry.path), target.path(entry.path))
        return int(target.fs.info(target.path(entry.path))["size"]) == entry.bytes
    except (NotImplementedError, OSError):
        return False


def _upload(source: Folder, target: Folder, entry: ShardEntry | FileEntry) -> None:
    state = hashlib.sha256()
    path = target.path(entry.path)
    target.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    writing = f"{path}.part" if target.is_local else path
    with source.fs.open(source.path(entry.path), "rb") as file, target.fs.open(writing, "wb") as out:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
            out.write(chunk)
    if state.hexdigest() != entry.sha256:
        where = source.path(entry.path)
        raise ReleaseError(f"{where} is damaged: its sha256 differs from the manifest's; verify the release")
    if target.is_local:
        target.fs.mv(writing, path)
    target.fs.invalidate_cache()
    arrived = int(target.fs.info(path)["size"])
    if arrived != entry.bytes:
        raise OSError(f"{arrived:,} of {entry.bytes:,} bytes arrived")


def _download(source: Folder, entry: ShardEntry | FileEntry, path: Path) -> int:
    """Bring one file, going on with what is there of it; returns the bytes transferred."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    moved = 0

    def once() -> None:
        nonlocal moved
        start = part.stat().st_size if part.exists() else 0
        if start > entry.bytes:
            part.unlink()
            start = 0
        with source.fs.open(source.path(entry.path), "rb") as file, part.open("ab") as out:
            if start:
                file.seek(start)
            while chunk := file.read(_CHUNK):
                out.write(chunk)
                moved += len(chunk)
        if part.stat().st_size < entry.bytes:
            raise OSError(f"only {part.stat().st_size:,} of {entry.bytes:,} bytes came")
        if file_sha256(part) != entry.sha256:
            part.unlink()
            raise OSError("what came is not what was released (its sha256 differs)")

    _retrying(once, source.path(entry.path))
    part.replace(path)
    return moved


def _take_over(release: reader.Release, shelf: Folder, target: Folder) -> None:
    """Put what the lists at the far side mean of this release on its own list, which readers and the next
    build go by: what was taken down there, perhaps from somewhere else, may not come back with it.
    """
    places = dict.fromkeys([target.root, target.root.rpartition("/")[0], shelf.root])
    theirs = tombstones.joined(tombstones.read(shelf.fs, place) for place in places if place)
    new = resolved(theirs, release)
    rows = release.index.select(["portrait_id", "photo_id"]).to_pylist()
    if not any(new.hides(**row) and not release.tombstones.hides(**row) for row in rows):
        return
    new = new.known_to(release.manifest.about)
    home = release.folder
    tombstones.add(home.fs, home.root, new, copy=True)
    if tombstones.find(home.fs, home.root.rpartition("/")[0]) is not None:
        tombstones.add(home.fs, home.root.rpartition("/")[0], new)


def _push_tombstones(release: reader.Release, shelf: Folder, target: Folder) -> None:
    """Merge the lists, and let what is new on the far one hold for all releases there."""
    before = {(entry.kind, entry.match) for entry in tombstones.read(shelf.fs, shelf.root).entries}
    listed = settle(shelf, target, release.manifest, release.tombstones)
    if target.root != shelf.root and {(entry.kind, entry.match) for entry in listed.entries} - before:
        for other in Shelf(shelf.url).releases():
            if other.root != target.root:
                settle(shelf, other, reader.open(other.url).manifest)


def _withhold(release: reader.Release, target: Folder) -> list[FileEntry]:
    """Replace the published files that show what was taken down since; returns what was sent."""
    before = withheld.read(target.fs, target.root)
    listed = tombstones.of_release(target.fs, target.root, release.manifest.about)
    hidden: dict[int, list[str]] = {}
    for row in release.index.select(["portrait_id", "photo_id", "shard"]).to_pylist():
        if listed.hides(row["portrait_id"], row["photo_id"]) and row["portrait_id"] not in before.portraits:
            hidden.setdefault(row["shard"], []).append(row["portrait_id"])
    if not hidden:
        return []

    def fetch(path: str, to: Path) -> None:
        release.folder.fs.get_file(release.folder.path(path), str(to))

    def upload(made: Path, entry: FileEntry) -> None:
        _retrying(partial(_upload, Folder(str(made)), target, entry), f"{target.url}/{entry.path}")

    after = withheld.make(fetch, release.manifest, before, hidden, upload)
    _retrying(lambda: _put(target, withheld.NAME, after.to_bytes()), target.url)
    return [file for file in after.files if file not in before.files]


def _remove_strangers(target: Folder, manifest: Manifest, below: str) -> None:
    """Old shards must not stay where a glob would find them, least of all those with taken-down rows; nor
    what says which rows the release had to lose that was there before.
    """
    known = {*(entry.path for entry in manifest.entries), INCOMPLETE, tombstones.NAME}
    for name in target.sizes():
        if name not in known and (name.startswith(below) or name == withheld.NAME):
            target.fs.rm_file(target.path(name))


def _put(folder: Folder, name: str, data: bytes) -> None:
    path = folder.path(name)
    folder.fs.makedirs(folder.root, exist_ok=True)
    if folder.is_local:
        folder.fs.pipe_file(f"{path}.part", data)
        folder.fs.mv(f"{path}.part", path)
    else:
        folder.fs.pipe_file(path, data)
    folder.fs.invalidate_cache()


def _retrying(work: Callable[[], Any], where: str) -> None:
    """Do `work`, again after a pause when the other side failed; `TransferError` in the end."""
    for attempt in range(_ATTEMPTS):
        try:
            work()
            return
        except OSError as error:
            if attempt + 1 == _ATTEMPTS or isinstance(error, PermissionError):
                raise TransferError(
                    f"{where}: {error}. What arrived is kept: run the same command to go on"
                ) from error
            time.sleep(_PAUSE * 2**attempt)


def _remote_sha256(folder: Folder, name: str) -> str:
    with folder.fs.open(folder.path(name), "rb") as file:
        return stream_sha256(file)
