"""The plan: which files a workspace knows, and which part each belongs to.

It is what makes a build repeatable: a file is known by its uri, size and time of change, files already
planned are passed over, new ones form new parts, and a plan part is never cut differently later.

Every part has a copy in `plan-copy`: one that is deleted or damaged comes back from there, as it was. Where
the copy is lost too, what was made of the part is dropped, and its files are new ones to the next build.

What was taken out stands in a list of its own (`sources.removed`), and stays out when its part is lost.

Of files with the same bytes one is the owner (`same_as` null), whose photo is taken; the others name it.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from phq_data import records
from phq_data.files import file_sha256
from phq_data.records import PlanItem, Provenance, Record
from phq_data.sources import SourceFile, removed
from phq_data.sources.folder import path_of
from phq_data.workspace import PartInfo, Workspace, WorkspaceError, part_key

REMOVED, TAKEN_OUT = "removed", "its photo was taken out of the workspace"
"""The error of items whose photo was taken out, and its message: their file is known, and not taken again."""
PERMANENT = frozenset({"empty", "not_an_image", "too_many_bytes", REMOVED})
"""Reading errors that another try cannot mend."""
COPY = "plan-copy"
LARGEST, STEP = 4, 200
"""Parts of a large plan hold more photos: twice as many from part `STEP` on, then `LARGEST` times as many. A
stage holds a part in memory, which limits it: at 512 pixels some 300 kB a portrait."""
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "TIFF": "tif", "HEIC": "heic", "AVIF": "avif"}

Change = PlanItem | Provenance | Callable[[PlanItem], PlanItem]
"""The item that comes in place of the one there, or its rights alone, or what makes the one of the other."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Known(Record):
    """What is needed to find the file of an item again."""

    table = "plan"
    uri: str
    size: int
    mtime_ns: int
    sha256: str
    key: str
    error: str
    source: str
    same_as: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Planned(_Known):
    """An item, and where it stands."""

    part: int
    position: int

    @property
    def referenced(self) -> bool:
        """Are its bytes where they were found, and not in the workspace?"""
        return self.key == self.uri and self.key.startswith("file:")

    @property
    def gone(self) -> bool:
        """Is it referenced, and no longer there?"""
        return self.referenced and not os.path.exists(path_of(self.key))  # noqa: PTH110 (bytes)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Claimed(Record, Provenance):
    """What the plan says of the rights in a file."""

    table = "plan"
    provider: str
    uri: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class _Claim:
    """Where a planned file stands, and what its item says of rights (digests, to hold many)."""

    part: int
    position: int
    digests: dict[str, int]


class Plan:
    """What is planned already, and what is to be added. The caller holds `Workspace.lock`."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.restored: list[int] = []  # parts that came back from their copy
        self.dropped: list[int] = []  # parts of which nothing is left
        self.parts = self._mend()
        self.known: set[tuple[str, int, int]] = set()
        self.files: dict[str, Planned] = {}  # uri -> its latest item
        self.owners: dict[str, str] = {}  # sha256 -> uri of the file whose photo is taken
        self.gone: dict[str, list[Planned]] = {}  # sha256 -> items whose file is gone, the owner first
        self.removed = removed.read(workspace)
        self.unread: dict[str, tuple[int, int]] = {}  # uri -> (part, position) of files worth another try
        self._claims: dict[tuple[str, int, int], _Claim] | None = None
        alike: dict[str, list[Planned]] = defaultdict(list)
        taken_out: dict[str, str] = {}  # that the list does not have: uri -> sha256
        for item in self.items():
            self.known.add((item.uri, item.size, item.mtime_ns))
            self.files[item.uri] = item
            if item.error == REMOVED:
                if item.uri not in self.removed.files:
                    taken_out[item.uri] = item.sha256
            elif item.error and item.error not in PERMANENT:
                self.unread[item.uri] = (item.part, item.position)
            elif item.sha256:
                alike[item.sha256].append(item)
        self._settle(alike)
        if taken_out:  # by a former version
            self.take_out(taken_out, set(taken_out.values()) - self.owners.keys())

    def take_out(self, files: Mapping[str, str], photos: set[str]) -> None:
        """Write down files (uri -> sha256) and whole photos that are not to come back, first of all."""
        self.removed = self.removed.with_more(files, photos)
        removed.write(self.workspace, self.removed)

    def taken_out(self, uri: str, sha256: str) -> bool:
        """Is a file with these bytes not to come back?"""
        whole = self.removed.has_photo(sha256) and sha256 not in self.owners
        return whole or self.removed.has_file(uri, sha256)

    def items(self) -> Iterator[Planned]:
        """Every item, in order."""
        for part in self.parts:
            yield from items_of(self.workspace, part)

    def told(self) -> list[str]:
        """What became of parts that were lost, a line each."""
        back = [f"part {part} of the plan is back from its copy" for part in self.restored]
        return back + [
            f"part {part} has no plan any more: what was made of it is dropped; its sources have to be "
            "built or scraped again"
            for part in self.dropped
        ]

    def _mend(self) -> list[int]:
        """Bring back parts that are deleted or damaged; the parts that there are then."""
        place = self.workspace
        known = {*place.parts("plan"), *place.parts(COPY)}
        if known or any(folder.startswith("ledger/") for folder in place.made()):  # else imported
            known.update(part for folder in place.made() for part in place.parts(folder))
        for part in sorted(known):
            info, copy = _sound(place, "plan", part), _sound(place, COPY, part)
            if info is not None:
                if copy is None or copy != info:
                    self._copy("plan", COPY, part)
            elif copy is not None:
                self._copy(COPY, "plan", part)
                self.restored.append(part)
            else:
                for folder in (*place.made(), COPY, "plan"):
                    place.remove(part_key(folder, part))
                self.dropped.append(part)
        return place.parts("plan")

    def _copy(self, source: str, target: str, part: int) -> None:
        data = self.workspace.read_bytes(part_key(source, part))
        self.workspace.write_bytes(part_key(target, part), data)

    def _settle(self, alike: Mapping[str, list[Planned]]) -> None:
        """Let every photo have one owner whose file is there, if one is, and the others name it."""
        changes: dict[int, dict[int, Change]] = defaultdict(dict)
        for sha256, items in alike.items():
            owner = next((item for item in items if item.same_as is None), items[0])
            if owner.gone:
                owner = next((item for item in items if _has(item, sha256)), owner)
            by_rank = sorted(items, key=lambda item, first=owner: item is not first)  # type: ignore[misc]
            self.gone[sha256] = [item for item in by_rank if item.gone]
            self.owners[sha256] = owner.uri
            for item in items:
                same_as = None if item is owner else owner.uri
                if item.same_as != same_as:
                    changes[item.part][item.position] = partial(dataclasses.replace, same_as=same_as)
        for part, of_part in changes.items():
            self.amend(part, of_part)

    def append(self, items: list[PlanItem]) -> int:
        """Write a new part; its number. Raises `WorkspaceError` where it would replace imported portraits."""
        if not self.parts and any(self.workspace.parts(folder) for folder in self.workspace.made()):
            raise WorkspaceError(
                f"{self.workspace.url} holds imported portraits: build photos into another workspace"
            )
        part = self.parts[-1] + 1 if self.parts else 0
        self._write(part, items)
        self.parts.append(part)
        return part

    def room(self, part_size: int) -> int:
        """How many photos the next part has: `part_size`, and up to `LARGEST` times that in a large plan.

        It follows from the number of parts alone, so an interrupted gathering plans the same parts. Parts
        that are planned stay as they are.
        """
        return part_size * min(LARGEST, 1 << len(self.parts) // STEP)

    def amend(self, part: int, changes: Mapping[int, Change]) -> None:
        """Change a part: position -> its `Change`. A recorded permission stays unless another one is stated.

        Where only sizes and times are new, what was made of the part stays up to date.
        """
        before = self._read(PlanItem, part)
        items = list(before)
        for position, change in changes.items():
            if isinstance(change, PlanItem):
                items[position] = change
            elif isinstance(change, Provenance):
                rights = {**_fields(change), "permission": change.permission or items[position].permission}
                items[position] = dataclasses.replace(items[position], **rights)
            else:
                items[position] = change(items[position])
        if items != before:
            info = self.workspace.part_info("plan", part)
            touched = [_unstamped(item) for item in items] == [_unstamped(item) for item in before]
            self._write(part, items, info.content if info and touched else "")

    def successor(self, file: SourceFile, item: PlanItem) -> tuple[Planned, Change] | None:
        """(planned item, its change) when a file that was read is one of the plan: touched, or moved or
        replaced where it is referenced. None: it is another file.
        """
        known = self.files.get(file.uri)
        taken_out = known is not None and known.error == item.error == REMOVED
        if known is not None and (taken_out or (item.sha256 and item.sha256 == known.sha256)):
            return known, partial(dataclasses.replace, size=file.size, mtime_ns=file.mtime_ns)
        if known is not None and known.referenced:
            unread = item.error and item.error not in PERMANENT  # it may come back: what was made of it stays
            return known, partial(dataclasses.replace) if unread else item
        if not self.gone.get(item.sha256):
            return None
        moved = self.gone[item.sha256].pop(0)
        if moved.uri != self.owners[item.sha256]:
            return moved, item
        self.owners[item.sha256] = file.uri
        return moved, dataclasses.replace(item, same_as=None)

    def names(self, part: int) -> list[tuple[str, str]]:
        """(uri, sha256) of every item of a part, in order."""
        return [(item.uri, item.sha256) for item in self._read(_Known, part)]

    def claimed(self, file: SourceFile) -> tuple[int, int] | None:
        """(part, position) of a planned file of a folder whose rights are stated otherwise now, else None."""
        if self._claims is None:
            self._claims = dict(self._folder_claims())
        known = self._claims.get((file.uri, file.size, file.mtime_ns))
        if known is None:
            return None
        stated = _digests(file.provenance).items()
        changed = {name for name, digest in stated if digest != known.digests[name]}
        if file.provenance.permission is None:  # one that was given with a scrape stays
            changed.discard("permission")
        return (known.part, known.position) if changed else None

    def _folder_claims(self) -> Iterator[tuple[tuple[str, int, int], _Claim]]:
        for part in self.parts:
            for position, item in enumerate(self._read(_Claimed, part)):
                if item.provider == "folder":
                    claim = _Claim(part, position, _digests(item))
                    yield (item.uri, item.size, item.mtime_ns), claim

    def _read(self, kind: type[records.R], part: int) -> list[records.R]:
        return _read(self.workspace, kind, part)

    def _write(self, part: int, items: list[PlanItem], content: str = "") -> None:
        table = records.to_table(PlanItem, items)
        self.workspace.write_part("plan", part, table, fingerprint="plan", content=content)
        self._copy("plan", COPY, part)


def items_of(workspace: Workspace, part: int) -> Iterator[Planned]:
    """The items of one part, in order."""
    for position, item in enumerate(_read(workspace, _Known, part)):
        yield Planned(**_fields(item), part=part, position=position)


def _read(workspace: Workspace, kind: type[records.R], part: int) -> list[records.R]:
    return records.from_table(kind, workspace.read_part("plan", part, records.columns(kind)))


def _sound(workspace: Workspace, folder: str, part: int) -> PartInfo | None:
    """The footer of a part that is what was written; else None."""
    return None if workspace.damaged(folder, part) else workspace.part_info(folder, part)


def _has(item: Planned, sha256: str) -> bool:
    """Are the bytes of a photo still where `item` has them?"""
    try:
        return not item.referenced or file_sha256(os.fsdecode(path_of(item.key))) == sha256
    except OSError:
        return False


def _unstamped(item: PlanItem) -> PlanItem:
    """An item without what a file that is only touched changes."""
    return dataclasses.replace(item, size=0, mtime_ns=0)


def _fields(record: Any) -> dict[str, Any]:
    kind = Provenance if isinstance(record, Provenance) else type(record)
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(kind)}


def _digests(provenance: Provenance) -> dict[str, int]:
    return {name: hash(value) for name, value in _fields(provenance).items()}


def photo_key(sha256: str, kind: str) -> str:
    """Where the bytes of a photo lie in the workspace; `kind` as `images.sniff` names it."""
    return f"photos/{sha256[:2]}/{sha256}.{_EXTENSIONS.get(kind, kind.lower())}"
