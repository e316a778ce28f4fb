"""Rows of tables are typed records wherever data is worked on: no `row["column"]` there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from phq_data import schema

SOURCE = Path(__file__).resolve().parent.parent / "packages" / "phq_data" / "src" / "phq_data"
ROOMS = ("stages", "models", "synthesis", "review", "sources", "pipeline", "evaluation")
COLUMNS = frozenset(name for table in schema.SCHEMAS.values() for name in table.names)

READERS = {
    # module: what is read or written there by its names, to become records
    "models/onnx.py": "checksums.json",
    "review/exchange.py": "the log as Parquet or CSV",
    "review/exchange_corrections.py": "the log of corrections as Parquet or CSV",
    "stages/uncertainty.py": "error_probability.json",
    "review/migrations/versions/v0002_words.py": "a database of version 1",
    "review/agreement.py": "counts of the log by kind of entry",
    "review/items.py": "rows on their way into the review's own table",
    "review/tool_answers.py": "files of other tools",
    "review/integrity.py": "rows of the store that may be damaged",
    "review/repair.py": "the same",
    "evaluation/tables.py": "the JSON of the consistency report",
    "sources/rights.py": "rights.json of a folder",
    "sources/unsplash_lite.py": "the TSV files of a dataset of Unsplash",
    "sources/wikimedia.py": "answers of the API",
    "sources/web/journal.py": "the journal, a database",
}
PATHS = sorted(path for room in ROOMS for path in (SOURCE / room).rglob("*.py"))


def subscripts(source: str) -> list[str]:
    """line: column of every `something["column"]` that is not a whole column of an Arrow table."""
    tree = ast.parse(source)
    whole = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("to_pylist", "to_numpy")
    }
    return [
        f"{node.lineno}: {node.slice.value!s}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and node.slice.value in COLUMNS
        and id(node) not in whole
    ]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(SOURCE)))
def test_rows_are_records(path: Path) -> None:
    found = subscripts(path.read_text(encoding="utf-8"))
    if str(path.relative_to(SOURCE)) in READERS:
        assert found, "it reads nothing by name any more: take it out of READERS"
    else:
        assert not found


def test_a_row_by_names_is_found() -> None:
    source = 'sha = row["sha256"]\nids = table["photo_id"].to_pylist()\nheat = heads["heatmap"]\n'
    assert subscripts(source) == ["1: sha256"]
