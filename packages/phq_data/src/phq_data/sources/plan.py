"""The plan: which files a workspace knows, and which part each belongs to.

It is what makes a build repeatable: a file is known by its uri, size and time of change, files already
planned are passed over, new ones form new parts, and a plan part is never cut differently later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from phq_data import schema
from phq_data.records import Row
from phq_data.sources import Provenance, SourceFile
from phq_data.workspace import Workspace, WorkspaceError

PERMANENT = frozenset({"empty", "not_an_image", "too_many_bytes"})
"""Reading errors that another try cannot mend."""
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "TIFF": "tif", "HEIC": "heic", "AVIF": "avif"}


@dataclass(frozen=True)
class _Claim:
    """Where a planned file stands, and what its row says of rights (digests, to hold many)."""

    part: int
    position: int
    digests: Mapping[str, int]


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
            columns = ["uri", "size", "mtime_ns", "sha256", "error"]
            try:
                rows = workspace.read_part("plan", part, columns).to_pylist()
            except WorkspaceError as error:
                path = workspace.path(f"plan/part-{part:05d}.parquet")
                raise WorkspaceError(
                    f"the plan part {path} is damaged: delete it and run the build again with all its sources"
                ) from error
            for position, row in enumerate(rows):
                self.known.add((row["uri"], row["size"], row["mtime_ns"]))
                if row["error"] and row["error"] not in PERMANENT:
                    self.unread[row["uri"]] = (part, position)
                elif row["sha256"]:
                    self.owners.setdefault(row["sha256"], row["uri"])

    def append(self, rows: list[Row]) -> int:
        """Write a new part; its number."""
        part = self.parts[-1] + 1 if self.parts else 0
        self._write(part, rows)
        self.parts.append(part)
        return part

    def amend(self, part: int, changes: Mapping[int, Row]) -> None:
        """Change rows of a part: position -> what is new of the row."""
        rows = self.workspace.read_part("plan", part).to_pylist()
        for position, change in changes.items():
            rows[position] = {**rows[position], **change}
        self._write(part, rows)

    def restated(self, file: SourceFile) -> tuple[int, int, Row] | None:
        """(part, row, what is new of it) when a planned file's rights are stated otherwise now."""
        if self._claims is None:
            self._claims = dict(self._folder_claims())
        known = self._claims.get((file.uri, file.size, file.mtime_ns))
        stated = dataclasses.asdict(file.provenance)
        if stated["permission"] is None:  # one that was given with a scrape stays
            del stated["permission"]
        if known is None or all(known.digests[name] == hash(value) for name, value in stated.items()):
            return None
        return known.part, known.position, stated

    def _folder_claims(self) -> Iterator[tuple[tuple[str, int, int], _Claim]]:
        names = [field.name for field in dataclasses.fields(Provenance)]
        for part in self.parts:
            columns = ["provider", "uri", "size", "mtime_ns", *names]
            for position, row in enumerate(self.workspace.read_part("plan", part, columns).to_pylist()):
                if row["provider"] == "folder":
                    digests = {name: hash(row[name]) for name in names}
                    yield (row["uri"], row["size"], row["mtime_ns"]), _Claim(part, position, digests)

    def _write(self, part: int, rows: list[Row]) -> None:
        self.workspace.write_part("plan", part, schema.to_table("plan", rows), fingerprint="plan")


def photo_key(sha256: str, kind: str) -> str:
    """Where the bytes of a photo lie in the workspace; `kind` as `images.sniff` names it."""
    return f"photos/{sha256[:2]}/{sha256}.{_EXTENSIONS.get(kind, kind.lower())}"
