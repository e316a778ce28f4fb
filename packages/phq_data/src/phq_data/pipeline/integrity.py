"""Is a workspace what was written into it: every byte of plan, tables, ledgers and photos; and mending it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from phq_data.files import stream_sha256
from phq_data.pipeline import engine, whole
from phq_data.pipeline.engine import load_config, run_part
from phq_data.pipeline.photos import sound_photo
from phq_data.sources.plan import COPY, Plan, Planned, items_of
from phq_data.sources.resolve import open_uri
from phq_data.workspace import LOGS, Workspace, WorkspaceError, part_key

BUILD = "phq build makes it anew"
REPAIR = "phq workspace verify --repair"


@dataclass(frozen=True)
class Fault:
    """Something that is not as it was written, or not there."""

    kind: str  # plan, part, decisions, photo, file (a photo that is referenced), record, behind
    where: str  # a path in the workspace, or a uri
    problem: str
    advice: str


@dataclass(frozen=True)
class Report:
    """What a check came to."""

    parts: int  # that were read
    photos: int
    faults: tuple[Fault, ...]


def verify(workspace: Workspace) -> Report:
    """Read everything and name what is wrong; changes nothing."""
    parts = 0
    faults: list[Fault] = []
    for folder in (*whole.folders(), COPY):
        for part in workspace.parts(folder):
            parts += 1
            if workspace.damaged(folder, part):
                faults.append(_damaged(workspace, folder, part))
    missing = set(workspace.parts(COPY)) - set(workspace.parts("plan"))
    faults += [Fault("plan", part_key("plan", part), "is missing", REPAIR) for part in sorted(missing)]
    photos = _photos(workspace)
    faults += [fault for items in photos.values() if (fault := _photo_fault(workspace, items))]
    faults += [Fault("record", key, whole.DAMAGED, BUILD) for key in whole.changed_records(workspace)]
    if not faults:
        for line in whole.told(whole.behind(workspace)):
            faults.append(Fault("behind", workspace.url, line, "phq build"))
    return Report(parts, len(photos), tuple(faults))


def repair(workspace: Workspace) -> list[str]:
    """Bring back what can be brought back, and say what was done, a line each. The caller holds the lock.

    Plan parts come from their copies, photos from their sources, tables and ledgers from the plan (with the
    settings on record). Decisions are not touched.
    """
    broken = {one.part for one in whole.damaged(workspace) if one.stage not in ("plan", *LOGS)}
    plan = Plan(workspace)
    done = plan.told()
    for items in _photos(workspace).values():
        if (fault := _photo_fault(workspace, items)) and fault.kind == "photo":
            with contextlib.suppress(WorkspaceError):  # `verify` names it again
                sound_photo(workspace, items[0].key, [item.uri for item in items])
                done.append(f"{items[0].key} was fetched again")
    config = load_config(workspace)
    for part in sorted(broken & set(plan.parts)):
        made = [
            name for name in engine.STAGE_NAMES if not run_part(workspace.url, config, name, part).skipped
        ]
        if made:
            done.append(f"part {part} was made anew: {', '.join(made)}")
    if plan.parts and not any(one.stage != "near-duplicates" for one in whole.behind(workspace)):
        whole.deduplicate(workspace, config, whole.recorded(workspace))
    return done


def _damaged(workspace: Workspace, folder: str, part: int) -> Fault:
    key = part_key(folder, part)
    if folder in ("plan", COPY):
        return Fault("plan", key, "is damaged", REPAIR)
    if (log := folder.removeprefix("tables/")) in LOGS:
        return Fault(log, key, "is damaged", f"{REPAIR} writes it from the review's database")
    return Fault("part", key, "is damaged", BUILD if workspace.parts("plan") else "import it again")


def _photos(workspace: Workspace) -> dict[str, list[Planned]]:
    """sha256 -> the items of files with these bytes, the one whose photo is taken first."""
    found: dict[str, list[Planned]] = defaultdict(list)
    for item in _items(workspace):
        if item.sha256 and not item.error:
            found[item.sha256].append(item)
    return {
        sha256: sorted(items, key=lambda item: item.same_as is not None) for sha256, items in found.items()
    }


def _items(workspace: Workspace) -> Iterator[Planned]:
    for part in workspace.parts("plan"):
        if not workspace.damaged("plan", part):
            yield from items_of(workspace, part)


def _photo_fault(workspace: Workspace, items: list[Planned]) -> Fault | None:
    first = items[0]
    kind, where = ("file", first.key) if first.referenced else ("photo", first.key)
    lost = "phq build with the folder that has it now, or phq workspace remove " + first.sha256[:12]
    advice = lost if first.referenced else f"{REPAIR} fetches it from its source, where it still is"
    try:
        if first.referenced:
            with open_uri(first.key) as stream:
                right = stream_sha256(stream) == first.sha256
        else:
            with workspace.reading_file(first.key) as stream:
                right = stream_sha256(stream) == first.sha256
    except FileNotFoundError:
        return Fault(kind, where, "is missing", advice)
    except OSError as error:
        return Fault(kind, where, f"cannot be read: {error}", advice)
    return None if right else Fault(kind, where, "has other bytes than were planned", advice)
