"""The log of corrected labels, append-only as the decisions are; and what a corrected label could save."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from phq_data.review.digests import seal_rows

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_REFUSAL = "corrections are append-only"
_SCREENED_OUT, _CAN_BE_SAVED = 1, 3
_LABEL_REASONS = {"off_shoulders", "off_keypoints", "uncertain"}
_BATCH = 5000
_SEALED = (
    "portrait_id photo_id person_id part row active pool source uri yaw_bin yaw error_probability "
    "overlap_draw facts"
)
"""The fields that the digest of an item covers."""


def upgrade() -> None:
    """Make the table and lock it; tell items apart that a corrected label would save."""
    column = sa.Column("corrected", sa.SmallInteger, nullable=False, server_default="0")
    op.add_column("items", column)
    _tell_apart(op.get_bind())
    text, name, key, clock = sa.Text, sa.String(80), sa.String(64), sa.BigInteger
    op.create_table(
        "corrections",
        sa.Column("seq", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("correction_id", key, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("portrait_id", key, nullable=False),
        sa.Column("photo_id", key, nullable=False),
        sa.Column("person_id", key, nullable=False),
        sa.Column("from_label", text, nullable=False),
        sa.Column("to_label", text),
        sa.Column("undoes", key),
        sa.Column("note", text),
        sa.Column("reviewer", name, nullable=False),
        sa.Column("time", clock, nullable=False),
        sa.Column("client_time", clock, nullable=False),
        sa.Column("server_time", clock, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("client", sa.String(120), nullable=False),
        sa.Column("digest", key, nullable=False, server_default=""),
        sa.UniqueConstraint("correction_id", name="corrections_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("corrections_of", "corrections", ["person_id", "time", "correction_id"])
    op.create_index("corrections_on", "corrections", ["portrait_id"])
    op.create_index("corrections_by", "corrections", ["reviewer", "seq"])
    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER corrections_no_{action.lower()} BEFORE {action} ON corrections "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION refuse_correction_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER corrections_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON corrections "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_correction_change()"
    )


def _tell_apart(connection: sa.Connection) -> None:
    items = sa.table("items", sa.column("portrait_id"), sa.column("pool"), sa.column("facts"))
    change = items.update().where(items.c.portrait_id == sa.bindparam("key")).values(pool=_CAN_BE_SAVED)
    page = (
        sa.select(items.c.portrait_id, items.c.facts)
        .where(items.c.pool == _SCREENED_OUT)
        .order_by(items.c.portrait_id)
        .limit(_BATCH)
    )
    last, changed = "", 0
    while rows := connection.execute(page.where(items.c.portrait_id > last)).all():
        saved = [row.portrait_id for row in rows if _of_the_label(row.facts)]
        if saved:
            connection.execute(change, [{"key": key} for key in saved])
            changed += len(saved)
        last = rows[-1].portrait_id
    if changed:
        seal_rows(connection, "items", "portrait_id", _SEALED.split())


def _of_the_label(facts: str) -> bool:
    reasons = set(json.loads(facts).get("reasons", ()))
    return bool(reasons) and reasons <= _LABEL_REASONS
