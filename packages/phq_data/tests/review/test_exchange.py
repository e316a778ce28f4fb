import csv
import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data.review.consensus import ReviewError
from phq_data.review.database import Database
from phq_data.review.exchange import LOG, export, load
from phq_data.review.store import NewDecision, Store

from .conftest import fill

NASTY = ["=1+1", "-2", "'quoted", 'a,b\n"c"', "<script>", "Ωμέγα 🙂", "'=x", "@SUM(A1)", "\ttab", ""]


@pytest.fixture
def full(store):
    for number, text in enumerate(NASTY):
        one = NewDecision(
            f"D{number}", store.ids[number], "reject", text, text or None, time=1_700_000_000_000 + number,
            seconds=1.5, client="c", queue="error_probability",
        )  # fmt: skip
        store.record([one], "=rosa" if number % 2 else "sam")
    store.record([NewDecision("U1", store.ids[0], "undo")], "sam")
    return store


def log(store):
    return [dataclasses.replace(entry, seq=0) for entry in store.entries()]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_log_comes_back_as_it_was(full, tmp_path, kind):
    assert export(full, tmp_path / f"log.{kind}") == len(NASTY) + 1
    other = fill(Store(Database.open(tmp_path / "other.sqlite")), 40)
    assert load(other, tmp_path / f"log.{kind}") == (11, 11)
    assert log(other) == log(full)
    assert {one.decision_id for one in other.history() if one.stands} == {f"D{i}" for i in range(1, 10)}
    assert load(other, tmp_path / f"log.{kind}") == (11, 0)
    other.close()


def test_a_spreadsheet_runs_nothing(full, tmp_path):
    export(full, tmp_path / "log.csv")
    with (tmp_path / "log.csv").open(newline="") as file:
        cells = [cell for row in list(csv.reader(file))[1:] for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]


def test_the_file_says_everything_and_is_typed(full, tmp_path):
    export(full, tmp_path / "log.parquet")
    assert pq.read_schema(tmp_path / "log.parquet").equals(LOG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "love"}, "row 2: a verdict is one of"),
        ({"time": "yesterday"}, "row 2: 'time' is no time"),
        ({"seconds": "fast"}, "row 2: 'seconds' is no number"),
        ({"seconds": "nan"}, "row 2: 'seconds' is nan"),
        ({"reviewer": ""}, "row 2: 'reviewer' is missing"),
        ({"decision_id": "x" * 65}, "row 2: 'decision_id' has more than 64"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_nothing_is_taken(store, tmp_path, change, message):
    names = ["decision_id", "portrait_id", "verdict", "reviewer", "time", "seconds"]
    good = dict(zip(names, ["A1", store.ids[0], "accept", "rosa", "2026-01-01T00:00:00Z", "1"], strict=True))
    with (tmp_path / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows([good, {**good, "decision_id": "A2", **change}])
    with pytest.raises(ReviewError, match=message):
        load(store, tmp_path / "log.csv")
    assert store.history() == []


def test_other_kinds_of_files_are_refused(store, tmp_path):
    with pytest.raises(ReviewError, match=r"\.parquet or \.csv"):
        export(store, tmp_path / "log.xlsx")
    (tmp_path / "no.parquet").write_text("hello")
    with pytest.raises(ReviewError, match="cannot read"):
        load(store, tmp_path / "no.parquet")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"decision_id": 5}, "row 1: 'decision_id' must be text"),
        ({"reviewer": 7}, "row 1: 'reviewer' must be text"),
        ({"seconds": [1.0]}, "row 1: 'seconds' is no number"),
        ({"decision_id": "a b"}, "row 1: 'decision_id' is 1 to 64 letters"),
        ({"note": "nul\0"}, "row 1: 'note' has characters"),
        ({"reason": "x" * 501}, "row 1: 'reason' has more than 500"),
        ({"time": "9999-12-31T23:59:59-23:59"}, "row 1: 'time' is 9999.*more than a day ahead"),
    ],
)
def test_what_the_service_would_refuse_is_not_imported(store, tmp_path, change, says):
    row = {
        "decision_id": "D1", "portrait_id": store.ids[0], "verdict": "accept", "reviewer": "rosa",
        "time": "2024-01-01T00:00:00+00:00", "reason": "", "note": "", "seconds": 1.0,
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row | change]), tmp_path / "wrong.parquet")
    with pytest.raises(ReviewError, match=says):
        load(store, tmp_path / "wrong.parquet")
    assert store.last() == 0


@pytest.mark.parametrize("text", ["", ",".join(LOG.names)])
def test_a_file_without_decisions_says_so(store, tmp_path, text):
    (tmp_path / "empty.csv").write_text(text)
    with pytest.raises(ReviewError, match="holds no decisions"):
        load(store, tmp_path / "empty.csv")


def test_an_absurd_stored_time_is_exported(store, tmp_path):
    store.record([NewDecision("D1", store.ids[0], "accept")], "rosa")
    store.merge([dataclasses.replace(log(store)[0], decision_id="D2", client_time=253_402_387_140_000)])
    for kind in ("csv", "parquet"):
        assert export(store, tmp_path / f"log.{kind}") == 2
