"""Taking photos out of a workspace, with everything that was made of them.

Their items stay in the plan as `removed`, without the photo: so the next build, which may list their files
again, does not take them again. Of the other photos of a part nothing is computed anew.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from phq_data import records, schema
from phq_data.pipeline import engine, whole
from phq_data.pipeline.corrections import applied
from phq_data.pipeline.engine import Recipe, fingerprint, folder_of, load_config
from phq_data.records import LedgerEntry, PlanItem, Portrait
from phq_data.sources.plan import REMOVED, TAKEN_OUT, Plan, Planned
from phq_data.workspace import PartInfo, Workspace, WorkspaceError

_VIEWS = ("report", "inspect", "accuracy")  # pages and pictures of portraits, each written by one command
_OUTCOMES = ("kept", "rejected", "failed")


@dataclass(frozen=True)
class Removal:
    """What was taken out."""

    files: int  # items of the plan
    photos: int  # whose bytes are gone with them
    portraits: int
    stay: tuple[str, ...]  # uris of other files with the same bytes: their photos stay


def remove(workspace: Workspace, targets: Sequence[str]) -> Removal:
    """Take out the photos that `targets` name: the start of a photo's id (all files with these bytes), a uri
    or a path (this file), a source as it was built with (all of its files). The caller holds the lock.

    The bytes and the pages that show them go first. What was stopped half way is done by the same call again:
    until a part is up to date once more, what is taken out of it can be named.

    Raises `WorkspaceError` for a target that names nothing, or the start of several ids.
    """
    plan = Plan(workspace)
    recipes = whole.recorded(workspace)
    stale = {one.part for one in whole.behind(workspace, recipes)}
    items = [item for item in plan.items() if item.error != REMOVED or item.part in stale]
    chosen = {
        (item.part, item.position): item for target in targets for item in _named(target, items, workspace)
    }
    by_part: dict[int, list[Planned]] = defaultdict(list)
    for item in chosen.values():
        by_part[item.part].append(item)
    left = {
        item.sha256: item
        for item in items
        if item.error != REMOVED and (item.part, item.position) not in chosen
    }
    lost = {item.sha256 for item in chosen.values()} - left.keys() - {""}
    plan.take_out({item.uri: item.sha256 for item in chosen.values()}, lost)
    for key in {item.key for item in chosen.values() if item.sha256 in lost}:
        if key.startswith("photos/"):
            workspace.remove(key)
    for folder in _VIEWS:
        workspace.remove_folder(folder)
    portraits = 0
    for part, gone in by_part.items():
        plan.amend(part, {item.position: _taken_out for item in gone})
        portraits += _filter(workspace, part, gone, recipes if part not in stale else None)
    Plan(workspace)  # another file with the same bytes becomes the one whose photo is taken
    if not any(one.stage != "near-duplicates" for one in whole.behind(workspace, recipes)):
        whole.deduplicate(workspace, load_config(workspace), recipes)
    stay = {left[item.sha256].uri for item in chosen.values() if item.sha256 in left}
    return Removal(len(chosen), len(lost), portraits, tuple(sorted(stay)))


def _named(target: str, items: Sequence[Planned], workspace: Workspace) -> list[Planned]:
    if re.fullmatch("[0-9a-f]{6,64}", target):
        found = [item for item in items if item.sha256.startswith(target)]
        if len({item.sha256 for item in found}) > 1:
            raise WorkspaceError(f"several photos of {workspace.url} start with {target}: give more of it")
    else:
        uris = {target, Path(target).expanduser().absolute().as_uri()}
        found = [item for item in items if item.uri in uris] or [i for i in items if i.source == target]
    if not found:
        raise WorkspaceError(
            f"{workspace.url} has no photo {target!r}: name a photo's id (phq inspect shows it), its uri or "
            "path, or a source as it was given to phq build"
        )
    return found


def _taken_out(item: PlanItem) -> PlanItem:
    return dataclasses.replace(item, error=REMOVED, message=TAKEN_OUT, key="", same_as=None)


def _filter(
    workspace: Workspace, part: int, gone: Sequence[Planned], recipes: Mapping[str, Recipe] | None
) -> int:
    """Drop what was made of some items of a part; how many portraits. With `recipes` the part was up to date
    and is so afterwards; without, the next build makes it anew.
    """
    ids = {item.sha256 for item in gone if item.same_as is None} - {""}
    lost, uris, portraits = set(ids), {item.uri for item in gone}, 0
    contents: dict[str, PartInfo | None] = {"plan": workspace.part_info("plan", part)}
    taken = applied(workspace)
    for stage in engine.STAGES:
        folder, ledger = folder_of(stage.makes), f"ledger/{stage.name}"
        table, before = workspace.part_info(folder, part), workspace.part_info(ledger, part)
        if table is None or before is None:
            break  # not built so far
        rows = workspace.read_part(folder, part)
        dropped = pc.is_in(rows.column("photo_id"), pa.array(sorted(ids), pa.string()))
        lost |= set(rows.filter(dropped).column(schema.KEYS[stage.makes.table]).to_pylist())
        if stage.makes is Portrait:
            portraits = pc.sum(dropped).as_py() or 0
        inputs = [info for kind in stage.reads if (info := contents[folder_of(kind)]) is not None]
        told = engine.corrections_of(stage, taken, workspace, part)
        made_from = fingerprint(recipes[stage.name], inputs, told) if recipes else REMOVED
        contents[folder] = workspace.write_part(folder, part, rows.filter(pc.invert(dropped)), made_from)
        entries = records.from_table(LedgerEntry, workspace.read_part(ledger, part))
        if stage.reads[0] is PlanItem:
            entries = [_as_removed(entry) if entry.uri in uris else entry for entry in entries]
        else:
            entries = [entry for entry in entries if entry.item not in lost]
        tally = {kind: sum(entry.outcome == kind for entry in entries) for kind in _OUTCOMES}
        retryable = sum(entry.retryable for entry in entries)
        extra = {**before.extra, **tally, "items": len(entries), "retryable": retryable}
        workspace.write_part(ledger, part, records.to_table(LedgerEntry, entries), made_from, extra)
    return portraits


def _as_removed(entry: LedgerEntry) -> LedgerEntry:
    return dataclasses.replace(
        entry,
        outcome="rejected",
        reason=REMOVED,
        message=TAKEN_OUT,
        retryable=False,
        evidence="{}",
        outputs=(),
    )
