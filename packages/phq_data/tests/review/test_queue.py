import statistics
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

from phq_data.review import items, queue
from phq_data.review.queue import Queue, QueueRequest
from phq_data.review.records import SCREENED_OUT
from phq_data.review.rules import Policy

from .conftest import fill, item, vote

ALONE = Policy(overlap_share=0, gold_share=0)


@pytest.fixture
def waiting(store):
    store.set_policy(ALONE)
    return Queue(store)


def by_id(store):
    return {one.portrait_id: one for one in (item(i, i // 10) for i in range(40))}


def test_the_highest_error_probabilities_come_first(store, waiting):
    known = by_id(store)
    found = [known[p].error_probability for p in waiting.lease("rosa", QueueRequest(40)).portrait_ids]
    assert len(found) == 40 and found == sorted(found, reverse=True)


def test_order_by_source_and_by_yaw_keeps_groups_together(store, waiting):
    known = by_id(store)
    orders: tuple[tuple[Any, str, int], ...] = (("source", "source", 3), ("yaw", "yaw_bin", 12))
    for order, column, groups in orders:
        found = [
            getattr(known[p], column) for p in waiting.lease("rosa", QueueRequest(40, order)).portrait_ids
        ]
        changes = sum(a != b for a, b in pairwise(found))
        assert len(found) == 40 and changes == groups - 1


def test_random_order_is_the_same_for_a_seed_and_different_for_another(store, waiting):
    def ask(seed):
        return waiting.lease("rosa", QueueRequest(40, "random", seed=seed)).portrait_ids

    assert ask("a") == ask("a") != ask("b")
    assert sorted(ask("a")) == sorted(store.ids)


def test_filters(store, waiting):
    known = by_id(store)
    found = waiting.lease("rosa", QueueRequest(40, source="folder: 1"))
    assert {known[p].source for p in found.portrait_ids} == {"folder: 1"} and found.remaining == 13
    found = waiting.lease("rosa", QueueRequest(40, "random", yaw_bin=5))
    assert {known[p].yaw_bin for p in found.portrait_ids} == {5} and found.remaining == 3


def test_two_reviewers_never_get_the_same_portrait(store, waiting):
    first = waiting.lease("rosa", QueueRequest(15)).portrait_ids
    second = waiting.lease("sam", QueueRequest(40)).portrait_ids
    assert len(first) == 15 and sorted(first + second) == sorted(store.ids)


def test_twenty_reviewers_at_once_never_share_a_portrait(where):
    from phq_data.review.database import Database
    from phq_data.review.store import Store

    store = fill(Store(Database.open(where)), 200)
    store.set_policy(ALONE)
    taken, problems = [], []

    def work(name):
        try:
            mine = Queue(store)
            for _ in range(3):
                got = mine.lease(name, QueueRequest(3, exclude=tuple(p for n, p in taken if n == name)))
                taken.extend((name, p) for p in got.portrait_ids)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(f"r{i}",)) for i in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    store.close()
    assert problems == []
    assert len(taken) == 180 and len({p for _, p in taken}) == 180


def test_leased_portraits_come_again_to_their_reviewer_unless_he_has_them(store, waiting):
    first = waiting.lease("rosa", QueueRequest(5)).portrait_ids
    assert waiting.lease("rosa", QueueRequest(5)).portrait_ids == first
    assert not set(waiting.lease("rosa", QueueRequest(5, exclude=first)).portrait_ids) & set(first)


def test_a_lease_ends_by_itself(store, waiting):
    first = waiting.lease("rosa", QueueRequest(5), now=1_000_000)
    assert first.expires == 1_000_000 + 900_000
    before = waiting.lease("sam", QueueRequest(5), now=1_800_000).portrait_ids
    assert not set(before) & set(first.portrait_ids)
    assert waiting.lease("kim", QueueRequest(5), now=1_900_001).portrait_ids == first.portrait_ids


def test_asking_for_more_renews_what_is_still_held(store, waiting):
    first = waiting.lease("rosa", QueueRequest(5), now=1_000_000).portrait_ids
    waiting.lease("rosa", QueueRequest(5, exclude=first), now=1_800_000)
    assert not set(waiting.lease("sam", QueueRequest(5), now=1_950_000).portrait_ids) & set(first)


def test_given_back_portraits_are_free_for_others(store, waiting):
    first = waiting.lease("rosa", QueueRequest(5)).portrait_ids
    assert waiting.release("sam", first) == 0
    assert waiting.release("rosa", first) == 5
    assert waiting.lease("sam", QueueRequest(5)).portrait_ids == first


def test_decided_portraits_do_not_come_again_and_undone_ones_do(store, waiting):
    p = waiting.lease("rosa", QueueRequest(1)).portrait_ids[0]
    vote(store, "rosa", p)
    assert p not in waiting.lease("rosa", QueueRequest(40)).portrait_ids
    waiting.release("rosa", store.ids)
    assert p not in waiting.lease("sam", QueueRequest(40)).portrait_ids
    waiting.release("sam", store.ids)
    vote(store, "rosa", p, "undo")
    assert waiting.lease("sam", QueueRequest(1)).portrait_ids == (p,)


def test_the_overlap_share_goes_to_two_and_no_more(store):
    store.set_policy(Policy(overlap_share=1, gold_share=0))
    waiting = Queue(store)
    got = [waiting.lease(name, QueueRequest(10)).portrait_ids for name in ("rosa", "sam", "kim")]
    assert got[0] == got[1] and not set(got[2]) & set(got[0])
    vote(store, "rosa", got[0][0])
    assert waiting.lease("kim", QueueRequest(40)).portrait_ids.count(got[0][0]) == 0
    vote(store, "sam", got[0][0])
    assert store.database and waiting.remaining("tom") == 39


def test_the_overlap_share_is_about_what_was_asked_for(empty_store):
    store = fill(empty_store, 1000)
    store.set_policy(Policy(overlap_share=0.1))
    import sqlalchemy as sa

    with store.database.read() as connection:
        two = connection.execute(sa.text("SELECT count(*) FROM items WHERE required = 2")).scalar()
    assert 70 <= two <= 130


def test_gold_items_are_mixed_in_and_not_asked_twice(store):
    store.set_policy(Policy(overlap_share=0, gold_share=0.5))
    items.set_gold(store, dict.fromkeys(store.ids[:4], "accept"))
    waiting = Queue(store)
    for name in ("rosa", "sam"):  # both, though the portraits want one vote only
        got = [p for _ in range(12) for p in waiting.lease(name, QueueRequest(10)).portrait_ids]
        assert set(store.ids[:4]) <= set(got)
        for p in store.ids[:4]:
            vote(store, name, p)
    assert not set(waiting.lease("rosa", QueueRequest(40)).portrait_ids) & set(store.ids[:4])


def test_remaining_counts_what_one_can_still_be_asked(store):
    store.set_policy(Policy(overlap_share=1, gold_share=0))
    waiting = Queue(store)
    assert waiting.remaining("rosa") == 40
    for p in store.ids[:6]:
        vote(store, "rosa", p)
    assert waiting.remaining("rosa") == 34 and waiting.remaining("sam") == 40


def test_screened_out_portraits_and_duplicates_come_only_when_asked_for(empty_store):
    store = fill(empty_store, 10, pool=SCREENED_OUT)
    waiting = Queue(store)
    assert waiting.lease("rosa", QueueRequest(5)).portrait_ids == ()
    assert len(waiting.lease("rosa", QueueRequest(5, pool=SCREENED_OUT)).portrait_ids) == 5


def test_a_claim_takes_only_what_is_free(store, waiting):
    theirs = waiting.lease("sam", QueueRequest(3)).portrait_ids
    assert set(waiting.claim("rosa", store.ids)) == set(store.ids) - set(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("order", queue.ORDERS)
def test_the_next_twenty_of_100_000_take_few_milliseconds(large, order):
    waiting = Queue(large)
    took = []
    held: tuple[str, ...] = ()
    for _ in range(15):
        began = time.thread_time()  # SQLite works in this thread; other programs do not count
        held += waiting.lease("rosa", QueueRequest(20, order, exclude=held)).portrait_ids
        took.append(time.thread_time() - began)
    assert len(set(held)) == 300
    # 20 ms is the aim; slower processors get some room. A search of all 100,000 takes hundreds.
    assert statistics.median(took) < 0.06


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    import gc

    from phq_data.review.database import Database
    from phq_data.review.store import Store

    store = fill(Store(Database.open(tmp_path_factory.mktemp("large") / "r.sqlite")), 100_000, 500)
    gc.collect()
    yield store
    store.close()
