"""Pages of portraits by what became of them, and the disputes that wait for a lead's adjudication."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from phq_data.review.consensus import State
from phq_data.review.store import Store, chunks
from phq_data.review.tables import DECISIONS, ITEMS, STANDINGS

_COLUMNS = (
    ITEMS.c.portrait_id, ITEMS.c.state, ITEMS.c.source, ITEMS.c.yaw_bin, ITEMS.c.error_probability,
    ITEMS.c.pool,
)  # fmt: skip
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


def page(
    store: Store,
    *,
    state: str | None = None,
    source: str | None = None,
    yaw_bin: int | None = None,
    pool: int | None = None,
    offset: int = 0,
    limit: int = 60,
) -> tuple[list[GalleryItem], int]:
    """(portraits, how many there are in all), highest error probability first."""
    terms: list[Any] = [ITEMS.c.active == 1]
    for column, value in (
        (ITEMS.c.state, state), (ITEMS.c.source, source), (ITEMS.c.yaw_bin, yaw_bin), (ITEMS.c.pool, pool),
    ):  # fmt: skip
        if value is not None:
            terms.append(column == value)
    order = (ITEMS.c.error_probability.desc(), ITEMS.c.portrait_id.desc())
    with store.database.read() as connection:
        total = int(
            connection.execute(sa.select(sa.func.count()).select_from(ITEMS).where(*terms)).scalar_one()
        )
        rows = _items(
            connection, sa.select(*_COLUMNS).where(*terms).order_by(*order).limit(limit).offset(offset)
        )
    return rows, total


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
