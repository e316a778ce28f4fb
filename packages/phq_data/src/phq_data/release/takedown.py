"""Taking portraits down: one command puts them on the list that every reader honours at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from phq_data.errors import ReleaseError
from phq_data.release import manifest as manifests
from phq_data.release import reader, tombstones
from phq_data.release.marks import mark, marks
from phq_data.release.reader import Folder
from phq_data.release.shelf import Shelf
from phq_data.release.tombstones import Tombstone, Tombstones

Mark = tuple[str, str]
"""A request as the list holds it: its kind and mark."""
_NAMES = (("url", ("page_url", "file_url")), ("author", ("author", "author_url")))
_NONE = Tombstones()
_COLUMNS = ["portrait_id", "photo_id", "page_url", "file_url", "author", "author_url"]


@dataclass(frozen=True)
class Takedown:
    """What a request came to."""

    kind: str  # id, url, author
    asked: str  # as it was written
    entry: Tombstone
    versions: tuple[str, ...]  # releases that held one of its portraits
    known: bool  # the request had been granted before


def take_down(
    releases: str | Path,
    *,
    portrait_id: str = "",
    url: str = "",
    author: str = "",
    reason: str = "",
    on: str = "",
) -> Takedown:
    """`take_all_down` for one request: an id, a URL or an author."""
    given = {"id": portrait_id, "url": url, "author": author}
    requests = [(kind, text) for kind, text in given.items() if text.strip()]
    if len(requests) != 1:
        raise ReleaseError("say what to take down: one of --id, --url or --author")
    return take_all_down(releases, requests, reason=reason, on=on)[0]


def take_all_down(
    releases: str | Path, requests: Sequence[tuple[str, str]], *, reason: str = "", on: str = ""
) -> list[Takedown]:
    """Put what was asked for on the list beside the releases in `releases`, a folder or URL: all or nothing.

    A request is of a kind: "id", a portrait's or photo's id (or its first digits); "url", of the photo or its
    page; "author", a name or page. Whole photos are taken down: with one person of a photo go the others, and
    no later cut of the photo can come back. A URL or author of whom nothing is released is remembered for
    later builds; an id of which nothing is released is an error. `on` is the ISO date, today if empty.
    """
    asked = [(kind, text.strip()) for kind, text in requests]
    if not asked or not all(text for _, text in asked):
        raise ReleaseError("say what to take down: --id, --url or --author, each as often as you like")
    for kind, text in asked:
        if kind == "id" and len(text) < 8:
            raise ReleaseError(f"{text!r} is too short an id: give at least 8 digits of it")
    shelf = Shelf(releases)
    if shelf.exists(manifests.NAME):
        above = shelf.url.rstrip("/").rpartition("/")[0] or "."
        raise ReleaseError(
            f"{shelf.url} is one release: name the folder of all releases, --releases {above}, so that the "
            "list holds for those to come"
        )
    folders = shelf.releases()
    opened = {folder.name: reader.open(folder.url) for folder in folders}
    before = shelf.tombstones()
    wanted = {(kind, mark(kind, text)) for kind, text in asked if kind != "id"} | _standing(before)
    meant = {version: _meant(release, wanted) for version, release in opened.items()}
    found = [
        _granted(shelf.url, opened, meant, before, kind, text, reason, on or date.today().isoformat())
        for kind, text in asked
    ]
    after = before.merged(Tombstones(tuple(one.entry for one in found)))
    for version, release in opened.items():
        after = _with(after, release, meant[version]).known_to(release.manifest.about)
    tombstones.add(shelf.fs, shelf.root, after)
    for folder in folders:
        tombstones.add(folder.fs, folder.root, after, copy=True)
    kept = {(entry.kind, entry.match): entry for entry in after.entries}
    return [replace(one, entry=kept[one.entry.kind, one.entry.match]) for one in found]


def settle(
    shelf: Folder, target: Folder, manifest: manifests.Manifest, more: Tombstones = _NONE
) -> Tombstones:
    """Put on the list in `shelf`, and on its copy in the release `target`, what is asked for in it or in
    `more` and means portraits of this release; the list as it is then.

    A release may come (built, filled, pulled, pushed, copied) when the request is there already.
    """
    listed = tombstones.add(shelf.fs, shelf.root, more.known_to(manifest.about))
    if target.root != shelf.root:
        tombstones.add(target.fs, target.root, listed, copy=True)
    meant = resolved(listed, reader.Release(target, manifest))
    if meant != listed:
        listed = tombstones.add(shelf.fs, shelf.root, meant)
        if target.root != shelf.root:
            tombstones.add(target.fs, target.root, listed, copy=True)
    return listed


def resolved(listed: Tombstones, release: reader.Release) -> Tombstones:
    """The list with the ids of all portraits of `release` that its requests mean by URL or author."""
    return _with(listed, release, _meant(release, _standing(listed)))


def _granted(
    releases: str,
    opened: Mapping[str, reader.Release],
    meant: Mapping[str, Mapping[Mark, set[str]]],
    before: Tombstones,
    kind: str,
    text: str,
    reason: str,
    on: str,
) -> Takedown:
    """What one request means in the releases that are there."""
    portraits: set[str] = set()
    photos: set[str] = set()
    ids: set[str] = set()  # that start with what was given
    versions = []
    for version, release in opened.items():
        hits, there = _find(release, meant[version], kind, text)
        ids |= there
        if hits:
            versions.append(version)
            portraits |= {portrait for portrait, _ in hits}
            photos |= {photo for _, photo in hits}
    match = text
    if kind == "id":
        if not ids:
            raise ReleaseError(f"no release in {releases} has a portrait or photo {text}")
        if len(ids) > 1:
            raise ReleaseError(f"{len(ids)} portraits or photos start with {text}: give more of the id")
        match = ids.pop()
    entry = Tombstone(kind, mark(kind, match), on, reason, tuple(sorted(portraits)), tuple(sorted(photos)))
    known = any(e.kind == kind and e.match in marks(kind, match) for e in before.entries)
    return Takedown(kind, text, entry, tuple(versions), known)


def _find(
    release: reader.Release, meant: Mapping[Mark, set[str]], kind: str, text: str
) -> tuple[list[tuple[str, str]], set[str]]:
    """((portrait, photo) that the request means, full ids that start with it) in one release."""
    ids: set[str] = set()
    hits = meant.get((kind, mark(kind, text)), set())
    if kind == "id":
        names = [release.index[name] for name in ("portrait_id", "photo_id")]
        starts = [pc.starts_with(column, pattern=text) for column in names]
        ids = {
            one for column, some in zip(names, starts, strict=True) for one in column.filter(some).to_pylist()
        }
        hits = set(names[1].filter(pc.or_(*starts)).to_pylist())
    return _of_photos(release, hits), ids


def _of_photos(release: reader.Release, photos: Set[str]) -> list[tuple[str, str]]:
    """(portrait, photo) of all rows of these photos."""
    wanted = pc.is_in(release.index["photo_id"], value_set=pa.array(sorted(photos), pa.string()))
    rows = release.index.select(["portrait_id", "photo_id"]).filter(wanted)
    return list(zip(rows["portrait_id"].to_pylist(), rows["photo_id"].to_pylist(), strict=True))


def _standing(listed: Tombstones) -> set[Mark]:
    """The requests of a list that say more than ids."""
    return {(entry.kind, entry.match) for entry in listed.entries if entry.kind in ("url", "author")}


def _with(listed: Tombstones, release: reader.Release, meant: Mapping[Mark, set[str]]) -> Tombstones:
    """The list with the portraits of `release` whose photos its entries mean."""
    asked = {(entry.kind, entry.match): entry for entry in listed.entries}
    told = {one: hits for one, hits in meant.items() if hits and one in asked}
    if not told:
        return listed
    more = [
        replace(
            asked[one],
            portraits=tuple(portrait for portrait, _ in _of_photos(release, hits)),
            photos=tuple(sorted(hits)),
        )
        for one, hits in told.items()
    ]
    return replace(listed.merged(Tombstones(tuple(more))), is_copy=listed.is_copy, lineages=listed.lineages)


def _meant(release: reader.Release, wanted: Set[Mark]) -> dict[Mark, set[str]]:
    """The photos that each of the `wanted` requests means, in one pass over the release."""
    found: dict[Mark, set[str]] = {one: set() for one in wanted}
    if not wanted:
        return found
    marks_of = lru_cache(maxsize=4096)(marks)  # authors come again and again
    for number in range(len(release.manifest.shards)):
        for row in release.read_shard(number, _COLUMNS).to_pylist():
            for kind, names in _NAMES:
                for name in names:
                    for one in marks_of(kind, row[name]) if row[name] else ():
                        if (kind, one) in wanted:
                            found[kind, one].add(row["photo_id"])
    return found
