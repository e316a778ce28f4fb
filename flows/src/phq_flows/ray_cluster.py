"""A Ray cluster for the parts of a build."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from phq_flows import leftovers
from phq_flows.cluster import ANSWER_SECONDS, Cluster, ClusterError, is_loss, lost, unreachable
from phq_flows.worker_check import Answer

_TRIES = 2  # the first driver that a cluster's client server starts may come too late on a busy head


@dataclass(frozen=True)
class RayCluster:
    """The cluster that this process is connected to."""

    cluster: Cluster
    here: str

    def workers(self) -> list[str]:
        """Names of the living nodes with the processors that a part takes, busy or not."""
        return sorted(self._nodes())

    def ask(self, asked: Callable[[], Answer]) -> dict[str, Answer | BaseException]:
        """The answer of every such node, which takes no processor for it."""
        remote = ray.remote(num_cpus=0, max_retries=1)(lambda: asked())
        pending = {
            name: remote.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote()
            for name, node in self._nodes().items()
        }
        answers: dict[str, Answer | BaseException] = {}
        if pending:
            ray.wait(list(pending.values()), num_returns=len(pending), timeout=ANSWER_SECONDS)
        for name, reference in pending.items():
            try:
                answers[name] = ray.get(reference, timeout=1.0)
            except GetTimeoutError:
                answers[name] = TimeoutError(f"nothing within {ANSWER_SECONDS:.0f} s")
            except Exception as error:
                if is_loss(error):
                    raise
                answers[name] = error
        return answers

    def task_runner(self) -> Any:
        """Prefect's task runner, which takes the connection that is there."""
        from prefect_ray import RayTaskRunner

        return RayTaskRunner()

    def taking(self) -> contextlib.AbstractContextManager[Any]:
        """What a task takes. `max_calls`: a worker with a GPU is kept for the next task, with its models."""
        from prefect_ray.context import remote_options

        taken: contextlib.AbstractContextManager[Any] = remote_options(
            num_cpus=self.cluster.cpus, num_gpus=self.cluster.gpus, max_calls=0
        )
        return taken

    def submit(self, work: Callable[..., Any], *given: Any) -> Any:
        """Begin to do this on a node; another one does it when that is lost."""
        remote: Any = ray.remote(work)
        return remote.options(num_cpus=self.cluster.cpus, num_gpus=self.cluster.gpus).remote(*given)

    def result(self, begun: Any) -> Any:
        """What came of it."""
        try:
            return ray.get(begun)
        except RayTaskError as error:
            raise error.cause or error from error

    def close(self) -> None:
        """End the connection, and a local cluster."""
        ray.shutdown()

    def _nodes(self) -> dict[str, dict[str, Any]]:
        try:
            nodes = ray.nodes()
        except Exception as error:
            raise lost(self.cluster, error) from error
        living = [node for node in nodes if node["Alive"]]
        wanted = {"CPU": self.cluster.cpus, "GPU": self.cluster.gpus}
        return {
            f"{node['NodeManagerAddress']} (node {node['NodeID'][:8]})": node
            for node in living
            if all(node["Resources"].get(kind, 0) >= count for kind, count in wanted.items())
        }


def connect(cluster: Cluster, workers: int, here: str) -> RayCluster:
    """Connect to the cluster, or start one of this machine with so many processors. Raises `ClusterError`."""
    options: dict[str, Any] = {"namespace": "phq", "log_to_driver": False, "logging_level": "ERROR"}
    if cluster.address:
        _connect(cluster, options)
    else:
        leftovers.watch()
        ray.init("local", num_cpus=workers, include_dashboard=False, **options)
    if cluster.address and not cluster.address.startswith("ray://"):
        here = ray.util.get_node_ip_address()  # this machine is one of the nodes
    connected = RayCluster(cluster, here)
    if not connected.workers():
        totals = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = {kind: max((one.get(kind, 0) for one in totals), default=0) for kind in ("CPU", "GPU")}
        ray.shutdown()
        raise ClusterError(
            f"no node of the Ray cluster has the {cluster.part} that a part takes (the most that one has: "
            f"CPU={most['CPU']:g} GPU={most['GPU']:g}): ask for less (--cpus-per-part, --gpus-per-part)"
        )
    return connected


def _connect(cluster: Cluster, options: dict[str, Any]) -> None:
    for left in reversed(range(_TRIES)):
        try:
            ray.init(cluster.address, **options)
            return
        except Exception as error:
            ray.shutdown()
            if "ersion mismatch" in str(error):
                versions = " ".join(str(error).split())
                raise ClusterError(f"{cluster.address}: {versions} Use the same versions on both") from error
            if not left or not isinstance(error, ConnectionAbortedError):
                raise _refused(cluster, error) from error


def _refused(cluster: Cluster, error: Exception) -> ClusterError:
    if cluster.address == "auto":
        return ClusterError("no Ray cluster runs on this machine: start one, or give its --address")
    return ClusterError(
        f"{unreachable(cluster, error)}. Something listens there: is it Ray (ray://HOST:10001 from outside, "
        "HOST:6379 on a node), and is the cluster's token here (RAY_AUTH_TOKEN or ~/.ray/auth_token)?"
    )
