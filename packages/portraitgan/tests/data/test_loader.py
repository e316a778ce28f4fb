"""Facts about the order of portraits."""

import json

import numpy as np
import pytest

from portraitgan.data.loader import Sampler


def test_every_epoch_has_every_index_once_in_another_order():
    sampler = Sampler(11, seed=3)
    drawn = np.concatenate([sampler.take(4) for _ in range(11)]).reshape(4, 11)
    for epoch in drawn:
        assert sorted(epoch) == list(range(11))
    assert len({tuple(epoch) for epoch in drawn}) == 4
    assert not np.array_equal(drawn[0], Sampler(11, seed=4).take(11))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_see_the_micro_batches_of_one_process(world):
    alone = Sampler(10, seed=1)
    ranks = [Sampler(10, seed=1, rank=rank, world=world) for rank in range(world)]
    for _ in range(7):
        for one in ranks:
            assert np.array_equal(one.take(4), alone.take(4))
    assert all(one.state() == alone.state() for one in ranks)


def test_the_order_goes_on_where_it_was_also_with_other_ranks():
    sampler = Sampler(10, seed=1, rank=0, world=2)
    sampler.take(3)
    state = json.loads(json.dumps(sampler.state()))
    other = Sampler(10, seed=99, rank=1, world=4)
    assert other.load(state) == ""
    expected = Sampler(10, seed=1)
    expected.take(6)
    expected.take(3)
    assert np.array_equal(other.take(3), expected.take(3))


def test_other_data_begins_the_next_epoch_and_says_so():
    sampler = Sampler(10, seed=1)
    sampler.take(13)
    fewer = Sampler(9, seed=1)
    assert "9 entries" in fewer.load(sampler.state())
    assert sorted(fewer.take(9)) == list(range(9))
