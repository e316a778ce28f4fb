import dataclasses
import random
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from phq_data.review.consensus import ADJUDICATION, consensus, standing
from phq_data.review.database import Database, StoreError
from phq_data.review.records import Item, LogEntry, Standing
from phq_data.review.rules import Policy
from phq_data.review.store import NewDecision, Store
from phq_data.review.tables import DECISIONS, ITEMS, STANDINGS

from .conftest import fill, vote

NOW = 1_700_000_000_000


def new(number, portrait, verdict="accept", **more):
    return NewDecision(f"D{number:04d}", portrait, verdict, **more)


def item(store, portrait):
    with store.database.read() as connection:
        statement = sa.select(ITEMS).where(ITEMS.c.portrait_id == portrait)
        return connection.execute(statement).mappings().one()


def test_a_decision_sent_again_is_known_and_saved_once(store):
    one = new(1, store.ids[0])
    assert store.record([one], "rosa").saved == ("D0001",)
    again = store.record([one, one], "rosa")
    assert again.saved == () and again.known == ("D0001", "D0001")
    assert len(store.history()) == 1


def test_the_same_decision_twice_in_one_batch_is_saved_once(store):
    done = store.record([new(1, store.ids[0]), new(1, store.ids[0])], "rosa")
    assert done.saved == ("D0001",) and done.known == ("D0001",)


def test_an_id_that_means_something_else_is_refused(store):
    store.record([new(1, store.ids[0])], "rosa")
    for one, who in (
        (new(1, store.ids[1]), "rosa"),
        (new(1, store.ids[0], "reject"), "rosa"),
        (new(1, store.ids[0]), "sam"),
        (new(1, store.ids[0], note="another"), "rosa"),
        (new(1, store.ids[0], reason="blur"), "rosa"),
    ):  # fmt: skip
        done = store.record([one], who)
        assert done.saved == () and "another decision has this id" in done.refused[0].why
    assert len(store.history()) == 1


def test_what_makes_no_sense_is_refused_and_the_rest_saved(store):
    done = store.record(
        [new(1, "f" * 32), new(2, store.ids[0], "love"), new(3, store.ids[0], "undo"), new(4, store.ids[0]),
         NewDecision("a b", store.ids[0], "accept")],
        "rosa",
    )  # fmt: skip
    assert done.saved == ("D0004",)
    why = {no.decision_id: no.why for no in done.refused}
    assert "no such portrait" in why["D0001"] and "a verdict is one of" in why["D0002"]
    assert "nothing to take back" in why["D0003"] and "letters and digits" in why["a b"]


def test_a_database_that_is_removed_confirms_nothing(tmp_path):
    for name in ("review.sqlite", "review.sqlite-wal"):
        folder = tmp_path / f"without {name}"
        store = fill(Store(Database.open(folder / "review.sqlite")), 5)
        assert store.record([new(1, store.ids[0])], "rosa").saved
        (folder / name).unlink()
        for _ in range(2):
            with pytest.raises(StoreError, match="was removed or replaced"):
                store.record([new(2, store.ids[1])], "rosa")
        assert [one.decision_id for one in store.entries()] == ["D0001"]  # still readable: to be published
        store.close()


def test_undo_takes_back_one_after_another_and_only_ones_own(store):
    p = store.ids[0]
    for number, (who, verdict) in enumerate(
        [("rosa", "accept"), ("rosa", "reject"), ("sam", "accept"), ("rosa", "undo")]
    ):
        assert store.record([new(number, p, verdict)], who).saved
    assert {one.reviewer: one.verdict for one in store.standings(p)} == {
        "rosa": "accept",
        "sam": "accept",
    }
    assert store.record([new(5, p, "undo")], "rosa").saved
    assert store.record([new(6, p, "undo")], "rosa").refused
    assert [one.reviewer for one in store.standings(p)] == ["sam"]
    assert {one.decision_id for one in store.history() if one.stands} == {"D0002"}


def test_an_undone_portrait_is_open_again(store):
    p = store.ids[0]
    store.set_policy(Policy(overlap_share=0))
    vote(store, "rosa", p)
    assert (item(store, p)["open"], item(store, p)["state"]) == (0, "accepted")
    vote(store, "rosa", p, "undo")
    assert (item(store, p)["open"], item(store, p)["state"], item(store, p)["votes"]) == (1, "undecided", 0)


def test_order_of_arrival_rules_when_a_clock_jumps_back(store):
    p = store.ids[0]
    store.record([new(1, p, "accept", time=NOW + 2_000), new(2, p, "reject", time=NOW + 1_000)], "rosa")
    assert [one.verdict for one in store.standings(p)] == ["reject"]
    first, second = reversed(store.history())
    assert first.time < second.time and second.client_time == NOW + 1_000


def test_a_clock_that_runs_ahead_does_not_reach_the_log(store):
    store.record([new(1, store.ids[0], time=NOW + 3_600_000)], "rosa", now=NOW)
    row = store.history()[0]
    assert (row.time, row.client_time, row.server_time) == (NOW, NOW + 3_600_000, NOW)

    for wrong, why in ((NOW + 2 * 86_400_000, "day ahead"), (900_000_000_000, "before the year 2000")):
        done = store.record([new(2, store.ids[1], time=wrong)], "rosa", now=NOW)
        assert not done.saved and why in done.refused[0].why


@pytest.mark.parametrize("seed", range(4))
def test_what_stands_is_the_same_by_table_view_and_consensus(store, seed):
    draw = random.Random(seed)
    number = 0
    for _ in range(60):
        batch = []
        for _ in range(draw.randint(1, 5)):
            number += 1
            verdict = draw.choice(["accept", "reject", "flag", "undo", "undo"])
            batch.append(new(number, draw.choice(store.ids[:4]), verdict))
        store.record(batch, draw.choice(["rosa", "sam"]))
    log = list(store.entries())
    expected = {
        portrait: {reviewer: one.verdict for reviewer, one in of.items()}
        for portrait, of in standing(log).items()
    }
    with store.database.read() as connection:
        for table in ("standings", "standing_verdicts"):
            found = {}
            for row in connection.execute(sa.text(f"SELECT portrait_id, reviewer, verdict FROM {table}")):
                found.setdefault(row[0], {})[row[1]] = row[2]
            assert found == expected, table
    agreed = consensus(log)
    for portrait in store.ids[:4]:
        state = agreed[portrait].state if portrait in agreed else "undecided"
        assert item(store, portrait)["state"] == state


def test_rebuilding_changes_nothing(store):
    for number, portrait in enumerate(store.ids[:10]):
        vote(store, "rosa", portrait, ["accept", "reject", "flag"][number % 3])

    def everything():
        with store.database.read() as connection:
            return [sorted(map(tuple, connection.execute(sa.select(table)))) for table in (STANDINGS, ITEMS)]

    before = everything()
    store.rebuild()
    assert everything() == before


def test_a_failure_in_the_middle_leaves_nothing(store, monkeypatch):
    from phq_data.review import store as module

    def fail(*_):
        raise RuntimeError("the power went")

    monkeypatch.setattr(module, "refresh_items", fail)
    with pytest.raises(RuntimeError):
        store.record([new(1, store.ids[0]), new(2, store.ids[1])], "rosa")
    monkeypatch.undo()
    assert store.history() == [] and store.standings(store.ids[0]) == []
    assert store.record([new(1, store.ids[0])], "rosa").saved == ("D0001",)


def test_an_adjudication_of_a_lead_settles_a_dispute_and_of_nobody_else(store):
    p = store.ids[0]
    vote(store, "rosa", p)
    vote(store, "sam", p, "reject")
    assert item(store, p)["state"] == "disputed"
    refused = store.record([new(7, p, "reject", client=ADJUDICATION)], "kim", lead=False)
    assert "only a lead" in refused.refused[0].why
    store.record([new(8, p, "reject", client=f"{ADJUDICATION} page")], "lea")
    assert item(store, p)["state"] == "rejected"
    vote(store, "tom", p, "flag")
    assert item(store, p)["state"] == "rejected"
    assert consensus(store.entries())[p].state == "rejected"


def test_names_reasons_and_notes_are_stored_as_they_are(store):
    nasty = "'); DROP TABLE decisions; -- <script>alert(1)</script> \" \\ %s ? :name 🙂"
    store.record([new(1, store.ids[0], "reject", reason=nasty, note=nasty, client=nasty[:100])], nasty)
    row = store.history(reviewer=nasty)[0]
    assert (row.reason, row.note, row.reviewer) == (nasty, nasty, nasty)


@pytest.mark.parametrize("text", ["a\0b", "half \ud800 a letter"])
def test_texts_that_a_database_cannot_hold_are_refused_alone(store, text):
    done = store.record([new(1, store.ids[0], reason=text), new(2, store.ids[1])], "rosa")
    assert done.saved == ("D0002",) and "no database takes" in done.refused[0].why


def test_history_goes_back_page_by_page(store):
    for portrait in store.ids[:7]:
        vote(store, "rosa", portrait)
    vote(store, "sam", store.ids[8])
    first = store.history(3, reviewer="rosa")
    second = store.history(10, before=first[-1].seq, reviewer="rosa")
    assert [one.portrait_id for one in first + second] == store.ids[6::-1]


def test_merging_keeps_times_and_reviewers_and_adds_nothing_twice(store):
    rows = [
        LogEntry(
            f"M{i}", store.ids[i], "accept", "", None, "far away", 1000 + i, 1000 + i, 2000, 1.0, "r", "c", ""
        )
        for i in range(5)
    ]
    assert store.merge(rows) == 5 and store.merge(rows) == 0
    assert item(store, store.ids[2])["state"] == "accepted"
    assert [one.time for one in store.history(1)] == [1004]


def test_a_stricter_rule_is_applied_to_what_was_decided(store):
    p = store.ids[0]
    vote(store, "rosa", p)
    store.set_policy(Policy(min_votes=2, overlap_share=0))
    assert (item(store, p)["state"], item(store, p)["open"]) == ("undecided", 1)
    vote(store, "sam", p)
    assert (item(store, p)["state"], item(store, p)["open"]) == ("accepted", 0)
    assert store.policy() == Policy(min_votes=2, overlap_share=0)


@pytest.mark.parametrize("wrong", [{"overlap_share": 1.5}, {"min_share": 0.2}, {"lease_seconds": 1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Policy(**wrong)


def test_times_in_the_workspace_are_those_of_the_log(store):
    store.record([new(1, store.ids[0], time=1_700_000_000_123)], "rosa")
    entry = next(store.entries())
    assert entry.to_decision().time == datetime.fromtimestamp(1_700_000_000.123, UTC)


def test_records_have_the_columns_of_their_tables():
    def names(kind):
        return {field.name for field in dataclasses.fields(kind)}

    assert names(LogEntry) | {"digest"} == set(DECISIONS.columns.keys())
    assert names(Standing) == set(STANDINGS.columns.keys())
    review_columns = {"required", "votes", "open", "state", "gold", "digest"}
    assert names(Item) | review_columns == set(ITEMS.columns.keys())
