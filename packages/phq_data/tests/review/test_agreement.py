import pytest
import sqlalchemy as sa

from phq_data.review import agreement, items
from phq_data.review.agreement import agreement_of, cohen_kappa, fleiss_kappa
from phq_data.review.tables import ITEMS

from .conftest import vote


def test_cohens_kappa_of_a_worked_example():
    # 50 grants: both yes 20, both no 15, only the first 5, only the second 10: 0.7 observed, 0.5 expected.
    first = ["y"] * 20 + ["y"] * 5 + ["n"] * 10 + ["n"] * 15
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_cohens_kappa_at_its_ends():
    assert cohen_kappa(["a", "r"] * 5, ["a", "r"] * 5) == pytest.approx(1)
    assert cohen_kappa(["a", "r"] * 5, ["r", "a"] * 5) == pytest.approx(-1)
    assert cohen_kappa(["a"] * 5, ["a"] * 5) is None and cohen_kappa([], []) is None
    with pytest.raises(ValueError, match="must be the same"):
        cohen_kappa(["a"], [])


def test_fleiss_kappa_of_a_worked_example():
    # 14 raters, 10 subjects, 5 categories: 0.210 (observed 0.378, expected 0.213).
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    kappa, agreed = fleiss_kappa(table)
    assert kappa == pytest.approx(0.210, abs=5e-4) and agreed == pytest.approx(0.378, abs=5e-4)


def test_fleiss_kappa_leaves_out_what_one_person_judged():
    assert fleiss_kappa([[2, 0], [0, 2], [1, 0]]) == fleiss_kappa([[2, 0], [0, 2]])
    assert fleiss_kappa([]) == (None, None) and fleiss_kappa([[1, 0]]) == (None, None)


def test_pairs_are_compared_on_what_both_judged():
    found = agreement_of(
        {
            "p": {"rosa": "accept", "sam": "accept", "kim": "reject"},
            "q": {"rosa": "reject", "sam": "reject"},
            "r": {"rosa": "accept"},
        }
    )
    pairs = {(pair.first, pair.second): (pair.portraits, pair.agreed) for pair in found.pairs}
    assert pairs == {("rosa", "sam"): (2, 1.0), ("kim", "rosa"): (1, 0.0), ("kim", "sam"): (1, 0.0)}
    assert found.portraits == 2


def test_the_store_counts_own_judgements_only(store):
    p, q = store.ids[:2]
    vote(store, "rosa", p)
    vote(store, "sam", p, "reject")
    vote(store, "lea", p, "accept", client="adjudication page")
    vote(store, "rosa", q)
    vote(store, "sam", q, client="triage")
    found = agreement.agreement(store)
    assert found.portraits == 1 and [(x.first, x.second) for x in found.pairs] == [("rosa", "sam")]


def test_gold_items_tell_false_accepts_from_false_rejects(store):
    items.set_gold(store, {store.ids[0]: "accept", store.ids[1]: "reject", store.ids[2]: "reject"})
    for p, verdict in zip(store.ids[:3], ("reject", "accept", "reject"), strict=True):
        vote(store, "rosa", p, verdict)
    vote(store, "rosa", store.ids[5])
    assert agreement.gold_scores(store) == [agreement.GoldScore("rosa", 3, 1, 1, 1)]


def test_throughput_counts_and_times(store):
    for number, p in enumerate(store.ids[:5]):
        vote(store, "rosa", p, ["accept", "reject"][number % 2], seconds=float(number + 1))
    vote(store, "rosa", store.ids[0], "undo", seconds=99.0)
    vote(store, "rosa", store.ids[9], client="triage", seconds=0.01)
    (found,) = agreement.throughput(store)
    assert (found.decisions, found.undone, found.accepts, found.rejects) == (6, 1, 3, 2)
    assert found.median_seconds == 3.0 and found.per_minute == 20.0


def test_reasons_of_rejects_that_were_taken_back_do_not_count(store):
    vote(store, "rosa", store.ids[0], "reject", reason="blur")
    vote(store, "rosa", store.ids[1], "reject", reason="shoulders")
    vote(store, "sam", store.ids[2], "reject", reason="shoulders")
    vote(store, "rosa", store.ids[0], "undo")
    assert agreement.reject_reasons(store) == {"shoulders": 2}


def test_progress_by_yaw_bin_and_source(store):
    vote(store, "rosa", store.ids[0])
    vote(store, "rosa", store.ids[12], "reject")
    bins = agreement.progress(store)
    assert (bins[0].total, bins[0].accepted, bins[0].rejected, bins[0].undecided) == (4, 1, 1, 2)
    sources = agreement.progress(store, "source")
    assert sum(one.total for one in sources.values()) == 40


def test_days_are_counted_in_utc(store):
    vote(store, "rosa", store.ids[0], time=86_400_000 * 20_000 - 1)
    vote(store, "rosa", store.ids[1], time=86_400_000 * 20_000)
    assert agreement.days(store, 0) == {"2024-10-03": 1, "2024-10-04": 1}


def test_verdicts_on_replaced_portraits_are_counted_apart(store):
    for portrait in store.ids[:3]:
        vote(store, "rosa", portrait)
    assert agreement.on_replaced(store) == 0
    with store.database.write() as connection:
        connection.execute(sa.update(ITEMS).where(ITEMS.c.portrait_id == store.ids[0]).values(active=0))
    assert agreement.on_replaced(store) == 1
