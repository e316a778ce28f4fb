"""The log in a file: export and import as Parquet or CSV, to keep, to analyse, to merge teams.

A file holds the whole log, undone decisions included. What is imported keeps its reviewers, times and ids;
imported again, it adds nothing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from phq_data import parquet, parquet_limits
from phq_data.files import OutputError, read_written_text, writing
from phq_data.review.consensus import VERDICTS, ReviewError
from phq_data.review.records import LogEntry
from phq_data.review.reviewers import checked_name
from phq_data.review.store import DECISION_ID, Store, now_ms, storable, time_objection
from phq_data.text import from_spreadsheet_cell, spreadsheet_cell

_TIME = pa.timestamp("ms", tz="UTC")
LOG = pa.schema(
    [
        pa.field("decision_id", pa.string(), nullable=False),
        pa.field("portrait_id", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("note", pa.string()),
        pa.field("reviewer", pa.string(), nullable=False),
        pa.field("time", _TIME, nullable=False),
        pa.field("client_time", _TIME, nullable=False),
        pa.field("server_time", _TIME, nullable=False),
        pa.field("seconds", pa.float32(), nullable=False),
        pa.field("rules", pa.string(), nullable=False),
        pa.field("client", pa.string(), nullable=False),
        pa.field("queue", pa.string(), nullable=False),
    ]
)
"""A decision in an exported file: `schema.DECISIONS` and what else the store knows."""

_NEEDED = ("decision_id", "portrait_id", "verdict", "reviewer", "time")
_TIMES = ("time", "client_time", "server_time")
_LONGEST = {"decision_id": 64, "portrait_id": 64, "rules": 64, "client": 120, "queue": 64,
            "reason": 500, "note": 4000}  # fmt: skip
_TEXTS = ("decision_id", "portrait_id", "verdict", "reason", "note", "reviewer", "rules", "client", "queue")
_LAST = 253_402_300_799_000  # the end of the year 9999, in milliseconds
_BATCH = 20_000
# A spreadsheet runs a cell that begins like this; the quote is taken away again on import.


def export(store: Store, out: Path) -> int:
    """Write the whole log to OUT.parquet or OUT.csv, whole or not at all; returns how many decisions.

    Raises `ReviewError` for another kind of file or a folder that cannot be written.
    """
    kind = file_kind(out)
    try:
        with writing(out) as temporary:
            return _export_csv(store, temporary) if kind == "csv" else _export_parquet(store, temporary)
    except OutputError as error:
        raise ReviewError(str(error)) from error


def load(store: Store, file: Path) -> tuple[int, int]:
    """Take over the decisions of an exported file; returns (in the file, new).

    Raises `ReviewError` naming the row that cannot be used; then nothing was taken over.
    """
    try:
        rows = read_rows(file)
        checked = [_checked(number, row) for number, row in enumerate(rows, 1)]
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid, csv.Error) as error:
        raise ReviewError(f"cannot read {file}: {error}") from error
    if not checked:
        raise ReviewError(f"{file} holds no decisions")
    return len(checked), store.merge(checked)


def file_kind(file: Path) -> str:
    """csv or parquet. Raises `ReviewError` for another ending."""
    kind = file.suffix.lower().lstrip(".")
    if kind not in ("parquet", "csv"):
        raise ReviewError(f"decisions are exchanged as .parquet or .csv, not as {file.name}")
    return kind


def _rows(store: Store) -> Iterator[dict[str, Any]]:
    for entry in store.entries():
        times = {name: _moment(getattr(entry, name)) for name in _TIMES}
        yield entry.to_row() | times


def _moment(milliseconds: int) -> datetime:
    """A stored time; one that no calendar has (an absurd clock of a client) becomes the last that it has."""
    return datetime.fromtimestamp(min(max(milliseconds, 0), _LAST) / 1000, UTC)


def _export_parquet(store: Store, path: Path) -> int:
    count = 0
    with parquet.writer(path, LOG) as writer:
        for batch in _batches(_rows(store)):
            writer.write_table(pa.Table.from_pylist(batch, LOG))
            count += len(batch)
    return count


def _export_csv(store: Store, path: Path) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG.names)
        writer.writeheader()
        for row in _rows(store):
            row |= {name: row[name].isoformat(timespec="milliseconds") for name in _TIMES}
            writer.writerow(
                {name: spreadsheet_cell(v) if isinstance(v, str) else v for name, v in row.items()}
            )
            count += 1
    return count


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _read_csv(file: Path) -> list[dict[str, Any]]:
    text = read_written_text(file)
    return [
        {
            name: value if value is None else from_spreadsheet_cell(value)
            for name, value in row.items()
            if name is not None
        }
        for row in csv.DictReader(io.StringIO(text, newline=""))
    ]


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of an exported file as they stand there. Raises `ReviewError` for another kind of file."""
    if file_kind(file) == "csv":
        return _read_csv(file)
    return list(parquet_limits.read_all(file).to_pylist())


def _checked(number: int, row: Mapping[str, Any]) -> LogEntry:
    """A row as the store takes it: times in milliseconds, everything of its type."""
    missing = [name for name in _NEEDED if row.get(name) in (None, "")]
    if missing:
        raise ReviewError(f"row {number}: '{missing[0]}' is missing")
    for name in _TEXTS:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise ReviewError(f"row {number}: '{name}' must be text, not {type(value).__name__} {value!r}")
        if value and not storable(value):
            raise ReviewError(f"row {number}: '{name}' has characters that no database takes (NUL)")
    if row["verdict"] not in VERDICTS:
        raise ReviewError(f"row {number}: a verdict is one of {', '.join(VERDICTS)}, not {row['verdict']!r}")
    try:
        seconds = float(row.get("seconds") or 0.0)
    except (ValueError, TypeError):
        raise ReviewError(f"row {number}: 'seconds' is no number: {row['seconds']!r}") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ReviewError(f"row {number}: 'seconds' is {seconds}")
    when = milliseconds(number, "time", row["time"])
    found = LogEntry(
        decision_id=row["decision_id"], portrait_id=row["portrait_id"], verdict=row["verdict"],
        reason=row.get("reason") or "", note=row.get("note") or None,
        reviewer=checked_name(row["reviewer"]), time=when,
        client_time=milliseconds(number, "client_time", row.get("client_time") or row["time"]),
        server_time=milliseconds(number, "server_time", row.get("server_time") or datetime.now(UTC)),
        seconds=seconds, rules=row.get("rules") or "", client=row.get("client") or "",
        queue=row.get("queue") or "",
    )  # fmt: skip
    for name, most in _LONGEST.items():
        if len(getattr(found, name) or "") > most:
            raise ReviewError(f"row {number}: '{name}' has more than {most} letters")
    if not DECISION_ID.fullmatch(found.decision_id):
        raise ReviewError(f"row {number}: 'decision_id' is 1 to 64 letters and digits: {found.decision_id!r}")
    return found


def milliseconds(number: int, name: str, value: Any) -> int:
    """A time of row `number` in milliseconds since 1970. Raises `ReviewError` for one that no clock shows."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise ReviewError(f"row {number}: '{name}' is no time: {value!r}") from None
    known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        found = round(known.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ReviewError(f"row {number}: '{name}' is no time: {value!r}") from None
    why = time_objection(found, now_ms())
    if why:
        raise ReviewError(f"row {number}: '{name}' is {value}: {why.partition(':')[0]}")
    return found
