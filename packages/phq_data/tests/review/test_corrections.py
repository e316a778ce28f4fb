"""The log of corrected labels: saved once, copied to the workspace, exchanged, counted."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from phq_data import camera, records
from phq_data.pipeline import corrections as holding
from phq_data.pipeline import whole
from phq_data.records import Correction, Portrait
from phq_data.review import corrections, exchange_corrections, items
from phq_data.review.consensus import ReviewError
from phq_data.review.correcting import Corrector
from phq_data.review.corrections import NewCorrection
from phq_data.review.database import Database
from phq_data.review.queue import Queue, QueueRequest
from phq_data.review.records import CAN_BE_SAVED, SCREENED_OUT, StoredLabel
from phq_data.review.store import Store

NOW = 1_700_000_000_000


@pytest.fixture
def made(make_workspace):
    """A small workspace: of its eight portraits two are rejected for their shoulders."""
    return make_workspace()


@pytest.fixture
def store(made):
    store = Store.open(made.workspace)
    items.sync(store, made.workspace)
    yield store
    store.close()


@pytest.fixture
def labels(made):
    """portrait_id -> its label."""
    found = made.workspace.records(Portrait)
    columns = {one.portrait_id: (one.camera, one.pose, one.window) for one in found}
    return {key: StoredLabel(*(tuple(v.tolist()) for v in values)) for key, values in columns.items()}


@pytest.fixture
def send(made, store, labels):
    """Record corrections by `who` of portraits by their number; returns what became of them."""
    corrector = Corrector(made.workspace, store)
    ids = sorted(labels)
    count = iter(range(1000))

    def sent(number, who="ann", degrees=0.0, kind="correct", *, now=NOW, lead=True, **more):
        label = turned(labels[ids[number]], degrees) if kind == "correct" else None
        step = next(count)
        one = NewCorrection(f"C{step:03d}", kind, ids[number], label, time=now + step, client="test", **more)
        return corrections.record(store, [one], who, corrector.seen([ids[number]]), lead=lead, now=now + step)

    return sent


def turned(label, degrees):
    turn = np.eye(4)
    turn[:3, :3] = camera.from_angles(np.radians(degrees), 0)[:3, :3] @ camera.from_angles(0, 0)[:3, :3].T
    cam2world = turn @ np.reshape(label.camera[:16], (4, 4))
    return StoredLabel((*cam2world.ravel().tolist(), *label.camera[16:]), label.pose, label.window)


def test_the_log_refuses_changes_and_the_workspace_gets_a_copy(made, store, send):
    assert send(0).saved == ("C000",)
    for statement in ("UPDATE corrections SET reviewer = 'x'", "DELETE FROM corrections"):
        with (
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
            store.database.write() as on,
        ):
            on.execute(sa.text(statement))
    assert corrections.synchronise(made.workspace, store) == 1
    assert corrections.synchronise(made.workspace, store) == 0
    send(0, kind="undo")
    assert corrections.synchronise(made.workspace, store) == 1
    log = made.workspace.records(Correction)
    assert [(one.kind, one.reviewer, one.undoes) for one in log] == [
        ("correct", "ann", None), ("undo", "ann", "C000"),
    ]  # fmt: skip
    assert np.array_equal(log[1].from_camera, log[0].to_camera) and log[1].to_camera is None


def test_both_databases_keep_the_log_alike(made, labels, where):
    """SQLite and PostgreSQL: saved once, locked, counted, undone."""
    store = Store(Database.open(where))
    items.sync(store, made.workspace)
    seen = Corrector(made.workspace, store).seen(labels)
    first, second = sorted(labels)[:2]
    one = NewCorrection("C1", "correct", first, labels[first], note="ü", time=NOW)
    two = NewCorrection("C2", "correct", second, turned(labels[second], 9.0), time=NOW)
    done = corrections.record(store, [one, two, one], "ann", seen, now=NOW)
    assert (done.saved, done.known, done.refused) == (("C1", "C2"), ("C1",), ())
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), store.database.write() as connection:
        connection.execute(sa.text("UPDATE corrections SET reviewer = 'x'"))
    undo = NewCorrection("C3", "undo", first, undoes="C1", time=NOW)
    assert corrections.record(store, [undo], "ann", seen, now=NOW).saved == ("C3",)
    found = corrections.overview(made.workspace, store)
    assert (found.made, found.undone, found.holding, found.can_be_saved) == (2, 1, 1, 2)
    assert [entry.note for entry in corrections.entries(store)] == ["ü", None, None]
    store.close()


def test_a_lost_database_is_filled_from_the_table(made, store, send, tmp_path):
    send(0), send(1, degrees=5.0)
    corrections.synchronise(made.workspace, store)
    other = Store(Database.open(tmp_path / "new.sqlite"))
    assert corrections.recover(made.workspace, other) == 2
    assert corrections.recover(made.workspace, other) == 0
    assert [one.to_correction() for one in corrections.entries(other)] == made.workspace.records(Correction)
    other.close()


def test_a_build_sees_what_only_the_database_has(made, store, send, monkeypatch):
    send(0)
    assert not corrections.any_wait(made.workspace)
    assert corrections.bring_up_to_date(made.workspace) == 1
    assert corrections.any_wait(made.workspace)
    holding.take(made.workspace)
    assert corrections.any_wait(made.workspace)  # taken is not worked in: a build may be killed here
    monkeypatch.setattr(whole, "behind", lambda workspace: [])
    assert not corrections.any_wait(made.workspace)
    send(0, kind="undo")
    assert corrections.bring_up_to_date(made.workspace) == 1 and corrections.any_wait(made.workspace)


def test_a_label_that_no_portrait_can_be_cut_for_is_refused(made, store, labels):
    corrector = Corrector(made.workspace, store)
    key = sorted(labels)[0]
    label = labels[key]
    x, y, side = label.window
    for window, word in (((x, y, 4.0), "pixels wide"), ((x, y, 9000.0), "pixels wide"),
                         ((x + 2000.0, y, side), "outside of the photo")):  # fmt: skip
        one = NewCorrection("C1", "correct", key, dataclasses.replace(label, window=window))
        (refused,) = corrections.record(store, [one], "ann", corrector.seen([key])).refused
        assert word in refused.why


def test_a_damaged_part_is_written_anew_from_the_store(made, store, send):
    send(0)
    corrections.synchronise(made.workspace, store)
    path = "tables/corrections/part-00000.parquet"
    data = made.workspace.read_bytes(path)
    made.workspace.write_bytes(path, data[:200] + b"?" + data[201:])
    assert corrections.mend(made.workspace) == [
        "1 damaged parts of the corrections were written anew: 1 corrections of the database"
    ]
    assert len(made.workspace.records(Correction)) == 1


def test_who_corrected_is_asked_no_more_until_it_is_built_or_undone(made, store, send, labels):
    queue = Queue(store)
    first = sorted(labels)[0]

    def asked():
        pools = (queue.lease("bo", QueueRequest(count=50, pool=pool)).portrait_ids for pool in range(4))
        return first in {one for pool in pools for one in pool}

    assert asked()
    send(0)
    assert not asked()
    send(0, kind="undo")
    assert asked()


def test_a_portrait_of_a_part_that_is_read_anew_still_waits_for_its_correction(made, store, send, labels):
    first = min(labels)

    def flagged():
        with store.database.read() as on:
            rows = on.execute(sa.text("SELECT portrait_id FROM items WHERE corrected = 1 AND open = 0"))
            return set(rows.scalars())

    def read_anew():
        with store.database.write() as on:
            on.execute(sa.text("UPDATE parts SET content = 'of another build'"))
        items.sync(store, made.workspace)

    send(0), send(1), send(1, kind="undo")
    assert flagged() == {first}
    read_anew()
    assert flagged() == {first}
    send(0, kind="undo")
    read_anew()
    assert flagged() == set()


def test_a_queue_of_what_a_corrected_label_would_save(made, store):
    queue = Queue(store)
    saved = queue.lease("ann", QueueRequest(pool=CAN_BE_SAVED)).portrait_ids
    bad = {row["portrait_id"] for row in made.screened if not row["kept"]}
    assert set(saved) == bad and len(bad) == 2
    assert queue.lease("ann", QueueRequest(pool=SCREENED_OUT)).portrait_ids == ()
    assert corrections.overview(made.workspace, store).can_be_saved == 2


def test_the_numbers_of_the_status(made, store, send, labels, monkeypatch):
    send(0), send(1), send(1, "bo", degrees=40.0), send(2), send(2, kind="undo")
    corrections.synchronise(made.workspace, store)
    found = corrections.overview(made.workspace, store)
    numbers = (found.made, found.undone, found.holding, found.disputed, found.waiting)
    assert numbers == (4, 1, 1, (sorted(labels)[1],), 1) and found.by_reviewer == {"ann": 3, "bo": 1}
    holding.take(made.workspace)
    assert corrections.overview(made.workspace, store).waiting > 0  # no part is made yet
    monkeypatch.setattr(whole, "behind", lambda workspace: [])
    assert corrections.overview(made.workspace, store).waiting == 0
    send(0, kind="undo")
    assert corrections.overview(made.workspace, store).waiting == 1


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_export_and_import(made, store, send, tmp_path, ending):
    send(0, note='=1+1, "quoted"'), send(1, "bo", degrees=7.0), send(0, kind="undo")
    file = tmp_path / f"corrections.{ending}"
    assert exchange_corrections.export(store, file) == 3
    assert exchange_corrections.are_corrections(file)
    other = Store(Database.open(tmp_path / "other.sqlite"))
    assert exchange_corrections.load(other, file) == (3, 3)
    assert exchange_corrections.load(other, file) == (3, 0)
    found, expected = ([one.to_correction() for one in corrections.entries(s)] for s in (other, store))
    assert found == expected
    other.close()


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("kind", "perhaps", "kind"),
        ("to_camera", [0.0] * 25, "rotation"),
        ("to_pose", None, "to_pose"),
        ("reviewer", "", "reviewer"),
        ("correction_id", "a b", "correction_id"),
        ("person_id", "x" * 65, "person_id"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_nothing_taken(
    made, store, send, tmp_path, column, value, word
):
    send(0), send(1)
    good = records.to_table(
        Correction, [one.to_correction() for one in corrections.entries(store)]
    ).to_pylist()
    file = tmp_path / "some.parquet"
    pa.parquet.write_table(pa.Table.from_pylist([good[0], {**good[1], column: value}]), file)
    other = Store(Database.open(tmp_path / "other.sqlite"))
    with pytest.raises(ReviewError, match=f"row 2.*{word}"):
        exchange_corrections.load(other, file)
    assert list(corrections.entries(other)) == []
    other.close()


def test_a_number_of_hundreds_of_digits_in_a_csv_is_told(made, store, send, tmp_path):
    send(0)
    file = tmp_path / "some.csv"
    exchange_corrections.export(store, file)
    (row,) = csv.DictReader(file.open())
    with file.open("w") as out:
        writer = csv.DictWriter(out, row)
        writer.writeheader()
        writer.writerow({**row, "from_pose": json.dumps([10**400] + [0] * 5)})
    with pytest.raises(ReviewError, match="row 1: 'from_pose' is no list of numbers"):
        exchange_corrections.load(store, file)


def test_old_stores_learn_what_can_be_saved(tmp_path):
    """A database that version 0002 of the tables made."""
    from alembic import command
    from alembic.config import Config

    from phq_data.review import database as module

    path = tmp_path / "old.sqlite"
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).with_name("migrations")))
    opened = Database(module._file(path, 5.0), "old")
    with opened.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for number, reasons in enumerate((["uncertain"], ["uncertain", "blurry"], [])):
            values = {
                "portrait_id": f"{number}", "photo_id": "p", "person_id": "q", "part": 0, "row": number,
                "active": 1, "pool": 1, "source": "", "uri": "", "yaw_bin": 0, "yaw": 0, "votes": 0,
                "error_probability": 0, "overlap_draw": 0, "facts": json.dumps({"reasons": reasons}),
                "required": 1, "open": 1, "state": "undecided",
            }  # fmt: skip
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(sa.text(f"INSERT INTO items ({names}) VALUES ({marks})"), values)
    opened.close()
    opened = Database.open(path)
    with opened.read() as connection:
        found = connection.execute(sa.text("SELECT pool, corrected FROM items ORDER BY portrait_id")).all()
    assert [tuple(row) for row in found] == [(CAN_BE_SAVED, 0), (SCREENED_OUT, 0), (SCREENED_OUT, 0)]
    opened.close()
