"""The command: what it says before it starts, how it stops, what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import release as bench
from phq_data.release.build import ReleaseOptions, build
from phq_data.release.splits import SplitShares
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace
from portraitgan.checkpoints import checkpoint
from portraitgan.commands.main import main
from portraitgan.data.dataset import PortraitData
from portraitgan.precision import PRECISIONS
from portraitgan.training import cuda_graphs, estimate, snapshots
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.loop import Outcome
from portraitgan.training.run import Run, open_run, read_run_config
from portraitgan.training.schedule import at

ALONE = World(0, 1, torch.device("cpu"))


def train(release: Path, out: Path, *more: str) -> int:
    return main(["train", "--data", str(release), "--out", str(out), "--device", "cpu", *more])


def started(folder: Path, config: TrainConfig) -> Path:
    """A run's folder with a config, so that the command needs no settings."""
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json())
    return folder


def test_dry_run_says_what_it_costs_and_writes_nothing(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(release, tmp_path / "run", "--preset", "tiny", "--dry-run") == 0
    said = capsys.readouterr().out
    for part in (
        "tiny: 32 pixels",
        "24 portraits of 'train', each also mirrored",
        "measuring one micro-batch of 4",
        "8 = 1 process(es) x 2 x micro-batch 4, 2 a pass",
        "generator 104,032, discriminator 113,494",
        "GiB a process",
        "s/kimg",
        str(tmp_path / "run"),
    ):
        assert part in said, part
    assert not (tmp_path / "run").exists()


def test_number_formats_and_graphs(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--precision` names all of them at once; graphs that are insisted on need a GPU."""
    assert train(release, tmp_path / "run", "--preset", "tiny", "--precision", "bf16", "--print-config") == 0
    assert TrainConfig.from_json(capsys.readouterr().out).model.precision == PRECISIONS["bf16"]
    assert train(release, tmp_path / "run", "--preset", "tiny", "--graphs", "on") != 0
    assert "--graphs on needs a GPU" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    cpu = torch.device("cpu")
    assert cuda_graphs.repeater("auto", cpu) is None and cuda_graphs.repeater("off", cpu) is None


def test_measuring_changes_nothing(small: TrainConfig, data: PortraitData, tmp_path: Path) -> None:
    run = open_run(tmp_path, small, data, ALONE, lambda _: None)
    before = {k: v.clone() for n in run.networks.named().values() for k, v in n.state_dict().items()}
    found = estimate.measure(small, run.networks, data, ALONE, at(small, 0).schedule)
    after = {k: v for n in run.networks.named().values() for k, v in n.state_dict().items()}
    assert all(torch.equal(before[key], value) for key, value in after.items())
    assert all(p.grad is None for n in run.networks.named().values() for p in n.parameters())
    assert found.resolution == 4 and found.activations_gib > 0 and found.seconds_per_kimg > 0
    assert 0 <= found.spread < 100
    assert estimate.static_gib([104_032, 113_494]) * 2**30 == pytest.approx(4 * (4 * 217_526 + 113_494))


def test_it_counts_the_density_regulariser_and_fid(
    make_toy: Callable[[], TrainConfig], data: PortraitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each phase by how often it goes over an image: a FID of 500 portraits every 250 renders two."""
    base = make_toy()
    config = replace(
        base,
        model=replace(base.model, loss=replace(base.model.loss, density=0.25)),
        output=replace(base.output, fid_kimg=0.25, fid_images=500),
    )
    run = open_run(tmp_path, config, data, ALONE, lambda _: None)

    def once(device: torch.device, phase: Callable[[], None]) -> tuple[float, float]:
        phase()
        return 1.0, 0.0

    monkeypatch.setattr(estimate, "_on", once)
    found = estimate.measure(config, run.networks, data, ALONE, at(config, 0).schedule)
    phases = 1 + 1 + 1 / config.optimiser.r1_interval + 1 / config.optimiser.density_interval + 2
    assert found.seconds_per_kimg == pytest.approx(1000 * phases / config.batch.micro)


def test_the_median_of_three_counts_and_a_busy_machine_is_named(
    small: TrainConfig, data: PortraitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warm-ups do not count; measured are 3, 9 and 4 seconds a phase for a micro-batch of 4."""
    took = iter([0.1] * 3 + [99.0] * 3 + [3.0] * 3 + [9.0] * 3 + [4.0] * 3)
    monkeypatch.setattr(estimate, "_on", lambda device, phase: (next(took), 0.0))
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    config = replace(small, stages=small.stages[:1])
    said: list[str] = []
    found = estimate.describe(config, data, ALONE, tmp_path, said.append)
    an_image = (4 + 4 + 4 / config.optimiser.r1_interval) / 4
    assert found.seconds == pytest.approx(24 * an_image)
    assert said[0].startswith("measuring one portrait at R 4 on cpu")
    assert "busy" in found.lines[-1] and "differ by 150%" in found.lines[-1]


def test_passes_take_what_fits() -> None:
    """85 % of 100 bytes, of which 5 are for others: 80."""
    assert [estimate.fitting(100, 5, each) for each in (80.0, 41.0, 40.0, 10.0, 500.0)] == [1, 1, 2, 8, 1]


def test_without_a_gpu_the_default_trains_and_years_want_a_yes(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(release, tmp_path / "run", "--print-config") == 0
    assert '"name": "tiny"' in capsys.readouterr().out
    long = estimate.Estimate(["time       long"], 3 * 365 * 86_400.0, 1)
    monkeypatch.setattr(estimate, "describe", lambda *_, **__: long)
    assert train(release, tmp_path / "run") == 1
    said = capsys.readouterr()
    assert said.out.startswith("training on ") and "time       long" in said.out
    assert "tiny would take about 3.0 years here" in said.err and "--yes" in said.err
    assert not (tmp_path / "run").exists()
    started_with: list[int] = []

    def stop_at_once(run: Run, *_: object) -> Outcome:
        started_with.append(run.stepper.per_pass)
        return Outcome(0, True, tmp_path)

    monkeypatch.setattr("portraitgan.training.loop.train", stop_at_once)
    assert train(release, tmp_path / "run", "--yes", "--pass", "2") == 0
    assert started_with == [1] and read_run_config(tmp_path / "run") is not None


def test_another_pass_continues_a_run(small: TrainConfig) -> None:
    other = replace(small, batch=replace(small.batch, per_pass=2))
    assert other == small and TrainConfig.from_json(other.to_json()).batch.per_pass == 2


def test_time_left_counts_every_stage_at_its_own_pace(small: TrainConfig) -> None:
    """24 and 16 images at R 4, 24 at R 6; from image 32 on, 8 and 24 of them."""
    costs = [estimate.Cost(4, 0.0, 1000.0, True), estimate.Cost(6, 0.0, 3000.0, True)]
    assert estimate.seconds_left(small, costs, 0) == pytest.approx(24 + 16 + 24 * 3)
    assert estimate.seconds_left(small, costs, 32) == pytest.approx(8 + 24 * 3)


def test_a_second_start_with_other_settings_is_refused(
    small: TrainConfig, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = started(tmp_path / "run", small)
    assert train(release, run, "--seed", "7") == 1
    assert "seed: 0 -> 7" in capsys.readouterr().err
    assert read_run_config(run) == small


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "enormous"], "no preset 'enormous'; there are paper_512"),
        (["--preset", "tiny", "--set", "batch.size"], "PATH=VALUE"),
        (["--preset", "tiny", "--batch", "6"], "multiple of batch.micro"),
        (["--preset", "tiny", "--stage", "4"], "stages 1 to 3"),
        (["--preset", "tiny", "--stage", "2"], "--from"),
        (["--preset", "paper_256"], "256"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    arguments: list[str], message: str, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(release, tmp_path / "run", *arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("portraitgan train: ") and message in error


def test_no_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "nothing", tmp_path / "run", "--preset", "tiny") == 1
    assert "no release" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(
    small: TrainConfig, release: Path, tmp_path: Path
) -> None:
    run = started(tmp_path / "run", small)
    command = [
        sys.executable, "-m", "portraitgan", "train", "--data", str(release), "--out", str(run),
        "--device", "cpu",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("kimg"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate()[0]
    assert process.returncode == 130, rest
    assert "writing a checkpoint" in rest and "the same command continues" in rest
    assert checkpoint.load(checkpoint.latest(run)).state.images < 64


def test_sheets_show_portraits_that_are_not_trained_on(
    small: TrainConfig, data: PortraitData, tmp_path: Path, make_bust: Callable[..., PortraitRig]
) -> None:
    bench.make_workspace(tmp_path / "workspace", 24, 32)
    workspace = Workspace.open(tmp_path / "workspace")
    workspace.write_bytes("rig.safetensors", make_bust(16, 12).to_bytes())
    options = ReleaseOptions(unreviewed=True, created="2026-01-01", shares=SplitShares(0.6, 0.4, 0.0))
    build(workspace, tmp_path / "releases", "1.0.0", options)
    split = PortraitData.open(tmp_path / "releases" / "1.0.0", data.resolution)
    held_out = split.held_out()
    assert held_out is not None and held_out.split == "validation"
    trained = set(split.portrait_ids(range(split.portraits)))
    assert held_out.portraits > 1 and not trained & set(held_out.portrait_ids(range(len(held_out))))
    scene = snapshots.make_scene(small, split, ALONE.device)
    cameras = held_out.labels(range(len(held_out)))[0]
    assert scene.held_out and all((cameras == camera).all(dim=1).any() for camera in scene.real_cameras)
    whole = PortraitData.open(tmp_path / "releases" / "1.0.0", data.resolution, split="all")
    assert whole.held_out() is None and not snapshots.make_scene(small, whole, ALONE.device).held_out


def test_sheets_show_twins_and_bodies(small: TrainConfig, data: PortraitData, tmp_path: Path) -> None:
    """Two sheets of the same state are equal; a body is drawn where the label says it is."""
    run = open_run(tmp_path, small, data, ALONE, lambda _: None)
    scene = snapshots.make_scene(small, data, ALONE.device)
    state = at(small, 0)
    first = snapshots.write(tmp_path, scene, run.networks, state, 0)
    second = snapshots.write(tmp_path, scene, run.networks, state, 8)
    assert first.read_bytes() == second.read_bytes()
    assert snapshots.newest(tmp_path) == second and second.name == "kimg-000000.008.jpg"
    with Image.open(first) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    size, gap, title = 96, 2, 16
    assert pixels.shape == (2 * (title + size), 10 * (size + gap) - gap, 3)
    real = pixels[title * 2 + size :]
    image, with_body = real[:, :size], real[:, 2 * (size + gap) : 3 * (size + gap) - gap]
    changed = np.abs(image - with_body).max(axis=2) > 40
    # The neck joint, the world's origin, projects a little below the middle: the body covers it.
    assert changed[60:70, 40:56].mean() > 0.9
    assert not changed[:10, :10].any()
