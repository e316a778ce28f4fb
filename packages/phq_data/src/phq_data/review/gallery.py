"""Pages of portraits by what became of them, and the disputes that wait for a lead's adjudication."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from phq_data.review.consensus import ReviewError, State
from phq_data.review.records import KEPT
from phq_data.review.store import Store, chunks
from phq_data.review.tables import DECISIONS, ITEMS, STANDINGS

_COLUMNS = (
    ITEMS.c.portrait_id, ITEMS.c.state, ITEMS.c.source, ITEMS.c.yaw_bin, ITEMS.c.error_probability,
    ITEMS.c.pool,
)  # fmt: skip
_LATEST = (
    sa.select(sa.func.max(STANDINGS.c.time))
    .where(STANDINGS.c.portrait_id == ITEMS.c.portrait_id)
    .correlate(ITEMS)
    .scalar_subquery()
)
SORTS: Mapping[str, tuple[Any, ...]] = {
    "error_probability": (ITEMS.c.error_probability.desc(),),
    "certain": (ITEMS.c.error_probability.asc(),),
    "yaw": (ITEMS.c.yaw.asc(),),
    "source": (ITEMS.c.source.asc(), ITEMS.c.uri.asc()),
    "latest": (sa.func.coalesce(_LATEST, 0).desc(),),
}
"""Orders of a page: most doubted or most certain first, around the person, by photo, last judged first."""
STATES = ("accepted", "rejected", "disputed", "undecided")


@dataclass(frozen=True)
class GalleryVote:
    """A standing verdict."""

    reviewer: str
    verdict: str
    reason: str
    note: str | None
    time: int  # milliseconds since 1970
    client: str


@dataclass(frozen=True)
class GalleryItem:
    """A portrait on a page."""

    portrait_id: str
    state: State
    source: str
    yaw_bin: int
    error_probability: float
    pool: int
    votes: tuple[GalleryVote, ...]


@dataclass(frozen=True)
class GalleryFilter:
    """Which portraits, and in which order; None asks for nothing."""

    state: str | None = None
    source: str | None = None
    yaw_bin: int | None = None
    pool: int | None = None
    person: str | None = None  # its id
    text: str | None = None  # within the source or the file's address, or the beginning of an id
    min_error: float | None = None  # error probability of the label
    max_error: float | None = None
    screened: str | None = None  # a reason for which the screening rejected it
    # Of a standing verdict: one that has all of these.
    reviewer: str | None = None
    reason: str | None = None
    since: int | None = None  # milliseconds since 1970
    until: int | None = None  # before this moment
    sort: str = "error_probability"

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise ReviewError(f"portraits are sorted by {', '.join(SORTS)}, not by {self.sort!r}")


def page(
    store: Store, wanted: GalleryFilter | None = None, *, offset: int = 0, limit: int = 60
) -> tuple[list[GalleryItem], int]:
    """(portraits, how many there are in all)."""
    wanted = wanted or GalleryFilter()
    terms = _terms(wanted)
    with store.database.read() as connection:
        total = int(
            connection.execute(sa.select(sa.func.count()).select_from(ITEMS).where(*terms)).scalar_one()
        )
        found = sa.select(*_COLUMNS).where(*terms).order_by(*SORTS[wanted.sort], ITEMS.c.portrait_id.desc())
        rows = _items(connection, found.limit(limit).offset(offset))
    return rows, total


def _terms(wanted: GalleryFilter) -> list[Any]:
    terms: list[Any] = [ITEMS.c.active == 1]
    if wanted.state is not None:
        terms.append(ITEMS.c.state == wanted.state)
    return [*terms, *terms_of(wanted)]


def terms_of(wanted: GalleryFilter) -> list[Any]:
    """The conditions on items that a filter makes, whatever became of them."""
    terms: list[Any] = []
    for column, value in (
        (ITEMS.c.source, wanted.source), (ITEMS.c.yaw_bin, wanted.yaw_bin), (ITEMS.c.pool, wanted.pool),
        (ITEMS.c.person_id, wanted.person),
    ):  # fmt: skip
        if value is not None:
            terms.append(column == value)
    if wanted.min_error is not None:
        terms.append(ITEMS.c.error_probability >= wanted.min_error)
    if wanted.max_error is not None:
        terms.append(ITEMS.c.error_probability <= wanted.max_error)
    if wanted.text:
        within = (column.icontains(wanted.text, autoescape=True) for column in (ITEMS.c.source, ITEMS.c.uri))
        begin = ITEMS.c.portrait_id.startswith(wanted.text.lower(), autoescape=True)
        terms.append(sa.or_(begin, *within))
    if wanted.screened:
        # In the JSON of the facts: an entry of the list, no name of a number (which a colon follows).
        listed = (ITEMS.c.facts.contains(f'"{wanted.screened}"{after}', autoescape=True) for after in ",]")
        terms.append(sa.and_(ITEMS.c.pool != KEPT, sa.or_(*listed)))
    verdict: list[Any] = []
    if wanted.reviewer is not None:
        verdict.append(STANDINGS.c.reviewer == wanted.reviewer)
    if wanted.reason is not None:
        verdict.append(DECISIONS.c.reason == wanted.reason)
    if wanted.since is not None:
        verdict.append(STANDINGS.c.time >= wanted.since)
    if wanted.until is not None:
        verdict.append(STANDINGS.c.time < wanted.until)
    if verdict:
        joined = STANDINGS.join(DECISIONS, DECISIONS.c.decision_id == STANDINGS.c.decision_id)
        own = STANDINGS.c.portrait_id == ITEMS.c.portrait_id
        terms.append(sa.exists(sa.select(1).select_from(joined).where(own, *verdict).correlate(ITEMS)))
    return terms


def disputes(store: Store, limit: int = 60) -> tuple[list[GalleryItem], int]:
    """(disputed portraits, how many there are in all), those first that most people reviewed."""
    terms = (ITEMS.c.active == 1, ITEMS.c.state == "disputed")
    order = (ITEMS.c.votes.desc(), ITEMS.c.error_probability.desc(), ITEMS.c.portrait_id)
    with store.database.read() as connection:
        total = int(
            connection.execute(sa.select(sa.func.count()).select_from(ITEMS).where(*terms)).scalar_one()
        )
        return _items(connection, sa.select(*_COLUMNS).where(*terms).order_by(*order).limit(limit)), total


def shown(store: Store, portrait_ids: Sequence[str]) -> list[GalleryItem]:
    """These portraits, in their order; those that the store does not have are left out."""
    found: dict[str, GalleryItem] = {}
    with store.database.read() as connection:
        for chunk in chunks(portrait_ids):
            for one in _items(connection, sa.select(*_COLUMNS).where(ITEMS.c.portrait_id.in_(chunk))):
                found[one.portrait_id] = one
    return [found[key] for key in portrait_ids if key in found]


def _items(connection: sa.Connection, statement: Any) -> list[GalleryItem]:
    rows = connection.execute(statement).all()
    votes = _votes(connection, [row.portrait_id for row in rows])
    return [
        GalleryItem(
            row.portrait_id, row.state, row.source, row.yaw_bin, row.error_probability, row.pool,
            tuple(votes.get(row.portrait_id, ())),
        )
        for row in rows
    ]  # fmt: skip


def _votes(connection: sa.Connection, portraits: Iterable[str]) -> dict[str, list[GalleryVote]]:
    found: dict[str, list[GalleryVote]] = {}
    for chunk in chunks(portraits):
        statement = (
            sa.select(DECISIONS.c.portrait_id, *(DECISIONS.c[field.name] for field in fields(GalleryVote)))
            .join(STANDINGS, STANDINGS.c.decision_id == DECISIONS.c.decision_id)
            .where(STANDINGS.c.portrait_id.in_(chunk))
            .order_by(DECISIONS.c.time)
        )
        for portrait, *values in connection.execute(statement):
            found.setdefault(portrait, []).append(GalleryVote(*values))
    return found
