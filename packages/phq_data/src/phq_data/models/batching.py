"""Many threads, one network on a GPU: what waits while the network runs goes through it together next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[Any]], Sequence[NDArray[Any]]]
"""A network: a batch of images [N, ...] to its outputs, each [N, ...]."""


@dataclass(eq=False)
class _Request:
    images: NDArray[Any]  # [N, ...]
    answer: list[NDArray[Any]] | None = None
    error: BaseException | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """What images must share to go together."""
        return (self.images.dtype, *self.images.shape[1:])


class Batcher:
    """A `Run` for many threads, at most `limit` images at a time (more only where one caller gives more).

    No thread of its own: whoever comes while the network is idle runs it, for all that have come with images
    of that size. Decoding and encoding go on in the other threads meanwhile, and no caller waits for company.
    """

    def __init__(self, run: Run, limit: int) -> None:
        self._run, self._limit = run, limit
        self._waiting: list[_Request] = []
        self._list, self._turn = threading.Lock(), threading.Lock()

    def __call__(self, images: NDArray[Any]) -> list[NDArray[Any]]:
        """The network's outputs for `images` [N, ...]. Raises what the network raises."""
        mine = _Request(images)
        with self._list:
            self._waiting.append(mine)
        with self._turn:
            if mine.answer is None and mine.error is None:
                self._run_with(mine)
        if mine.error is not None:
            raise mine.error
        assert mine.answer is not None
        return mine.answer

    def _run_with(self, first: _Request) -> None:
        """Run `first` and those others that wait and fit in with it."""
        chosen, count = [first], len(first.images)
        with self._list:
            self._waiting.remove(first)
            for one in list(self._waiting):
                if one.shape == first.shape and count + len(one.images) <= self._limit:
                    self._waiting.remove(one)
                    chosen.append(one)
                    count += len(one.images)
        try:
            outputs = self._run(np.concatenate([one.images for one in chosen]))
            ends = np.cumsum([len(one.images) for one in chosen])[:-1]
            parts = [np.split(output, ends) for output in outputs]
            for index, one in enumerate(chosen):
                one.answer = [part[index] for part in parts]
        except BaseException as error:  # each caller gets it; nobody must wait for ever
            for one in chosen:
                one.error = error
