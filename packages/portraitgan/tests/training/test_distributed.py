"""Any number of processes gives the numbers of one, for the same micro-batches."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from portraitgan.data.dataset import PortraitData
from portraitgan.training.config import BatchConfig, TrainConfig
from portraitgan.training.distributed import DistributedError, World, join
from portraitgan.training.step import Stepper, make_networks

SCRIPT = Path(__file__).with_name("two_processes.py")


def run(command: list[str], processes: int, arguments: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*command, str(SCRIPT), *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{processes} processes: {done.stderr[-3000:]}"


@pytest.mark.slow
@pytest.mark.timeout(1500)  # five processes import torch, on a machine that may be busy
@pytest.mark.parametrize(
    ("size", "iterations", "tolerance"),
    [
        (8, 7, 0.0),  # a sum of two numbers has no order: equal bit for bit, through all three stages
        (16, 2, 1e-3),  # gradients are added up in another order, and Adam magnifies rounding
    ],
)
def test_two_gloo_processes_equal_one(
    size: int, iterations: int, tolerance: float, small: TrainConfig, release: Path, tmp_path: Path
) -> None:
    config = replace(small, batch=BatchConfig(size, 4))
    (tmp_path / "config.json").write_text(config.to_json())
    arguments = [str(tmp_path / "config.json"), str(release), str(iterations), str(tmp_path / "found")]
    run([sys.executable], 1, arguments)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run(torchrun, 2, arguments)
    one = load_file(tmp_path / "found-0-of-1")
    both = [load_file(tmp_path / f"found-{rank}-of-2") for rank in (0, 1)]
    assert set(one) == set(both[0]) == set(both[1])
    for key, value in one.items():
        assert torch.equal(both[0][key], both[1][key]), f"the processes disagree about {key}"
        limit = tolerance * float(value.abs().max())
        if key.startswith("mean/"):  # for people; scores of both signs are added up per process first
            limit += 1e-6 * max(1.0, float(value.abs().max()))
        assert float((both[0][key] - value).abs().max()) <= limit, key


def test_batches_that_cannot_be_dealt_out(small: TrainConfig, data: PortraitData) -> None:
    cpu = torch.device("cpu")
    networks = make_networks(small.model, None, World(0, 1, cpu), 0)
    with pytest.raises(DistributedError, match="2 micro-batches of 4 cannot be dealt to 3 processes"):
        Stepper(small, networks, data, World(0, 3, cpu))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(DistributedError, match="0 are visible"), join("cuda"):
        pass
