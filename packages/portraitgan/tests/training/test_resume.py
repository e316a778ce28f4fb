"""A run that was stopped, killed or damaged ends with the numbers of the run that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from portraitgan.checkpoints import checkpoint
from portraitgan.data.dataset import PortraitData
from portraitgan.training import statistics
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.loop import train
from portraitgan.training.run import Run, TrainingError, open_run

pytestmark = pytest.mark.training
ALONE = World(0, 1, torch.device("cpu"))


def quiet(_: str) -> None:
    return None


def begin(folder: Path, config: TrainConfig, data: PortraitData, **options: object) -> Run:
    return open_run(folder, config, data, ALONE, quiet, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(small: TrainConfig, data: PortraitData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run left alone until its end."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = train(begin(folder, small, data), 64, quiet)
    assert outcome.finished and outcome.images == 64
    return folder


def same_end(one: Path, other: Path, rows: bool = True) -> None:
    """Equal bit for bit: networks, averages, optimisers, state; `rows` but for times and memory."""
    first, second = (checkpoint.load(checkpoint.latest(run)) for run in (one, other))
    assert first.state == second.state
    for name in checkpoint.NETWORKS:
        for key, value in first.networks[name].items():
            assert torch.equal(value, second.networks[name][key]), f"{name}: {key}"
    assert set(first.optimiser) == set(second.optimiser)
    assert all(torch.equal(value, second.optimiser[key]) for key, value in first.optimiser.items())
    told = [[(row.images, row.values) for row in statistics.read(run)] for run in (one, other)]
    assert told[0] == told[1] or not rows


def test_stopped_and_continued_equals_uninterrupted(
    whole: Path, small: TrainConfig, data: PortraitData, tmp_path: Path
) -> None:
    """Stopped in every stage; whatever else drew random numbers meanwhile."""
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls % 3 == 0

    for attempt in range(10):
        torch.manual_seed(attempt)
        torch.rand(attempt + 1)
        if train(begin(tmp_path, small, data), 64, quiet, stop).finished:
            break
    assert attempt == 2
    same_end(whole, tmp_path, rows=False)  # a stop in the middle of an interval ends it with a row


def test_a_stage_changes_what_it_says(whole: Path, small: TrainConfig, data: PortraitData) -> None:
    """After stage 1 the generator's pose predictor stays as it is; the rest of the generator moves."""
    first, last = checkpoint.checkpoints(whole)[0], checkpoint.checkpoints(whole)[-1]
    before, after = checkpoint.load(first), checkpoint.load(last)
    assert (before.state.images, before.state.stage, after.state.stage) == (32, "2", "3")
    # Inference renders with the rays of the moment.
    assert [one.config.generator.render.resolution for one in (before, after)] == [4, 6]
    moved = {
        key: not torch.equal(value, after.networks["generator"][key])
        for key, value in before.networks["generator"].items()
    }
    assert not any(moved[key] for key in moved if key.startswith("pose_branch"))
    assert moved["decoder.net.0.weight"] and moved["backbone.mapping.w_avg"]
    fresh = begin(whole.parent / "fresh", small, data).networks.generator.state_dict()
    key = "pose_branch.net.0.weight"
    assert not torch.equal(fresh[key], before.networks["generator"][key])


def test_other_workers_and_a_loader_ahead_change_nothing(
    whole: Path, small: TrainConfig, data: PortraitData, tmp_path: Path
) -> None:
    threads = replace(small, data=replace(small.data, workers=2))
    stops = iter([False, True])
    train(begin(tmp_path, threads, data), 64, quiet, lambda: next(stops))
    train(begin(tmp_path, threads, data), 64, quiet)
    same_end(whole, tmp_path)


def test_a_damaged_latest_costs_time_only(
    whole: Path, small: TrainConfig, data: PortraitData, tmp_path: Path
) -> None:
    train(begin(tmp_path, small, data), 48, quiet)
    broken = checkpoint.latest(tmp_path) / "generator.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    said: list[str] = []
    run = open_run(tmp_path, small, data, ALONE, said.append)
    assert run.images == 32 and "generator.safetensors is damaged" in said[0]
    train(run, 64, quiet)
    same_end(whole, tmp_path)


def test_another_release_is_noticed(small: TrainConfig, data: PortraitData, tmp_path: Path) -> None:
    stops = iter([True])
    train(begin(tmp_path, small, data), 64, quiet, lambda: next(stops))
    state = checkpoint.latest(tmp_path) / "state.json"
    other = {**json.loads(state.read_text()), "data": "0" * 64}
    del other["digest"]
    state.write_text(json.dumps({**other, "digest": checkpoint._digest(other)}))
    with pytest.raises(TrainingError, match="--allow-data-change"):
        begin(tmp_path, small, data)
    assert begin(tmp_path, small, data, allow_data_change=True).images == 8


def test_a_stage_alone_starts_from_given_weights(
    whole: Path, small: TrainConfig, data: PortraitData, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="stage 2 goes on from stage 1"):
        begin(tmp_path / "a", small, data, stage=2)
    run = begin(tmp_path / "b", small, data, stage=2, weights=checkpoint.latest(whole))
    assert (run.images, run.state().stage) == (24, "2")
    given = checkpoint.load(checkpoint.latest(whole)).networks["generator_ema"]
    assert torch.equal(
        run.networks.generator_ema.state_dict()["decoder.net.0.weight"], given["decoder.net.0.weight"]
    )
    assert train(run, 40, quiet).images == 40


def test_a_run_gone_wrong_stops_and_keeps_its_checkpoint(
    small: TrainConfig, data: PortraitData, tmp_path: Path
) -> None:
    careful = replace(small, guard=replace(small.guard, max_bad_steps=2))
    train(begin(tmp_path, careful, data), 16, quiet)
    before = checkpoint.latest(tmp_path)
    run = begin(tmp_path, careful, data)
    with torch.no_grad():
        run.networks.discriminator.b4.out.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="2 iterations in a row were not finite"):
        train(run, 64, quiet)
    assert checkpoint.latest(tmp_path) == before


@pytest.mark.slow
@pytest.mark.timeout(1500)  # four processes import torch, on a machine that may be busy
def test_kill_9_at_any_moment(whole: Path, small: TrainConfig, release: Path, tmp_path: Path) -> None:
    """Real processes, killed at random moments, until one gets through."""
    config = tmp_path / "config.json"
    config.write_text(small.to_json())
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(small.to_json())
    command = [
        sys.executable, "-m", "portraitgan", "train", "--data", str(release), "--out", str(run),
        "--device", "cpu",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # as `whole` had
    kills = 0
    for attempt in range(12):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if attempt < 3:
            # Wait for a sign of life that differs, then kill: in an iteration, or while writing.
            wanted = ("kimg 0.0/", "wrote ", "wrote ")[attempt]
            for line in process.stdout:
                if line.startswith(wanted):
                    break
            time.sleep(0.02 * attempt)
            process.send_signal(signal.SIGKILL)
            kills += 1
            process.wait()
            continue
        output = process.communicate()[0]
        assert process.returncode == 0, output
        break
    assert kills == 3
    same_end(whole, run)
