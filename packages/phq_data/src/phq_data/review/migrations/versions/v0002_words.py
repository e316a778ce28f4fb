"""The field's words: columns, facts and settings of version 1 get the names of version 2.

The log itself is append-only and stays as it is: an entry made from a queue of version 1 says `doubt` where
one of version 2 says `error_probability`.
"""

from __future__ import annotations

import json
import math
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COLUMNS = {"doubt": "error_probability", "dice": "overlap_draw", "known": "gold"}
_INDICES = {
    "items_doubt": ("items_error_probability", ["open", "pool", "error_probability", "portrait_id"]),
    "items_known": ("items_gold", ["gold", "portrait_id"]),
}
_NUMBERS = {
    "doubt": "error_probability", "yaw_error": "expected_yaw_error", "yaw_deviation": "yaw_std",
    "residual": "landmark_error", "shoulder_residual": "shoulder_error",
    "source_pixels": "effective_resolution",
}  # fmt: skip
_PHOTO = {"licence": "license", "licence_url": "license_url"}
_BATCH = 5000


def upgrade() -> None:
    """Rename columns, indices and settings, and rewrite the facts of every item."""
    for old, new in _COLUMNS.items():
        op.execute(f"ALTER TABLE items RENAME COLUMN {old} TO {new}")
    for old, (new, columns) in _INDICES.items():
        op.drop_index(old, "items")
        op.create_index(new, "items", columns)
    op.execute("UPDATE settings SET name = 'gold_share' WHERE name = 'known_share'")
    _rewrite_facts(op.get_bind())


def _rewrite_facts(connection: sa.Connection) -> None:
    items = sa.table("items", sa.column("portrait_id"), sa.column("facts"))
    change = (
        items.update().where(items.c.portrait_id == sa.bindparam("key")).values(facts=sa.bindparam("text"))
    )
    page = sa.select(items.c.portrait_id, items.c.facts).order_by(items.c.portrait_id).limit(_BATCH)
    last = ""
    while rows := connection.execute(page.where(items.c.portrait_id > last)).all():
        connection.execute(change, [{"key": row.portrait_id, "text": _facts(row.facts)} for row in rows])
        last = rows[-1].portrait_id


def _facts(text: str) -> str:
    facts = json.loads(text)
    numbers = _renamed(facts["numbers"], _NUMBERS)
    if "yaw_error" in facts["numbers"] and numbers["expected_yaw_error"] is not None:
        numbers["expected_yaw_error"] = math.radians(numbers["expected_yaw_error"])  # was degrees
    models = json.loads(facts["models"])  # was JSON within JSON
    photo = _renamed(facts["photo"], _PHOTO)
    reasons = ["uncertain" if reason == "doubtful" else reason for reason in facts["reasons"]]
    return json.dumps({**facts, "numbers": numbers, "photo": photo, "models": models, "reasons": reasons})


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
