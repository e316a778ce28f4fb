"""The index of the workspace's portraits in the store: what can be reviewed.

The index follows the workspace: parts that did not change are passed over. A portrait that a new build
replaced (its id is a digest of what people see) stays in the log with its decisions but is asked and counted
no more, and the table `replaced` says so; a portrait that did not change keeps its id and its decisions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from phq_data.pipeline.corrections import settled
from phq_data.review import rules, workspace_items
from phq_data.review.digests import is_sound, row_digest
from phq_data.review.records import CorrectionEntry, Item
from phq_data.review.store import Store, chunks, now_ms, read_policy, refresh_items, standing_of
from phq_data.review.tables import CORRECTIONS, ITEMS, LEASES, PARTS, REPLACED
from phq_data.workspace import Workspace

_STEP = 4  # parts: decisions wait that long


@dataclass(frozen=True)
class Synced:
    """What following the workspace changed."""

    added: int
    replaced: int
    total: int  # active items
    waiting: int = 0  # parts that are not read yet


def sync(
    store: Store, workspace: Workspace, *, go_on: Callable[[float], bool] = lambda seconds: True
) -> Synced:
    """Bring the index up to date with the workspace's tables.

    Parts that are new are taken `_STEP` at a time, so that a large workspace can be reviewed, and decisions
    be saved, before all of it is read. `go_on` is asked after each step, with the seconds that it took; when
    it says no, the others are left to the next call. Raises `WorkspaceError` for damaged tables,
    `StoreError`; then the index has what was read before.
    """
    with store.database.read() as connection:
        seen = {row.part: row.content for row in connection.execute(sa.select(PARTS))}
    duplicates = workspace_items.duplicates(workspace)
    parts = workspace.parts("tables/portraits")
    contents = {part: workspace_items.content(workspace, part, duplicates) for part in parts if part in seen}
    changed = [part for part, content in contents.items() if seen[part] != content]
    new = [part for part in parts if part not in seen]
    gone = [part for part in seen if part not in contents]
    # A portrait may have moved from a part that changed to a new one: those are taken together.
    steps = [new[at : at + _STEP] for at in range(0, len(new), _STEP)]
    if changed or gone:
        steps = [[*changed, *new]]
    added = replaced = 0
    while steps:
        began, step = time.monotonic(), steps.pop(0)
        content = {part: workspace_items.content(workspace, part, duplicates) for part in step}
        found = {part: workspace_items.read(workspace, part, duplicates) for part in step}
        made_with = workspace_items.corrected_with(workspace, step if seen else ())
        with store.database.write() as connection:
            store.database.only_one(connection, 2)
            more, less = apply(connection, found, content, gone, made_with)
        added, replaced = added + more, replaced + less
        if steps and not go_on(time.monotonic() - began):
            break
    with store.database.read() as connection:
        active = sa.select(sa.func.count()).select_from(ITEMS).where(ITEMS.c.active == 1)
        total = int(connection.execute(active).scalar_one())
    return Synced(added, replaced, total, sum(len(step) for step in steps))


def yaw_counts(store: Store) -> dict[int, int]:
    """Active items by yaw bin."""
    statement = (
        sa.select(ITEMS.c.yaw_bin, sa.func.count()).where(ITEMS.c.active == 1).group_by(ITEMS.c.yaw_bin)
    )
    with store.database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(statement)}


def sources(store: Store) -> list[str]:
    """The sources of active items."""
    statement = sa.select(ITEMS.c.source).where(ITEMS.c.active == 1).distinct().order_by(ITEMS.c.source)
    with store.database.read() as connection:
        return [row[0] for row in connection.execute(statement)]


def set_gold(store: Store, verdicts: Mapping[str, str | None]) -> int:
    """Make items gold items of a verdict (accept, reject), or ordinary ones (None); returns how many exist.

    Raises `ValueError` for another verdict.
    """
    for verdict in verdicts.values():
        if verdict not in ("accept", "reject", None):
            raise ValueError(f"the verdict of a gold item is accept or reject, not {verdict!r}")
    count = 0
    with store.database.write() as connection:
        for portrait, verdict in verdicts.items():
            done = connection.execute(
                sa.update(ITEMS).where(ITEMS.c.portrait_id == portrait).values(gold=verdict)
            )
            count += done.rowcount
    return count


def gold_of(store: Store, portrait_ids: Sequence[str]) -> dict[str, str]:
    """The known verdicts of those portraits that are gold items."""
    found: dict[str, str] = {}
    with store.database.read() as connection:
        for chunk in chunks(portrait_ids):
            statement = sa.select(ITEMS.c.portrait_id, ITEMS.c.gold).where(
                ITEMS.c.portrait_id.in_(chunk), ITEMS.c.gold.is_not(None)
            )
            found.update({row[0]: row[1] for row in connection.execute(statement)})
    return found


def apply(
    connection: sa.Connection,
    found: Mapping[int, Sequence[Item]],
    contents: Mapping[int, str],
    gone: Sequence[int],
    made_with: Mapping[str, str | None] | None = None,
) -> tuple[int, int]:
    """Write what changed: the items of each changed part, the digests of those parts, parts that are gone.
    `made_with`: the correction that each portrait of these parts was made with.

    Returns how many items are new and how many are no longer in the workspace.
    """
    policy = read_policy(connection)
    touched = [*found, *gone]
    before: dict[str, str] = {}  # active portraits of the changed parts -> person
    for chunk in [touched[i : i + 400] for i in range(0, len(touched), 400)]:
        statement = sa.select(ITEMS.c.portrait_id, ITEMS.c.person_id).where(
            ITEMS.c.part.in_(chunk), ITEMS.c.active == 1
        )
        before.update({row[0]: row[1] for row in connection.execute(statement)})
    fresh = {item.portrait_id: item for part in found.values() for item in part}
    known = {
        row[0]
        for chunk in chunks(fresh)
        for row in connection.execute(sa.select(ITEMS.c.portrait_id).where(ITEMS.c.portrait_id.in_(chunk)))
    }
    _insert(connection, [item for key, item in fresh.items() if key not in known], policy)
    _update(connection, [item for key, item in fresh.items() if key in known], made_with or {})
    lost = {portrait: person for portrait, person in before.items() if portrait not in fresh}
    _retire(connection, lost, fresh.values())
    # New items that nobody ever judged are right as they were inserted.
    refresh_items(connection, [*known, *lost, *standing_of(connection, set(fresh) - known)], policy)
    for part in touched:
        connection.execute(sa.delete(PARTS).where(PARTS.c.part == part))
    if contents:
        connection.execute(sa.insert(PARTS), [{"part": p, "content": c} for p, c in contents.items()])
    return len(fresh) - len(known), len(lost)


def _insert(connection: sa.Connection, fresh: Sequence[Item], policy: rules.Policy) -> None:
    for start in range(0, len(fresh), 2000):
        rows = [
            item.to_row()
            | {"required": policy.required(item.overlap_draw), "votes": 0, "open": 1, "state": "undecided"}
            for item in fresh[start : start + 2000]
        ]
        connection.execute(sa.insert(ITEMS), rows)


def _update(connection: sa.Connection, known: Sequence[Item], made_with: Mapping[str, str | None]) -> None:
    if not known:
        return
    waiting = _waiting(connection, known, made_with)
    rows = [
        {
            "key": item.portrait_id, "digest": row_digest(ITEMS, item.to_row()), **item.to_row(),
            "corrected": int(item.portrait_id in waiting),
        }
        for item in known
    ]  # fmt: skip
    statement = (
        sa.update(ITEMS)
        .where(ITEMS.c.portrait_id == sa.bindparam("key"))
        .values({name: sa.bindparam(name) for name in rows[0] if name not in ("key", "portrait_id")})
    )
    connection.execute(statement, rows)


def _waiting(
    connection: sa.Connection, known: Sequence[Item], made_with: Mapping[str, str | None]
) -> set[str]:
    """Portraits whose label was corrected, and that are not made with what the corrections come to."""
    undo = CORRECTIONS.alias()
    undone = sa.exists().where(undo.c.undoes == CORRECTIONS.c.correction_id)
    stands = sa.select(CORRECTIONS.c.portrait_id).where(CORRECTIONS.c.kind == "correct", ~undone)
    corrected = {
        row[0]
        for chunk in chunks(item.portrait_id for item in known)
        for row in connection.execute(stands.where(CORRECTIONS.c.portrait_id.in_(chunk)))
    }
    persons = {item.portrait_id: item.person_id for item in known if item.portrait_id in corrected}
    log = [
        CorrectionEntry.from_row(row).to_correction()
        for chunk in chunks(persons.values())
        for row in connection.execute(
            sa.select(CORRECTIONS).where(CORRECTIONS.c.person_id.in_(chunk))
        ).mappings()
        if is_sound(CORRECTIONS, row)
    ]
    found = settled(log)
    holding = {key: one.correction.correction_id for key, one in found.items() if one.correction}
    return {
        portrait
        for portrait, person in persons.items()
        if (by := made_with.get(portrait)) is None or by != holding.get(person)
    }


def _resealed(row: sa.RowMapping, **changes: Any) -> str:
    """The digest of a changed row; none for one that is damaged, so that it stays known."""
    return row_digest(ITEMS, {**row, **changes}) if is_sound(ITEMS, row) else ""


def _retire(connection: sa.Connection, lost: Mapping[str, str], fresh: Iterable[Item]) -> None:
    if not lost:
        return
    successors = {item.person_id: item.portrait_id for item in fresh}
    standing = standing_of(connection, lost)
    now = now_ms()
    for chunk in chunks(lost):
        rows = connection.execute(sa.select(ITEMS).where(ITEMS.c.portrait_id.in_(chunk))).mappings()
        retired = [{"key": row[ITEMS.c.portrait_id], "digest": _resealed(row, active=0)} for row in rows]
        connection.execute(
            sa.update(ITEMS)
            .where(ITEMS.c.portrait_id == sa.bindparam("key"))
            .values(active=0, digest=sa.bindparam("digest")),
            retired,
        )
        connection.execute(sa.delete(LEASES).where(LEASES.c.portrait_id.in_(chunk)))
    connection.execute(
        sa.insert(REPLACED),
        [
            {
                "portrait_id": portrait,
                "by_portrait_id": successors.get(person),
                "decisions": len(standing.get(portrait, [])),
                "time": now,
            }
            for portrait, person in lost.items()
        ],
    )
