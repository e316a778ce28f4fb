"""A golden curve: 200 iterations of a toy run with a fixed seed still give the losses they gave.

Training magnifies rounding: where a gradient is rounding only, Adam steps by its sign. How fast was measured
with runs whose first weights differ by 1e-7 of themselves: their losses agree to 1e-5 for the first 50
iterations and to 5e-3 at the end, the mask's mean over 20 iterations to 2e-2. So the first iterations must
agree closely, and later ones in the mean; both in units of a loss's mean size.

After a change that is meant to change the numbers: PHQ_WRITE_GOLDEN=1 pytest <this file>, and say why in the
commit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from portraitgan.data.dataset import PortraitData
from portraitgan.data.loader import loader
from portraitgan.rendering import trigrid
from portraitgan.training.config import BatchConfig, StageConfig, TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.run import open_run
from portraitgan.training.schedule import at

pytestmark = [pytest.mark.slow, pytest.mark.training]
ITERATIONS, CLOSE, WINDOW = 200, 20, 20
CLOSE_TOLERANCE, MEAN_TOLERANCE = 1e-3, 5e-2
NAMES = (
    "loss_generator", "loss_generated", "loss_real", "loss_pose", "pose_regulariser", "mask_share",
    "pose_error_deg",
)  # fmt: skip


def curve_config(base: TrainConfig) -> TrainConfig:
    """Three stages within 200 batches of four, R1 in every 16th."""
    return replace(
        base,
        stages=(
            StageConfig("1", 0.4, True, 4, 4),
            StageConfig("2", 0.6, False, 4, 4),
            StageConfig("3", 0.8, False, 6, 4, 0.1),
        ),
        schedule=replace(base.schedule, condition_swap_kimg=0.4, blur_kimg=0.4, density_noise_kimg=0.4),
        batch=BatchConfig(4, 4),
    )


def losses_of_a_run(config: TrainConfig, data: PortraitData, folder: Path) -> dict[str, np.ndarray]:
    """Every loss's values [200]."""
    run = open_run(folder, config, data, World(0, 1, torch.device("cpu")), lambda _: None)
    batches = loader(data, run.sampler, config.batch.micro, 0)
    rows = []
    for _ in range(ITERATIONS):
        means = run.stepper.step(batches, run.iteration, at(config, run.images))
        run.images += config.batch.size
        run.iteration += 1
        rows.append([float(means[name]) for name in NAMES])
    return dict(zip(NAMES, np.array(rows).T, strict=True))


@pytest.mark.timeout(1500)
def test_the_losses_of_200_iterations_are_those_of_the_golden_curve(
    make_toy: Callable[[], TrainConfig],
    data: PortraitData,
    golden_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The curve was made by sampling rows; the form that is faster for so few points rounds otherwise.
    monkeypatch.setattr(trigrid, "_POINTS_FOR_A_TABLE", 0)
    found = losses_of_a_run(curve_config(make_toy()), data, tmp_path)
    file = golden_folder / "golden_loss_curve.json"
    if os.environ.get("PHQ_WRITE_GOLDEN"):
        rounded = {name: [float(f"{value:.7g}") for value in values] for name, values in found.items()}
        file.write_text(json.dumps(rounded, indent=0).replace(",\n", ", ") + "\n")
    golden = json.loads(file.read_text())
    assert set(golden) == set(NAMES)
    wrong = []
    for name, values in found.items():
        wanted = np.array(golden[name])
        size = np.abs(wanted).mean()
        close = np.abs(values - wanted)[:CLOSE].max() / size
        mean = np.abs((values - wanted).reshape(-1, WINDOW).mean(axis=1)).max() / size
        if not (close <= CLOSE_TOLERANCE and mean <= MEAN_TOLERANCE):  # also what is no number
            wrong.append(f"{name}: first iterations off by {close:.1e}, means by {mean:.1e}")
    assert not wrong, wrong
