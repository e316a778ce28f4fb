"""The first tables of the live store, the view of standing verdicts, and the lock on the log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# A verdict stands when every later verdict was taken back: counted from the last decision backwards, undos
# add one and verdicts take one away, and the first verdict that brings the count below zero is the one.
_VIEW = """
CREATE VIEW standing_verdicts AS
SELECT portrait_id, reviewer, verdict, decision_id, time, client FROM (
    SELECT counted.*, ROW_NUMBER() OVER (
        PARTITION BY portrait_id, reviewer ORDER BY time DESC, decision_id DESC
    ) AS place FROM (
        SELECT portrait_id, reviewer, verdict, decision_id, time, client,
            SUM(CASE WHEN verdict = 'undo' THEN 1 ELSE -1 END) OVER (
                PARTITION BY portrait_id, reviewer ORDER BY time DESC, decision_id DESC
                ROWS UNBOUNDED PRECEDING
            ) AS depth
        FROM decisions
    ) AS counted WHERE depth = -1
) AS ranked WHERE place = 1
"""
_REFUSAL = "decisions are append-only"


def upgrade() -> None:
    """Make everything."""
    text, name, key = sa.Text, sa.String(80), sa.String(64)
    small, clock = sa.SmallInteger, sa.BigInteger
    op.create_table(
        "decisions",
        sa.Column("seq", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("decision_id", key, nullable=False),
        sa.Column("portrait_id", key, nullable=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.Column("note", text),
        sa.Column("reviewer", name, nullable=False),
        sa.Column("time", clock, nullable=False),
        sa.Column("client_time", clock, nullable=False),
        sa.Column("server_time", clock, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("rules", key, nullable=False),
        sa.Column("client", sa.String(120), nullable=False),
        sa.Column("queue", key, nullable=False),
        sa.UniqueConstraint("decision_id", name="decisions_once"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "standings",
        sa.Column("portrait_id", key, primary_key=True),
        sa.Column("reviewer", name, primary_key=True),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("decision_id", key, nullable=False),
        sa.Column("time", clock, nullable=False),
        sa.Column("client", sa.String(120), nullable=False),
    )
    op.create_table(
        "items",
        sa.Column("portrait_id", key, primary_key=True),
        sa.Column("photo_id", key, nullable=False),
        sa.Column("person_id", key, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("active", small, nullable=False),
        sa.Column("pool", small, nullable=False),
        sa.Column("source", text, nullable=False),
        sa.Column("uri", text, nullable=False),
        sa.Column("yaw_bin", small, nullable=False),
        sa.Column("yaw", sa.Float, nullable=False),
        sa.Column("doubt", sa.Float, nullable=False),
        sa.Column("dice", sa.Float, nullable=False),
        sa.Column("facts", text, nullable=False),
        sa.Column("required", small, nullable=False),
        sa.Column("votes", small, nullable=False),
        sa.Column("open", small, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("known", sa.String(8)),
    )
    op.create_table(
        "leases",
        sa.Column("portrait_id", key, primary_key=True),
        sa.Column("reviewer", name, primary_key=True),
        sa.Column("expires", clock, nullable=False),
    )
    op.create_table(
        "reviewers",
        sa.Column("name", name, primary_key=True),
        sa.Column("role", sa.String(12), nullable=False),
        sa.Column("token_hash", key),
        sa.Column("created", clock, nullable=False),
        sa.Column("disabled", small, nullable=False),
        sa.UniqueConstraint("token_hash", name="reviewers_token"),
    )
    op.create_table(
        "sessions",
        sa.Column("cookie_hash", key, primary_key=True),
        sa.Column("reviewer", name, nullable=False),
        sa.Column("expires", clock, nullable=False),
    )
    op.create_table(
        "settings", sa.Column("name", key, primary_key=True), sa.Column("value", text, nullable=False)
    )
    op.create_table(
        "parts",
        sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("content", text, nullable=False),
    )
    op.create_table(
        "replaced",
        sa.Column("seq", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("portrait_id", key, nullable=False),
        sa.Column("by_portrait_id", key),
        sa.Column("decisions", sa.Integer, nullable=False),
        sa.Column("time", clock, nullable=False),
        sqlite_autoincrement=True,
    )
    for table, indices in _INDICES.items():
        for index, columns in indices.items():
            op.create_index(index, table, columns)
    op.execute(_VIEW)
    _lock_the_log()


_INDICES = {
    "decisions": {
        "decisions_of": ["portrait_id", "reviewer", "time", "decision_id"],
        "decisions_by": ["reviewer", "seq"],
    },
    "standings": {"standings_by": ["reviewer", "portrait_id"]},
    "items": {
        "items_doubt": ["open", "pool", "doubt", "portrait_id"],
        "items_source": ["open", "pool", "source", "doubt", "portrait_id"],
        "items_yaw": ["open", "pool", "yaw_bin", "doubt", "portrait_id"],
        "items_any": ["open", "pool", "portrait_id"],
        "items_waiting": ["open", "pool", "votes", "portrait_id"],
        "items_state": ["active", "state", "doubt", "portrait_id"],
        "items_active": ["active", "doubt", "portrait_id"],
        "items_known": ["known", "portrait_id"],
        "items_place": ["source", "uri", "portrait_id"],
        "items_part": ["part"],
        "items_person": ["person_id"],
    },
    "leases": {"leases_expires": ["expires"]},
    "sessions": {"sessions_of": ["reviewer"]},
    "replaced": {"replaced_by": ["by_portrait_id"]},
}


def _lock_the_log() -> None:
    """Let the database itself refuse to change or delete a decision."""
    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER decisions_no_{action.lower()} BEFORE {action} ON decisions "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION refuse_decision_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER decisions_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON decisions "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_decision_change()"
    )
