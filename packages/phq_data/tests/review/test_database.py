import json
import math
import os
import sqlite3
import threading

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from phq_data.review.database import (
    Database,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnreachableError,
)
from phq_data.review.records import Item
from phq_data.review.store import NewDecision, Store
from phq_data.review.tables import ITEMS, METADATA

from .conftest import fill, vote


def test_migrations_make_the_tables_that_the_code_uses(empty_store):
    with empty_store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


FACTS_1 = {
    "pitch": 0.1, "roll": 0.2, "window": [1.0, 2.0, 3.0], "size": 64, "crop_mode": "fit",
    "models": '{"rig": "anny"}', "kept": True, "reasons": [],
    "numbers": {"doubt": 0.3, "residual": 0.02, "shoulder_residual": None, "yaw_error": 90.0, "blur": 0.5},
    "photo": {
        "key": "photos/a.jpg", "width": 4, "height": 3, "provider": "folder", "title": None, "author": None,
        "author_url": None, "licence": "CC0-1.0", "licence_url": None, "page_url": None, "exif_time": None,
    },
}  # fmt: skip


@pytest.fixture
def version_1(where, monkeypatch):
    """A store as version 1 left it: an item, a decision from its queue, a setting."""
    monkeypatch.setattr("phq_data.review.database._HEAD", "0001")
    database = Database.open(where)
    item = {
        "portrait_id": "p", "photo_id": "f", "person_id": "q", "part": 0, "row": 0, "active": 1, "pool": 0,
        "source": "folder: a", "uri": "file:///a.jpg", "yaw_bin": 3, "yaw": 1.5, "doubt": 0.3, "dice": 0.7,
        "facts": json.dumps(FACTS_1), "required": 1, "votes": 1, "open": 0, "state": "accepted",
        "known": "reject",
    }  # fmt: skip
    entry = {
        "decision_id": "D1", "portrait_id": "p", "verdict": "accept", "reason": "", "reviewer": "rosa",
        "time": 1, "client_time": 1, "server_time": 1, "seconds": 1.0, "rules": "", "client": "",
        "queue": "doubt",
    }  # fmt: skip
    setting = {"name": "known_share", "value": "0.1"}
    with database.write() as connection:
        for table, row in (("items", item), ("decisions", entry), ("settings", setting)):
            columns = [sa.column(name) for name in row]
            connection.execute(sa.insert(sa.table(table, *columns)), row)
    database.close()
    monkeypatch.undo()
    return where


def test_a_store_of_version_1_gets_the_names_of_version_2(version_1):
    store = Store(Database.open(version_1))
    test_migrations_make_the_tables_that_the_code_uses(store)
    with store.database.read() as connection:
        row = connection.execute(sa.select(ITEMS)).one()
    item = Item.from_row(row)
    assert (item.error_probability, item.overlap_draw, row.gold) == (0.3, 0.7, "reject")
    assert (item.facts.photo.license, item.facts.models) == ("CC0-1.0", {"rig": "anny"})
    assert item.facts.numbers == {
        "error_probability": 0.3, "landmark_error": 0.02, "shoulder_error": None,
        "expected_yaw_error": pytest.approx(math.pi / 2), "blur": 0.5,
    }  # fmt: skip
    assert store.policy().gold_share == 0.1
    assert [(one.reviewer, one.queue) for one in store.entries()] == [("rosa", "doubt")]
    store.close()


def test_an_interrupted_migration_leaves_version_1(version_1, monkeypatch):
    from alembic.operations import Operations

    def power_cut(self, statement, *_, **__):
        raise RuntimeError("the power went")

    with monkeypatch.context() as broken:
        broken.setattr(Operations, "create_index", power_cut)
        with pytest.raises(RuntimeError, match="the power went"):
            Database.open(version_1)
    test_a_store_of_version_1_gets_the_names_of_version_2(version_1)


def test_opening_again_keeps_what_is_there(where):
    first = fill(Store(Database.open(where)), 3)
    vote(first, "rosa", first.ids[0])
    second = Store(Database.open(where))
    assert [one.reviewer for one in second.history()] == ["rosa"]
    first.close()
    second.close()


def test_many_may_open_a_new_database_at_once(where):
    problems, opened = [], []

    def work():
        try:
            opened.append(Database.open(where))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    [database.close() for database in opened]
    assert problems == []


@pytest.mark.parametrize("statement", ["UPDATE decisions SET verdict = 'reject'", "DELETE FROM decisions"])
def test_the_database_itself_refuses_to_change_the_log(store, statement):
    vote(store, "rosa", store.ids[0])
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), store.database.write() as connection:
        connection.execute(sa.text(statement))
    assert [one.verdict for one in store.history()] == ["accept"]


def test_a_database_of_a_newer_version_is_left_alone(where):
    database = Database.open(where)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StoreError, match="made by a newer PHQ"):
        Database.open(where)


def test_a_locked_database_is_said_and_nothing_is_half_written(tmp_path):
    store = fill(Store(Database.open(tmp_path / "r.sqlite", busy_seconds=0.2)), 3)
    other = sqlite3.connect(tmp_path / "r.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError, match="in use by another program"):
        store.record([NewDecision("D1", store.ids[0], "accept")], "rosa")
    other.execute("ROLLBACK")
    other.close()
    assert store.history() == []
    assert store.record([NewDecision("D1", store.ids[0], "accept")], "rosa").saved == ("D1",)
    store.close()


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path):
    store = fill(Store(Database.open(tmp_path / "r.sqlite")), 3)

    @sa.event.listens_for(store.database.engine, "checkout")
    def small(connection, *_):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    long = "x" * 200_000
    many = [NewDecision(f"D{i}", store.ids[i % 3], "reject", long) for i in range(20)]
    with pytest.raises(StoreFullError, match="free some space"):
        store.record(many, "rosa")
    assert store.history() == []
    with store.database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM standings")).scalar() == 0
    store.close()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreReadOnlyError, match="permissions"):
        Database.open(tmp_path / "r.sqlite")
    tmp_path.chmod(0o700)


def test_a_read_only_database_is_said(tmp_path):
    store = fill(Store(Database.open(tmp_path / "r.sqlite")), 3)

    @sa.event.listens_for(store.database.engine, "checkout")
    def closed(connection, *_):
        connection.execute("PRAGMA query_only = ON")

    with pytest.raises(StoreReadOnlyError, match="cannot be written"):
        store.record([NewDecision("D1", store.ids[0], "accept")], "rosa")
    store.close()


def test_a_file_that_is_no_database_is_said(tmp_path):
    (tmp_path / "r.sqlite").write_bytes(b"holiday pictures" * 1000)
    with pytest.raises(StoreError, match=r"r\.sqlite is damaged"):
        Database.open(tmp_path / "r.sqlite")


def test_a_server_that_does_not_answer_is_said_without_its_password():
    with pytest.raises(StoreUnreachableError) as caught:
        Database.open("postgresql://rosa:secret@127.0.0.1:1/review")
    assert "does not answer" in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://rosa@127.0.0.1/review", "oracle://x/y"])
def test_other_databases_are_refused(url):
    with pytest.raises(StoreError, match="SQLite or PostgreSQL"):
        Database.open(url)
