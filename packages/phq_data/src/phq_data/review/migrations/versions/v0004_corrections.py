"""The log of corrected labels, append-only as the decisions are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_REFUSAL = "corrections are append-only"


def upgrade() -> None:
    """Make the table and lock it."""
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
        sa.UniqueConstraint("correction_id", name="corrections_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("corrections_of", "corrections", ["person_id", "time", "correction_id"])
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
