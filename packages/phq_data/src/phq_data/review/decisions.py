"""Decisions as Parquet parts of the workspace (`tables/decisions`): the form that releases are made from.

The log is append-only: every batch becomes one more part, and no part is ever written again.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from phq_data.records import Decision, from_table
from phq_data.review import logs
from phq_data.review.consensus import VERDICTS, Consensus, ConsensusRule, ReviewError, consensus
from phq_data.review.records import REPAIR, LogEntry
from phq_data.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from phq_data.review.store import Store

FOLDER = "tables/decisions"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def append(workspace: Workspace, decisions: Sequence[Decision]) -> int:
    """Append decisions as one part; returns how many were new (a decision that is there is left out).

    Raises `ReviewError` for another verdict, `WorkspaceError` when the part cannot be written.
    """
    for one in decisions:
        if one.verdict not in VERDICTS:
            raise ReviewError(f"decision {one.decision_id}: there is no verdict {one.verdict!r}")
    return logs.append_rows(workspace, Decision, decisions)


def published(workspace: Workspace) -> list[Decision]:
    """The decisions in the workspace's table."""
    return workspace.records(Decision)


def readable(workspace: Workspace) -> list[Decision]:
    """The decisions in those parts of the workspace's table that are whole."""
    parts = [part for part in workspace.parts(FOLDER) if not workspace.damaged(FOLDER, part)]
    return [one for part in parts for one in from_table(Decision, workspace.read_part(FOLDER, part))]


def differing(entries: Iterable[LogEntry], written: Iterable[Decision]) -> list[LogEntry]:
    """Entries of a log that the workspace's table has too, with other values."""
    there = {one.decision_id: one for one in written}
    return [one for one in entries if one.decision_id in there and not one.means(there[one.decision_id])]


def synchronise(workspace: Workspace, store: Store, after: int = 0) -> int:
    """Write the decisions of the live store that the parts lack as one more part; returns how many.

    Looks at what arrived after the log's number `after`. Done again, it adds nothing. Raises
    `WorkspaceError`, `StoreError`; then no part was written.
    """
    with logs.alone(workspace):
        return append(workspace, [entry.to_decision() for entry in store.entries(after)])


def recover(workspace: Workspace, store: Store) -> int:
    """Take the workspace's decisions that a live store lacks over into it; returns how many.

    For a database that was deleted, is new or lost its end: what was written to the tables is not lost.
    """
    if not workspace.parts(FOLDER):
        return 0
    import sqlalchemy as sa  # not of those who only read or release

    from phq_data.review.tables import DECISIONS

    with store.database.read() as connection:
        there = pa.array(connection.execute(sa.select(DECISIONS.c.decision_id)).scalars(), pa.string())
    written = workspace.table(Decision.table)
    lacking = written.filter(pc.invert(pc.is_in(written.column("decision_id"), value_set=there)))
    return store.merge(map(LogEntry.from_decision, from_table(Decision, lacking))) if len(lacking) else 0


def mend(workspace: Workspace) -> list[str]:
    """Write damaged parts of the log anew from the live store, where there is one (`logs.mend`)."""
    return logs.mend(workspace, Decision, lambda store: [entry.to_decision() for entry in store.entries()])


def current(
    workspace: Workspace,
    rule: ConsensusRule = ConsensusRule(),  # noqa: B008 (frozen)
    *,
    write: bool = True,
) -> dict[str, Consensus]:
    """portrait_id -> consensus over all decisions of the workspace, those of its live store included, which
    are added to the workspace's table with `write`.

    The live store is the one in the workspace, or that of the variable PHQ_REVIEW_DATABASE. Raises
    `ReviewError` where the two contradict each other, `StoreError` for a store that is damaged.
    """
    written = published(workspace)
    return consensus([*written, *_live(workspace, written, write=write)], rule)


def _live(workspace: Workspace, written: Sequence[Decision], *, write: bool) -> list[Decision]:
    """The decisions of the live store; on the way the parts are brought up to date, if they may be."""
    if not logs.has_store(workspace):
        return []
    from phq_data.review.store import Store

    store = Store.open(workspace)
    try:
        entries = list(store.entries())
    finally:
        store.close()
    other = differing(entries, written)
    if other:
        raise ReviewError(
            f"{len(other)} decisions of {store.database.name} say something else in the workspace's "
            f"tables/decisions ({other[0].told()}): `{REPAIR}` goes by the tables"
        )
    found = [entry.to_decision() for entry in entries]
    # Somebody who may only read can release as well.
    if write:
        with contextlib.suppress(WorkspaceError), logs.alone(workspace):
            append(workspace, found)
    return found


def ulid(milliseconds: int | None = None) -> str:
    """A new ULID: 48 bits of time, 80 random bits, 26 letters that sort by time."""
    when = int(time.time() * 1000) if milliseconds is None else milliseconds
    number = (when << 80) | secrets.randbits(80)
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))
