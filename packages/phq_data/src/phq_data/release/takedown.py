"""Taking portraits down: one command puts them on the list that every reader honours at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from phq_data.errors import ReleaseError
from phq_data.release import reader, tombstones
from phq_data.release.shelf import Shelf
from phq_data.release.tombstones import Tombstone, Tombstones

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
    folders = shelf.releases()
    opened = {folder.name: reader.open(folder.url) for folder in folders}
    before = shelf.tombstones()
    found = [
        _granted(shelf.url, opened, before, kind, text, reason, on or date.today().isoformat())
        for kind, text in asked
    ]
    after = before.merged(Tombstones(tuple(one.entry for one in found)))
    for release in opened.values():
        after = after.known_to(release.manifest.about)
    tombstones.add(shelf.fs, shelf.root, after)
    for folder in folders:
        tombstones.add(folder.fs, folder.root, after, copy=True)
    kept = {(entry.kind, entry.match): entry for entry in after.entries}
    return [replace(one, entry=kept[one.entry.kind, one.entry.match]) for one in found]


def _granted(
    releases: str,
    opened: Mapping[str, reader.Release],
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
        hits, there = _find(release, kind, text)
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
    entry = Tombstone(
        kind, tombstones.mark(kind, match), on, reason, tuple(sorted(portraits)), tuple(sorted(photos))
    )
    known = any(e.kind == kind and e.match in tombstones.marks(kind, match) for e in before.entries)
    return Takedown(kind, text, entry, tuple(versions), known)


def _find(release: reader.Release, kind: str, text: str) -> tuple[list[tuple[str, str]], set[str]]:
    """((portrait, photo) that the request means, full ids that start with it) in one release."""
    portraits, photos = (release.index[name].to_pylist() for name in ("portrait_id", "photo_id"))
    if kind == "id":
        ids = {one for one in (*portraits, *photos) if one.startswith(text)}
        meant = {photo for portrait, photo in zip(portraits, photos, strict=True) if {portrait, photo} & ids}
        return [(a, b) for a, b in zip(portraits, photos, strict=True) if b in meant], ids
    wanted = tombstones.mark(kind, text)
    names: Sequence[str] = ("page_url", "file_url") if kind == "url" else ("author", "author_url")
    hits: set[str] = set()
    for number in range(len(release.manifest.shards)):
        for row in release.read_shard(number, _COLUMNS).to_pylist():
            if any(row[name] and tombstones.mark(kind, row[name]) == wanted for name in names):
                hits.add(row["photo_id"])
    return [(a, b) for a, b in zip(portraits, photos, strict=True) if b in hits], set()
