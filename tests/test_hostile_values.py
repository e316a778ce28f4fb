"""Properties of every reader of documents: whatever JSON values stand where, it ends in values or a sentence.

`benchmarks.fuzz` changes bytes; here Hypothesis puts values into whole documents, and shrinks what fails.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_target import Target
from benchmarks.fuzz_targets import targets
from phq_data import parquet, parquet_limits
from phq_data.errors import PhqError
from phq_data.foreign import parse_json
from phq_data.parquet_footer import SizeError, read_footer
from phq_data.sources.folder import FolderSource
from phq_data.text import from_spreadsheet_cell, markdown, spreadsheet_cell, wildcard

FEW = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
EDGES = st.sampled_from([
    0, -1, 1, 2**31, -(2**31), 2**63, 2**64, 10**400, 0.5, -0.0, 5e-324, 1e308, float("nan"), float("inf"),
    float("-inf"), "", " ", "\0", "\ud800", "\u202e", "NaN", "1e999", "2026-02-30", "../..", "a" * 5000,
])  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | EDGES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
DOCUMENTS = (
    "rights.json", "settings", "model config", "training config", "keypoints", "head boxes", "permission",
    "camera", "tombstones", "reservations", "manifest", "workspace.json", "result.json", "state.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return {kind.name: kind for kind in targets(tmp_path_factory.mktemp("kinds"))}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def with_value(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    """`whole` with another value at a place, where an earlier change left that place there."""
    if not path:
        return value
    key, *rest = path
    if isinstance(whole, dict) and key in whole:
        return {**whole, key: with_value(whole[key], tuple(rest), value)}
    if isinstance(whole, list) and isinstance(key, int) and key < len(whole):
        return [*whole[:key], with_value(whole[key], tuple(rest), value), *whole[key + 1 :]]
    return whole


@pytest.mark.parametrize("name", DOCUMENTS)
def test_any_values_in_a_document_end_in_values_or_a_sentence(name, known, tmp_path_factory):
    kind = known[name]
    whole = json.loads(kind.seeds[0])
    everywhere = list(places(whole))
    folder = tmp_path_factory.mktemp("read")

    @FEW
    @given(st.lists(st.tuples(st.sampled_from(everywhere), VALUES), min_size=1, max_size=3))
    def check(changes):
        document = whole
        for path, value in changes:
            document = with_value(document, path, value)
        data = json.dumps(document).encode()
        try:
            kind.read(data, folder)
        except PhqError as error:
            assert 5 < len(str(error)) < 20_000
            assert "Traceback" not in str(error)

    check()


@FEW
@given(VALUES)
def test_json_is_read_as_it_was_written_or_refused(value):
    try:
        found = parse_json(json.dumps(value))
    except PhqError:
        return
    assert json.dumps(found) == json.dumps(value)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


@FEW
@given(NAMES, st.sampled_from(["NFC", "NFD"]))
def test_rights_of_a_file_are_found_however_its_name_is_spelled(tmp_path_factory, name, form):
    folder = tmp_path_factory.mktemp("photos")
    (folder / f"{name}.png").write_bytes(b"x")
    key = unicodedata.normalize(form, f"{name}.png")
    (folder / "rights.json").write_text(json.dumps({"files": {key: {"license": "CC0-1.0"}}}))
    found = [file.provenance.license for file in FolderSource(folder).files()]
    assert found in ([], ["CC0-1.0"])  # hidden files, and those that end otherwise, are no photos
    assert found or name.startswith(".")


@FEW
@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=5), st.text("ab", max_size=12))
def test_wildcards_fit_as_shell_patterns_do(pieces, text):
    assert bool(wildcard(pieces).fullmatch(text)) == bool(re.fullmatch(".*".join(pieces), text, re.DOTALL))


@FEW
@given(st.text(max_size=60) | st.text("=;+@|' \t\n\r-＝a", max_size=12))
def test_texts_in_tables_and_pages_say_the_same_and_run_nothing(text):
    cell = spreadsheet_cell(text)
    assert from_spreadsheet_cell(cell) == text
    assert cell[:1] not in tuple("=+-@\t\r＝＋－＠")
    assert "\n" not in markdown(text)


CELLS = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1), pa.float64(): st.floats(), pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    pa.binary(): st.binary(max_size=60), pa.list_(pa.float32()): st.lists(st.floats(width=32), max_size=5),
}  # fmt: skip


@FEW
@given(st.data())
def test_tables_are_read_as_they_were_written(data):
    rows = data.draw(st.integers(0, 40))
    kinds = data.draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=5))
    columns = [
        pa.array(data.draw(st.lists(st.none() | CELLS[kind], min_size=rows, max_size=rows)), kind)
        for kind in kinds
    ]
    table = pa.table(columns, names=[f"column {number}" for number in range(len(columns))])
    sink = io.BytesIO()
    parquet.write(table, sink, row_group_size=data.draw(st.sampled_from([1, 7, 100])))
    found = parquet_limits.read(parquet.opened(pa.BufferReader(sink.getvalue())))
    assert found.schema == table.schema and repr(found.to_pylist()) == repr(table.to_pylist())


@FEW
@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_bytes_end_as_a_footer_or_as_none(body, footer):
    data = b"PAR1" + body + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    try:
        read_footer(pa.BufferReader(data).read_at, len(data))
    except SizeError as error:
        assert "footer" in str(error)
