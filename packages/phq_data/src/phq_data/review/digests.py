"""Digests of rows: what is read from the live store is what was written to it.

A sealed table has a column `digest`: the SHA-256 over the canonical JSON of the row's other fields. It is
written with the row and compared when the row is read for anything that matters. A flipped bit in the file
of a database without checksums of its pages is found so; it is no protection against somebody who means to
deceive.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

NAME = "digest"
_WITHOUT = "without"
_BATCH = 5000
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def digest_column(without: Iterable[str] = ()) -> sa.Column[str]:
    """The column for a table's digests, filled in by every INSERT that names its values.

    `without`: columns that the digest does not cover, as the database or later statements write them.
    """
    return sa.Column(
        NAME,
        sa.String(64),
        nullable=False,
        server_default="",  # fits no row
        default=_of_inserted,
        info={_WITHOUT: frozenset(without)},
    )


def row_digest(table: sa.Table, row: Mapping[Any, Any]) -> str:
    """The digest that a row of a sealed table should carry."""
    return digest_of(
        table.name,
        {
            name: float(row[name]) if real and row.get(name) is not None else row.get(name)
            for name, real in _covered(table)
        },
    )


def is_sound(table: sa.Table, row: Mapping[Any, Any]) -> bool:
    """Is a row of a sealed table, with all of its columns, what was written?"""
    try:
        return bool(row[NAME] == row_digest(table, row))
    except (TypeError, ValueError):  # a value of another type than the column's
        return False


def digest_of(table: str, fields: Mapping[str, Any]) -> str:
    """Hex SHA-256 over the canonical JSON of a table's name and a row's fields."""
    return hashlib.sha256(_CANONICAL.encode([table, fields]).encode()).hexdigest()


def seal_rows(connection: sa.Connection, table: str, key: str, fields: Iterable[str]) -> int:
    """Write the digests of all rows of `table` (for migrations), whose primary key is `key`; how many."""
    names = list(dict.fromkeys([key, *fields]))
    rows = sa.table(table, *(sa.column(name) for name in names), sa.column(NAME))
    page = sa.select(*(rows.c[name] for name in names)).order_by(rows.c[key]).limit(_BATCH)
    change = (
        rows.update().where(rows.c[key] == sa.bindparam("its_key")).values(digest=sa.bindparam("its_digest"))
    )
    found = connection.execute(page).mappings().all()
    count = 0
    while found:
        changes = [
            {"its_key": row[key], "its_digest": digest_of(table, {name: row[name] for name in fields})}
            for row in found
        ]
        connection.execute(change, changes)
        count += len(found)
        found = connection.execute(page.where(rows.c[key] > found[-1][key])).mappings().all()
    return count


@functools.cache
def _covered(table: sa.Table) -> tuple[tuple[str, bool], ...]:
    """(name, is it a floating-point number) of the columns that a digest covers."""
    without = table.c[NAME].info[_WITHOUT]
    return tuple(
        (column.name, isinstance(column.type, sa.Float))
        for column in table.columns
        if column.name != NAME and column.name not in without
    )


def _of_inserted(context: Any) -> str:
    return row_digest(context.current_column.table, context.get_current_parameters())
