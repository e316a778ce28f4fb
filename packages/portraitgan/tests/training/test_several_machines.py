"""A run over several machines, here two agents of torchrun on one, that loses a process in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import torch
from ports import quiet_port
from s3_server import Bucket

from portraitgan.checkpoints import checkpoint
from portraitgan.data.dataset import PortraitData
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.loop import train
from portraitgan.training.run import open_run

pytestmark = [
    pytest.mark.training,
    pytest.mark.slow,
    pytest.mark.timeout(1500),  # six processes import torch, on a machine that may be busy
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]


@pytest.fixture
def release_url(release: Path, s3: Bucket) -> str:
    """The release in an object store, from which both machines read it."""
    for path in filter(Path.is_file, release.rglob("*")):
        s3.service.fs.put_file(str(path), f"{s3.name}/release/{path.relative_to(release)}")
    return f"{s3.url}/release"


def trainers_of(agent: int) -> list[int]:
    """The processes that an agent of torchrun has started."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == agent and b"portraitgan" in stat.with_name("cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


def end(agent: subprocess.Popen[bytes]) -> None:
    """An agent that is killed leaves its processes."""
    for process in (*trainers_of(agent.pid), agent.pid):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    agent.wait()


def test_a_process_killed_on_one_of_two_machines_costs_time_only(
    small: TrainConfig, data: PortraitData, release_url: str, tmp_path: Path
) -> None:
    """Both agents start their process again, which goes on from the checkpoint, and end with the bits of one
    process alone: a batch has two micro-batches, and a sum of two has no order.
    """
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(open_run(whole, small, data, World(0, 1, torch.device("cpu")), lambda _: None), 64, lambda _: None)
    run.mkdir()
    (run / "config.json").write_text(small.to_json())
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{quiet_port()}", "--rdzv-id", "a-run",
        "--local-addr", "127.0.0.1", "--max-restarts", "3", "-m", "portraitgan", "train",
        "--data", release_url, "--out", str(run), "--device", "cpu",
    ]  # fmt: skip
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "GLOO_SOCKET_IFNAME": "lo",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    with ExitStack() as stack:
        agents = []
        for number in (0, 1):
            log = stack.enter_context((tmp_path / f"agent-{number}").open("wb"))
            agents.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
            stack.callback(end, agents[-1])
        said = tmp_path / "agent-0", tmp_path / "agent-1"

        def both() -> str:
            return "".join(path.read_text() for path in said)

        while not any(line.startswith("wrote ") for line in both().splitlines()):
            assert all(agent.poll() is None for agent in agents), both()[-3000:]
            time.sleep(0.01)
        os.kill(trainers_of(agents[1].pid)[0], signal.SIGKILL)
        assert [agent.wait() for agent in agents] == [0, 0], both()[-3000:]
    assert "continuing at 0." in both()
    first, second = (checkpoint.load(checkpoint.latest(folder)) for folder in (whole, run))
    assert first.state == second.state and first.state.images == 64
    for name in checkpoint.NETWORKS:
        for key, value in first.networks[name].items():
            assert torch.equal(value, second.networks[name][key]), f"{name}: {key}"
    assert all(torch.equal(value, second.optimiser[key]) for key, value in first.optimiser.items())
