"""Any number of processes gives the numbers of one, for the same micro-batches."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from portraitgan.data.dataset import PortraitData
from portraitgan.presets import eg3d
from portraitgan.training.config import BatchConfig, TrainConfig
from portraitgan.training.distributed import DistributedError, World, join
from portraitgan.training.step import Stepper, make_networks

SCRIPT = Path(__file__).with_name("two_processes.py")


def run(command: list[str], *arguments: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*command, str(SCRIPT), *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def folder(small: TrainConfig, release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two found (see two_processes.py)."""
    folder = tmp_path_factory.mktemp("processes")
    stages = tuple(
        replace(stage, until_kimg=0.008 * number) for number, stage in enumerate(small.stages, start=1)
    )  # of one batch each
    one_interval = replace(small.optimiser, density_interval=1)
    for kind, size in (("adam", 8), ("sgd", 16), ("static", 8), ("density", 8)):
        config = replace(small, stages=stages, batch=BatchConfig(size, 4))
        if kind == "density":  # steps the generator twice, and some of its weights not at all
            config = replace(config, model=eg3d(small.model), optimiser=one_interval)
        (folder / f"{kind}.json").write_text(config.to_json())
    run([sys.executable], folder, release)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run(torchrun, folder, release)
    return folder


def found(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What one process has, and what two have, who agree."""
    one = load_file(folder / f"{kind}-0-of-1")
    two, second = (load_file(folder / f"{kind}-{rank}-of-2") for rank in (0, 1))
    assert set(one) == set(two) == set(second)
    for key, value in two.items():
        assert torch.equal(value, second[key]), f"the processes disagree about {key}"
    return one, two


@pytest.mark.slow
@pytest.mark.timeout(1500)  # four processes import torch, on a machine that may be busy
@pytest.mark.parametrize("kind", ["adam", "static", "density"])
def test_two_micro_batches_give_the_same_bits(kind: str, folder: Path) -> None:
    """A sum of two numbers has no order: equal bit for bit, through all three stages, with Adam.

    Also where one flat gradient is averaged instead of torch's buckets.
    """
    one, two = found(folder, kind)
    for key, value in one.items():
        if key.startswith("mean/"):  # for people; scores of both signs are added up per process first
            assert float(two[key]) == pytest.approx(float(value), rel=1e-6, abs=1e-6), key
        else:
            assert torch.equal(two[key], value), key


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_four_micro_batches_differ_by_rounding(folder: Path) -> None:
    """Gradients are added up in another order, so they differ by rounding, and so must the weights.

    Adam's first steps are about rate x sign(gradient), which says nothing where a gradient is rounding only:
    what is compared is the gradients of every phase (generator, discriminator, R1) of an iteration whose
    weights follow them linearly. A micro-batch that is lost or counted twice changes them by a quarter.
    """
    one, two = found(folder, "sgd")
    steps = {key.rsplit("/", 1)[0] for key in one if key.startswith("gradient/")}
    assert steps == {"gradient/generator/1", "gradient/discriminator/1", "gradient/discriminator/2"}
    for step in steps:
        keys = [key for key in one if key.startswith(f"{step}/")]
        floor = 1e-6 * float(torch.stack([one[key].norm() for key in keys]).norm())
        for key in keys:
            assert float((two[key] - one[key]).norm()) <= 1e-4 * float(one[key].norm()) + floor, key
    for key, value in one.items():
        if not key.startswith("gradient/"):
            assert float((two[key] - value).norm()) <= 1e-5 * max(1.0, float(value.norm())), key


def test_batches_that_cannot_be_dealt_out(small: TrainConfig, data: PortraitData) -> None:
    cpu = torch.device("cpu")
    networks = make_networks(small.model, None, World(0, 1, cpu), 0)
    with pytest.raises(DistributedError, match="2 micro-batches of 4 cannot be dealt to 3 processes"):
        Stepper(small, networks, data, World(0, 3, cpu))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(DistributedError, match="0 are visible"), join("cuda"):
        pass


@pytest.mark.parametrize(("rank", "warned"), [(0, True), (1, False)])
def test_several_processes_warn_once(
    rank: int, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (("WORLD_SIZE", 2), ("RANK", rank), ("LOCAL_RANK", rank)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    log = logging.getLogger("portraitgan.somewhere")
    with join("cpu"):
        log.warning("slow")
    assert ("slow" in caplog.text) == warned
    log.warning("afterwards")
    assert "afterwards" in caplog.text
