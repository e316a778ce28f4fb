"""Reading the log of decisions: every entry is compared with its digest, and none may be missing.

Other sealed tables, the corrections among them, are read through `sound`; `missing` counts for either log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from phq_data.review.database import DamagedStoreError, Database
from phq_data.review.digests import is_sound
from phq_data.review.records import REPAIR, LogEntry
from phq_data.review.tables import DECISIONS

_SHOWN = 3  # decisions that a sentence names


@dataclass(frozen=True)
class LogDamage:
    """What is wrong with a log; false when nothing is."""

    changed: tuple[LogEntry, ...] = ()  # as they stand there now
    missing: int = 0

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing)

    def __str__(self) -> str:
        named = [one.told() for one in self.changed[:_SHOWN]]
        if len(self.changed) > _SHOWN:
            named.append(f"{len(self.changed) - _SHOWN} more")
        texts = []
        if self.changed:
            texts.append(f"{len(self.changed)} decisions are not what was saved ({'; '.join(named)})")
        if self.missing:
            texts.append(f"{self.missing} decisions are gone")
        return " and ".join(texts)


def read(database: Database, after: int = 0) -> Iterator[LogEntry]:
    """The log from its beginning, or after a `seq`, in order of arrival.

    Raises `DamagedStoreError`, naming them, when decisions are not what was saved or are missing.
    """
    with database.read() as connection:
        for entry in _sound(connection, after):
            if entry is None:
                raise DamagedStoreError(
                    f"{database.name} is damaged: {damage(connection)}. Nothing is made of it: `{REPAIR}` "
                    "restores those that are in the workspace's tables/decisions and names the others"
                )
            yield entry


def sound(table: sa.Table, rows: Iterable[sa.RowMapping]) -> list[sa.RowMapping]:
    """Whole rows of a sealed table, if all are what was written. Raises `DamagedStoreError`."""
    listed = list(rows)
    for row in listed:
        if not is_sound(table, row):
            key = next(iter(table.primary_key)).name
            raise DamagedStoreError(
                f"the review's database is damaged: {row[key]!r} in its table {table.name} is not what was "
                f"written. `{REPAIR}` takes it out"
            )
    return listed


def damage(connection: sa.Connection) -> LogDamage:
    """What is wrong with the whole log."""
    rows = _rows(connection, 0)
    changed = [LogEntry.from_row(row) for row in rows if not is_sound(DECISIONS, row)]
    return LogDamage(tuple(changed), missing(connection, DECISIONS))


def missing(connection: sa.Connection, table: sa.Table) -> int:
    """How many entries of an append-only table are gone, where its numbers have no gaps."""
    count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    return max((_last(connection, table) or 0) - int(count), 0)


def sound_entries(connection: sa.Connection) -> list[LogEntry]:
    """Those entries of the log that are what was saved, whatever became of the others."""
    return [LogEntry.from_row(row) for row in _rows(connection, 0) if is_sound(DECISIONS, row)]


def _sound(connection: sa.Connection, after: int) -> Iterator[LogEntry | None]:
    """The entries; None where one is damaged or missing, and nothing more then."""
    last, number = _last(connection, DECISIONS), after
    for row in _rows(connection, after):
        number += 1
        if not is_sound(DECISIONS, row) or (last is not None and row["seq"] != number):
            yield None
            return
        yield LogEntry.from_row(row)
    if last is not None and number < last:
        yield None


def _rows(connection: sa.Connection, after: int) -> Iterator[dict[str, Any]]:
    statement = sa.select(DECISIONS).where(DECISIONS.c.seq > after).order_by(DECISIONS.c.seq)
    return plain_rows(connection, statement)


def plain_rows(connection: sa.Connection, statement: sa.Select[Any]) -> Iterator[dict[str, Any]]:
    """Many rows, each as a plain dictionary, which is read several times faster than SQLAlchemy's mapping."""
    found = connection.execute(statement.execution_options(yield_per=5000))
    names = list(found.keys())
    return (dict(zip(names, row, strict=True)) for row in found)


def _last(connection: sa.Connection, table: sa.Table) -> int | None:
    """The last number that was given, where numbers have no gaps; None elsewhere (PostgreSQL)."""
    if connection.dialect.name != "sqlite":
        return None
    text = sa.text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    return int(connection.execute(text, {"name": table.name}).scalar() or 0)
