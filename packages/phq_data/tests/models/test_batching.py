"""What waits while a network runs goes through it together, and everybody gets their own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from phq_data.models.batching import Batcher


class Network:
    """Doubles its images; the first run waits until `others` more have come."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, ...]] = []
        self.busy, self.go = threading.Event(), threading.Event()

    def __call__(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self.runs.append(images.shape)
        self.busy.set()
        assert self.go.wait(20)
        if np.isnan(images).any():
            raise RuntimeError("not a number")
        return [2 * images, images.sum(axis=(1, 2))]


def answers(batcher: Batcher, network: Network, asked: list[NDArray[np.float32]]) -> list[object]:
    """What callers in threads of their own get, all but the first while the network is busy with that one."""

    def call(images: NDArray[np.float32]) -> object:
        try:
            return batcher(images)
        except RuntimeError as error:
            return error

    with ThreadPoolExecutor(len(asked)) as pool:
        first = pool.submit(call, asked[0])
        assert network.busy.wait(20)
        others = [pool.submit(call, images) for images in asked[1:]]
        while len(batcher._waiting) < len(others):
            assert not any(other.done() for other in others)
        network.go.set()
        return [future.result(20) for future in (first, *others)]


def images(count: int, side: int = 4, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((count, side, side), dtype=np.float32)


def test_callers_share_runs_and_each_gets_its_own() -> None:
    network = Network()
    asked = [images(1, seed=i) for i in range(3)] + [images(2, seed=3), images(1, side=5, seed=4)]
    found = answers(Batcher(network, limit=8), network, asked)
    for given, answer in zip(asked, found, strict=True):
        assert isinstance(answer, list)
        np.testing.assert_array_equal(answer[0], 2 * given)
        np.testing.assert_array_equal(answer[1], given.sum(axis=(1, 2)))
    assert sorted(network.runs) == [(1, 4, 4), (1, 5, 5), (4, 4, 4)]


def test_a_run_is_no_larger_than_the_limit_unless_one_caller_is() -> None:
    network = Network()
    answers(Batcher(network, limit=3), network, [images(1), images(2), images(2), images(5)])
    assert sorted(network.runs) == [(1, 4, 4), (2, 4, 4), (2, 4, 4), (5, 4, 4)]


def test_an_error_reaches_all_of_its_run_and_nobody_after_it() -> None:
    network = Network()
    batcher = Batcher(network, limit=8)
    broken = np.full((1, 4, 4), np.nan, np.float32)
    first, *others = answers(batcher, network, [images(1), broken, images(1, seed=2)])
    assert isinstance(first, list)
    assert [str(other) for other in others] == ["not a number"] * 2
    with pytest.raises(RuntimeError, match="not a number"):
        batcher(broken)
    np.testing.assert_array_equal(batcher(images(1))[0], 2 * images(1))
