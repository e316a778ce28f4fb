"""Making a damaged live store whole again: what can be read of it, and the workspace's own decisions.

A SQLite file is written anew beside the damaged one, which is kept; in PostgreSQL the damaged rows are taken
out. Decisions that were damaged come back from `tables/decisions`; those that are not there are named.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from phq_data.files import TEMPORARY
from phq_data.pipeline.integrity import Fault
from phq_data.records import Correction, Decision
from phq_data.review import belonging, corrections, decisions, integrity, items, logs
from phq_data.review.database import SCHEMA, DamagedStoreError, Database, StoreBusyError, StoreError
from phq_data.review.digests import NAME as DIGEST
from phq_data.review.digests import is_sound
from phq_data.review.records import REPAIR, LogEntry
from phq_data.review.store import Store, place
from phq_data.review.tables import CORRECTIONS, DECISIONS, ITEMS
from phq_data.workspace import Workspace, WorkspaceError


@dataclass
class _Read:
    """What a damaged database still holds, by table."""

    sound: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    damaged: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    gold: dict[str, str] = field(default_factory=dict)


def faults(workspace: Workspace) -> list[Fault]:
    """What is wrong with the live store of a workspace, if it has one, for `phq workspace verify`."""
    name = "" if not logs.has_store(workspace) else Database.unread(place(workspace)).name
    return [Fault("review", f"{name} {one.table}", one.problem, REPAIR) for one in _faults(workspace)]


def _faults(workspace: Workspace) -> list[integrity.StoreFault]:
    if not logs.has_store(workspace):
        return []
    try:
        store = Store.open(workspace)
        try:
            published = decisions.readable(workspace)
            found = integrity.check(store, published)
            return found or list(_lacking(store, workspace, published))
        finally:
            store.close()
    except DamagedStoreError as error:
        return [integrity.StoreFault("file", str(error))]


def _lacking(
    store: Store, workspace: Workspace, published: Sequence[Decision]
) -> Iterator[integrity.StoreFault]:
    """Entries of the workspace's tables that the store has lost."""
    corrected: list[Correction] = []
    with contextlib.suppress(WorkspaceError):  # a damaged part is told of as that
        corrected = workspace.records(Correction)
    tables = {
        DECISIONS.c.decision_id: [one.decision_id for one in published],
        CORRECTIONS.c.correction_id: [one.correction_id for one in corrected],
    }
    with store.database.read() as connection:
        for key, names in tables.items():
            count = len(set(names) - set(connection.scalars(sa.select(key))))
            if count:
                kind = key.table.name
                yield integrity.StoreFault(kind, f"{count} of tables/{kind} are not there")


def repair(workspace: Workspace) -> list[str]:
    """Make the live store whole, if there is one and it is not; what was done and lost, in lines.

    The caller holds the workspace's lock. Raises `StoreError`, `WorkspaceError`.
    """
    found = _faults(workspace)
    if not found:
        return []
    published = decisions.readable(workspace)
    done: list[str] = []
    gold: dict[str, str] = {}
    corrected = 0
    damaged: list[dict[str, Any]] = []  # corrections
    if any(not one.derived for one in found):
        old = Database.unread(place(workspace))
        try:
            with _alone(old):
                read = _all_of(old, workspace)
                entries = _agreeing(read, published)
                done = _replaced(old.file, workspace, read, entries) if old.file else _cleared(old, read)
        finally:
            old.close()
        gold, damaged = read.gold, read.damaged[CORRECTIONS.name]
        done += _lost(read, published)
    store = Store.open(workspace)
    try:
        integrity.make_anew(store, workspace)
        items.set_gold(store, gold)
        count = store.merge(map(LogEntry.from_decision, published))
        with contextlib.suppress(WorkspaceError):  # its parts may be damaged too: `corrections.mend` is next
            corrected = corrections.recover(workspace, store)
        there = {(one.time, one.person_id) for one in corrections.entries(store)}
    finally:
        store.close()
    if count:
        done.append(f"{count} decisions came back from tables/decisions")
    if corrected:
        done.append(f"{corrected} corrections came back from tables/corrections")
    done += [
        f"lost, correct it again: {one['correction_id']}, portrait {one['portrait_id']}, by {one['reviewer']}"
        for one in damaged
        if (one["time"], one["person_id"]) not in there
    ]
    return done or [f"made anew in the review's database: {'; '.join(one.problem for one in found)}"]


def _replaced(path: Path, workspace: Workspace, read: _Read, entries: Sequence[LogEntry]) -> list[str]:
    """Write a SQLite file anew."""
    fresh = path.with_name(f"{TEMPORARY}{path.name}")
    # Should the power go between the renames, nothing is lost: the tables have it.
    with contextlib.suppress(WorkspaceError):  # its parts may be damaged too: `decisions.mend` is next
        decisions.append(workspace, [one.to_decision() for one in entries])
    fresh.unlink(missing_ok=True)
    _write(fresh, entries, read)
    kept = _moved_away(path)
    fresh.replace(path)
    return [
        f"the review's database was written anew with {len(entries)} decisions; the damaged one is {kept}",
        *_left_out(read, "left out"),
        "logins have ended: log in to the review again",
    ]


def _cleared(database: Database, read: _Read) -> list[str]:
    """Take the damaged rows out of a database on a server."""
    append_only = (DECISIONS.name, CORRECTIONS.name)
    with database.write() as connection:
        for name in append_only:
            connection.execute(sa.text(f"ALTER TABLE {name} DISABLE TRIGGER {name}_no_change"))
        for table in (DECISIONS, *integrity.OF_THEIR_OWN):
            key = next(iter(table.primary_key))
            for row in read.damaged[table.name]:
                connection.execute(sa.delete(table).where(key == row[key.name]))
        for name in append_only:
            connection.execute(sa.text(f"ALTER TABLE {name} ENABLE TRIGGER {name}_no_change"))
    return _left_out(read, "taken out")


def _left_out(read: _Read, how: str) -> list[str]:
    """A line for each table with damaged rows: how many, and which where they have names."""
    lines = []
    for table in (DECISIONS, *integrity.OF_THEIR_OWN):
        rows = read.damaged[table.name]
        names = ", ".join(str(row["name"]) for row in rows if "name" in row)
        if rows:
            lines.append(
                f"{table.name}: {len(rows)} damaged entries were {how}{f' ({names})' if names else ''}"
            )
    return lines


def _agreeing(read: _Read, published: Sequence[Decision]) -> list[LogEntry]:
    """The sound entries; those that the workspace's table knows otherwise count as damaged from now on."""
    rows = read.sound[DECISIONS.name]
    entries = [LogEntry.from_row(row) for row in rows]
    other = {one.decision_id for one in decisions.differing(entries, published)}
    read.damaged[DECISIONS.name] += [row for row in rows if row["decision_id"] in other]
    return [one for one in entries if one.decision_id not in other]


def _lost(read: _Read, published: Sequence[Decision]) -> Iterator[str]:
    """A line for each decision that is damaged and not in the workspace's table."""
    ids = {one.decision_id for one in published}
    known = [LogEntry.from_decision(one) for one in published]
    moments = {(one.time, one.reviewer) for one in known} | {(one.time, one.portrait_id) for one in known}
    for row in read.damaged[DECISIONS.name]:
        one = LogEntry.from_row(row)
        if one.decision_id in ids or {(one.time, one.reviewer), (one.time, one.portrait_id)} & moments:
            continue  # restored; its id itself may be what was damaged
        yield f"lost, decide it again: {one.told()}"


@contextlib.contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Nobody else writes to a SQLite file meanwhile, as far as its damage lets us say so."""
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(database.engine.connect())
            connection.execution_options(phq_immediate=True).begin()
        except (SQLAlchemyError, UnicodeDecodeError) as error:
            if "locked" in str(error):
                raise StoreBusyError(
                    f"the database {database.name} is in use: end the review first"
                ) from error
        yield


def _all_of(database: Database, workspace: Workspace) -> _Read:
    """What a database still holds; nothing of one that belongs to another workspace."""
    found = _Read()
    if database.file is not None:
        with contextlib.suppress(StoreError, SQLAlchemyError), database.read() as connection:
            if belonging.is_foreign(belonging.named(connection), workspace):
                tables = (DECISIONS, *integrity.OF_THEIR_OWN)
                return _Read({table.name: [] for table in tables}, {table.name: [] for table in tables})
    for table in (DECISIONS, *integrity.OF_THEIR_OWN):
        found.sound[table.name], found.damaged[table.name] = _readable(database, table)
    with contextlib.suppress(StoreError, SQLAlchemyError), database.read() as connection:
        for name, gold in connection.execute(sa.select(ITEMS.c.portrait_id, ITEMS.c.gold)):
            if gold in ("accept", "reject"):
                found.gold[name] = gold
    return found


def _readable(database: Database, table: sa.Table) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Sound and damaged rows, read from both ends up to where the pages cannot be read."""
    sound: dict[Any, dict[str, Any]] = {}
    damaged: dict[Any, dict[str, Any]] = {}
    key = next(iter(table.primary_key))
    for order in (key.asc(), key.desc()):
        with contextlib.suppress(StoreError, SQLAlchemyError), database.read() as connection:
            there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
            columns = [column for column in table.columns if column.name in there]
            for row in connection.execute(sa.select(*columns).order_by(order)).mappings():
                # A database of version 2 has no digests: it is taken as it is.
                whole = DIGEST not in there or is_sound(table, row)
                (sound if whole else damaged)[row[key.name]] = dict(row)
    return [sound[one] for one in sorted(sound)], list(damaged.values())


def _write(path: Path, entries: Sequence[LogEntry], read: _Read) -> None:
    store = Store(Database.open(path))
    try:
        for table in integrity.OF_THEIR_OWN:
            rows = [
                {name: row[name] for name in row if name not in (DIGEST, "seq")}
                for row in read.sound[table.name]
                if row.get("name") != SCHEMA  # the new file has its own
            ]
            if rows:
                with store.database.write() as connection:
                    connection.execute(sa.insert(table), rows)
        store.merge(entries)
    finally:
        store.close()


def _moved_away(path: Path) -> Path:
    """Rename a SQLite file and what belongs to it; returns its new name."""
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    for ending in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(kept.with_name(kept.name + ending))
    return kept
