"""The clusters that run the parts of a build: one of this machine, or one that exists, looked at first."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Literal
from urllib.parse import urlsplit

import phq_data
from phq_data.cli.doctor import public
from phq_data.config import PipelineConfig
from phq_data.workspace import Workspace
from phq_flows import environment, server
from phq_flows.cluster import (
    ADDRESSES,
    CONNECT_SECONDS,
    Backend,
    Cluster,
    ClusterError,
    first_line,
    loss_told,
    unreachable,
)
from phq_flows.worker_check import Answer, question, reaches, recipes

PACKAGES = {"ray": ("ray", "prefect_ray"), "dask": ("distributed", "prefect_dask")}
_LOOK_SECONDS = 5.0

Say = Callable[[str], None]


def chosen(runner: Literal["ray", "dask"], address: str, cpus: float, gpus: float) -> Cluster:
    """The cluster that a command line names; without an address that of the environment, or a local one."""
    return Cluster(runner, (address or os.environ.get(ADDRESSES[runner], "")).strip(), cpus, gpus)


@contextlib.contextmanager
def ready(
    cluster: Cluster, workspace: Workspace, config: PipelineConfig, workers: int, say: Say
) -> Iterator[Backend]:
    """A connection to the cluster, whose workers were looked at if it existed before; a local one is started
    with `workers` processors. Raises `ClusterError`, also when the cluster is lost while it is looked at.
    """
    with connected(cluster, workers, say) as backend:
        with loss_told(cluster):
            if cluster.address:
                check(cluster, backend, workspace, config)
                say(f"{len(backend.workers())} workers are ready; a part takes {cluster.part}")
        yield backend


@contextlib.contextmanager
def connected(cluster: Cluster, workers: int, say: Say = lambda text: None) -> Iterator[Backend]:
    """A connection to the cluster; a local one is started with `workers` processors.

    Raises `ClusterError`.
    """
    for name in PACKAGES[cluster.runner]:
        if find_spec(name) is None:
            raise ClusterError(
                f"the runner '{cluster.runner}' needs the package {name.replace('_', '-')}: "
                f"make setup, or pip install 'phq-flows[{cluster.runner}]'"
            )
    environment.prepare()
    with contextlib.ExitStack() as stack:
        with loss_told(cluster):
            backend = _connected(cluster, workers, say)
        stack.callback(backend.close)
        yield backend


def _connected(cluster: Cluster, workers: int, say: Say) -> Backend:
    here = "127.0.0.1"
    if cluster.address:
        here = _reach(cluster)
        say(f"looking at the workers of the {cluster.runner} cluster at {cluster.address}")
    else:
        server.without_proxy(here)  # before its processes start
    if cluster.runner == "ray":
        from phq_flows import ray_cluster

        return ray_cluster.connect(cluster, workers, here)
    from phq_flows import dask_cluster

    return dask_cluster.connect(cluster, workers, here)


def check(cluster: Cluster, backend: Backend, workspace: Workspace, config: PipelineConfig) -> None:
    """See whether every worker can do what this machine would. Raises `ClusterError` naming the first."""
    settings = config.to_json()
    key, token = f"cluster-check-{secrets.token_hex(6)}", secrets.token_hex(16)
    asked = question(phq_data.__version__, PACKAGES[cluster.runner], settings, workspace.url, key, token)
    own = recipes(settings)
    try:
        workspace.write_bytes(key, token.encode())
        answers = backend.ask(asked)
    finally:
        workspace.remove(key)
    problems = {name: _problem(answer, own, workspace.url, config) for name, answer in answers.items()}
    wrong = [f"{name} {problem}" for name, problem in problems.items() if problem]
    if wrong:
        others = f" ({len(wrong) - 1} more workers have problems)" if len(wrong) > 1 else ""
        raise ClusterError(f"the worker {wrong[0]}{others}")


def check_server(backend: Backend, api: str) -> None:
    """See whether every worker reaches Prefect's server. Raises `ClusterError` naming the first."""
    for name, answer in backend.ask(functools.partial(reaches, api)).items():
        problem = str(answer) if isinstance(answer, BaseException) else answer["problem"]
        if problem:
            raise ClusterError(
                f"the worker {name} does not reach Prefect's server at {public(api)} "
                f"({first_line(problem)}): start one that this machine and all workers reach (prefect server "
                "start --host ADDRESS, with PREFECT_SERVER_API_AUTH_STRING=USER:PASSWORD so that nobody else "
                "uses it), and set here PREFECT_API_URL to it and PREFECT_API_AUTH_STRING to the same words"
            )


@contextlib.contextmanager
def watched(backend: Backend, say: Say) -> Iterator[None]:
    """Within it, workers that go and come are told."""
    ended, known = threading.Event(), set(backend.workers())

    def watch() -> None:
        nonlocal known
        while not ended.wait(_LOOK_SECONDS):
            try:
                now = set(backend.workers())
            except ClusterError as error:
                say(f"{error}")
                return
            for name in sorted(known - now):
                say(f"the worker {name} has gone: its parts run again on the others")
            for name in sorted(now - known):
                say(f"the worker {name} has come")
            if known and not now:
                say(
                    "no worker of the cluster is left: the build waits for one. Ctrl-C stops it, finished "
                    "parts are kept, and the same command goes on"
                )
            known = now

    thread = threading.Thread(target=watch, name="cluster-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_LOOK_SECONDS)


def _reach(cluster: Cluster) -> str:
    """This machine's address on the way to the cluster.

    A connection that is refused is told at once, before a library tries for minutes.
    """
    address = cluster.address
    if cluster.runner == "ray" and address == "auto":
        return "127.0.0.1"
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    schemes = {"ray": ("", "ray"), "dask": ("", "tcp", "tls", "ws", "wss", "ucx")}[cluster.runner]
    if host is None or port is None or parts.scheme not in schemes:
        forms = {"ray": "ray://HOST:PORT, HOST:PORT or auto", "dask": "tcp://HOST:PORT"}[cluster.runner]
        raise ClusterError(f"{address!r} is no address of a {cluster.runner} cluster: give {forms}")
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS) as connection:
            return str(connection.getsockname()[0])
    except OSError as error:
        raise unreachable(cluster, error) from error


def _problem(answer: Answer | BaseException, own: Answer, url: str, config: PipelineConfig) -> str:
    """What is wrong with a worker that answers this, with the remedy; "" where nothing is."""
    if isinstance(answer, BaseException):
        return f"does not answer ({type(answer).__name__}: {first_line(str(answer))}): start it again"
    where, version = f"on {answer['host']}", phq_data.__version__
    python = ".".join(map(str, sys.version_info[:2]))
    if answer["Python"] != python:
        return f"{where} runs Python {answer['Python']}, this build {python}: use the same minor version"
    if answer.get("PHQ", version) != version:
        return f"{where} has PHQ {answer['PHQ']}, this build is of {version}: install the same there"
    if "missing" in answer:
        return f"{where} lacks the package {answer['missing']}: install there what is installed here"
    models = {"detect": config.detect.model, "fit": config.fit.model, "align_crop": config.mask.model}
    for stage, digest in own.items():
        if answer.get(stage, digest) != digest:
            named = f" ({models[stage]})" if stage in models else ""
            return (
                f"{where} has other checksums for the models of stage '{stage}'{named}: bring the same files "
                "there (`phq models list` on both says which)"
            )
    if problem := answer["problem"]:
        remedy = (
            f"mount the folder there under the same path, writable ({url}), or build in a workspace at a URL"
            if "workspace" in problem
            else "bring the same files there (`phq models list` on both says which)"
        )
        return f"{where} {problem}: {remedy}"
    return ""
