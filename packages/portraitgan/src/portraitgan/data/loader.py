"""The order of portraits, and batches made ahead of time.

The order depends on the seed and the number of portraits alone: it is cut into blocks of one micro-batch,
dealt to the ranks in turn. So any number of processes sees the same micro-batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portraitgan.data.dataset import Batch, PortraitData


class Sampler:
    """Indices 0..length-1 without end: every epoch in a new order, each index once an epoch.

    `take(n)` hands out this rank's block of n; the blocks of all ranks follow each other in one sequence.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if length < 1:
            raise ValueError("there is nothing to draw from")
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not one of {world}")
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world = world
        self.position = 0  # indices handed out by all ranks together
        self._epochs: dict[int, NDArray[np.int64]] = {}

    @property
    def epoch(self) -> int:
        """The epoch that the next index is of."""
        return self.position // self.length

    def take(self, count: int) -> NDArray[np.int64]:
        """The next `count` indices of this rank, [count]; moves on."""
        start = self.position + self.rank * count
        self.position += self.world * count
        places = np.arange(start, start + count)
        epochs = places // self.length
        found = np.empty(count, np.int64)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            found[chosen] = self._order(epoch)[places[chosen] % self.length]
        return found

    def clone(self) -> Sampler:
        """A sampler at the same position that moves on by itself."""
        other = Sampler(self.length, self.seed, self.rank, self.world)
        other.position = self.position
        return other

    def state(self) -> dict[str, int]:
        """Everything that `load` needs; plain numbers. The same on every rank."""
        return {"seed": self.seed, "length": self.length, "position": self.position}

    def load(self, state: Mapping[str, Any]) -> str:
        """Go on where `state` was taken, with any number of ranks. Returns what should be said, or "".

        When portraits were taken down or added since, the order is another one: the next epoch begins.
        """
        self.seed = int(state["seed"])
        self.position = int(state["position"])
        self._epochs.clear()
        if int(state["length"]) == self.length:
            return ""
        epoch = -(-self.position // int(state["length"]))
        self.position = epoch * self.length
        return (
            f"the data has {self.length:,} entries, it had {int(state['length']):,}: the order begins anew "
            f"with epoch {epoch}"
        )

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            # Blocks may straddle two epochs, and so may the ranks.
            self._epochs = {known: order for known, order in self._epochs.items() if abs(known - epoch) < 2}
            self._epochs[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        return self._epochs[epoch]


def loader(data: PortraitData, sampler: Sampler, batch: int, workers: int = 2) -> Iterator[Batch]:
    """Batches of `batch` portraits without end, in the sampler's order whatever the number of workers.

    `workers` threads make batches ahead (Pillow decodes without holding Python back); 0 makes each when it is
    asked for. The sampler moves on as batches are handed out, not as they are made: its `state()` is always
    that of the batch handed out last. After `sampler.load` make a new loader; close an old one (`.close()`).
    """
    if batch < 1 or workers < 0:
        raise ValueError(f"cannot load batches of {batch} with {workers} workers")
    ahead = sampler.clone()
    if workers == 0:
        while True:
            made = data.batch(ahead.take(batch))
            sampler.position = ahead.position
            yield made
    pool = ThreadPoolExecutor(workers, thread_name_prefix="portraits")
    waiting: deque[tuple[Future[Batch], int]] = deque()
    try:
        while True:
            while len(waiting) < 2 * workers:
                future = pool.submit(data.batch, ahead.take(batch))
                waiting.append((future, ahead.position))
            future, position = waiting.popleft()
            made = future.result()
            sampler.position = position
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
