import json

import pytest
import sqlalchemy as sa

from phq_data import schema
from phq_data.config import ScreenConfig
from phq_data.review import decisions, evidence, integrity, items
from phq_data.review.queue import Queue, QueueRequest
from phq_data.review.records import AGE_UNSURE, CAN_BE_SAVED, DUPLICATE, KEPT, SCREENED_OUT
from phq_data.review.store import NewDecision, Store
from phq_data.review.tables import ITEMS, PARTS, REPLACED
from phq_data.workspace import Workspace

from .conftest import vote


@pytest.fixture
def made(make_workspace):
    found = make_workspace(count=8, rejected=2)
    found.store = Store.open(found.workspace)
    yield found
    found.store.close()


def index(store):
    with store.database.read() as connection:
        return {row["portrait_id"]: row for row in connection.execute(sa.select(ITEMS)).mappings()}


def rewrite(workspace, part, change):
    """Write a part of `portraits` and `screened` again with other portraits, as a new build would."""
    for name in ("portraits", "screened"):
        rows = workspace.read_part(f"tables/{name}", part).to_pylist()
        workspace.write_part(f"tables/{name}", part, schema.to_table(name, change(rows)), "another")


def test_the_index_knows_every_portrait_and_its_pool(made):
    done = items.sync(made.store, made.workspace)
    assert (done.added, done.replaced, done.total) == (8, 0, 8)
    pools = [row["pool"] for row in index(made.store).values()]
    assert sorted(pools) == sorted([KEPT] * 5 + [CAN_BE_SAVED] * 2 + [DUPLICATE])  # off their shoulders


def test_who_may_be_a_minor_waits_for_a_person_in_a_pool_of_its_own(made):
    reasons = [["maybe_minor"], ["age_unseen"], ["maybe_minor", "blurry"], ["minor"]]

    def unsure(rows):
        for row, listed in zip(rows, reasons, strict=False):
            row |= {"kept": False, "reasons": listed}
        return rows

    part = made.workspace.parts("tables/screened")[0]
    rows = unsure(made.workspace.read_part("tables/screened", part).to_pylist())
    made.workspace.write_part("tables/screened", part, schema.to_table("screened", rows), "another")
    items.sync(made.store, made.workspace)
    there = index(made.store)
    pools = [there[row["portrait_id"]]["pool"] for row in rows[:4]]
    assert pools == [AGE_UNSURE, AGE_UNSURE, SCREENED_OUT, SCREENED_OUT]
    asked = Queue(made.store).lease("ann", QueueRequest(pool=AGE_UNSURE)).portrait_ids
    assert set(asked) == {row["portrait_id"] for row in rows[:2]}


def test_a_large_workspace_is_read_bit_by_bit(made, monkeypatch):
    monkeypatch.setattr(items, "_STEP", 1)
    parts = len(made.workspace.parts("tables/portraits"))
    first = items.sync(made.store, made.workspace, go_on=lambda seconds: seconds < 0)
    assert parts > 1 and first.waiting == parts - 1 and 0 < first.total < 8
    assert {row["part"] for row in index(made.store).values()} == {
        made.workspace.parts("tables/portraits")[0]
    }
    assert items.sync(made.store, made.workspace) == items.Synced(8 - first.added, 0, 8)


def test_following_again_changes_nothing(made):
    items.sync(made.store, made.workspace)
    before = index(made.store)
    assert items.sync(made.store, made.workspace) == items.Synced(0, 0, 8)
    assert index(made.store) == before


def test_other_near_duplicates_move_portraits_without_reading_their_parts(made, monkeypatch):
    items.sync(made.store, made.workspace)
    pools = {portrait: row["pool"] for portrait, row in index(made.store).items()}
    old = next(portrait for portrait, pool in pools.items() if pool == DUPLICATE)
    new = next(portrait for portrait, pool in pools.items() if pool == KEPT)
    rows = [{"portrait_id": new, "cluster": old, "representative": False, "distance": 1},
            {"portrait_id": old, "cluster": old, "representative": True, "distance": 0}]  # fmt: skip
    made.workspace.write_part("tables/duplicates", 0, schema.to_table("duplicates", rows), "another")
    with made.store.database.write() as connection:  # as PHQ wrote it before: with a digest of the duplicates
        connection.execute(sa.update(PARTS).values(content=PARTS.c.content + "0" * 32))
    monkeypatch.setattr("phq_data.review.workspace_items.read", lambda *_: pytest.fail("a part was read"))
    assert items.sync(made.store, made.workspace) == items.Synced(0, 0, 8)
    now = {portrait: row["pool"] for portrait, row in index(made.store).items()}
    assert now == {**pools, old: KEPT, new: DUPLICATE}
    assert integrity.check(made.store) == []


def test_parts_that_changed_are_followed_bit_by_bit_after_new_ones(made, monkeypatch):
    monkeypatch.setattr(items, "_STEP", 1)
    parts = made.workspace.parts("tables/portraits")
    items.sync(made.store, made.workspace)
    fresh, moved = max(parts) + 1, index(made.store)
    for name in ("portraits", "screened", "photos"):
        made.workspace.write_part(
            f"tables/{name}", fresh, made.workspace.read_part(f"tables/{name}", parts[0]), "moved"
        )
    for part in parts:
        rewrite(made.workspace, part, lambda rows, part=part: [] if part == parts[0] else rows[::-1])
    steps = []
    items.sync(made.store, made.workspace, go_on=lambda seconds: steps.append(index(made.store)) or True)
    assert len(steps) == len(parts)
    assert {row["active"] for row in steps[0].values()} == {1}
    assert set(index(made.store)) == set(moved)


def test_recropping_invalidates_only_what_changed(made):
    items.sync(made.store, made.workspace)
    kept = [p for p, row in index(made.store).items() if row["pool"] == KEPT]
    for portrait in kept:
        vote(made.store, "rosa", portrait)
    old = next(row for row in made.portraits if row["portrait_id"] in kept)
    new_id = "f" * 32
    part = index(made.store)[old["portrait_id"]]["part"]
    rewrite(
        made.workspace, part,
        lambda rows: [
            {**row, "portrait_id": new_id} if row["portrait_id"] == old["portrait_id"] else row
            for row in rows
        ],
    )  # fmt: skip
    assert items.sync(made.store, made.workspace) == items.Synced(1, 1, 8)
    now = index(made.store)
    assert now[new_id]["state"] == "undecided" and now[new_id]["open"] == 1
    assert now[old["portrait_id"]]["active"] == 0
    assert {p: now[p]["state"] for p in kept if p != old["portrait_id"]} == {
        p: "accepted" for p in kept if p != old["portrait_id"]
    }
    with made.store.database.read() as connection:
        gone = connection.execute(sa.select(REPLACED)).mappings().one()
    assert (gone["portrait_id"], gone["by_portrait_id"], gone["decisions"]) == (old["portrait_id"], new_id, 1)
    found = evidence.describe(made.store, [new_id], "rosa", ScreenConfig())[0]
    assert found.earlier == evidence.Earlier(old["portrait_id"], ("accept",)) and found.own_verdict is None
    refused = made.store.record([NewDecision("D1", old["portrait_id"], "reject")], "rosa").refused
    assert "replaced by a newer one" in refused[0].why
    assert Queue(made.store).lease("sam", QueueRequest(100)).portrait_ids.count(new_id) == 1


def test_a_portrait_that_comes_back_has_its_decisions_again(made):
    items.sync(made.store, made.workspace)
    portrait = next(p for p, row in index(made.store).items() if row["pool"] == KEPT)
    part = index(made.store)[portrait]["part"]
    vote(made.store, "rosa", portrait)
    saved = {
        name: made.workspace.read_part(f"tables/{name}", part).to_pylist()
        for name in ("portraits", "screened")
    }
    rewrite(made.workspace, part, lambda rows: [row for row in rows if row["portrait_id"] != portrait])
    items.sync(made.store, made.workspace)
    assert index(made.store)[portrait]["active"] == 0
    for name, rows in saved.items():
        made.workspace.write_part(f"tables/{name}", part, schema.to_table(name, rows), "again")
    items.sync(made.store, made.workspace)
    row = index(made.store)[portrait]
    assert (row["active"], row["state"], row["votes"]) == (1, "accepted", 1)


def test_evidence_shows_limits_and_neighbours(made):
    items.sync(made.store, made.workspace)
    rows = sorted(index(made.store).values(), key=lambda row: (row["uri"], row["portrait_id"]))
    found = evidence.describe(made.store, [row["portrait_id"] for row in rows], "rosa", ScreenConfig())
    assert [one.portrait_id for one in found] == [row["portrait_id"] for row in rows]
    ids = [None, *(one.portrait_id for one in found), None]
    assert [(one.previous, one.next) for one in found] == list(zip(ids[:-2], ids[2:], strict=True))
    one = found[0]
    table = {row["portrait_id"]: row for row in made.portraits}
    assert one.window == pytest.approx(tuple(table[one.portrait_id]["window"]))
    by_name = {measure.name: measure for measure in one.measures}
    assert {
        "landmark_error",
        "shoulder_error",
        "blur",
        "padding",
        "error_probability",
        "shoulder_score",
    } <= set(by_name)
    assert "at most" in by_name["shoulder_error"].limit
    rejected = [each for each in found if not each.kept]
    assert len(rejected) == 2 and all(each.reasons for each in rejected)


def test_a_release_sees_the_live_decisions_and_they_become_a_part(made):
    items.sync(made.store, made.workspace)
    portrait = made.portraits[0]["portrait_id"]
    vote(made.store, "rosa", portrait, "reject", reason="shoulders")
    assert decisions.current(made.workspace)[portrait].state == "rejected"
    assert made.workspace.table("decisions")["reason"].to_pylist() == ["shoulders"]
    assert decisions.current(made.workspace)[portrait].rejects == 1
    assert decisions.synchronise(made.workspace, made.store) == 0
    assert len(made.workspace.parts("tables/decisions")) == 1


def test_damaged_decisions_are_written_anew_from_the_live_store(made, tmp_path):
    items.sync(made.store, made.workspace)
    for portrait in made.portraits[:2]:
        vote(made.store, "rosa", portrait["portrait_id"], "accept")
        decisions.synchronise(made.workspace, made.store)
    before = made.workspace.table("decisions").to_pylist()
    assert decisions.mend(made.workspace) == []
    path = tmp_path / "workspace/tables/decisions/part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[data.index(before[0]["portrait_id"].encode())] ^= 1
    path.write_bytes(data)
    with made.workspace.lock():
        assert decisions.mend(made.workspace) == [
            "1 damaged parts of the decisions were written anew: 1 decisions of the database"
        ]
    after = made.workspace.table("decisions").to_pylist()
    assert sorted(after, key=lambda row: row["decision_id"]) == before


def test_a_workspace_elsewhere_wants_a_database_url():
    workspace = Workspace.open("memory://somewhere", create=True)
    with pytest.raises(RuntimeError, match="give its URL"):
        Store.open(workspace)


def test_gold_items_have_accept_or_reject(made):
    items.sync(made.store, made.workspace)
    portrait = made.portraits[0]["portrait_id"]
    assert items.set_gold(made.store, {portrait: "reject", "0" * 32: "accept"}) == 1
    assert index(made.store)[portrait]["gold"] == "reject"
    with pytest.raises(ValueError, match="accept or reject"):
        items.set_gold(made.store, {portrait: "perhaps"})


def test_a_reviewer_sees_what_was_allowed_and_the_index_follows_what_is_stated_later(made):
    items.sync(made.store, made.workspace)
    row = next(row for row in made.photos if row["license"] is None)
    wanted = next(one["portrait_id"] for one in made.portraits if one["photo_id"] == row["photo_id"])

    def seen():
        [found] = evidence.describe(made.store, [wanted], "rosa", ScreenConfig())
        return found.provenance.rights, found.provenance.consent

    assert seen() == ("nobody has said what it may be used for", None)
    given = {"who": "Ada", "scope": ["train"], "date": "2026-11-01", "reference": "letter"}
    for part in made.workspace.parts("tables/photos"):
        info, rows = (
            made.workspace.part_info("tables/photos", part),
            made.workspace.read_part("tables/photos", part),
        )
        stated = [{**one, "permission": json.dumps(given), "consent": "yes"} for one in rows.to_pylist()]
        table = schema.to_table("photos", stated)
        extra = {"rights": schema.content_digest(table)}  # as ingest leaves it: nothing else runs again
        made.workspace.write_part("tables/photos", part, table, "another", extra, info.content)
    assert items.sync(made.store, made.workspace).added == 0
    assert seen() == ("Ada allows train", "yes")
