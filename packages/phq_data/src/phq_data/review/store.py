"""The live log of decisions: recording them, what stands, history, and the team's settings.

Every write is one transaction over the log, the standing verdicts and the counts of the items concerned, so
no reader ever sees one without the others. A decision is known by the id that its client gave it: delivered
twice, it is saved once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from phq_data.review import belonging, rules, sealed_log
from phq_data.review.consensus import ADJUDICATION, VERDICTS, ConsensusRule, settle
from phq_data.review.database import Database, StoreError
from phq_data.review.records import DATABASE_VARIABLE, STORE_FILE, LogEntry, Standing
from phq_data.review.sealed_log import sound
from phq_data.review.tables import DECISIONS, ITEMS, LEASES, SETTINGS, STANDINGS
from phq_data.workspace import Workspace

CHUNK = 400  # ids in one IN (...)
_STANDING = [column.name for column in STANDINGS.columns]
STANDING_VERDICTS = sa.table("standing_verdicts", *(sa.column(name) for name in _STANDING))
"""What stands by the log alone; the table `standings` holds the same, ready to be searched."""
EARLIEST = 946_684_800_000  # the year 2000, in milliseconds
DAY = 86_400_000
DECISION_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class NewDecision:
    """A decision as a client sends it. Times are milliseconds since 1970."""

    decision_id: str
    portrait_id: str
    verdict: str  # accept, reject, flag, undo
    reason: str = ""
    note: str | None = None
    time: int = 0  # of the client's clock; 0 = now
    seconds: float = 0.0  # that the reviewer looked at it
    rules: str = rules.VERSION
    client: str = ""
    queue: str = ""  # order of the queue
    over: str | None = None  # own decision that it replaces or takes back; "" = none, None = whichever stands

    def entry(self, reviewer: str, moment: int, now: int) -> LogEntry:
        """This decision in the log, at the log's time `moment`, saved `now`."""
        clocks = {"time": moment, "client_time": self.time or now, "server_time": now}
        given = {name: value for name, value in vars(self).items() if name != "over"}
        return LogEntry(**{**given, **clocks, "reviewer": reviewer})


@dataclass(frozen=True)
class HistoryEntry(LogEntry):
    """A decision of the log and whether it is still in force."""

    stands: bool = False


@dataclass(frozen=True)
class Refusal:
    """A decision that was not saved, and why."""

    decision_id: str
    why: str
    elsewhere: bool = False  # another client of the reviewer decided the portrait meanwhile


@dataclass(frozen=True)
class Recorded:
    """What became of a batch: ids that are saved now, that were saved before, and refusals."""

    saved: tuple[str, ...]
    known: tuple[str, ...]
    refused: tuple[Refusal, ...]


class Store:
    """Decisions, items and leases in a database. Open it with `Store.open`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, workspace: Workspace, url: str | None = None) -> Store:
        """The store of a workspace: at `url`, at `PHQ_REVIEW_DATABASE`, or embedded in the workspace.

        Raises `StoreError`.
        """
        where = place(workspace, url)
        database = Database.open(where)
        if isinstance(where, Path):
            try:
                belonging.settle(database, workspace)
            except StoreError:
                database.close()
                raise
        return cls(database)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    # ---- settings ----------------------------------------------------------------------------------------

    def policy(self) -> rules.Policy:
        """How the team reviews."""
        with self.database.read() as connection:
            return read_policy(connection)

    def set_policy(self, policy: rules.Policy) -> None:
        """Change how the team reviews; what is asked and what was agreed is worked out anew."""
        with self.database.write() as connection:
            before = read_policy(connection)
            for name, value in dataclasses.asdict(policy).items():
                connection.execute(sa.delete(SETTINGS).where(SETTINGS.c.name == name))
                connection.execute(sa.insert(SETTINGS).values(name=name, value=json.dumps(value)))
            _require(connection, policy)
            if (before.min_votes, before.min_share) != (policy.min_votes, policy.min_share):
                decided = [
                    row[0] for row in connection.execute(sa.select(STANDINGS.c.portrait_id).distinct())
                ]
                refresh_items(connection, decided, policy)

    # ---- decisions ---------------------------------------------------------------------------------------

    def record(
        self, decisions: Sequence[NewDecision], reviewer: str, *, lead: bool = True, now: int | None = None
    ) -> Recorded:
        """Save decisions of one reviewer, in order, all in one transaction.

        Refused, one by one: an unknown portrait or verdict, an undo of nothing, an id that another decision
        has, an adjudication by somebody who is no lead, one that is `over` another decision
        than stands. Raises `StoreError`; then none was saved.
        """
        moment = now or now_ms()
        if not decisions:
            return Recorded((), (), ())
        with self.database.write() as connection:
            return _record(connection, decisions, reviewer, lead, moment)

    def merge(self, entries: Iterable[LogEntry]) -> int:
        """Take over decisions of any reviewers as they are (an import); returns how many were new."""
        listed = list(entries)
        with self.database.write() as connection:
            known = _existing(connection, [one.decision_id for one in listed])
            fresh = {one.decision_id: one for one in listed if one.decision_id not in known}
            rows = [one.to_row() for one in fresh.values()]
            for start in range(0, len(rows), 5000):
                connection.execute(sa.insert(DECISIONS), rows[start : start + 5000])
            pairs = {(one.portrait_id, one.reviewer) for one in fresh.values()}
            _refresh_standings(connection, pairs)
            refresh_items(connection, {portrait for portrait, _ in pairs}, read_policy(connection))
        return len(fresh)

    def entries(self, after: int = 0) -> Iterator[LogEntry]:
        """The log from its beginning, or after a `seq`, in order of arrival.

        Raises `StoreError` for a log that is damaged.
        """
        return sealed_log.read(self.database, after)

    def last(self) -> int:
        """The highest `seq` of the log; 0 when it is empty."""
        with self.database.read() as connection:
            return connection.execute(sa.select(sa.func.max(DECISIONS.c.seq))).scalar() or 0

    def history(
        self, limit: int = 50, before: int | None = None, reviewer: str | None = None, after: int = 0
    ) -> list[HistoryEntry]:
        """The last decisions, newest first, before a `seq` and after another."""
        stands = sa.exists().where(STANDINGS.c.decision_id == DECISIONS.c.decision_id).where(
            STANDINGS.c.portrait_id == DECISIONS.c.portrait_id
        )  # fmt: skip
        statement = sa.select(DECISIONS, stands.label("stands")).order_by(DECISIONS.c.seq.desc())
        if after:
            statement = statement.where(DECISIONS.c.seq > after)
        if before is not None:
            statement = statement.where(DECISIONS.c.seq < before)
        if reviewer is not None:
            statement = statement.where(DECISIONS.c.reviewer == reviewer)
        with self.database.read() as connection:
            found = connection.execute(statement.limit(limit)).mappings()
            return [HistoryEntry(**vars(LogEntry.from_row(row)), stands=row["stands"]) for row in found]

    def standings(self, portrait_id: str) -> list[Standing]:
        """The standing verdicts on a portrait, one a reviewer."""
        with self.database.read() as connection:
            return standing_of(connection, [portrait_id]).get(portrait_id, [])

    def rebuild(self) -> None:
        """Work out the standing verdicts and all counts anew from the log."""
        with self.database.write() as connection:
            policy = read_policy(connection)
            connection.execute(sa.delete(STANDINGS))
            connection.execute(sa.insert(STANDINGS).from_select(_STANDING, sa.select(*STANDING_VERDICTS.c)))
            nobody = {"votes": 0, "state": "undecided"}
            judged = sa.or_(*(ITEMS.c[name] != value for name, value in nobody.items()))
            connection.execute(sa.update(ITEMS).where(judged).values(nobody))
            _require(connection, policy)
            decided = connection.execute(sa.select(STANDINGS.c.portrait_id).distinct()).scalars()
            refresh_items(connection, list(decided), policy)


def place(workspace: Workspace, url: str | None = None) -> str | Path:
    """Where the store of a workspace is. Raises `StoreError`: nowhere."""
    url = url or os.environ.get(DATABASE_VARIABLE) or None
    if url is None and not workspace.is_local:
        raise StoreError(
            f"{workspace.url} is no local folder, so its decisions need a database: give its URL "
            f"(--database, or the variable {DATABASE_VARIABLE})"
        )
    return url or Path(workspace.path(STORE_FILE))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def read_policy(connection: sa.Connection) -> rules.Policy:
    """The settings that the table holds, the others as they come."""
    rows = sound(SETTINGS, connection.execute(sa.select(SETTINGS)).mappings())
    stored = {row["name"]: json.loads(row["value"]) for row in rows}
    names = {field.name for field in dataclasses.fields(rules.Policy)}
    return rules.Policy(**{name: value for name, value in stored.items() if name in names})


def chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """Values in lists short enough for one statement."""
    listed = list(values)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


def standing_of(connection: sa.Connection, portraits: Iterable[str]) -> dict[str, list[Standing]]:
    """portrait_id -> its standing verdicts."""
    found: dict[str, list[Standing]] = {}
    for chunk in chunks(portraits):
        statement = sa.select(STANDINGS).where(STANDINGS.c.portrait_id.in_(chunk))
        for row in connection.execute(statement).mappings():
            one = Standing(**row)
            found.setdefault(one.portrait_id, []).append(one)
    return found


def refresh_items(connection: sa.Connection, portraits: Iterable[str], policy: rules.Policy) -> None:
    """Work out votes, state and openness of these items from the standing verdicts."""
    rule = ConsensusRule(policy.min_votes, policy.min_share)
    listed = list(portraits)
    standing = standing_of(connection, listed)
    changes = []
    for portrait in listed:
        votes = standing.get(portrait, [])
        changes.append({"key": portrait, "votes": len(votes), "state": settle(votes, rule).state})
    if changes:
        connection.execute(
            sa.update(ITEMS)
            .where(ITEMS.c.portrait_id == sa.bindparam("key"))
            .values(
                votes=sa.bindparam("votes"),
                state=sa.bindparam("state"),
                open=_open_case(sa.bindparam("votes", type_=sa.Integer)),
            ),
            changes,
        )


def _require(connection: sa.Connection, policy: rules.Policy) -> None:
    """Bring what is asked for, and whether it is, up to date; rows that are right are not written."""
    for column, value in ((ITEMS.c.required, _required_case(policy)), (ITEMS.c.open, _open_case())):
        connection.execute(sa.update(ITEMS).where(column != value).values({column: value}))


def _required_case(policy: rules.Policy) -> Any:
    overlap = ITEMS.c.overlap_draw < policy.overlap_share
    return sa.case((overlap, policy.required(0.0)), else_=policy.required(1.0))


def _open_case(votes: Any = ITEMS.c.votes) -> Any:
    asked = sa.and_(ITEMS.c.active == 1, ITEMS.c.corrected == 0, votes < ITEMS.c.required)
    return sa.case((asked, 1), else_=0)


# ---- recording -------------------------------------------------------------------------------------------


def _record(
    connection: sa.Connection, decisions: Sequence[NewDecision], reviewer: str, lead: bool, now: int
) -> Recorded:
    earlier = _existing(connection, [one.decision_id for one in decisions])
    portraits = {one.portrait_id for one in decisions}
    items = {
        row.portrait_id: bool(row.active)
        for chunk in chunks(portraits)
        for row in connection.execute(
            sa.select(ITEMS.c.portrait_id, ITEMS.c.active).where(ITEMS.c.portrait_id.in_(chunk))
        )
    }
    stacks, last = _stacks(connection, portraits, reviewer)
    saved: dict[str, LogEntry] = {}
    known: list[str] = []
    refused: list[Refusal] = []
    for one in decisions:
        # The log's time never runs ahead of ours, and rises with the order of arrival.
        moment = max(min(one.time or now, now), last.get(one.portrait_id, 0) + 1)
        entry = one.entry(reviewer, moment, now)
        before = earlier.get(one.decision_id)
        if before is None and one.decision_id in saved:
            before = _meaning(saved[one.decision_id])
        if before is not None:
            if before == _meaning(entry):
                known.append(one.decision_id)
            else:
                refused.append(Refusal(one.decision_id, "another decision has this id"))
            continue
        stack = stacks.setdefault(one.portrait_id, [])
        if one.over is not None and one.over != (stack[-1] if stack else "") and one.portrait_id in items:
            why = "you decided it elsewhere meanwhile: look at it again to change that"
            refused.append(Refusal(one.decision_id, why, elsewhere=True))
            continue
        why = _objection(one, items.get(one.portrait_id), len(stack), lead)
        why = why or time_objection(one.time or now, now)
        if why:
            refused.append(Refusal(one.decision_id, why))
            continue
        last[one.portrait_id] = moment
        _push(stack, one.decision_id, one.verdict)
        saved[one.decision_id] = entry
    if saved:
        connection.execute(sa.insert(DECISIONS), [entry.to_row() for entry in saved.values()])
        touched = {entry.portrait_id for entry in saved.values()}
        _refresh_standings(connection, {(portrait, reviewer) for portrait in touched})
        refresh_items(connection, sorted(touched), read_policy(connection))
        for chunk in chunks(touched):
            connection.execute(
                sa.delete(LEASES).where(LEASES.c.reviewer == reviewer).where(LEASES.c.portrait_id.in_(chunk))
            )
    return Recorded(tuple(saved), tuple(known), tuple(refused))


def _objection(one: NewDecision, active: bool | None, depth: int, lead: bool) -> str:
    """Why a decision cannot be saved, or ""."""
    if not DECISION_ID.fullmatch(one.decision_id):
        return "the id of a decision is 1 to 64 letters and digits"
    if one.verdict not in VERDICTS:
        return f"a verdict is one of {', '.join(VERDICTS)}"
    if not all(storable(text) for text in (one.reason, one.note or "", one.client, one.queue, one.rules)):
        return "a text has characters that no database takes (NUL, half a surrogate)"
    if active is None:
        return "this workspace has no such portrait"
    if one.verdict == "undo":
        return "" if depth > 0 else "there is nothing to take back on this portrait"
    if not active:
        return "this portrait was replaced by a newer one"
    if one.client.startswith(ADJUDICATION) and not lead:
        return "only a lead adjudicates disputes"
    return ""


def time_objection(moment: int, now: int) -> str:
    """Why no clock can have said this time (milliseconds since 1970), or ""."""
    if moment < EARLIEST:
        return "its time lies before the year 2000: set this computer's clock"
    if moment > now + DAY:
        return "its time lies more than a day ahead: set this computer's clock"
    return ""


def storable(text: str) -> bool:
    """Can every database hold this text?"""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


_Meaning = tuple[str, str, str, str, str | None]


def _meaning(entry: LogEntry) -> _Meaning:
    """What a decision with an id that is known must agree in, to be the same decision."""
    return entry.portrait_id, entry.verdict, entry.reviewer, entry.reason, entry.note


def _existing(connection: sa.Connection, ids: Iterable[str]) -> dict[str, _Meaning]:
    names = ("decision_id", "portrait_id", "verdict", "reviewer", "reason", "note")
    statement = sa.select(*(DECISIONS.c[name] for name in names))
    return {
        row[0]: (row[1], row[2], row[3], row[4], row[5])
        for chunk in chunks(ids)
        for row in connection.execute(statement.where(DECISIONS.c.decision_id.in_(chunk)))
    }


def _stacks(
    connection: sa.Connection, portraits: Iterable[str], reviewer: str
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """By portrait: the reviewer's decisions that undos could take back, the last one standing; its time."""
    stacks: dict[str, list[str]] = {}
    last: dict[str, int] = {}
    for chunk in chunks(portraits):
        names = ("portrait_id", "decision_id", "verdict", "time")
        statement = (
            sa.select(*(DECISIONS.c[name] for name in names))
            .where(DECISIONS.c.reviewer == reviewer)
            .where(DECISIONS.c.portrait_id.in_(chunk))
            .order_by(DECISIONS.c.time, DECISIONS.c.decision_id)
        )
        for portrait, decision, verdict, moment in connection.execute(statement):
            _push(stacks.setdefault(portrait, []), decision, verdict)
            last[portrait] = moment
    return stacks, last


def _push(stack: list[str], decision: str, verdict: str) -> None:
    """A decision comes on the stack of those of a portrait; an undo takes the last one off."""
    if verdict != "undo":
        stack.append(decision)
    elif stack:
        stack.pop()


def _refresh_standings(connection: sa.Connection, pairs: Iterable[tuple[str, str]]) -> None:
    """Make the standing verdicts of (portrait, reviewer) pairs anew from the log."""
    by_reviewer: dict[str, list[str]] = {}
    for portrait, reviewer in sorted(pairs):
        by_reviewer.setdefault(reviewer, []).append(portrait)
    for reviewer, portraits in by_reviewer.items():
        for chunk in chunks(portraits):
            connection.execute(
                sa.delete(STANDINGS)
                .where(STANDINGS.c.reviewer == reviewer)
                .where(STANDINGS.c.portrait_id.in_(chunk))
            )
            fresh = (
                sa.select(*STANDING_VERDICTS.c)
                .where(STANDING_VERDICTS.c.reviewer == reviewer)
                .where(STANDING_VERDICTS.c.portrait_id.in_(chunk))
            )
            connection.execute(sa.insert(STANDINGS).from_select(_STANDING, fresh))
