"""The contract of the review page."""

import sqlite3
import time

from phq_data.review.records import POOLS
from phq_data.review.rules import Policy
from phq_data.workspace import Workspace

from .conftest import HEADERS, decide, decision, queue


def test_who_i_am_and_what_i_need_to_know(client):
    me = client.get("/api/me").json()
    assert (me["name"], me["role"], me["login"]) == ("ann", "lead", False)
    known = client.get("/api/settings").json()
    assert known["portraits"] == 40 and len(known["yaw_bins"]) == 12
    assert [reason["name"] for reason in known["reasons"]][:2] == ["shoulders", "blur"]


def test_an_item_has_what_the_page_shows(client):
    item = queue(client, 1)[0]
    assert {measure["name"] for measure in item["measures"]} >= {
        "shoulder_error",
        "blur",
        "error_probability",
    }
    assert len(item["window"]) == 3 and item["photo_width"] > 0 and item["own_verdict"] is None
    assert client.get(f"/api/items/{item['portrait_id']}").json() == item
    for address in item["images"].values():
        answer = client.get(address)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("image/")
        assert "immutable" in answer.headers["cache-control"]
        again = client.get(address, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304 and not again.content


def test_decisions_are_saved_in_order_once_and_shown_as_mine(client):
    portrait = queue(client, 1)[0]["portrait_id"]
    batch = [decision(portrait), decision(portrait, "undo"), decision(portrait, "reject", reason="blur")]
    first = client.post("/api/decisions", json={"decisions": batch}).json()
    assert first["saved"] == [one["decision_id"] for one in batch] and first["refused"] == []
    again = client.post("/api/decisions", json={"decisions": batch}).json()
    assert again["saved"] == [] and again["known"] == first["saved"]
    assert client.get(f"/api/items/{portrait}").json()["own_verdict"] == "reject"
    log = client.get("/api/history").json()["decisions"]
    assert [(row["verdict"], row["stands"]) for row in log] == [
        ("reject", True),
        ("undo", False),
        ("accept", False),
    ]


def test_what_cannot_be_saved_is_told_one_by_one(client):
    good = decision(queue(client, 1)[0]["portrait_id"])
    bad = decision("f" * 32)
    answer = client.post("/api/decisions", json={"decisions": [bad, good]}).json()
    assert answer["saved"] == [good["decision_id"]]
    assert (
        answer["refused"][0]["decision_id"] == bad["decision_id"]
        and "portrait" in answer["refused"][0]["why"]
    )


def test_the_queue_goes_on_without_what_the_page_has(client):
    first = [item["portrait_id"] for item in queue(client, 10)]
    second = [item["portrait_id"] for item in queue(client, 10, exclude=first)]
    assert len(set(first) | set(second)) == 20
    given = client.post("/api/queue/release", json={"portrait_ids": first}).json()
    assert given == {"count": 10}


def test_the_whole_queue_can_be_decided(client, store):
    store.set_policy(Policy(overlap_share=0, gold_share=0))
    seen = []
    while items := queue(client, 7):
        batch = [decision(item["portrait_id"]) for item in items]
        assert len(client.post("/api/decisions", json={"decisions": batch}).json()["saved"]) == len(items)
        seen += [item["portrait_id"] for item in items]
    assert len(seen) == len(set(seen)) == 40
    assert client.get("/api/stats").json()["total"]["accepted"] == 40


def test_decisions_reach_the_workspace_when_the_service_ends(folder, start):
    client = start(publish_seconds=1000)
    one = decide(client, queue(client, 1)[0]["portrait_id"])
    client.__exit__(None, None, None)
    assert Workspace.open(folder).table("decisions")["decision_id"].to_pylist() == [one["decision_id"]]
    client.__enter__ = client.__exit__ = lambda *_: None


def test_the_dashboard_and_the_gallery(client):
    items = queue(client, 6)
    for number, item in enumerate(items):
        verdict = "reject" if number % 2 else "accept"
        decide(client, item["portrait_id"], verdict, reason="shoulders" if number % 2 else "")
    stats = client.get("/api/stats").json()
    assert stats["reasons"] == {"shoulders": 3} and stats["total"]["total"] == 40
    assert stats["reviewers"][0]["reviewer"] == "ann" and stats["reviewers"][0]["decisions"] == 6
    assert sum(one["total"] for one in stats["yaw_bins"]) == 40
    rejected = client.get("/api/gallery?state=rejected").json()
    assert {tile["portrait_id"] for tile in rejected["items"]} <= {item["portrait_id"] for item in items}
    pages = [client.get(f"/api/gallery?limit=15&offset={at}").json() for at in (0, 15, 30)]
    assert pages[0]["total"] == 40
    assert len({tile["portrait_id"] for page in pages for tile in page["items"]}) == 40


def test_the_queue_tells_how_many_it_has_and_how_many_are_left(client):
    answer = client.post("/api/queue/next", json={"count": 3, "filter": {"pool": "kept"}}).json()
    assert answer["total"] == answer["remaining"] > 3
    for item in answer["items"]:
        decide(client, item["portrait_id"])
    held = [item["portrait_id"] for item in queue(client, 2)]
    given = [*held, answer["items"][0]["portrait_id"]]  # held, and decided: a page does not know what arrived
    assert client.post("/api/queue/next", json={"count": 1, "exclude": given}).json()["excluded"] == 2
    later = client.post("/api/queue/next", json={"count": 3}).json()
    assert (later["total"], later["remaining"]) == (answer["total"], answer["remaining"] - 3)
    rest = [
        client.post("/api/queue/next", json={"count": 1, "filter": {"pool": pool}}).json()["total"]
        for pool in POOLS
    ]
    assert sum(rest) == 40


def test_gold_items_are_told_only_where_the_lead_says_so(client):
    first, second, third = (item["portrait_id"] for item in queue(client, 3))
    client.post("/api/gold", json={"verdicts": {first: "accept", second: "accept", third: "reject"}})
    one = decision(first, "accept")
    assert client.post("/api/decisions", json={"decisions": [one]}).json()["gold"] == []
    assert client.post("/api/policy", json={"gold_feedback": True}).json()["gold_feedback"] is True
    given = [decision(second, "reject"), decision(third, "reject")]
    told = client.post("/api/decisions", json={"decisions": given}).json()["gold"]
    assert [(one["portrait_id"], one["known"], one["right"]) for one in told] == [
        (second, "accept", False),
        (third, "reject", True),
    ]
    assert client.post("/api/decisions", json={"decisions": given}).json()["gold"] == []  # sent again


def test_a_dispute_is_listed_and_adjudicated(client):
    portrait = queue(client, 1)[0]["portrait_id"]
    decide(client, portrait, "flag", note="whose shoulder is this?")
    found = client.get("/api/adjudication").json()
    assert found["total"] == 1 and found["items"][0]["votes"][0]["note"] == "whose shoulder is this?"
    decide(client, portrait, "accept", client="adjudication")
    assert client.get("/api/adjudication").json()["total"] == 0
    assert client.get("/api/gallery?state=accepted").json()["total"] == 1
    pools = {pool: client.get(f"/api/gallery?pool={pool}&limit=200").json() for pool in POOLS}
    everything = client.get("/api/gallery").json()["total"]
    assert sum(page["total"] for page in pools.values()) == everything
    assert all(tile["pool"] == pool for pool, page in pools.items() for tile in page["items"])


def test_settings_of_the_team_can_be_changed(client):
    changed = client.post("/api/policy", json={"overlap_share": 0.5, "min_votes": 2}).json()
    assert (changed["overlap_share"], changed["min_votes"]) == (0.5, 2)
    assert client.get("/api/settings").json()["policy"] == changed
    refused = client.post("/api/policy", json={"overlap_share": 7})
    assert refused.status_code == 422 and "0..1" in refused.json()["detail"]


def test_triage_proposes_and_every_portrait_of_a_batch_is_an_ordinary_decision(start, tmp_path):
    from fastapi.testclient import TestClient

    from annotator_app.service import ServiceSettings, create_app
    from benchmarks.review_fixtures import make_workspace

    make_workspace(tmp_path / "many", 400, images=3, size=64, photos=False)
    app = create_app(ServiceSettings(str(tmp_path / "many"), reviewer="ann"))
    with TestClient(app, base_url="http://127.0.0.1", headers=HEADERS) as client:
        assert client.get("/api/triage").json()["ready"] is False
        app.state.store.set_policy(Policy(overlap_share=0, gold_share=0))
        items = [item for _ in range(3) for item in queue(client, 100, order="random", exclude=[])]
        seen = {item["portrait_id"]: item for item in items}
        while len(seen) < 250:
            seen |= {
                item["portrait_id"]: item for item in queue(client, 50, order="random", exclude=list(seen))
            }
        batch = [
            decision(portrait, "accept" if item["error_probability"] < 0.35 else "reject")
            for portrait, item in list(seen.items())[:250]
        ]
        client.post("/api/decisions", json={"decisions": batch})
        found = client.get("/api/triage?side=accept&count=20").json()
        assert found["ready"] and found["decisions"] == 250 and found["batch"]
        side = found["sides"][0]
        assert side["precision"] > 0.9 and found["weights"][0]["name"] in (
            "error_probability",
            "shoulder_error",
            "landmark_error",
        )
        tiles = found["batch"]
        assert all(tile["probability"] >= side["threshold"] for tile in tiles)
        taken = [decision(tile["portrait_id"]) for tile in tiles]
        sent = {
            "verdict": "accept", "time": taken[0]["time"], "seconds": 4.0,
            "decisions": [{k: one[k] for k in ("decision_id", "portrait_id")} for one in taken],
        }  # fmt: skip
        assert len(client.post("/api/triage/accept", json=sent).json()["saved"]) == len(tiles)
        assert client.get("/api/history?limit=1").json()["decisions"][0]["client"] == "triage"
        one = tiles[0]["portrait_id"]
        decide(client, one, "undo")
        assert client.get(f"/api/items/{one}").json()["own_verdict"] is None


def test_new_portraits_of_a_build_are_found(folder, start):
    from benchmarks.review_fixtures import make_workspace

    client = start(sync_seconds=0.0)
    assert client.get("/api/settings").json()["portraits"] == 40
    make_workspace(folder, 60, images=3, size=96)
    deadline = time.monotonic() + 90
    while client.get("/api/settings").json()["portraits"] < 60:
        assert time.monotonic() < deadline
        queue(client, 1)
        time.sleep(0.1)


def test_a_locked_database_is_a_clear_message_and_nothing_is_half_saved(folder, start, monkeypatch):
    monkeypatch.setattr("phq_data.review.database.BUSY_SECONDS", 0.2)
    client = start()
    portrait = queue(client, 1)[0]["portrait_id"]
    client.app.state.store.database.engine.dispose()
    monkeypatch.setattr("phq_data.review.database._set_durable", _impatient)
    other = sqlite3.connect(folder / "review" / "review.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    one = decision(portrait)
    answer = client.post("/api/decisions", json={"decisions": [one]})
    assert answer.status_code == 503 and "in use by another program" in answer.json()["detail"]
    assert client.get("/api/history").json()["decisions"] == []
    other.execute("ROLLBACK")
    other.close()
    assert client.post("/api/decisions", json={"decisions": [one]}).json()["saved"] == [one["decision_id"]]


def test_a_full_disk_is_a_clear_message(client, store):
    import sqlalchemy as sa

    portrait = queue(client, 1)[0]["portrait_id"]

    @sa.event.listens_for(store.database.engine, "checkout")
    def small(connection, *_):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    batch = [decision(portrait, note="x" * 4000) for _ in range(200)]
    answer = client.post("/api/decisions", json={"decisions": batch})
    assert answer.status_code == 507 and "free some space" in answer.json()["detail"]
    assert client.get("/api/history").json()["decisions"] == []


def _impatient(connection, durable):
    connection.connection.dbapi_connection.execute("PRAGMA busy_timeout = 100")


def test_the_api_describes_itself(client):
    described = client.get("/api/openapi.json").json()
    assert {"/api/decisions", "/api/queue/next", "/img/{portrait_id}/{kind}"} <= set(described["paths"])
    page = client.get("/api/docs")
    assert page.status_code == 200 and "POST" in page.text and "http" not in page.text.replace("HTTP", "")


def test_decisions_are_published_while_the_service_runs(folder, start):
    client = start(publish_seconds=0.05)
    wanted = [decide(client, queue(client, 1)[0]["portrait_id"])["decision_id"] for _ in range(3)]
    deadline = time.monotonic() + 90
    while Workspace.open(folder).table("decisions")["decision_id"].to_pylist() != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    held = client.app.state.phq
    assert held.publish() == held.publish(all_of_them=True) == 0


def test_a_deleted_database_is_told_and_its_decisions_come_back_at_the_next_start(start, folder):
    client = start()
    kept = [decide(client, one["portrait_id"]) for one in queue(client, 3)]
    client.app.state.phq.publish()
    (folder / "review" / "review.sqlite").unlink()
    late = decision(queue_ids(folder)[-1])
    answer = client.post("/api/decisions", json={"decisions": [late]})
    assert answer.status_code == 503 and "was removed or replaced" in answer.json()["detail"]
    client.app.state.store.close()
    for file in (folder / "review").glob("review.sqlite*"):
        file.unlink()
    again = start()
    rows = again.get("/api/history").json()["decisions"]
    assert {row["decision_id"] for row in rows} == {one["decision_id"] for one in kept}
    assert again.post("/api/decisions", json={"decisions": [late]}).json()["saved"] == [late["decision_id"]]


def queue_ids(folder):
    return Workspace.open(folder).table("portraits", ["portrait_id"])["portrait_id"].to_pylist()


def test_a_time_that_no_clock_says_and_half_an_address_are_refused(client):
    portrait = queue(client, 1)[0]["portrait_id"]
    one = decision(portrait, time="9999-12-31T23:59:59-23:59")
    answer = client.post("/api/decisions", json={"decisions": [one]})
    assert answer.status_code == 200 and "a day ahead" in answer.json()["refused"][0]["why"]
    assert client.get("/api/health", headers={"host": "[::1"}).status_code == 421
    assert client.get("/api/history?before=99999999999999999999").status_code == 422


# ---- several clients of one reviewer ---------------------------------------------------------------------


def send(client, *decisions):
    return client.post("/api/decisions", json={"decisions": list(decisions)}).json()


def test_a_decision_over_another_than_stands_is_refused(client):
    portrait = queue(client, 1)[0]["portrait_id"]
    first = decision(portrait, "accept", over="")
    assert send(client, first)["saved"] == [first["decision_id"]]
    # Another page, which knows nothing of it yet.
    late = [decision(portrait, "reject", over=""), decision(portrait, "undo", over="01" + "A" * 24)]
    for one in late:
        (refused,) = send(client, one)["refused"]
        assert refused["elsewhere"] and "you decided it elsewhere meanwhile" in refused["why"]
    assert client.get(f"/api/items/{portrait}").json()["own_verdict"] == "accept"
    # Whoever knows it replaces it, takes that back, and takes back the first: each over what stands then.
    second = decision(portrait, "reject", over=first["decision_id"])
    back = decision(portrait, "undo", over=second["decision_id"])
    again = decision(portrait, "undo", over=first["decision_id"])
    batch = [second, back, again, decision(portrait, "flag", over="")]
    assert len(send(client, *batch)["saved"]) == 4
    assert len(send(client, *batch)["known"]) == 4


def test_the_history_after_a_row_is_what_came_since(client):
    portraits = [item["portrait_id"] for item in queue(client, 3)]
    for portrait in portraits:
        decide(client, portrait)
    rows = client.get("/api/history").json()["decisions"]
    since = client.get(f"/api/history?after={rows[-1]['seq']}").json()["decisions"]
    assert since == rows[:-1] and len(since) == 2
    assert client.get(f"/api/history?after={rows[0]['seq']}").json()["decisions"] == []
