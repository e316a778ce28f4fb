"""Finding new photos: from sources to the plan, and their bytes into the workspace.

An interrupted gathering and an uninterrupted one end with equal plans (`sources.plan`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from phq_data import records, schema
from phq_data.config import IngestConfig
from phq_data.images import self_stated
from phq_data.images.codecs import sniff
from phq_data.images.self_stated import SelfStated
from phq_data.pipeline.photos import sound_photo
from phq_data.records import LedgerEntry, PlanItem
from phq_data.sources import RefusedFileError, Source, SourceFile
from phq_data.sources.plan import REMOVED, TAKEN_OUT, Change, Plan, Planned, photo_key
from phq_data.sources.terms import cover, recorded
from phq_data.stages.ingest import CHANGED
from phq_data.stages.sequence import STAGE_NAMES
from phq_data.workspace import Workspace, WorkspaceError

_HEAD = 64


def gather(
    workspace: Workspace,
    sources: Sequence[Source],
    config: IngestConfig,
    part_size: int,
    on_file: Callable[[bool], None] = lambda new: None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[int]:
    """Plan what `sources` hold beyond the plan; yield the number of every part, old ones first.

    Files that could not be read before are tried again, and what a folder says of rights now replaces what
    it said before. A file that was only touched, or one that is referenced and was moved or replaced, keeps
    its row; a copy of a photo that is lost is fetched again. `on_file` is told of every file, and whether it
    is new; `say` of parts of the plan that were lost. Raises `WorkspaceError` when the workspace cannot be
    written, `SourceError` for an unusable source.
    """
    plan = Plan(workspace)
    for line in plan.told():
        say(line)
    changed = _changed(workspace, plan.parts)
    copies = workspace.sizes("photos")
    ready = list(plan.parts)
    amended: dict[int, dict[int, Change]] = {}
    added: list[int] = []
    moved = False
    for source in sources:
        fresh: list[PlanItem] = []
        for file in source.files():
            identity = (file.uri, file.size, file.mtime_ns)
            on_file(identity not in plan.known)
            if file.uri in plan.unread:
                item = _take_in(workspace, source, file, config, plan)
                if not item.error:
                    plan.known.add(identity)
                    part, position = plan.unread.pop(file.uri)
                    amended.setdefault(part, {})[position] = item
            elif identity not in plan.known or file.uri in changed:
                plan.known.add(identity)
                item = _take_in(workspace, source, file, config, plan)
                if source.provider == "folder" and (found := plan.successor(file, item)):
                    planned, change = found
                    moved = moved or isinstance(change, PlanItem)
                    amended.setdefault(planned.part, {})[planned.position] = change
                else:
                    fresh.append(item)
            elif (former := plan.files.get(file.uri)) is not None:  # else listed a second time by this build
                if not plan.taken_out(file.uri, former.sha256):  # else its removal was stopped half way
                    _fetch_lost(workspace, file, former, copies)
                if source.provider == "folder" and (claimed := plan.claimed(file)):
                    amended.setdefault(claimed[0], {})[claimed[1]] = file.provenance
            if len(fresh) == plan.room(part_size):
                added.append(plan.append(fresh))
                fresh = []
        if fresh:
            added.append(plan.append(fresh))
    for part, changes in amended.items():
        plan.amend(part, changes)
    if moved:
        Plan(workspace)  # whoever named a file that was moved or replaced names another one now
    yield from ready
    yield from added


def _changed(workspace: Workspace, parts: Sequence[int]) -> set[str]:
    """Uris of files that a stage found to be others than were planned, though of the same size and time."""
    found: set[str] = set()
    for folder in (f"ledger/{name}" for name in STAGE_NAMES):
        for part in parts:
            info = workspace.part_info(folder, part)
            if info is not None and info.extra.get("retryable"):
                entries = records.from_table(LedgerEntry, workspace.read_part(folder, part))
                found |= {entry.uri for entry in entries if entry.reason == CHANGED}
    return found


def _fetch_lost(workspace: Workspace, file: SourceFile, planned: Planned, copies: Mapping[str, int]) -> None:
    """Fetch a photo again whose copy is missing, or of another size than it had."""
    size = copies.get(planned.key, -1)
    if planned.key.startswith("photos/") and (size < 0 or (planned.size >= 0 and size != planned.size)):
        with contextlib.suppress(WorkspaceError):  # the stage that wants it, and `workspace verify`, say so
            sound_photo(workspace, planned.key, [file.uri])


def _take_in(
    workspace: Workspace, source: Source, file: SourceFile, config: IngestConfig, plan: Plan
) -> PlanItem:
    """The plan's item of one file: read once, hashed and, if so configured, copied into the workspace."""
    sha256 = key = error = message = ""
    stated = SelfStated()
    same_as: str | None = None
    copy = config.store == "copy" or source.provider != "folder"
    try:
        data, kind = _read(source, file, config.max_bytes)
        sha256 = hashlib.sha256(data).hexdigest()
        if plan.taken_out(file.uri, sha256):
            raise RefusedFileError(REMOVED, TAKEN_OUT)
        stated = self_stated.read(data, kind)
        row = {"provider": source.provider, "permission": file.provenance.permission}
        if stated.opt_out and not cover(recorded(row), row, ["train"]):
            raise RefusedFileError(
                "opt_out", f"{stated.opt_out}; a permission to train in rights.json admits it"
            )
        key = photo_key(sha256, kind) if copy else file.uri
        if copy and not workspace.exists(key):
            workspace.write_bytes(key, data)
        same_as = plan.owners.get(sha256)  # also the file itself, when only its time has changed
        plan.owners.setdefault(sha256, file.uri)
    except RefusedFileError as refusal:
        error, message = refusal.reason, str(refusal)
    except OSError as problem:
        error, message = type(problem).__name__, f"cannot be read: {problem.strerror or problem}"
    return PlanItem(
        item=sha256 or schema.make_id(file.uri),
        size=file.size,
        mtime_ns=file.mtime_ns,
        sha256=sha256,
        key=key,
        error=error,
        message=message,
        same_as=same_as,
        self_stated=stated.to_json(),
        provider=source.provider,
        source=source.spec,
        uri=file.uri,
        **dataclasses.asdict(file.provenance),
    )


def _read(source: Source, file: SourceFile, limit: int) -> tuple[bytes, str]:
    """(bytes, format) of a file that starts like an image. The rest of other files is never read."""
    if file.size > limit:
        raise RefusedFileError("too_many_bytes", f"{file.size:,} bytes; the limit is {limit:,}")
    with source.open(file) as stream:
        head = stream.read(_HEAD)
        if not head:
            raise RefusedFileError("empty", "the file is empty")
        kind = sniff(head)
        if kind is None:
            raise RefusedFileError(
                "not_an_image", "its first bytes are those of no image format that PHQ reads"
            )
        data = head + stream.read(limit + 1 - len(head))
    if len(data) > limit:
        raise RefusedFileError("too_many_bytes", f"more than {limit:,} bytes")
    return data, kind
