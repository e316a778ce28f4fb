"""`phq release build --runner processes|ray|dask`: pieces of a release's writer, where parts of a build run.

Ray and Dask run a piece again elsewhere when its worker is lost; a piece gives the same wherever it runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

from phq_data import __version__
from phq_data.process_pool import end_with_parent
from phq_data.release import parts
from phq_data.release.parts import Run, in_order
from phq_flows.cluster import ClusterError, loss_told

R = TypeVar("R")
RUNNERS = ("processes", "ray", "dask")
_LOST = ("BrokenProcessPool", "KilledWorker", "WorkerCrashedError", "OutOfMemoryError", "NodeDiedError")
"""What pools and clusters raise when workers are lost again and again."""


@contextlib.contextmanager
def running(name: str, workers: int, address: str) -> Iterator[Run]:
    """Who does the pieces; a local cluster of `workers` without an `address`. Raises `ClusterError`."""
    if name == "processes":
        spawn = get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with_parent) as pool:
            yield _Run(workers, pool.submit, Future.result, contextlib.nullcontext)
        return
    from phq_flows import clusters

    cluster = clusters.chosen("ray" if name == "ray" else "dask", address, 1.0, 0.0)
    with clusters.connected(cluster, workers) as backend:
        at_once = workers if not cluster.address else max(1, len(backend.workers()))
        yield _Run(at_once, backend.submit, backend.result, lambda: loss_told(cluster))


@dataclass(frozen=True)
class _Run:
    at_once: int
    submit: Callable[..., Any]
    result: Callable[[Any], Any]
    told: Callable[[], contextlib.AbstractContextManager[None]]  # a cluster that is lost

    def __call__(self, piece: Callable[..., R], calls: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """The results in order."""
        begun = (self.submit(done, __version__, piece, call) for call in calls)
        try:
            with self.told():
                yield from in_order(begun, self.at_once, self.result)
        except Exception as error:
            if type(error).__name__ not in _LOST:
                raise
            raise ClusterError(
                f"workers were lost while the release was written ({type(error).__name__}), perhaps for want "
                "of memory: nothing is left behind, run the same command again with fewer --workers"
            ) from error


def done(version: str, piece: Callable[..., R], call: tuple[Any, ...]) -> R:
    """A piece on a worker. Raises `ClusterError` on one of another PHQ."""
    if __version__ != version:
        raise ClusterError(f"a worker has PHQ {__version__}, this release is made by {version}")
    return piece(*call)


def offer() -> None:
    """Let `phq release build` know these runners."""
    for name in RUNNERS:
        parts.offer(name, running)
