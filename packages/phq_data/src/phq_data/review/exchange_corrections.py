"""The log of corrected labels in a file: export and import as Parquet or CSV, as of the decisions.

In CSV a list of numbers is a JSON text. What is imported keeps its reviewers, times and ids.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from phq_data import parquet, schema
from phq_data.files import OutputError, writing
from phq_data.foreign import parse_json
from phq_data.pipeline.corrections import KINDS
from phq_data.records import Correction, to_table
from phq_data.review import corrections
from phq_data.review.consensus import ReviewError
from phq_data.review.exchange import file_kind, milliseconds, read_rows
from phq_data.review.records import CorrectionEntry, StoredLabel
from phq_data.review.reviewers import checked_name
from phq_data.review.store import DECISION_ID, Store, storable
from phq_data.stages.relabel import PlacedLabel, RelabelError
from phq_data.text import spreadsheet_cell

_LABEL = ("camera", "pose", "window")
_TEXTS = {"correction_id": 64, "kind": 8, "portrait_id": 64, "photo_id": 64, "person_id": 64, "reviewer": 80,
          "client": 120, "note": 4000, "undoes": 64}  # fmt: skip
_NEEDED = ("correction_id", "kind", "portrait_id", "photo_id", "person_id", "reviewer", "time")


def export(store: Store, out: Path) -> int:
    """Write the whole log to OUT.parquet or OUT.csv, whole or not at all; returns how many corrections.

    Raises `ReviewError` for another kind of file or a folder that cannot be written.
    """
    kind = file_kind(out)
    found = to_table(Correction, [entry.to_correction() for entry in corrections.entries(store)])
    try:
        with writing(out) as temporary:
            if kind == "csv":
                _write_csv(found, temporary)
            else:
                with parquet.writer(temporary, schema.CORRECTIONS) as writer:
                    writer.write_table(found)
    except OutputError as error:
        raise ReviewError(str(error)) from error
    return int(found.num_rows)


def are_corrections(file: Path) -> bool:
    """Is this a file of corrections (and not of decisions)? By its first row; what cannot be read is not."""
    try:
        rows = read_rows(file)
    except (OSError, ValueError, csv.Error, pa.ArrowException):
        return False
    return bool(rows) and "correction_id" in rows[0]


def load(store: Store, file: Path) -> tuple[int, int]:
    """Take over the corrections of an exported file; returns (in the file, new).

    Raises `ReviewError` naming the row that cannot be used; then nothing was taken over.
    """
    found = read(file)
    return len(found), corrections.merge(store, found)


def read(file: Path) -> list[CorrectionEntry]:
    """The corrections of an exported file. Raises `ReviewError` naming the row that cannot be used."""
    try:
        rows = read_rows(file)
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid, csv.Error) as error:
        raise ReviewError(f"cannot read {file}: {error}") from error
    checked = [_checked(number, row) for number, row in enumerate(rows, 1)]
    if not checked:
        raise ReviewError(f"{file} holds no corrections")
    return checked


def _write_csv(table: pa.Table, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table.column_names)
        writer.writeheader()
        for row in table.to_pylist():
            row["time"] = row["time"].isoformat(timespec="milliseconds")
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value)
    return spreadsheet_cell(value) if isinstance(value, str) else value


def _checked(number: int, row: Mapping[str, Any]) -> CorrectionEntry:
    """A row as the store takes it."""
    missing = [name for name in _NEEDED if row.get(name) in (None, "")]
    if missing:
        raise ReviewError(f"row {number}: '{missing[0]}' is missing")
    for name, most in _TEXTS.items():
        value = row.get(name) or ""
        if not isinstance(value, str) or len(value) > most or not storable(value):
            raise ReviewError(
                f"row {number}: '{name}' is a text of at most {most} letters, not {value!r:.80}"
            )
    if row["kind"] not in KINDS:
        raise ReviewError(f"row {number}: 'kind' is one of {', '.join(KINDS)}, not {row['kind']!r}")
    if not DECISION_ID.fullmatch(row["correction_id"]):
        raise ReviewError(f"row {number}: 'correction_id' is 1 to 64 letters and digits")
    try:
        seconds = float(row.get("seconds") or 0.0)
    except (ValueError, TypeError):
        seconds = float("nan")
    if not 0 <= seconds < 1e9:
        raise ReviewError(f"row {number}: 'seconds' is {row['seconds']!r}")
    before, after = _label(number, row, "from"), None
    if row["kind"] == "correct":
        after = _label(number, row, "to").to_json()
    when = milliseconds(number, "time", row["time"])
    return CorrectionEntry(
        row["correction_id"], row["kind"], row["portrait_id"], row["photo_id"], row["person_id"],
        before.to_json(), after, row.get("undoes") or None, row.get("note") or None,
        checked_name(row["reviewer"]), when, when, when, seconds, row.get("client") or "",
    )  # fmt: skip


def _label(number: int, row: Mapping[str, Any], side: str) -> StoredLabel:
    values = [_numbers(number, f"{side}_{name}", row.get(f"{side}_{name}")) for name in _LABEL]
    try:
        PlacedLabel.of(*values)
    except RelabelError as error:
        raise ReviewError(f"row {number}: the label '{side}' cannot be used: {error}") from error
    return StoredLabel(*(tuple(each) for each in values))


def _numbers(number: int, name: str, value: Any) -> list[float]:
    try:
        listed = parse_json(value) if isinstance(value, str) else value
        return [float(one) for one in listed]
    except (ValueError, TypeError) as error:
        raise ReviewError(f"row {number}: '{name}' is no list of numbers: {value!r:.80}") from error
