"""Rows carry digests of themselves; those that are there get theirs now.

What was damaged before cannot be told from what was saved: it is sealed as it is.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from alembic import op

from phq_data.review.digests import seal_rows

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_LOG = logging.getLogger(__name__)
_SEALED = {
    "decisions": ("seq", "decision_id portrait_id verdict reason note reviewer time client_time server_time "
                  "seconds rules client queue"),
    "items": ("portrait_id", "portrait_id photo_id person_id part row active pool source uri yaw_bin yaw "
              "error_probability overlap_draw facts"),
    "reviewers": ("name", "name role token_hash created disabled"),
    "sessions": ("cookie_hash", "cookie_hash reviewer expires"),
    "settings": ("name", "name value"),
    "replaced": ("seq", "portrait_id by_portrait_id decisions time"),
}  # fmt: skip
"""Table -> its key and the fields that a digest covers, as they are in this version."""


def upgrade() -> None:
    """Add the columns and fill them."""
    connection = op.get_bind()
    for table in _SEALED:
        op.add_column(table, sa.Column("digest", sa.String(64), nullable=False, server_default=""))
    triggers = _unlock_the_log(connection)
    for table, (key, fields) in _SEALED.items():
        count = seal_rows(connection, table, key, fields.split())
        if table == "decisions" and count:
            _LOG.warning("%d decisions of the review got digests, as they are in the database today", count)
    for statement in triggers:
        op.execute(statement)


def _unlock_the_log(connection: sa.Connection) -> list[str]:
    """Let decisions be changed; returns the statements that forbid it again."""
    if connection.dialect.name != "sqlite":
        op.execute("ALTER TABLE decisions DISABLE TRIGGER decisions_no_change")
        return ["ALTER TABLE decisions ENABLE TRIGGER decisions_no_change"]
    found = connection.execute(
        sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'decisions'")
    ).all()
    for name, _ in found:
        op.execute(f"DROP TRIGGER {name}")
    return [statement for _, statement in found]
