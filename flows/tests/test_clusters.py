"""Builds on clusters that exist: Ray of two nodes, Dask of two workers, one of each killed in the middle."""

import logging
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ports import quiet_port
from programs import environment, phq_here

from phq_data.pipeline.engine import load_config
from phq_data.workspace import Workspace
from phq_flows import clusters, leftovers
from phq_flows.cluster import Cluster, ClusterError, loss_told

from .conftest import PHQ, rows_of
from .test_server import bare_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
BIN = Path(sys.executable).parent

WORKER = '''
"""In workers: who loads which model and runs which part is written down. One worker never ends the first part
that it looks for people in; the other begins that stage when this one has.
"""
import contextlib, functools, importlib.abc, importlib.util, os, sys, time
from pathlib import Path

FOLDER = Path(os.environ["PHQ_TEST_FOLDER"])
STUCK = FOLDER / "stuck"

LINES = []

def write(*words):
    LINES.append(" ".join(map(str, (os.getpid(), *words))) + "\\n")
    with contextlib.suppress(OSError):  # later, where no file may be written now
        with (FOLDER / "told").open("a") as file:
            file.write("".join(LINES))
        LINES.clear()

def model_set(module):
    once = module.Models._once
    def counted(self, name, make):
        return once(self, name, lambda: (write("load", name), make())[1])
    module.Models._once = counted

def engine(module):
    run_part = module.run_part
    @functools.wraps(run_part)
    def told(url, config, stage, part, **more):
        write(stage, part)
        if stage == "detect" and "PHQ_TEST_STUCK" in os.environ:
            STUCK.write_text("")
            time.sleep(3600)
        while stage == "detect" and not STUCK.exists():
            time.sleep(0.05)
        return run_part(url, config, stage, part, **more)
    module.run_part = told

CHANGES = {"phq_data.pipeline.model_set": model_set, "phq_data.pipeline.engine": engine}

class Changed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in CHANGES:
            return None
        change = CHANGES.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), change(module))
        return spec

sys.meta_path.insert(0, Changed())
'''


@contextmanager
def started(log, *command, **variables):
    """A program and what it starts, all killed at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], env=environment() | variables, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        kill(process)


def kill(process):
    for pid in (process.pid, *leftovers.below(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def wait_until(true, *processes, seconds=300):
    """Wait for a condition, while the processes run."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def killed_in_the_middle(victim, folder, told, *options):
    """The end of a build whose worker `victim` is killed in the middle of a part."""
    build = subprocess.Popen(
        [str(PHQ), "build", "-w", str(folder), "--set", "part_size=2", *options, "--gpus-per-part", "1",
         "synthetic:3@3"],
        env=bare_environment(str(folder.parent)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: (told / "stuck").exists() or build.poll() is not None)
        kill(victim)
        said = build.communicate(timeout=600)[1]
    finally:
        build.kill()
        build.wait()
    assert build.returncode == 0, said[-3000:]
    return said


def assert_one_model_a_worker(told):
    """Somebody did both parts, and nobody loaded a model twice."""
    lines = [line.split() for line in (told / "told").read_text().splitlines()]
    loads = Counter((pid, words[1]) for pid, *words in lines if words[0] == "load")
    parts = {(pid, words[1]) for pid, *words in lines if words[0] == "detect"}
    assert {name for _, name in loads} >= {"detector", "fitter", "segmenter"}
    assert max(loads.values()) == 1, loads
    assert max(Counter(pid for pid, _ in parts).values()) == 2, lines


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A function that makes variables for workers, and the folder in which they write down what they do."""

    def make(name):
        folder = tmp_path_factory.mktemp(name)
        (folder / "sitecustomize.py").write_text(WORKER)
        return folder, {"PYTHONPATH": str(folder), "PHQ_TEST_FOLDER": str(folder)}

    return make


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """(address of a scheduler, how a worker of it is started)."""
    distributed = pytest.importorskip("distributed", reason="the package distributed is not installed")
    pytest.importorskip("prefect_dask", reason="the package prefect-dask is not installed")
    logs, port = tmp_path_factory.mktemp("dask"), quiet_port()
    address = f"tcp://127.0.0.1:{port}"

    @contextmanager
    def worker(name, **variables):
        options = ("--no-nanny", "--no-dashboard", "--nthreads", "1", "--resources", "GPU=1", "--name", name)
        with (
            started(logs / name, BIN / "dask", "worker", address, *options, **variables) as process,
            distributed.Client(address, set_as_default=False) as client,
        ):
            wait_until(
                lambda: name in {one["name"] for one in client.scheduler_info(-1)["workers"].values()},
                process,
            )
            client.close()
            yield process

    options = ("--host", "127.0.0.1", "--port", port, "--no-dashboard")
    with started(logs / "scheduler", BIN / "dask", "scheduler", *options) as scheduler:
        wait_until(lambda: answers(port), scheduler)
        yield address, worker


def test_a_dask_worker_killed_in_the_middle_costs_time_only(dask, told, small, tmp_path):
    address, worker = dask
    folder, variables = told("dask-workers")
    with worker("good", **variables) as good, worker("stuck", **variables, PHQ_TEST_STUCK="1") as stuck:
        options = ("--runner", "dask", "--address", address)
        resource.prlimit(good.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        refused = phq_here(
            "build", "-w", str(tmp_path / "ws"), "--set", "part_size=2", *options, "synthetic:1@3"
        )
        assert refused.returncode == 1 and "Traceback" not in refused.stderr
        assert "cannot write to the workspace" in refused.stderr and "mount the folder" in refused.stderr
        assert not list((tmp_path / "ws").glob("cluster-check*")) and not (tmp_path / "ws" / "plan").exists()
        resource.prlimit(good.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said = killed_in_the_middle(stuck, tmp_path / "ws", folder, *options)
    assert "has gone: its parts run again on the others" in said
    assert rows_of(tmp_path / "ws") == rows_of(small)
    assert_one_model_a_worker(folder)


def test_a_worker_of_another_version_is_told(dask, tmp_path):
    address, worker = dask
    (tmp_path / "phq_data").mkdir()
    (tmp_path / "phq_data" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    with worker("old", PYTHONPATH=str(tmp_path)):
        options = ("--runner", "dask", "--address", address, "synthetic:1@3")
        done = phq_here("build", "-w", str(tmp_path / "ws"), *options)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert f"on {socket.gethostname()} has PHQ 0.0.1, this build is of" in done.stderr
        lacking = phq_here("build", "-w", str(tmp_path / "ws"), "--gpus-per-part", "2", *options)
        assert lacking.returncode == 1
        assert 'start them with dask worker --resources "GPU=2"' in lacking.stderr


@pytest.mark.parametrize(
    ("runner", "address", "words"),
    [
        ("dask", "tcp://127.0.0.1:{free}", "no dask cluster answers at tcp://127.0.0.1:"),
        ("ray", "ray://127.0.0.1:{free}", "no ray cluster answers at ray://127.0.0.1:"),
        ("dask", "ray://127.0.0.1:8786", "is no address of a dask cluster: give tcp://HOST:PORT"),
        ("threads", "tcp://127.0.0.1:8786", "go with --runner ray or dask"),
    ],
)
def test_an_address_of_no_cluster_is_one_sentence(runner, address, words, tmp_path):
    began = time.monotonic()
    address = address.format(free=quiet_port())
    options = ("--runner", runner, "--address", address, "synthetic:1@3")
    done = phq_here("build", "-w", str(tmp_path / "ws"), *options)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    assert words in " ".join(done.stderr.split())
    assert time.monotonic() - began < 60


def ended(error) -> Any:
    """A future whose result is an error of the cluster's own."""

    def result(raise_on_failure):
        raise error

    return SimpleNamespace(result=result)


def test_a_lost_cluster_ends_the_build_and_a_deadly_part_is_only_broken():
    from phq_flows.build import _result, _unexpected

    said_by_ray = Exception("Ray Client is not connected. Please connect by calling `ray.init`.")
    for error in (CancelledError("connection lost.\nPlease"), ConnectionError("shut down"), said_by_ray):
        words = r"dask cluster at tcp://a:1 does not answer any more .*finished parts are kept"
        with pytest.raises(ClusterError, match=words), loss_told(Cluster("dask", "tcp://a:1")):
            _result(ended(error))
        record = logging.makeLogRecord({"exc_info": (type(error), error, None)})
        assert not _unexpected(record)  # no traceback of Prefect's beside the sentence
    deadly = RuntimeError("4 workers died of it")
    assert _result(ended(deadly)) is deadly


def test_a_dask_cluster_lost_while_its_workers_are_looked_at_is_one_sentence(small, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the package distributed is not installed")
    pytest.importorskip("prefect_dask", reason="the package prefect-dask is not installed")
    from phq_flows import dask_cluster

    closed = []

    def lost(asked):
        raise distributed.comm.CommClosedError("in <TCP (closed)>: Stream is closed")

    backend = SimpleNamespace(ask=lost, close=lambda: closed.append(True))
    monkeypatch.setattr(dask_cluster, "connect", lambda *given: backend)
    workspace = Workspace.open(small)
    with socket.create_server(("127.0.0.1", 0)) as scheduler:
        cluster = Cluster("dask", f"tcp://127.0.0.1:{scheduler.getsockname()[1]}")
        ready = clusters.ready(cluster, workspace, load_config(workspace), 1, lambda text: None)
        with pytest.raises(ClusterError, match=r"does not answer any more .*Stream is closed"), ready:
            pass
    assert closed and not list(small.glob("cluster-check*"))


def test_a_ray_cluster_lost_while_its_workers_answer_is_no_workers_fault(monkeypatch):
    pytest.importorskip("ray", reason="the package ray is not installed")
    from phq_flows import ray_cluster

    def lost(reference, timeout):
        raise ConnectionError("the client has gone")

    handle = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: None))
    node = {"NodeID": "ab" * 28, "NodeManagerAddress": "a", "Alive": True, "Resources": {"CPU": 1}}
    fake = SimpleNamespace(
        nodes=lambda: [node], remote=lambda **_: lambda asked: handle, wait=lambda *_, **more: None, get=lost
    )
    monkeypatch.setattr(ray_cluster, "ray", fake)
    cluster = Cluster("ray", "ray://a:1")
    with pytest.raises(ClusterError, match="ray://a:1 does not answer any more"), loss_told(cluster):
        ray_cluster.RayCluster(cluster, "127.0.0.1").ask(dict)


@pytest.mark.parametrize("answering", [True, False])
def test_what_a_worker_says_of_prefects_server_has_no_password(answering):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

    service = HTTPServer(("127.0.0.1", 0), Refusing)
    if answering:
        threading.Thread(target=service.serve_forever, daemon=True).start()
    else:
        service.server_close()
    backend: Any = SimpleNamespace(ask=lambda asked: {"w": asked()})
    place = f"127.0.0.1:{service.server_port}/api"
    with pytest.raises(
        ClusterError, match=f"worker w does not reach Prefect's server at http://{place} "
    ) as told:
        clusters.check_server(backend, f"http://me:wordofmine@{place}")
    if answering:
        service.shutdown()
        service.server_close()
        assert "it answers 503" in str(told.value)
    assert "wordofmine" not in str(told.value) and "0.0.0.0" not in str(told.value)
    assert "PREFECT_SERVER_API_AUTH_STRING" in str(told.value) and "PREFECT_API_AUTH_STRING" in str(
        told.value
    )


def test_a_ray_node_killed_in_the_middle_costs_time_only(told, small, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the package ray is not installed")
    pytest.importorskip("prefect_ray", reason="the package prefect-ray is not installed")
    folder, variables = told("ray-workers")
    scratch = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets have short paths
    port, door = quiet_port(), quiet_port()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{door}")
    variables |= {"RAY_health_check_period_ms": "1000", "RAY_health_check_initial_delay_ms": "0"}
    common = (
        "--block", "--num-cpus", "1", "--num-gpus", "1", "--object-store-memory", "80000000",
        "--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0",
        "--disable-usage-stats",
    )  # fmt: skip
    head_options = (
        "--head", "--port", port, "--ray-client-server-port", door, "--include-dashboard", "false",
        "--temp-dir", scratch,
    )  # fmt: skip

    def runs(log):
        return lambda: "Ray runtime started" in log.read_text()

    logs = tmp_path / "head", tmp_path / "node"
    try:
        ray = BIN / "ray"
        with started(logs[0], ray, "start", *head_options, *common, **variables) as head:
            wait_until(runs(logs[0]), head)
            second = (ray, "start", "--address", f"127.0.0.1:{port}", *common)
            with started(logs[1], *second, **variables, PHQ_TEST_STUCK="1", RAY_ADDRESS="") as node:
                wait_until(runs(logs[1]), node)
                said = killed_in_the_middle(node, tmp_path / "ws", folder, "--runner", "ray")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    assert "has gone: its parts run again on the others" in said
    assert rows_of(tmp_path / "ws") == rows_of(small)
    assert_one_model_a_worker(folder)
