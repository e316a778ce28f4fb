"""A cluster, a connection to it, and the sentences for one that is not there or no longer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from phq_data.errors import PhqError
from phq_flows.worker_check import Answer

ADDRESSES = {"ray": "RAY_ADDRESS", "dask": "DASK_SCHEDULER_ADDRESS"}
"""Where the address of a cluster comes from when the command names none."""
CONNECT_SECONDS = 15.0
ANSWER_SECONDS = 300.0  # a busy worker imports everything first


class ClusterError(PhqError, RuntimeError):
    """A cluster that cannot run the parts; the message names the worker and says what to do."""


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and what a part takes of it."""

    runner: Literal["ray", "dask"]
    address: str = ""  # "": one of this machine, for this build
    cpus: float = 1.0
    gpus: float = 0.0

    @property
    def part(self) -> str:
        """What a part takes, for people."""
        return f"CPU={self.cpus:g}" + (f" GPU={self.gpus:g}" if self.gpus else "")


class Backend(Protocol):
    """A connection to a cluster, as `ray_cluster` and `dask_cluster` make it."""

    @property
    def cluster(self) -> Cluster:
        """What it was asked for."""
        ...

    @property
    def here(self) -> str:
        """The address of this machine that the cluster sees."""
        ...

    def workers(self) -> list[str]:
        """Names of the workers that have room for a part. Raises `ClusterError` when the cluster is lost."""
        ...

    def ask(self, asked: Callable[[], Answer]) -> Mapping[str, Answer | BaseException]:
        """What every worker answers, or why it does not."""
        ...

    def task_runner(self) -> Any:
        """Prefect's task runner on it."""
        ...

    def taking(self) -> contextlib.AbstractContextManager[Any]:
        """Within it, tasks that are submitted take what a part takes."""
        ...

    def submit(self, work: Callable[..., Any], *given: Any) -> Any:
        """Begin to do this on a worker, which takes what a part takes."""
        ...

    def result(self, begun: Any) -> Any:
        """What came of it, or what it raised."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def is_loss(error: BaseException) -> bool:
    """Whether this is what Ray or Dask raise when the cluster itself is lost."""
    known = ("RaySystemError", "CommClosedError")
    named = type(error).__name__ in known or str(error).startswith("Ray Client is not connected")
    return named or isinstance(error, ConnectionError | CancelledError)


@contextlib.contextmanager
def loss_told(cluster: Cluster) -> Iterator[None]:
    """A cluster that is lost within it is a `ClusterError`."""
    try:
        yield
    except Exception as error:
        if is_loss(error):
            raise lost(cluster, error) from error
        raise


def lost(cluster: Cluster, error: BaseException | str) -> ClusterError:
    """The sentence for a cluster that has gone while it was used."""
    return ClusterError(
        f"the {cluster.runner} cluster{cluster.address and f' at {cluster.address}'} does not answer any "
        f"more ({first_line(str(error))}): finished parts are kept, the same command goes on"
    )


def unreachable(cluster: Cluster, error: BaseException | str) -> ClusterError:
    """The sentence for a cluster that does not answer."""
    variable = ADDRESSES[cluster.runner]
    return ClusterError(
        f"no {cluster.runner} cluster answers at {cluster.address} ({first_line(str(error))}): start it, or "
        f"mend the address (--address, or {variable}; without both, a cluster of this machine is used)"
    )


def first_line(text: str) -> str:
    """The first line of an error's message, short enough for a sentence."""
    return (text.strip().splitlines() or ["no reason given"])[0][:300].rstrip(".")
