"""A service answers before all of a large store is checked, and what the check finds still counts."""

import sqlite3
import threading
import time

import pytest

from annotator_app.service import first_look
from phq_data.review import integrity, items
from phq_data.review.store import Store
from phq_data.workspace import Workspace

from .conftest import decide


@pytest.fixture
def gate(monkeypatch):
    """The check of the store waits for this event, as that of a million portraits would for minutes."""
    opened, check = threading.Event(), integrity.ensure

    def slow(*given, **named):
        opened.wait(60)
        check(*given, **named)

    monkeypatch.setattr(integrity, "ensure", slow)
    monkeypatch.setattr(first_look, "SECONDS", 0.2)
    yield opened
    opened.set()


@pytest.fixture
def decided(folder):
    """The workspace with an index and two decisions; its database file."""
    workspace = Workspace.open(folder)
    store = Store.open(workspace)
    items.sync(store, workspace)
    store.close()
    return folder / "review" / "review.sqlite"


def change(database, statement):
    """Behind the back of the store; the log's own lock is off meanwhile."""
    connection = sqlite3.connect(database)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    for _, text in triggers:
        connection.execute(text)
    connection.commit()
    connection.close()


def asked(client):
    """The answer to a request for portraits."""
    return client.post("/api/queue/next", json={"count": 100})


def until(holds, seconds=30):
    """Whether it holds within so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def test_damage_that_is_found_later_ends_the_use_of_the_store(start, decided, gate):
    gate.set()
    client = start()
    portrait = asked(client).json()["items"][0]["portrait_id"]
    decide(client, portrait)
    client.app.state.phq.stop()
    change(decided, "UPDATE decisions SET verdict = 'reject'")
    gate.clear()
    client = start()
    assert asked(client).status_code == 200
    gate.set()
    assert until(lambda: asked(client).status_code == 503)
    assert "1 decisions are not what was saved" in asked(client).json()["detail"]
    assert client.get("/api/health").status_code == 200


def test_a_damaged_portrait_is_not_shown_until_it_is_made_anew(start, decided, gate):
    change(decided, "UPDATE items SET error_probability = 0.999 WHERE portrait_id = "
                    "(SELECT min(portrait_id) FROM items WHERE pool = 0)")  # fmt: skip
    client = start()

    def shown():
        return {one["portrait_id"]: one["error_probability"] for one in asked(client).json()["items"]}

    before = shown()
    assert before and 0.999 not in before.values()
    gate.set()
    assert until(lambda: len(shown()) == len(before) + 1)
    assert 0.999 not in shown().values()


def test_a_small_store_is_checked_before_anybody_is_answered(start, decided):
    change(decided, "UPDATE items SET votes = 3")
    client = start()
    found = client.app.state.store
    assert integrity.check(found) == []


def test_damaged_tables_are_told_at_the_start(start, folder):
    for part in (folder / "tables" / "portraits").glob("*.parquet"):
        part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(Exception, match="run `phq build` again"):
        start()
