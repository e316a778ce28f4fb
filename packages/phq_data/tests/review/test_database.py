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
from phq_data.review.store import NewDecision, Store
from phq_data.review.tables import METADATA

from .conftest import fill, vote


def test_migrations_make_the_tables_that_the_code_uses(empty_store):
    with empty_store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


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
