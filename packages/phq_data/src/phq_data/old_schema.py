"""Parts and shards that an older schema version wrote, read under today's names and in today's units."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from phq_data import parquet, parquet_limits
from phq_data.compatibility import COLUMNS, DEGREES, EVIDENCE, REASONS, STAGES
from phq_data.schema import LATER, SCHEMA_VERSION, SCHEMAS

FOOTER = b"phq"
"""Key of a Parquet file's metadata: JSON with the `schema_version` that it was written with."""


def old_columns(table: str, names: Iterable[str]) -> list[str]:
    """What version 1 called columns of a table; a part of a column (`image.path`) keeps its rest."""
    old = {new: name for name, new in COLUMNS.get(table, {}).items()}
    return [old.get(name, name) for name in names]


def upgrade_table(table: str, rows: pa.Table, stage: str = "") -> pa.Table:
    """Rows that version 1 wrote (some or all columns of them) under today's names and in today's units.

    `stage` (of either name) wrote these rows of the table "ledger".
    """
    renames = COLUMNS.get(table, {})
    rows = rows.rename_columns([renames.get(name, name) for name in rows.column_names])
    for name in DEGREES & set(rows.column_names):
        radians = pc.multiply(rows[name].cast(pa.float64()), math.pi / 180.0)
        rows = _replaced(rows, name, radians.cast(rows.schema.field(name).type))
    words = {"plan": {"error": REASONS}, "ledger": {"stage": STAGES, "reason": REASONS}}
    for name, renamed in words.get(table, {}).items():
        if name in rows.column_names:
            values = [renamed.get(value, value) for value in rows[name].to_pylist()]
            rows = _replaced(rows, name, pa.array(values, pa.string()))
    if table == "screened" and "reasons" in rows.column_names:
        lists = [[REASONS.get(one, one) for one in listed] for listed in rows["reasons"].to_pylist()]
        rows = _replaced(rows, "reasons", pa.array(lists, rows.schema.field("reasons").type))
    if table == "ledger" and stage in EVIDENCE and "evidence" in rows.column_names:
        evidence = [_upgrade_evidence(stage, text) for text in rows["evidence"].to_pylist()]
        rows = _replaced(rows, "evidence", pa.array(evidence, pa.string()))
    return rows


def version_of(file: parquet.File) -> int:
    """The schema version that a part or a shard was written with; a file that says nothing is of today."""
    footer = (file.metadata.metadata or {}).get(FOOTER)
    try:
        return int(json.loads(footer)["schema_version"]) if footer else SCHEMA_VERSION
    except (ValueError, KeyError, TypeError):
        return SCHEMA_VERSION


def read(
    file: parquet.File,
    table: str,
    columns: Sequence[str] | None = None,
    *,
    stage: str = "",
    group: int | None = None,
    use_threads: bool = False,
) -> pa.Table:
    """Rows of a part or a shard (of one row group of it) as they are called today, whoever wrote them.

    Raises `parquet_limits.SizeError`, and whatever Arrow raises over a damaged file.
    """
    old = version_of(file) < SCHEMA_VERSION
    wanted = SCHEMAS[table].names if columns is None else list(columns)
    later = (LATER & set(wanted)) - set(file.schema_arrow.names)
    there = None if columns is None else [name for name in columns if name not in later]
    names = old_columns(table, there) if old and there is not None else there
    rows = parquet_limits.read(file, names, group=group, use_threads=use_threads)
    rows = upgrade_table(table, rows, stage) if old else rows
    for name in sorted(later, key=wanted.index):
        field = SCHEMAS[table].field(name)
        at = min(wanted.index(name), rows.num_columns)
        rows = rows.add_column(at, field, pa.nulls(rows.num_rows, field.type))
    return rows


def upgrade_schema(table: str, file: parquet.File) -> pa.Schema:
    """A file's schema with today's names, and the columns that it is too old for."""
    renames = COLUMNS.get(table, {}) if version_of(file) < SCHEMA_VERSION else {}
    found = file.schema_arrow
    fields = [field.with_name(renames.get(field.name, field.name)) for field in found]
    for at, field in enumerate(SCHEMAS[table]):
        if field.name in LATER and field.name not in found.names:
            fields.insert(at, field)
    return pa.schema(fields, metadata=found.metadata)


def _upgrade_evidence(stage: str, text: str) -> str:
    found = {EVIDENCE[stage].get(name, name): value for name, value in json.loads(text).items()}
    for name in DEGREES & set(found):
        if found[name] is not None:
            found[name] = round(math.radians(found[name]), 6)
    return json.dumps(found, sort_keys=True)


def _replaced(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), rows.schema.field(name), values)
