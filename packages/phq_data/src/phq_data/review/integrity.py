"""Is the live store what was written to it: pages, the log, other rows, and what is derived of the log.

Damage of the log and of what only the store knows ends whatever would use it; `repair` mends it. Standing
verdicts, counts and the index of the portraits are made anew where they differ.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from phq_data.records import Decision
from phq_data.review import decisions, items, sealed_log
from phq_data.review.consensus import ConsensusRule, settle
from phq_data.review.database import DamagedStoreError, schema_changed
from phq_data.review.digests import is_sound
from phq_data.review.records import REPAIR, Standing
from phq_data.review.store import STANDING_VERDICTS, Store, read_policy
from phq_data.review.tables import CORRECTIONS, ITEMS, PARTS, REPLACED, REVIEWERS, SETTINGS, STANDINGS
from phq_data.workspace import Workspace

OF_THEIR_OWN = (SETTINGS, REVIEWERS, REPLACED, CORRECTIONS)
"""Tables beside the log that nothing else could tell anew."""
GOLD = ("accept", "reject")
_OFTEN = 2_000  # rows
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreFault:
    """Something in the store that is not as it was written."""

    table: str  # or "file"
    problem: str
    derived: bool = False  # made anew from the log and the workspace


def ensure(store: Store, workspace: Workspace, *, pause: Callable[[], None] = lambda: None) -> None:
    """Before a store is worked with: make anew what is derived where it differs, and say so in the log.

    `pause` is called now and then while all of it is read. Raises `DamagedStoreError` for what cannot be
    made anew, `WorkspaceError` for damaged tables.
    """
    found = check(store, pause=pause)
    lost = [one for one in found if not one.derived]
    if lost:
        raise DamagedStoreError(
            f"the review's database {store.database.name} is damaged: "
            f"{'; '.join(f'{one.table}: {one.problem}' for one in lost)}. Nothing is made of it: end the "
            f"review where it runs, and run `{REPAIR}`"
        )
    if found:
        make_anew(store, workspace)
        _LOG.warning("the review's database was damaged; made anew: %s", "; ".join(map(_told, found)))


def check(
    store: Store, published: Sequence[Decision] = (), *, pause: Callable[[], None] = lambda: None
) -> list[StoreFault]:
    """Read the whole store, as it is at one moment, and name what is wrong; changes nothing.

    `published`: decisions in the workspace's table, which must say the same. Raises `StoreError` for a
    database that cannot be read at all.
    """
    with store.database.snapshot() as connection:
        found = list(_file_faults(connection))
        if found:
            return found
        found = [*_log_faults(connection, published), *_row_faults(connection)]
        return found or list(_derived_faults(connection, pause))


def make_anew(store: Store, workspace: Workspace) -> None:
    """Make the index of the portraits anew from the workspace where it is damaged, and what is derived of the
    log from the log."""
    with store.database.write() as connection:
        bad = {row["portrait_id"]: row["gold"] for row in _items(connection) if not _is_whole(row)}
        for portrait in bad:
            connection.execute(sa.delete(ITEMS).where(ITEMS.c.portrait_id == portrait))
        if bad:
            connection.execute(sa.delete(PARTS))  # the part that a damaged row names may be another
        waits = sa.exists().where(CORRECTIONS.c.portrait_id == ITEMS.c.portrait_id)
        connection.execute(sa.update(ITEMS).where(ITEMS.c.corrected != 0, ~waits).values(corrected=0))
        connection.execute(sa.update(ITEMS).where(ITEMS.c.corrected.not_in((0, 1))).values(corrected=1))
    items.sync(store, workspace)
    items.set_gold(store, {name: gold for name, gold in bad.items() if gold in GOLD})
    store.rebuild()


def _told(fault: StoreFault) -> str:
    return f"{fault.table} ({fault.problem})"


def _file_faults(connection: sa.Connection) -> Iterator[StoreFault]:
    if connection.dialect.name != "sqlite":
        return
    told = [str(line) for line in connection.exec_driver_sql("PRAGMA integrity_check(3)").scalars()]
    if told != ["ok"]:
        yield StoreFault("file", f"its pages are damaged ({' '.join('; '.join(told).split())})")
    elif schema_changed(connection):
        yield StoreFault("file", "its tables are not declared as they were")


def _log_faults(connection: sa.Connection, published: Sequence[Decision]) -> Iterator[StoreFault]:
    damage = sealed_log.damage(connection)
    if damage:
        yield StoreFault("decisions", str(damage))
    elif published and (other := decisions.differing(sealed_log.sound_entries(connection), published)):
        named = "; ".join(one.told() for one in other[:3])
        yield StoreFault("decisions", f"{len(other)} say something else than tables/decisions ({named})")


def _row_faults(connection: sa.Connection) -> Iterator[StoreFault]:
    for table in OF_THEIR_OWN:
        key = next(iter(table.primary_key)).name
        rows = connection.execute(sa.select(table)).mappings()
        bad = [str(row[key]) for row in rows if not is_sound(table, row)]
        if bad:
            yield StoreFault(table.name, f"not what was written: {', '.join(bad[:5])}")
    if gone := sealed_log.missing(connection, CORRECTIONS):
        yield StoreFault(CORRECTIONS.name, f"{gone} corrections are gone")


def _derived_faults(connection: sa.Connection, pause: Callable[[], None]) -> Iterator[StoreFault]:
    by_log, stored = sa.select(*STANDING_VERDICTS.c), sa.select(STANDINGS)
    other = [
        row[0]
        for one, two in ((by_log, stored), (stored, by_log))
        for row in connection.execute(sa.except_(one, two))
    ]
    if other:
        yield StoreFault("standings", f"wrong verdicts on {len(set(other))} portraits", derived=True)
    votes: dict[str, list[Standing]] = {}
    for verdict in connection.execute(by_log):
        votes.setdefault(verdict[0], []).append(Standing(*verdict))
    policy = read_policy(connection)
    rule = ConsensusRule(policy.min_votes, policy.min_share)
    corrected = set(connection.execute(sa.select(CORRECTIONS.c.portrait_id)).scalars())
    damaged = miscounted = 0
    for number, row in enumerate(_items(connection)):
        if number % _OFTEN == 0:
            pause()
        if not _is_whole(row):
            damaged += 1
            continue
        mine = votes.get(row["portrait_id"], [])
        required = policy.required(row["overlap_draw"])
        waits = row["corrected"]
        is_open = int(bool(row["active"]) and not waits and len(mine) < required)
        known = waits == 0 or (waits == 1 and row["portrait_id"] in corrected)
        right = (len(mine), required, is_open, settle(mine, rule).state)
        miscounted += not known or right != (row["votes"], row["required"], row["open"], row["state"])
    if damaged:
        yield StoreFault("items", f"{damaged} portraits are not what the workspace says", derived=True)
    if miscounted:
        yield StoreFault("items", f"wrong counts at {miscounted} portraits", derived=True)


def _items(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    return sealed_log.plain_rows(connection, sa.select(ITEMS))


def _is_whole(row: Mapping[str, Any]) -> bool:
    return is_sound(ITEMS, row) and (row["gold"] is None or row["gold"] in GOLD)
