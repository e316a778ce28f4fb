"""Tombstones: what was taken down. `tombstones.json` lies beside the releases and in every pushed copy.

Every reader leaves out what it names, at once, without a new release; the next release drops it for good. An
entry names portraits and photos by their ids. What the request itself said (a URL, an author) is kept only as
a sha256, so that later builds recognise it and the public list does not advertise who asked. (A digest of a
guessable text can be guessed; it is no secret, only not a notice.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import fsspec

from phq_data.errors import ReleaseError
from phq_data.files import writing
from phq_data.foreign import parse_json

NAME = "tombstones.json"
FORMAT = "phq-tombstones/1"
_TRACKING = re.compile(
    r"(utm_\w+|fbclid|gclid|gclsrc|dclid|msclkid|yclid|igshid|mc_cid|mc_eid|_ga)(=|$)", re.IGNORECASE
)
"""Parameters that say where a reader came from, never which photo it is."""


@dataclass(frozen=True)
class Tombstone:
    """One request that was granted."""

    kind: str  # id, url, author
    match: str  # sha256 of what was asked for, normalised; for an id: the id itself
    date: str  # ISO date
    reason: str = ""
    portraits: tuple[str, ...] = ()  # released portraits that it meant
    photos: tuple[str, ...] = ()  # their photos: no later portrait of them may be released


@dataclass(frozen=True)
class Tombstones:
    """The list. `hides` is what readers ask, `forbids` what builds ask."""

    entries: tuple[Tombstone, ...] = ()

    def __post_init__(self) -> None:
        portraits = frozenset(p for entry in self.entries for p in entry.portraits)
        photos = frozenset(p for entry in self.entries for p in entry.photos)
        object.__setattr__(self, "_portraits", portraits)
        object.__setattr__(self, "_photos", photos)
        object.__setattr__(self, "_matches", frozenset((e.kind, e.match) for e in self.entries))

    def hides(self, portrait_id: str, photo_id: str) -> bool:
        """Must this portrait not be read?"""
        return portrait_id in self._portraits or photo_id in self._photos  # type: ignore[attr-defined]

    def forbids(self, row: Mapping[str, Any]) -> bool:
        """May this row (portrait, photo and provenance columns) not enter a release?"""
        if self.hides(row["portrait_id"], row["photo_id"]):
            return True
        matches: frozenset[tuple[str, str]] = self._matches  # type: ignore[attr-defined]
        return bool(matches) and any(
            (kind, one) in matches
            for kind, names in (("url", ("page_url", "file_url")), ("author", ("author", "author_url")))
            for name in names
            if row.get(name)
            for one in marks(kind, row[name])
        )

    def merged(self, other: Tombstones) -> Tombstones:
        """Both lists in one; nothing is ever lost by merging."""
        joined: dict[tuple[str, str], Tombstone] = {}
        for entry in sorted((*self.entries, *other.entries), key=lambda e: (e.date, e.kind, e.match)):
            old = joined.setdefault((entry.kind, entry.match), entry)
            joined[entry.kind, entry.match] = Tombstone(
                old.kind,
                old.match,
                old.date,
                old.reason or entry.reason,
                tuple(sorted({*old.portraits, *entry.portraits})),
                tuple(sorted({*old.photos, *entry.photos})),
            )
        return Tombstones(tuple(joined.values()))

    def to_bytes(self) -> bytes:
        """The file."""
        document = {"format": FORMAT, "tombstones": [asdict(entry) for entry in self.entries]}
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Tombstones:
        """The list in `data`. Raises `ReleaseError`: an unreadable list is not an empty one."""
        try:
            document = parse_json(data)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}, this PHQ reads {FORMAT}")
            return cls(
                tuple(
                    Tombstone(
                        **{
                            **entry,
                            "portraits": tuple(entry["portraits"]),
                            "photos": tuple(entry["photos"]),
                        }
                    )
                    for entry in document["tombstones"]
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReleaseError(
                f"the list of taken-down portraits {where} cannot be read ({error}); nothing is read from "
                "the release until it can: restore the file (phq release pull brings it)"
            ) from error


def mark(kind: str, text: str) -> str:
    """What stands in a tombstone for a request: an id itself, or the sha256 of a normalised URL or name.

    A URL keeps its query, in the order of its names: many sites tell photos apart by nothing else. What only
    says where a reader came from (utm_source, fbclid) is dropped.
    """
    if kind == "id":
        return text
    plain = " ".join(text.split())
    if kind == "url":
        path, _, query = plain.partition("#")[0].partition("?")
        kept = sorted(part for part in query.split("&") if part and not _TRACKING.match(part))
        plain = _bare(path) + (f"?{'&'.join(kept)}" if kept else "")
    return _digest("url2" if kind == "url" else kind, plain.casefold())


def marks(kind: str, text: str) -> tuple[str, ...]:
    """All marks that mean `text`, a URL or author of a row: its own, and that of earlier versions of PHQ.

    Those dropped the whole query of a URL. Their marks are still on lists and mean what they meant then; the
    two kinds have other prefixes under the digest, so that one of now never means all queries of an address.
    """
    own = mark(kind, text)
    if kind != "url":
        return (own,)
    plain = " ".join(text.split())
    return own, _digest("url", _bare(plain.partition("#")[0].partition("?")[0]))


def _bare(address: str) -> str:
    plain = address.casefold().rstrip("/")
    return plain.removeprefix("https://").removeprefix("http://").removeprefix("www.")


def _digest(kind: str, plain: str) -> str:
    return hashlib.sha256(f"{kind}:{plain}".encode()).hexdigest()


def read(fs: fsspec.AbstractFileSystem, folder: str) -> Tombstones:
    """The list that lies in `folder`; an empty one if there is none."""
    path = f"{folder}/{NAME}"
    try:
        data = bytes(fs.cat_file(path))
    except FileNotFoundError:
        return Tombstones()
    except OSError as error:
        raise ReleaseError(f"the list of taken-down portraits {path} cannot be read: {error}") from error
    return Tombstones.from_bytes(data, path)


def write(fs: fsspec.AbstractFileSystem, folder: str, tombstones: Tombstones) -> None:
    """Write the list into `folder`, whole or not at all where the file system can rename."""
    from fsspec.implementations.local import LocalFileSystem

    path = f"{folder}/{NAME}"
    if isinstance(fs, LocalFileSystem):
        with writing(path) as temporary:
            temporary.write_bytes(tombstones.to_bytes())
        return
    with contextlib.suppress(FileExistsError):
        fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(path, tombstones.to_bytes())


def joined(lists: Iterable[Tombstones]) -> Tombstones:
    """All lists in one."""
    found = Tombstones()
    for one in lists:
        found = found.merged(one)
    return found
