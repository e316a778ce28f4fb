"""Finding new photos: from sources to the plan, and their bytes into the workspace.

The plan is what makes a build repeatable: it fixes, once, which file belongs to which part. A file is known
by its uri, size and time of change; files already planned are passed over, new ones form new parts, and a
plan part is never cut differently later. So an interrupted gathering and an uninterrupted one end with equal
plans.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from phq_data import schema
from phq_data.config import IngestConfig
from phq_data.images.codecs import sniff
from phq_data.records import Row
from phq_data.sources import Provenance, RefusedFileError, Source, SourceFile
from phq_data.workspace import Workspace, WorkspaceError

PERMANENT = frozenset({"empty", "not_an_image", "too_many_bytes"})
"""Reading errors that another try cannot mend."""
_HEAD = 64
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "TIFF": "tif", "HEIC": "heic", "AVIF": "avif"}


class _RefusedError(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


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


def gather(
    workspace: Workspace,
    sources: Sequence[Source],
    config: IngestConfig,
    part_size: int,
    on_file: Callable[[bool], None] = lambda new: None,
) -> Iterator[int]:
    """Plan what `sources` hold beyond the plan; yield the number of every part, old ones first.

    Files that could not be read before are tried again, and what a folder says of rights now replaces what
    it said before. `on_file` is told of every file, and whether it is
    new. Raises `WorkspaceError` when the workspace cannot be written, `SourceError` for an unusable source.
    """
    plan = Plan(workspace)
    ready = list(plan.parts)
    amended: dict[int, dict[int, Row]] = {}
    added: list[int] = []
    for source in sources:
        fresh: list[Row] = []
        for file in source.files():
            identity = (file.uri, file.size, file.mtime_ns)
            on_file(identity not in plan.known)
            if file.uri in plan.unread:
                row = _take_in(workspace, source, file, config, plan.owners)
                if not row["error"]:
                    plan.known.add(identity)
                    part, position = plan.unread.pop(file.uri)
                    amended.setdefault(part, {})[position] = row
            elif identity not in plan.known:
                plan.known.add(identity)
                fresh.append(_take_in(workspace, source, file, config, plan.owners))
            elif source.provider == "folder" and (restated := plan.restated(file)):
                amended.setdefault(restated[0], {})[restated[1]] = restated[2]
            if len(fresh) == part_size:
                added.append(plan.append(fresh))
                fresh = []
        if fresh:
            added.append(plan.append(fresh))
    for part, rows in amended.items():
        plan.amend(part, rows)
    yield from ready
    yield from added


def photo_key(sha256: str, kind: str) -> str:
    """Where the bytes of a photo lie in the workspace; `kind` as `images.sniff` names it."""
    return f"photos/{sha256[:2]}/{sha256}.{_EXTENSIONS.get(kind, kind.lower())}"


def _take_in(
    workspace: Workspace, source: Source, file: SourceFile, config: IngestConfig, owners: dict[str, str]
) -> Row:
    """The plan row of one file: read once, hashed and, if so configured, copied into the workspace."""
    sha256 = key = error = message = ""
    same_as: str | None = None
    copy = config.store == "copy" or source.provider != "folder"
    try:
        data, kind = _read(source, file, config.max_bytes)
        sha256 = hashlib.sha256(data).hexdigest()
        key = photo_key(sha256, kind) if copy else file.uri
        if copy and not workspace.exists(key):
            workspace.write_bytes(key, data)
        same_as = owners.get(sha256)  # also the file itself, when only its time has changed
        owners.setdefault(sha256, file.uri)
    except (_RefusedError, RefusedFileError) as refusal:
        error, message = refusal.reason, str(refusal)
    except OSError as problem:
        error, message = type(problem).__name__, f"cannot be read: {problem.strerror or problem}"
    return {
        "item": sha256 or schema.make_id(file.uri),
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "sha256": sha256,
        "key": key,
        "error": error,
        "message": message,
        "same_as": same_as,
        "provider": source.provider,
        "source": source.spec,
        "uri": file.uri,
        **dataclasses.asdict(file.provenance),
    }


def _read(source: Source, file: SourceFile, limit: int) -> tuple[bytes, str]:
    """(bytes, format) of a file that starts like a picture. The rest of other files is never read."""
    if file.size > limit:
        raise _RefusedError("too_many_bytes", f"{file.size:,} bytes; the limit is {limit:,}")
    with source.open(file) as stream:
        head = stream.read(_HEAD)
        if not head:
            raise _RefusedError("empty", "the file is empty")
        kind = sniff(head)
        if kind is None:
            raise _RefusedError(
                "not_an_image", "its first bytes are those of no picture format that PHQ reads"
            )
        data = head + stream.read(limit + 1 - len(head))
    if len(data) > limit:
        raise _RefusedError("too_many_bytes", f"more than {limit:,} bytes")
    return data, kind
