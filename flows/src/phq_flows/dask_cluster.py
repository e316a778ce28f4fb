"""A Dask cluster for the parts of a build."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dask.base import annotate
from distributed import Client, LocalCluster

from phq_flows import leftovers
from phq_flows.cluster import CONNECT_SECONDS, Cluster, ClusterError, lost, unreachable
from phq_flows.worker_check import Answer


@dataclass(frozen=True)
class DaskCluster:
    """A scheduler that this process is connected to."""

    cluster: Cluster
    client: Any  # a `distributed.Client`
    local: LocalCluster | None
    here: str

    def workers(self) -> list[str]:
        """Addresses of the workers with the resources that a part takes, busy or not."""
        wanted = _resources(self.cluster)
        return sorted(
            address
            for address, about in self._all().items()
            if all(about["resources"].get(kind, 0) >= count for kind, count in wanted.items())
        )

    def ask(self, asked: Callable[[], Answer]) -> dict[str, Answer | BaseException]:
        """The answer of every such worker, beside what it computes."""
        workers = self.workers()
        answers: dict[str, Answer | BaseException] = {}
        # A worker of another Python might not survive a function of ours.
        own = list(sys.version_info[:2])
        versions = self.client.get_versions()["workers"]
        for address in workers:
            python = versions.get(address, {}).get("host", {}).get("python", "")
            if python and [int(text) for text in python.split(".")[:2]] != own:
                answers[address] = {"host": address, "Python": ".".join(python.split(".")[:2])}
        left = [address for address in workers if address not in answers]
        running = self.client.run(asked, workers=left, on_error="return", wait=True)
        return {**answers, **running}

    def task_runner(self) -> Any:
        """Prefect's task runner, with a connection of its own."""
        from prefect_dask.task_runners import DaskTaskRunner

        return DaskTaskRunner(address=self.client.scheduler.address)

    def taking(self) -> contextlib.AbstractContextManager[Any]:
        """What a task takes."""
        wanted = _resources(self.cluster)
        return annotate(resources=wanted) if wanted else contextlib.nullcontext()

    def submit(self, work: Callable[..., Any], *given: Any) -> Any:
        """Begin to do this on a worker; another one does it when that is lost."""
        return self.client.submit(work, *given, pure=False, resources=_resources(self.cluster) or None)

    def result(self, begun: Any) -> Any:
        """What came of it."""
        return begun.result()

    def close(self) -> None:
        """End the connection, and a local cluster."""
        self.client.close()
        if self.local is not None:
            self.local.close()

    def _all(self) -> dict[str, Any]:
        if self.client.status != "running":
            raise lost(self.cluster, self.client.status)
        workers: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return workers


def connect(cluster: Cluster, workers: int, here: str) -> DaskCluster:
    """Connect to the scheduler, or start a cluster of this machine. Raises `ClusterError`."""
    if not cluster.address:
        if cluster.gpus:
            raise ClusterError(
                "--gpus-per-part with --runner dask needs a cluster whose workers declare GPUs (--address); "
                "--runner ray finds those of this machine by itself"
            )
        leftovers.watch()
        at_once = max(1, int(workers // cluster.cpus))
        local = LocalCluster(
            n_workers=at_once, threads_per_worker=1, dashboard_address=None, resources=_resources(cluster)
        )
        return DaskCluster(cluster, Client(local, set_as_default=False), local, here)
    try:
        client = Client(cluster.address, timeout=CONNECT_SECONDS, set_as_default=False)
    except Exception as error:
        raise unreachable(cluster, error) from error
    found = DaskCluster(cluster, client, None, here)
    if not found.workers():
        there = len(found._all())
        found.close()
        wanted = " ".join(f"{kind}={count:g}" for kind, count in _resources(cluster).items())
        raise ClusterError(
            f"no worker has joined the Dask scheduler at {cluster.address}: start some (dask worker "
            f"{cluster.address}) and run the same command again"
            if not there
            else f"none of the {there} workers at {cluster.address} declares {wanted}, which a part "
            f'takes: start them with dask worker --resources "{wanted}", or ask for less (--cpus-per-part, '
            "--gpus-per-part)"
        )
    return found


def _resources(cluster: Cluster) -> dict[str, float]:
    """What a part takes of what workers declare; a thread of a worker, which all have, counts as one CPU."""
    named = {"CPU": cluster.cpus if cluster.cpus != 1 else 0.0, "GPU": cluster.gpus}
    return {kind: count for kind, count in named.items() if count}
