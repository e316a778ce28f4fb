"""The plan: which files a workspace knows, and which part each belongs to.

It is what makes a build repeatable: a file is known by its uri, size and time of change, files already
planned are passed over, new ones form new parts, and a plan part is never cut differently later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from phq_data import records
from phq_data.records import PlanItem, Provenance, Record
from phq_data.sources import SourceFile
from phq_data.workspace import Workspace, WorkspaceError

PERMANENT = frozenset({"empty", "not_an_image", "too_many_bytes"})
"""Reading errors that another try cannot mend."""
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "TIFF": "tif", "HEIC": "heic", "AVIF": "avif"}


@dataclass(frozen=True, eq=False, kw_only=True)
class _Known(Record):
    """What tells planned files apart, and whether they could be read."""

    table = "plan"
    uri: str
    size: int
    mtime_ns: int
    sha256: str
    error: str


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
        self.parts = workspace.parts("plan")
        self.known: set[tuple[str, int, int]] = set()
        self.owners: dict[str, str] = {}  # sha256 -> uri of the first file with these bytes
        self.unread: dict[str, tuple[int, int]] = {}  # uri -> (part, row) of files worth another try
        self._claims: dict[tuple[str, int, int], _Claim] | None = None
        for part in self.parts:
            try:
                items = self._read(_Known, part)
            except WorkspaceError as error:
                path = workspace.path(f"plan/part-{part:05d}.parquet")
                raise WorkspaceError(
                    f"the plan part {path} is damaged: delete it and run the build again with all its sources"
                ) from error
            for position, item in enumerate(items):
                self.known.add((item.uri, item.size, item.mtime_ns))
                if item.error and item.error not in PERMANENT:
                    self.unread[item.uri] = (part, position)
                elif item.sha256:
                    self.owners.setdefault(item.sha256, item.uri)

    def append(self, items: list[PlanItem]) -> int:
        """Write a new part; its number."""
        part = self.parts[-1] + 1 if self.parts else 0
        self._write(part, items)
        self.parts.append(part)
        return part

    def amend(self, part: int, changes: Mapping[int, PlanItem | Provenance]) -> None:
        """Change a part: position -> the item that comes in place of the one there, or its rights alone.

        A recorded permission stays unless another one is stated.
        """
        items = self._read(PlanItem, part)
        for position, change in changes.items():
            if isinstance(change, PlanItem):
                items[position] = change
            else:
                rights = {**_fields(change), "permission": change.permission or items[position].permission}
                items[position] = dataclasses.replace(items[position], **rights)
        self._write(part, items)

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
        table = self.workspace.read_part("plan", part, records.columns(kind))
        return records.from_table(kind, table)

    def _write(self, part: int, items: list[PlanItem]) -> None:
        self.workspace.write_part("plan", part, records.to_table(PlanItem, items), fingerprint="plan")


def _fields(provenance: Provenance) -> dict[str, Any]:
    return {field.name: getattr(provenance, field.name) for field in dataclasses.fields(Provenance)}


def _digests(provenance: Provenance) -> dict[str, int]:
    return {name: hash(value) for name, value in _fields(provenance).items()}


def photo_key(sha256: str, kind: str) -> str:
    """Where the bytes of a photo lie in the workspace; `kind` as `images.sniff` names it."""
    return f"photos/{sha256[:2]}/{sha256}.{_EXTENSIONS.get(kind, kind.lower())}"
