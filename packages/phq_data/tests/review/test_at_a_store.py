"""The review of a workspace at an object store: its database elsewhere, its images by this machine."""

from pathlib import Path

import pytest
from s3_server import Fault
from workspace_fixtures import small_workspace

from phq_data.errors import ObjectStoreError
from phq_data.records import Decision
from phq_data.review import decisions, items
from phq_data.review.database import StoreError
from phq_data.review.images import KINDS, PortraitImages
from phq_data.review.local_copies import LocalCopies
from phq_data.review.store import NewDecision, Store


@pytest.fixture
def made(s3):
    return small_workspace(f"{s3.url}/ws", count=3, rejected=1)


def test_a_database_of_its_own_is_asked_for(made, monkeypatch):
    monkeypatch.delenv("PHQ_REVIEW_DATABASE", raising=False)
    with pytest.raises(StoreError, match="is no local folder, so its decisions need a database"):
        Store.open(made.workspace)


def test_portraits_are_shown_decided_and_written_to_the_store(made, s3, pg_url):
    store = Store.open(made.workspace, pg_url)
    items.sync(store, made.workspace)
    images = PortraitImages(made.workspace, store)
    shown = made.portraits[0]["portrait_id"]
    first = {kind: images.get(shown, kind).data for kind in KINDS}
    assert first["crop"] == made.portraits[0]["image"]["bytes"]
    s3.service.requests.clear()
    images._rows._values.clear()
    images._made._values.clear()
    assert {kind: images.get(shown, kind).data for kind in KINDS} == first
    assert not [one for one in s3.service.requests if one.method == "GET" and "/tables/" in one.path]
    assert not s3.keys("ws/review/cache")
    waiting = [row["portrait_id"] for row in made.portraits]
    store.record([NewDecision(decisions.ulid(), one, "accept") for one in waiting], "ann")
    decisions.synchronise(made.workspace, store, 0)
    assert {one.portrait_id for one in made.workspace.records(Decision)} == set(waiting)
    images.close()
    store.close()


def test_of_the_copies_those_not_asked_for_the_longest_are_dropped():
    copies = LocalCopies(most_bytes=25)
    for name in "ab":
        copies.put(name, name.encode() * 10)
    assert copies.opened("a").read() == b"a" * 10
    copies.put("c", b"c" * 10)
    assert copies.opened("b") is None and copies.opened("a") and copies.opened("c")
    copies.put("d", b"d" * 26)
    assert copies.opened("d") is None
    copies.close()


def test_a_copy_that_is_read_is_not_changed_and_one_that_was_cleared_away_is_forgotten():
    copies = LocalCopies()
    copies.put("a", b"former" * 1000)
    reader = copies.opened("a")
    copies.put("a", b"new")
    assert reader.read() == b"former" * 1000 and copies.opened("a").read() == b"new"
    for path in Path(copies._folder.name).iterdir():
        path.unlink()
    assert copies.opened("a") is None
    copies.put("a", b"again")
    assert copies.opened("a").read() == b"again"
    copies.close()


def test_a_store_that_does_not_answer_is_said_and_nothing_is_taken_for_damaged(made, s3):
    s3.service.fault = lambda request: Fault(status=403)
    with pytest.raises(ObjectStoreError, match="no rights"):
        made.workspace.part_info("tables/portraits", 0)
    with pytest.raises(ObjectStoreError, match="no rights"):
        made.workspace.damaged("tables/portraits", 0)
