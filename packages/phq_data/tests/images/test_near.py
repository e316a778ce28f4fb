"""Near hashes: the index finds what comparing all with all finds."""

import numpy as np
import pytest

from phq_data.images import near
from phq_data.images.near import Groups, pairs_between, pairs_within


def crowd(count, seed=0):
    """Hashes [count] in clumps: some equal, some a few bits apart, most far."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 1 << 63, count // 4 + 1).astype(np.uint64)
    hashes = centres[rng.integers(0, len(centres), count)]
    for _ in range(12):
        bit = rng.integers(0, 64, count).astype(np.uint64)
        hashes = np.where(rng.random(count) < 0.3, hashes ^ (np.uint64(1) << bit), hashes)
    return hashes


def apart(hashes, others):
    return np.bitwise_count(hashes[:, None] ^ others[None, :])


PLANS = [(blocks, distance) for blocks in (4, 5, 7, 16) for distance in (0, 1, 3, 4, 6, 7, 9)]


@pytest.mark.parametrize(("blocks", "distance"), [*PLANS, (3, 1), (3, 6)])
def test_any_plan_finds_the_pairs_of_a_brute_force(monkeypatch, blocks, distance):
    plan = near._blocks(blocks, distance)
    monkeypatch.setattr(near, "_plan", lambda count, bits: plan)
    hashes, others = np.unique(crowd(500)), crowd(300, 1)
    others[::3] = hashes[: len(others[::3])] ^ np.uint64(5)
    expected = np.argwhere(np.triu(apart(hashes, hashes) <= distance, 1))
    assert np.array_equal(np.stack(pairs_within(hashes, distance), 1), expected)
    expected = np.argwhere(apart(hashes, others) <= distance)
    assert np.array_equal(np.stack(pairs_between(hashes, others, distance), 1), expected)
    assert len(expected) > 0 or distance < 2


@pytest.mark.parametrize("distance", [0, 2, 6, 12, 40, 64])
def test_the_plan_of_any_distance_finds_all(distance):
    hashes = crowd(60)
    expected = np.argwhere(np.triu(apart(hashes, hashes) <= distance, 1))
    assert np.array_equal(np.stack(pairs_within(hashes, distance), 1), expected)


def test_nothing_is_near_nothing():
    none = np.zeros(0, np.uint64)
    assert all(len(side) == 0 for side in (*pairs_within(none, 6), *pairs_between(none, crowd(9), 6)))


@pytest.mark.parametrize("count", [100, 100_000, 10_000_000])
def test_a_look_costs_the_same_however_many_there_are(count):
    """Candidates a hash, expected of hashes that are far apart, by the plan that is chosen."""
    candidates = sum(
        len(near._changes(width, bits)) * count / 2**width for width, bits in near._plan(count, 6)
    )
    assert candidates < 2_000


def test_a_plan_that_was_said_to_be_enough_is():
    """Of the bits that differ, some block has no more than it allows: the sum of bits + 1 is above them."""
    for blocks in range(3, 17):
        for distance in range(65):
            assert sum(bits + 1 for _, bits in near._blocks(blocks, distance)) >= min(distance + 1, 64)


def test_equal_hashes_are_one_group():
    groups = Groups(np.array([7, 3, 7, 9, 7], np.uint64))
    assert groups.distinct.tolist() == [3, 7, 9] and groups.sizes().tolist() == [1, 3, 1]
    assert [groups.rows(group).tolist() for group in range(3)] == [[1], [0, 2, 4], [3]]
    assert groups.of.tolist() == [1, 0, 1, 2, 1]
