"""The index of the workspace's portraits in the store: what can be reviewed.

The index follows the workspace: parts that did not change are passed over. A portrait that a new build
replaced (its id is a digest of what people see) stays in the log with its decisions but is asked and counted
no more, and the table `replaced` says so; a portrait that did not change keeps its id and its decisions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from phq_data.pipeline.corrections import settled
from phq_data.review import rules, workspace_items
from phq_data.review.digests import is_sound, row_digest
from phq_data.review.records import DUPLICATE, KEPT, CorrectionEntry, Item
from phq_data.review.store import Store, chunks, now_ms, read_policy, refresh_items, standing_of
from phq_data.review.tables import CORRECTIONS, ITEMS, LEASES, PARTS, REPLACED
from phq_data.workspace import Workspace

_STEP = 4  # parts: decisions wait that long
_DUPLICATES = -1  # the number in `parts` of the table of near-duplicates, which is one for all


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

    Parts are taken `_STEP` at a time, the new ones first, so that a large workspace can be reviewed, and
    decisions be saved, before all of it is read. `go_on` is asked after each step, with the seconds that it
    took; when it says no, the others are left to the next call. Raises `WorkspaceError` for damaged tables,
    `StoreError`; then the index has what was read before.
    """
    content_of_duplicates = workspace_items.duplicates_content(workspace)  # first: a build may write them now
    duplicates = workspace_items.duplicates(workspace)
    _follow_duplicates(store, content_of_duplicates, duplicates)
    steps = _steps(store, workspace)
    added = replaced = 0
    while steps:
        began, step = time.monotonic(), steps.pop(0)
        content = {part: workspace_items.content(workspace, part) for part in step.parts}
        found = {part: workspace_items.read(workspace, part, duplicates) for part in step.parts}
        with store.database.write() as connection:
            store.database.only_one(connection, 2)
            made_with = {key: by for part in found.values() for key, by in part.made_with.items()}
            items = {part: one.items for part, one in found.items()}
            more, less = apply(connection, items, content, step.gone, made_with)
        added, replaced = added + more, replaced + less
        if steps and not go_on(time.monotonic() - began):
            break
    with store.database.read() as connection:
        active = sa.select(sa.func.count()).select_from(ITEMS).where(ITEMS.c.active == 1)
        total = int(connection.execute(active).scalar_one())
    return Synced(added, replaced, total, sum(len(step.parts) for step in steps))


class _Step(NamedTuple):
    """Parts to read, or parts that are gone."""

    parts: list[int]
    gone: list[int]


def _steps(store: Store, workspace: Workspace) -> list[_Step]:
    """What is to be read: new parts, then those that changed, then to be forgotten: a portrait that moved
    from one of these into a new part was never gone."""
    with store.database.read() as connection:
        known = sa.select(PARTS).where(PARTS.c.part >= 0)
        seen = {row.part: row.content for row in connection.execute(known)}
    parts = workspace.parts("tables/portraits")
    new = [part for part in parts if part not in seen]
    changed = [
        part
        for part in parts
        if part in seen and not seen[part].startswith(workspace_items.content(workspace, part))
    ]
    gone = sorted(set(seen) - set(parts))
    every = [some[at : at + _STEP] for some in (new, changed) for at in range(0, len(some), _STEP)]
    return [*(_Step(some, []) for some in every), *([_Step([], gone)] if gone else [])]


def _follow_duplicates(store: Store, content: str, duplicates: frozenset[str]) -> None:
    """Bring items that were read before to the pool of near-duplicates, and out of it."""
    recorded = sa.select(PARTS.c.content).where(PARTS.c.part == _DUPLICATES)
    with store.database.read() as connection:
        if connection.execute(recorded).scalar() == content:
            return
    with store.database.write() as connection:
        store.database.only_one(connection, 2)
        here = sa.select(ITEMS.c.portrait_id).where(ITEMS.c.active == 1)
        marked = set(connection.execute(here.where(ITEMS.c.pool == DUPLICATE)).scalars())
        _move(connection, marked - duplicates, DUPLICATE, KEPT)
        _move(connection, duplicates - marked, KEPT, DUPLICATE)
        connection.execute(sa.delete(PARTS).where(PARTS.c.part == _DUPLICATES))
        connection.execute(sa.insert(PARTS).values(part=_DUPLICATES, content=content))


def _move(connection: sa.Connection, portraits: Set[str], pool: int, other: int) -> None:
    """Those of these portraits that are in `pool` come to the pool `other`."""
    for chunk in chunks(portraits):
        there = sa.select(ITEMS).where(
            ITEMS.c.portrait_id.in_(chunk), ITEMS.c.pool == pool, ITEMS.c.active == 1
        )
        _reseal(connection, connection.execute(there).mappings(), pool=other)


def any_read(store: Store) -> bool:
    """Has a part of the workspace been read into the index?"""
    with store.database.read() as connection:
        return (
            connection.execute(sa.select(PARTS.c.part).where(PARTS.c.part >= 0).limit(1)).first() is not None
        )


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
    columns = (ITEMS.c.portrait_id, ITEMS.c.digest, ITEMS.c.corrected)
    known: dict[str, tuple[str, int]] = {
        row[0]: (row[1], row[2])
        for chunk in chunks(fresh)
        for row in connection.execute(sa.select(*columns).where(ITEMS.c.portrait_id.in_(chunk)))
    }
    _insert(connection, [item for key, item in fresh.items() if key not in known], policy)
    changed = _update(connection, known, [fresh[key] for key in known], made_with or {})
    lost = {portrait: person for portrait, person in before.items() if portrait not in fresh}
    _retire(connection, lost, fresh.values())
    # New items that nobody ever judged are right as they were inserted.
    refresh_items(connection, [*changed, *lost, *standing_of(connection, set(fresh) - set(known))], policy)
    for part in touched:
        connection.execute(sa.delete(PARTS).where(PARTS.c.part == part))
    if contents:
        connection.execute(sa.insert(PARTS), [{"part": p, "content": c} for p, c in contents.items()])
    return len(fresh) - len(known), len(lost)


def _insert(connection: sa.Connection, fresh: Sequence[Item], policy: rules.Policy) -> None:
    for start in range(0, len(fresh), 2000):
        rows = [
            _sealed(item)
            | {"required": policy.required(item.overlap_draw), "votes": 0, "open": 1, "state": "undecided"}
            for item in fresh[start : start + 2000]
        ]
        connection.execute(sa.insert(ITEMS), rows)


def _sealed(item: Item) -> dict[str, Any]:
    row = item.to_row()
    return {**row, "digest": row_digest(ITEMS, row)}


def _update(
    connection: sa.Connection,
    known: Mapping[str, tuple[str, int]],  # portrait_id -> digest and `corrected` in the index
    listed: Sequence[Item],
    made_with: Mapping[str, str | None],
) -> list[str]:
    """Write those items that changed; returns which."""
    waiting = _waiting(connection, listed, made_with)
    rows = [
        {"key": item.portrait_id, **_sealed(item), "corrected": int(item.portrait_id in waiting)}
        for item in listed
    ]
    rows = [row for row in rows if (row["digest"], row["corrected"]) != known[row["key"]]]
    if rows:
        statement = (
            sa.update(ITEMS)
            .where(ITEMS.c.portrait_id == sa.bindparam("key"))
            .values({name: sa.bindparam(name) for name in rows[0] if name not in ("key", "portrait_id")})
        )
        connection.execute(statement, rows)
    return [row["key"] for row in rows]


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


def _reseal(connection: sa.Connection, rows: Iterable[sa.RowMapping], **change: int) -> None:
    """Change a column of these rows, and their digests; a damaged row gets none, so that it stays known."""
    (name, value), *_ = change.items()
    sealed = [
        {
            "key": row[ITEMS.c.portrait_id],
            "digest": row_digest(ITEMS, {**row, name: value}) if is_sound(ITEMS, row) else "",
        }
        for row in rows
    ]
    if sealed:
        connection.execute(
            sa.update(ITEMS)
            .where(ITEMS.c.portrait_id == sa.bindparam("key"))
            .values({name: value, "digest": sa.bindparam("digest")}),
            sealed,
        )


def _retire(connection: sa.Connection, lost: Mapping[str, str], fresh: Iterable[Item]) -> None:
    if not lost:
        return
    successors = {item.person_id: item.portrait_id for item in fresh}
    standing = standing_of(connection, lost)
    now = now_ms()
    for chunk in chunks(lost):
        rows = connection.execute(sa.select(ITEMS).where(ITEMS.c.portrait_id.in_(chunk))).mappings()
        _reseal(connection, rows, active=0)
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
