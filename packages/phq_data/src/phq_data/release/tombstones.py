"""Tombstones: what was taken down. `tombstones.json` lies beside the releases, a copy of it in each of them.

Every reader leaves out what it names, at once, without a new release; the next release drops it for good. The
list holds its own count and digest, and names the lineages of the releases that it is for: a release has the
lineage of its parent, the first one a digest of its index. A release's manifest says that it has a list, and
its lineage: without any list, or with that of other releases, nothing is read from it, and a release that
lies without the list beside it says so.

An entry names portraits and photos by their ids. What the request itself said (a URL, an author) is kept
only as a sha256, so that later builds recognise it and the public list does not advertise who asked. (A
digest of a guessable text can be guessed; it is no secret, only not a notice.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from phq_data.errors import ReleaseError
from phq_data.files import writing
from phq_data.foreign import parse_json
from phq_data.release.marks import marks

NAME = "tombstones.json"
FORMAT = "phq-tombstones/1"
RECORDED = "takedown_list"
"""What a manifest says is there; releases of 0.1.0 say nothing, and may have no list."""
LINEAGE = "lineage"
"""What a manifest says of which releases it is one; those of 0.1.0 say nothing."""
_OF_A_LIST = {"format", "tombstones"}
_CHECKED = {"count", "digest", "copy"}  # lists of 0.1.0 have none of them, nor lineages
_LINEAGES = "lineages"
_LOG = logging.getLogger(__name__)


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
    is_copy: bool = field(default=False, compare=False)  # the list itself lies beside the release
    lineages: tuple[str, ...] | None = ()  # of the releases that it is for; None = it does not say

    def __post_init__(self) -> None:
        portraits = frozenset(p for entry in self.entries for p in entry.portraits)
        photos = frozenset(p for entry in self.entries for p in entry.photos)
        object.__setattr__(self, "_portraits", portraits)
        object.__setattr__(self, "_photos", photos)
        object.__setattr__(self, "_matches", frozenset((e.kind, e.match) for e in self.entries))

    def hides(self, portrait_id: str, photo_id: str) -> bool:
        """Must this portrait not be read?"""
        return portrait_id in self._portraits or photo_id in self._photos  # type: ignore[attr-defined]

    def hidden(self, portraits: pa.ChunkedArray, photos: pa.ChunkedArray) -> NDArray[np.bool_]:
        """`hides` of many, by columns of ids [N]."""
        own = (self._portraits, self._photos)  # type: ignore[attr-defined]
        found = [
            pc.is_in(ids, value_set=pa.array(sorted(names), pa.string()))
            for ids, names in zip((portraits, photos), own, strict=True)
        ]
        return np.asarray(pc.or_(*found).to_numpy(), np.bool_)

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
        lineages = {*(self.lineages or ()), *(other.lineages or ())}
        return Tombstones(tuple(joined.values()), lineages=tuple(sorted(lineages)))

    def known_to(self, about: Mapping[str, Any]) -> Tombstones:
        """This list, as one of the releases of which a manifest says `about`."""
        known = {*(self.lineages or ()), about[LINEAGE]} if about.get(LINEAGE) else self.lineages or ()
        return replace(self, lineages=tuple(sorted(known)))

    def to_bytes(self) -> bytes:
        """The file."""
        entries = [asdict(entry) for entry in self.entries]
        document = {
            "format": FORMAT, "count": len(entries), "tombstones": entries, "copy": self.is_copy,
            _LINEAGES: list(self.lineages or ()),
        }  # fmt: skip
        document["digest"] = _sealed(document)
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Tombstones:
        """The list in `data`. Raises `ReleaseError`: an unreadable or damaged list is not an empty one."""
        try:
            document = parse_json(data)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}, this PHQ reads {FORMAT}")
            if set(document) != _OF_A_LIST:
                if set(document) - {_LINEAGES} != _OF_A_LIST | _CHECKED:
                    raise ValueError("its entries are not those of a list")
                if document["count"] != len(document["tombstones"]):
                    raise ValueError(f"it has {len(document['tombstones'])} entries of {document['count']}")
                if document["digest"] != _sealed(document):
                    raise ValueError("it was changed: its digest does not fit")
            entries = tuple(_entry(one) for one in document["tombstones"])
            lineages = tuple(map(str, document[_LINEAGES])) if _LINEAGES in document else None
            return cls(entries, bool(document.get("copy", False)), lineages)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ReleaseError(
                f"the list of taken-down portraits {where} cannot be read ({error}); nothing is read from "
                "the release until it can: restore the file (phq release pull brings it)"
            ) from error


def _sealed(document: Mapping[str, Any]) -> str:
    """Digest of a list's document, of everything in it but the digest."""
    plain = {name: value for name, value in document.items() if name != "digest"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _entry(given: Mapping[str, Any]) -> Tombstone:
    """One entry as it stands in a file. Raises `ValueError`, `KeyError`, `TypeError`."""
    for name in ("portraits", "photos"):
        if not isinstance(given[name], list):
            raise ValueError(f"{name!r} is not a list")
    found = Tombstone(**{**given, "portraits": tuple(given["portraits"]), "photos": tuple(given["photos"])})
    texts = (found.kind, found.match, found.date, found.reason, *found.portraits, *found.photos)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("an entry holds something else than texts")
    return found


def read(fs: fsspec.AbstractFileSystem, folder: str) -> Tombstones:
    """The list that lies in `folder`; an empty one if there is none."""
    return find(fs, folder) or Tombstones()


def find(fs: fsspec.AbstractFileSystem, folder: str) -> Tombstones | None:
    """The list that lies in `folder`, if there is one. Raises `ReleaseError` for one that cannot be read."""
    path = f"{folder}/{NAME}"
    try:
        data = bytes(fs.cat_file(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReleaseError(f"the list of taken-down portraits {path} cannot be read: {error}") from error
    return Tombstones.from_bytes(data, path)


def of_release(fs: fsspec.AbstractFileSystem, folder: str, about: Mapping[str, Any]) -> Tombstones:
    """What the list beside the release in `folder` and its copy in it hide; `about` is the manifest's.

    Raises `ReleaseError` when the release must have a list and has none. Warns when only the copy is there.
    """
    problems = missing(fs, folder, about)
    if problems and not problems[0].is_readable:
        raise ReleaseError(f"{folder} {problems[0].text}")
    for problem in problems:
        if problem.place != folder:
            _LOG.warning("%s %s", folder, problem.text)
    return joined(of_its_own(fs, folder, about)).known_to(about)


def of_its_own(fs: fsspec.AbstractFileSystem, folder: str, about: Mapping[str, Any]) -> list[Tombstones]:
    """The lists beside the release in `folder` and in it, as far as they are there.

    Raises `ReleaseError` for the list of other releases: what it hides says nothing of this one.
    """
    found = []
    for place in filter(None, (_parent(folder), folder)):
        listed = find(fs, place)
        if listed is None:
            continue
        if about.get(LINEAGE) and listed.lineages is None:
            _LOG.warning("%s/%s %s", place, NAME, _SAYS_NOTHING)
        elif about.get(LINEAGE) and about[LINEAGE] not in (listed.lineages or ()):
            raise ReleaseError(
                f"the list of taken-down portraits {place}/{NAME} is that of other releases than {folder}; "
                "nothing is read from the release until its own is back (phq release pull brings it)"
            )
        found.append(listed)
    return found


_SAYS_NOTHING = (
    "does not say of which releases it is, as lists of PHQ 0.1: any takedown, pull or build writes it anew"
)


@dataclass(frozen=True)
class Missing:
    """A list that should be there and is not."""

    place: str  # the folder that lacks it
    text: str  # of the release
    is_readable: bool  # is there another list to go by?


def missing(fs: fsspec.AbstractFileSystem, folder: str, about: Mapping[str, Any]) -> list[Missing]:
    """Which lists the release in `folder` lacks. Raises `ReleaseError` for one that cannot be read."""
    parent = _parent(folder)
    of_its_own(fs, folder, about)
    inside, beside = find(fs, folder), find(fs, parent) if parent else None
    if inside is None and beside is None and about.get(RECORDED):
        text = (
            f"has lost its list of taken-down portraits ({NAME} in it and beside it), so nothing is read "
            "from it: get the list again where the release came from (phq release pull brings it)"
        )
        return [Missing(folder, text, is_readable=False)]
    if inside is not None and inside.is_copy and beside is None:
        text = (
            f"lies without {NAME} beside it, as a folder does that was copied alone: what was taken down "
            "after the copy is not known here. Copy the list too, or use phq release pull"
        )
        return [Missing(parent, text, is_readable=True)]
    if inside is None and about.get(RECORDED):
        return [
            Missing(folder, f"lacks its copy of {NAME}: any takedown or pull writes it", is_readable=True)
        ]
    return []


def add(fs: fsspec.AbstractFileSystem, folder: str, listed: Tombstones, *, copy: bool = False) -> Tombstones:
    """Add to the list in `folder` what it lacks of `listed`, and return it; it is there then, be it empty.

    `copy`: the folder is a release's, the list itself lies beside it. Of two that add at once both are on the
    list: on this machine one waits, at S3 the later one reads it anew. Raises `ReleaseError`, `OSError`.
    """
    path = f"{folder}/{NAME}"
    fs.makedirs(folder, exist_ok=True)
    with _alone(fs, folder) if not copy else contextlib.nullcontext():
        while True:
            version = _version(fs, path)
            there = find(fs, folder)
            merged = replace((there or Tombstones()).merged(listed), is_copy=copy)
            if there is not None and merged == there and there.is_copy == copy:
                return merged
            if isinstance(fs, LocalFileSystem):
                with writing(path) as temporary:
                    temporary.write_bytes(merged.to_bytes())
            elif hasattr(fs, "put_if"):
                if fs.put_if(path, merged.to_bytes(), version) is None:
                    continue
            else:
                fs.pipe_file(path, merged.to_bytes())
            return merged


def _version(fs: fsspec.AbstractFileSystem, path: str) -> str | None:
    """The version of the list at S3; None where there is none, or no such thing."""
    if not hasattr(fs, "put_if"):
        return None
    with contextlib.suppress(FileNotFoundError):
        return str(fs.info(path)["ETag"])
    return None


@contextlib.contextmanager
def _alone(fs: fsspec.AbstractFileSystem, folder: str) -> Iterator[None]:
    """One at a time in a folder of this machine."""
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    from filelock import FileLock

    with FileLock(f"{folder}/.tombstones.lock"):
        yield


def _parent(folder: str) -> str:
    return folder.rpartition("/")[0]


def joined(lists: Iterable[Tombstones]) -> Tombstones:
    """All lists in one."""
    found = Tombstones()
    for one in lists:
        found = found.merged(one)
    return found
