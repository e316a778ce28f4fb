"""Taking portraits down: one command puts them on the list that every reader honours at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from phq_data.errors import ReleaseError
from phq_data.release import manifest as manifests
from phq_data.release import reader, tombstones
from phq_data.release.tombstones import Tombstone, Tombstones

_COLUMNS = ["portrait_id", "photo_id", "page_url", "file_url", "author", "author_url"]


@dataclass(frozen=True)
class Takedown:
    """What a request came to."""

    entry: Tombstone
    versions: tuple[str, ...]  # releases that held one of its portraits
    known: bool  # the request had been granted before


def take_down(
    releases: Path,
    *,
    portrait_id: str = "",
    url: str = "",
    author: str = "",
    reason: str = "",
    on: str = "",
) -> Takedown:
    """Put what was asked for on the list beside the releases in `releases`.

    Give one of: a portrait's or photo's id (or its first digits), a URL of the photo or its page, an author's
    name or page. Whole photos are taken down: with one person of a photo go the others, and no later cut of
    the photo can come back. A URL or author of whom nothing is released is remembered for later builds; an
    id of which nothing is released is an error. `on` is the ISO date, today if empty.
    """
    given = {"id": portrait_id, "url": url, "author": author}
    asked = [(kind, text.strip()) for kind, text in given.items() if text.strip()]
    if len(asked) != 1:
        raise ReleaseError("say what to take down: one of --id, --url or --author")
    kind, text = asked[0]
    if kind == "id" and len(text) < 8:
        raise ReleaseError(f"{text!r} is too short an id: give at least 8 digits of it")
    if not releases.is_dir():
        raise ReleaseError(
            f"there is no folder of releases at {releases}: name it with --releases DIR "
            "(`phq release build` writes to WORKSPACE/releases)"
        )
    portraits: set[str] = set()
    photos: set[str] = set()
    asked_for: set[str] = set()  # ids that start with what was given
    versions = []
    for path in sorted(releases.glob(f"*/{manifests.NAME}")):
        found, ids = _find(path.parent, kind, text)
        asked_for |= ids
        if found:
            versions.append(path.parent.name)
            portraits |= {portrait for portrait, _ in found}
            photos |= {photo for _, photo in found}
    if kind == "id":
        if not asked_for:
            raise ReleaseError(f"no release in {releases} has a portrait or photo {text}")
        if len(asked_for) > 1:
            raise ReleaseError(f"{len(asked_for)} portraits or photos start with {text}: give more of the id")
        text = asked_for.pop()
    entry = Tombstone(
        kind,
        tombstones.mark(kind, text),
        on or date.today().isoformat(),
        reason,
        tuple(sorted(portraits)),
        tuple(sorted(photos)),
    )
    fs, folder = LocalFileSystem(), str(releases.resolve())
    before = tombstones.read(fs, folder)
    known = any(e.kind == kind and e.match in tombstones.marks(kind, text) for e in before.entries)
    after = before.merged(Tombstones((entry,)))
    tombstones.write(fs, folder, after)
    kept = next(e for e in after.entries if (e.kind, e.match) == (entry.kind, entry.match))
    return Takedown(kept, tuple(versions), known)


def _find(folder: Path, kind: str, text: str) -> tuple[list[tuple[str, str]], set[str]]:
    """((portrait, photo) that the request means, full ids that start with it) in one release."""
    release = reader.open(folder)
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
