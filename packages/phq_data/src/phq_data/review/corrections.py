"""Corrected labels in the live store and in the workspace's table.

As the decisions: append-only, known by the id that the client made, delivered twice and saved once. A
correction holds for the person in the photo, so it outlives the portrait that was seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import sqlalchemy as sa

from phq_data.pipeline import whole
from phq_data.pipeline.corrections import ADJUDICATION, KINDS, applied, push_undo, settled
from phq_data.records import Correction
from phq_data.review import logs
from phq_data.review.records import CAN_BE_SAVED, CorrectionEntry, StoredLabel
from phq_data.review.sealed_log import sound
from phq_data.review.store import (
    DECISION_ID,
    Recorded,
    Refusal,
    Store,
    chunks,
    now_ms,
    read_policy,
    refresh_items,
    storable,
    time_objection,
)
from phq_data.review.tables import CORRECTIONS, ITEMS, LEASES
from phq_data.stages.relabel import PlacedLabel, RelabelError
from phq_data.workspace import Workspace

FOLDER = "tables/corrections"


@dataclass(frozen=True)
class NewCorrection:
    """A correction as a client sends it. Times are milliseconds since 1970."""

    correction_id: str
    kind: str  # correct, undo
    portrait_id: str
    label: StoredLabel | None = None  # None: an undo
    undoes: str | None = None  # own correction that an undo takes back; None = the last
    note: str = ""
    time: int = 0  # of the client's clock; 0 = now
    seconds: float = 0.0
    client: str = ""
    over: str | None = None  # own correction that it replaces; "" = none, None = whichever stands


@dataclass(frozen=True)
class SeenPortrait:
    """What a corrector had before them."""

    photo_id: str
    person_id: str
    label: StoredLabel | None  # None: it is no longer in the workspace
    photo: tuple[int, int]  # width, height, pixels
    smallest: float  # window that a portrait is made of, photo pixels
    why_not: str = ""  # why its label cannot be corrected, or ""


def record(
    store: Store,
    given: Sequence[NewCorrection],
    reviewer: str,
    seen: Mapping[str, SeenPortrait],  # by portrait
    *,
    lead: bool = True,
    now: int | None = None,
) -> Recorded:
    """Save corrections of one reviewer, in order, all in one transaction.

    Refused, one by one: an unknown portrait, one that cannot be corrected, a label that can be none, an undo
    of nothing, an id that another correction has, one that is `over` another than stands. Raises
    `StoreError`; then none was saved.
    """
    moment = now or now_ms()
    if not given:
        return Recorded((), (), ())
    with store.database.write() as connection:
        earlier = _existing(connection, [one.correction_id for one in given])
        persons = {found.person_id for found in seen.values()}
        stacks: dict[str, list[CorrectionEntry]] = {person: [] for person in persons}
        last = dict.fromkeys(persons, 0)
        for entry in _of_persons(connection, persons):
            if entry.reviewer == reviewer:
                _push(stacks[entry.person_id], entry)
                last[entry.person_id] = entry.time
        saved: dict[str, CorrectionEntry] = {}
        known: list[str] = []
        refused: list[Refusal] = []
        for one in given:
            portrait = seen.get(one.portrait_id)
            before = earlier.get(one.correction_id) or saved.get(one.correction_id)
            if before is not None:
                if _same(before, one, reviewer):
                    known.append(one.correction_id)
                else:
                    refused.append(Refusal(one.correction_id, "another correction has this id"))
                continue
            if portrait is None:
                refused.append(Refusal(one.correction_id, "this workspace has no such portrait"))
                continue
            stack = stacks[portrait.person_id]
            if one.over is not None and one.over != (stack[-1].correction_id if stack else ""):
                why = "you corrected it elsewhere meanwhile: look at it again to change that"
                refused.append(Refusal(one.correction_id, why, elsewhere=True))
                continue
            why = _objection(one, portrait, stack, lead) or time_objection(one.time or moment, moment)
            if why:
                refused.append(Refusal(one.correction_id, why))
                continue
            when = max(min(one.time or moment, moment), last[portrait.person_id] + 1)
            entry = _entry(one, portrait, stack, reviewer, when, moment)
            last[portrait.person_id] = when
            _push(stack, entry)
            saved[one.correction_id] = entry
        if saved:
            connection.execute(sa.insert(CORRECTIONS), [entry.to_row() for entry in saved.values()])
            _mark(connection, {entry.portrait_id for entry in saved.values()}, reviewer)
    return Recorded(tuple(saved), tuple(known), tuple(refused))


def of_person(store: Store, person_id: str) -> list[CorrectionEntry]:
    """All corrections of a person's label, undone ones included, in order."""
    with store.database.read() as connection:
        return list(_of_persons(connection, [person_id]))


def entries(store: Store, after: int = 0) -> Iterator[CorrectionEntry]:
    """The log from its beginning, or after a `seq`, in order of arrival. Raises `DamagedStoreError`."""
    with store.database.read() as connection:
        statement = sa.select(CORRECTIONS).where(CORRECTIONS.c.seq > after).order_by(CORRECTIONS.c.seq)
        yield from map(CorrectionEntry.from_row, sound(CORRECTIONS, connection.execute(statement).mappings()))


def merge(store: Store, given: Iterable[CorrectionEntry]) -> int:
    """Take over corrections of any reviewers as they are (an import); returns how many were new."""
    listed = {one.correction_id: one for one in given}
    with store.database.write() as connection:
        known = _existing(connection, listed)
        rows = [one.to_row() for key, one in listed.items() if key not in known]
        for start in range(0, len(rows), 1000):
            connection.execute(sa.insert(CORRECTIONS), rows[start : start + 1000])
    return len(rows)


@dataclass(frozen=True)
class Overview:
    """The corrections in numbers."""

    made: int  # corrections in the log
    undone: int  # of them
    holding: int  # people whose label a correction holds for
    disputed: tuple[str, ...]  # portraits of people whose corrections do not agree
    waiting: int  # people for whom the next build changes something
    can_be_saved: int  # portraits that were rejected for their label alone: what a dataset would gain
    by_reviewer: Mapping[str, int]


def overview(workspace: Workspace, store: Store) -> Overview:
    """Count. The index of the workspace must be up to date."""
    log = [entry.to_correction() for entry in entries(store)]
    found = settled(log)
    holding = {key: one.correction.correction_id for key, one in found.items() if one.correction}
    taken = applied(workspace).ids()
    with store.database.read() as connection:
        saved = sa.select(sa.func.count()).select_from(ITEMS).where(ITEMS.c.active == 1)
        can_be_saved = connection.execute(saved.where(ITEMS.c.pool == CAN_BE_SAVED)).scalar_one()
    waiting = {key for key in {*holding, *taken} if holding.get(key) != taken.get(key)}
    late = {one.part for one in whole.uncorrected(workspace, log) if one.stage != "near-duplicates"}
    waiting |= _within(store, {one.person_id for one in log} - waiting, late)  # taken, not worked in
    made = [one for one in log if one.kind == "correct"]
    disputed = [key for key, one in found.items() if one.state == "disputed"]
    return Overview(
        made=len(made),
        undone=len(log) - len(made),
        holding=len(holding),
        disputed=tuple(_present(store, disputed).values()),
        waiting=len(_present(store, waiting)),
        can_be_saved=int(can_be_saved),
        by_reviewer=dict(Counter(one.reviewer for one in made).most_common()),
    )


def _present(store: Store, persons: Iterable[str]) -> dict[str, str]:
    """Those persons whom the workspace has, and their portraits."""
    found: dict[str, str] = {}
    with store.database.read() as connection:
        for chunk in chunks(persons):
            statement = sa.select(ITEMS.c.person_id, ITEMS.c.portrait_id).where(ITEMS.c.active == 1)
            for row in connection.execute(statement.where(ITEMS.c.person_id.in_(chunk))):
                found[row[0]] = row[1]
    return found


def _within(store: Store, persons: Iterable[str], parts: Set[int]) -> set[str]:
    """Those persons whose portraits lie in these parts."""
    found: set[str] = set()
    with store.database.read() as connection:
        for chunk in chunks(persons if parts else ()):
            statement = sa.select(ITEMS.c.person_id, ITEMS.c.part).where(ITEMS.c.active == 1)
            rows = connection.execute(statement.where(ITEMS.c.person_id.in_(chunk)))
            found |= {person for person, part in rows if part in parts}
    return found


def synchronise(workspace: Workspace, store: Store) -> int:
    """Write the corrections of the live store that the workspace's table lacks as one more part."""
    log = [entry.to_correction() for entry in entries(store)]
    if not log:
        return 0
    with logs.alone(workspace):
        return logs.append_rows(workspace, Correction, log)


def any_wait(workspace: Workspace) -> bool:
    """Would a build change anything for the corrections of the workspace's table?"""
    if not workspace.parts(FOLDER):
        return False
    log = workspace.records(Correction)
    holding = {key: one.correction.correction_id for key, one in settled(log).items() if one.correction}
    return holding != applied(workspace).ids() or bool(whole.uncorrected(workspace, log))


def recover(workspace: Workspace, store: Store) -> int:
    """Take the workspace's corrections that a live store lacks over into it; returns how many."""
    if not workspace.parts(FOLDER):
        return 0
    return merge(store, (CorrectionEntry.from_correction(one) for one in workspace.records(Correction)))


def mend(workspace: Workspace) -> list[str]:
    """Write damaged parts of the table anew from the live store, where there is one (`logs.mend`)."""
    return logs.mend(workspace, Correction, lambda store: [one.to_correction() for one in entries(store)])


def bring_up_to_date(workspace: Workspace) -> int:
    """Copy what the live store has, where the workspace has one, to the table: before a build."""
    if not logs.has_store(workspace):
        return 0
    store = Store.open(workspace)
    try:
        return synchronise(workspace, store)
    finally:
        store.close()


def _mark(connection: sa.Connection, portraits: set[str], reviewer: str) -> None:
    """Ask about these portraits or not: a corrected one waits for the build that makes it anew."""
    undo = CORRECTIONS.alias()
    undone = sa.exists().where(undo.c.undoes == CORRECTIONS.c.correction_id)
    stands = sa.select(CORRECTIONS.c.portrait_id).where(
        CORRECTIONS.c.kind == "correct", CORRECTIONS.c.portrait_id.in_(portraits), ~undone
    )
    corrected = set(connection.execute(stands).scalars())
    for portrait in sorted(portraits):
        flag = int(portrait in corrected)
        connection.execute(sa.update(ITEMS).where(ITEMS.c.portrait_id == portrait).values(corrected=flag))
    refresh_items(connection, sorted(portraits), read_policy(connection))
    connection.execute(
        sa.delete(LEASES).where(LEASES.c.reviewer == reviewer).where(LEASES.c.portrait_id.in_(portraits))
    )


def _of_persons(connection: sa.Connection, persons: Iterable[str]) -> Iterator[CorrectionEntry]:
    for chunk in chunks(persons):
        statement = sa.select(CORRECTIONS).where(CORRECTIONS.c.person_id.in_(chunk))
        ordered = statement.order_by(CORRECTIONS.c.time, CORRECTIONS.c.correction_id)
        yield from map(CorrectionEntry.from_row, sound(CORRECTIONS, connection.execute(ordered).mappings()))


def _existing(connection: sa.Connection, ids: Iterable[str]) -> dict[str, CorrectionEntry]:
    found: dict[str, CorrectionEntry] = {}
    for chunk in chunks(ids):
        statement = sa.select(CORRECTIONS).where(CORRECTIONS.c.correction_id.in_(chunk))
        rows = map(CorrectionEntry.from_row, sound(CORRECTIONS, connection.execute(statement).mappings()))
        found |= {row.correction_id: row for row in rows}
    return found


def _same(before: CorrectionEntry, one: NewCorrection, reviewer: str) -> bool:
    """Is what is sent again what was saved?"""
    label = one.label.to_json() if one.label is not None else None
    return (before.kind, before.portrait_id, before.reviewer, before.to_label) == (
        one.kind, one.portrait_id, reviewer, label,
    )  # fmt: skip


def _push(stack: list[CorrectionEntry], entry: CorrectionEntry) -> None:
    if entry.kind == "correct":
        stack.append(entry)
    else:
        push_undo(stack, entry.undoes)


def _objection(one: NewCorrection, portrait: SeenPortrait, stack: list[CorrectionEntry], lead: bool) -> str:
    """Why a correction cannot be saved, or ""."""
    if not DECISION_ID.fullmatch(one.correction_id):
        return "the id of a correction is 1 to 64 letters and digits"
    if one.kind not in KINDS:
        return f"a correction is one of {', '.join(KINDS)}"
    if not all(storable(text) for text in (one.note, one.client, one.undoes or "")):
        return "a text has characters that no database takes (NUL, half a surrogate)"
    if one.client.startswith(ADJUDICATION) and not lead:
        return "only a lead adjudicates disputes"
    if one.kind == "undo":
        there = any(one.undoes in (None, entry.correction_id) for entry in stack)
        return "" if there else "there is no correction of yours to take back on this portrait"
    if portrait.why_not:
        return portrait.why_not
    if one.label is None or portrait.label is None:
        return "a correction has a label"
    try:
        label = PlacedLabel.of(one.label.camera, one.label.pose, one.label.window)
        label.check_in(portrait.photo, portrait.smallest)
    except RelabelError as error:
        return str(error)
    return ""


def _entry(
    one: NewCorrection,
    portrait: SeenPortrait,
    stack: list[CorrectionEntry],
    reviewer: str,
    when: int,
    now: int,
) -> CorrectionEntry:
    """The entry of a correction that nothing stands against. An undo goes from what it takes back."""
    if one.kind == "undo":
        undone = next(entry for entry in reversed(stack) if one.undoes in (None, entry.correction_id))
        before, after, undoes = undone.to_label or undone.from_label, None, undone.correction_id
    else:
        assert portrait.label is not None and one.label is not None
        before, after, undoes = portrait.label.to_json(), one.label.to_json(), None
    return CorrectionEntry(
        correction_id=one.correction_id, kind=one.kind, portrait_id=one.portrait_id,
        photo_id=portrait.photo_id, person_id=portrait.person_id, from_label=before, to_label=after,
        undoes=undoes, note=one.note or None, reviewer=reviewer, time=when, client_time=one.time or now,
        server_time=now, seconds=one.seconds, client=one.client,
    )  # fmt: skip
