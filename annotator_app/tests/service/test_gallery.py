"""The gallery's filters and orders, against a plain loop over everything that is there."""

from datetime import UTC, datetime, timedelta

import pytest

from phq_data.review import reviewers

from .conftest import HEADERS, decide, queue


def ids(client, **wanted):
    """Portraits of all pages, in order."""
    found, rows, total = [], [None], 1
    while len(found) < total and rows:
        answer = client.get("/api/gallery", params={**wanted, "limit": 7, "offset": len(found)})
        assert answer.status_code == 200, answer.text
        rows, total = answer.json()["items"], answer.json()["total"]
        found += [row["portrait_id"] for row in rows]
    assert len(found) == total == len(set(found))
    return found


@pytest.fixture
def items(client):
    """Every portrait as the page knows it."""
    return {one: client.get(f"/api/items/{one}").json() for one in ids(client)}


def test_by_uncertainty_person_text_and_bin(client, items):
    some = next(iter(items.values()))
    for wanted, right in (
        ({"min_error": 0.2, "max_error": 0.6}, lambda one: 0.2 <= one["error_probability"] <= 0.6),
        ({"person": some["person_id"]}, lambda one: one["person_id"] == some["person_id"]),
        ({"yaw_bin": some["yaw_bin"]}, lambda one: one["yaw_bin"] == some["yaw_bin"]),
        ({"text": some["file"].upper()}, lambda one: some["file"] in one["file"]),
        ({"text": some["portrait_id"][:9].upper()}, lambda one: one["portrait_id"] == some["portrait_id"]),
        ({"text": "%"}, lambda one: False), ({"text": "_"}, lambda one: "_" in one["source"] + one["file"]),
        ({"person": "nobody"}, lambda one: False),
        ({"screened": "crowded"}, lambda one: False),  # a number's name in the facts, and no reason here
    ):  # fmt: skip
        assert set(ids(client, **wanted)) == {key for key, one in items.items() if right(one)}, wanted


def test_by_a_verdict_that_stands(client):
    first, second, third = (one["portrait_id"] for one in queue(client, 3))
    decide(client, first, "reject", reason="blur")
    decide(client, second, "reject", reason="shoulders")
    decide(client, third, "reject", reason="blur")
    decide(client, third, "undo")
    assert ids(client, reason="blur") == [first]
    assert set(ids(client, reviewer="ann")) == {first, second}
    assert ids(client, reviewer="nobody") == []
    today = datetime.now(UTC).date()
    before, after = today - timedelta(1), today + timedelta(1)
    assert set(ids(client, since=before, until=after)) == {first, second}
    assert set(ids(client, since="0001-01-01", until="9999-12-31")) == {first, second}
    assert ids(client, since=after) == [] == ids(client, until=before)
    assert ids(client, sort="latest")[:2] == [second, first]


def test_in_an_order(client, items):
    probability = {key: one["error_probability"] for key, one in items.items()}
    for sort, key in (
        ("error_probability", lambda one: -probability[one]), ("certain", lambda one: probability[one]),
        ("yaw", lambda one: items[one]["yaw"]), ("source", lambda one: items[one]["source"]),
    ):  # fmt: skip
        found = [key(one) for one in ids(client, sort=sort)]
        assert found == sorted(found), sort
    assert client.get("/api/gallery", params={"sort": "mood"}).status_code == 422


def test_a_reviewer_learns_nothing_of_the_verdicts_of_others(start):
    client = start(host="0.0.0.0", password="a long password")
    ada, bo = (
        {"Authorization": f"Bearer {reviewers.invite(client.app.state.store, name, 'reviewer')}"}
        for name in ("Ada", "Bo")
    )
    client.headers.update(HEADERS | ada)
    decide(client, queue(client, 1)[0]["portrait_id"], "reject", reason="blur")
    assert len(ids(client, reason="blur")) == 1
    client.headers.update(bo)
    assert ids(client, reason="blur") == [] == ids(client, since="2020-01-01")
    assert client.get("/api/gallery", params={"reviewer": "Ada"}).status_code == 403


def test_the_queue_has_the_same_filters(client, items):
    some = next(iter(items.values()))
    for wanted, right in (
        ({"min_error": 0.2, "max_error": 0.6}, lambda one: 0.2 <= one["error_probability"] <= 0.6),
        ({"person": some["person_id"]}, lambda one: one["person_id"] == some["person_id"]),
        ({"text": some["file"].upper()}, lambda one: some["file"] in one["file"]),
        ({"text": some["portrait_id"][:9]}, lambda one: one["portrait_id"] == some["portrait_id"]),
        ({"text": some["file"], "yaw_bin": (some["yaw_bin"] + 1) % 12}, lambda one: False),
        ({"screened": "blurry"}, lambda one: False), ({"reason": "blur"}, lambda one: False),
    ):  # fmt: skip
        answer = client.post("/api/queue/next", json={"count": 100, "filter": wanted}).json()
        found = {one["portrait_id"] for one in answer["items"]}
        assert found == {key for key, one in items.items() if right(one) and one["kept"]}, wanted
        assert answer["remaining"] == answer["total"] == len(found), wanted
        client.post("/api/queue/release", json={"portrait_ids": list(found)})
    bad = client.post("/api/queue/next", json={"filter": {"min_error": 2}})
    assert bad.status_code == 422


def test_a_reviewer_does_not_ask_for_the_verdicts_of_others(start):
    client = start()
    reviewers.invite(client.app.state.phq.store, "bea", "reviewer")
    token = reviewers.invite(client.app.state.phq.store, "bea", "reviewer")
    assert client.post("/api/login", json={"token": token}).status_code == 200
    answer = client.post("/api/queue/next", json={"filter": {"reviewer": "ann"}})
    assert answer.status_code == 403


def test_by_what_the_screening_held_against_it(store):
    import dataclasses

    from phq_data.review import gallery
    from phq_data.review.gallery import GalleryFilter
    from phq_data.review.records import Item
    from phq_data.review.tables import ITEMS

    with store.database.write() as connection:
        row = connection.execute(ITEMS.select().limit(1)).one()
        facts = dataclasses.replace(Item.from_row(row).facts, reasons=("blurry", "crowded"))
        change = ITEMS.update().where(ITEMS.c.portrait_id == row.portrait_id)
        connection.execute(change.values(facts=facts.to_json(), pool=1))
    for reason, right in (("blurry", 1), ("crowded", 1), ("blur", 0), ("blurr_", 0), ("uncertain", 0)):
        found, total = gallery.page(store, GalleryFilter(screened=reason))
        assert total == len(found) == right, reason
