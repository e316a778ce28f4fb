"""Taking portraits down: one command puts them on the list that every reader honours at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from phq_data.errors import ReleaseError
from phq_data.release import manifest as manifests
from phq_data.release import reader, tombstones
from phq_data.release.marks import mark, marks
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
    if shelf.exists(manifests.NAME):
        above = shelf.url.rstrip("/").rpartition("/")[0] or "."
        raise ReleaseError(
            f"{shelf.url} is one release: name the folder of all releases, --releases {above}, so that the "
            "list holds for those to come"
        )
    folders = shelf.releases()
    opened = {folder.name: reader.open(folder.url) for folder in folders}
    before = shelf.tombstones()
    found = [
        _granted(shelf.url, opened, before, kind, text, reason, on or date.today().isoformat())
        for kind, text in asked
    ]
    after = before.merged(Tombstones(tuple(one.entry for one in found)))
    for release in opened.values():
        after = resolved(after, release).known_to(release.manifest.about)
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
    entry = Tombstone(kind, mark(kind, match), on, reason, tuple(sorted(portraits)), tuple(sorted(photos)))
    known = any(e.kind == kind and e.match in marks(kind, match) for e in before.entries)
    return Takedown(kind, text, entry, tuple(versions), known)


def _find(release: reader.Release, kind: str, text: str) -> tuple[list[tuple[str, str]], set[str]]:
    """((portrait, photo) that the request means, full ids that start with it) in one release."""
    portraits, photos = (release.index[name].to_pylist() for name in ("portrait_id", "photo_id"))
    if kind == "id":
        ids = {one for one in (*portraits, *photos) if one.startswith(text)}
        meant = {photo for portrait, photo in zip(portraits, photos, strict=True) if {portrait, photo} & ids}
        return [(a, b) for a, b in zip(portraits, photos, strict=True) if b in meant], ids
    wanted = {(kind, mark(kind, text))}
    hits = {photo for photo, found in _marked(release) if found & wanted}
    return [(a, b) for a, b in zip(portraits, photos, strict=True) if b in hits], set()


def resolved(listed: Tombstones, release: reader.Release) -> Tombstones:
    """The list with the ids of all portraits of `release` that its requests mean, by URL, author or photo.

    A release may come to a list (pulled, pushed, copied) that was written before it was there.
    """
    asked = {(entry.kind, entry.match): entry for entry in listed.entries if entry.kind in ("url", "author")}
    if not asked:
        return listed
    meant: dict[tuple[str, str], set[str]] = {}
    for photo, found in _marked(release):
        for one in found & set(asked):
            meant.setdefault(one, set()).add(photo)
    portraits, photos = (release.index[name].to_pylist() for name in ("portrait_id", "photo_id"))
    more = [
        replace(
            asked[one],
            portraits=tuple(sorted(a for a, b in zip(portraits, photos, strict=True) if b in hits)),
            photos=tuple(sorted(hits)),
        )
        for one, hits in meant.items()
    ]
    return replace(listed.merged(Tombstones(tuple(more))), is_copy=listed.is_copy, lineages=listed.lineages)


def _marked(release: reader.Release) -> Iterator[tuple[str, set[tuple[str, str]]]]:
    """(photo, what requests would say that mean it) of every row that says where it is from."""
    for number in range(len(release.manifest.shards)):
        for row in release.read_shard(number, _COLUMNS).to_pylist():
            yield (
                row["photo_id"],
                {
                    (kind, one)
                    for kind, names in (
                        ("url", ("page_url", "file_url")),
                        ("author", ("author", "author_url")),
                    )
                    for name in names
                    if row[name]
                    for one in marks(kind, row[name])
                },
            )
