"""What `make learn` trains on the same labels and judges by the same judge, and what never sees an image.

Supervised regression, the judge (regression on true poses) and GANs share the discriminator's trunk, the data
and the number of images. A piece is trained by a process of its own and goes on where it was stopped.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from portraitgan.checkpoints import weights
from portraitgan.data.dataset import PortraitData
from portraitgan.data.loader import Sampler
from portraitgan.training import ema
from portraitgan.training.config import TrainConfig
from portraitgan.training.losses import prepare_real
from portraitgan.training.schedule import stage_end

SUPERVISED, JUDGE = "supervised", "judge"
BATCH = 32
"""Portraits a step of the regressions."""
Change = Callable[[TrainConfig], TrainConfig]


def _coarse(config: TrainConfig) -> TrainConfig:
    """Portraits are rendered in the labels' poses; the discriminator learns to read them."""
    generator = replace(config.model.generator, pose_predictor=None)
    return replace(config, model=replace(config.model, generator=generator))


def _weighted(**values: float) -> Change:
    """The pose regulariser fades as in the paper, 0.2 M to 0.4 M of 13 M images; and `values` of the loss."""

    def change(config: TrainConfig) -> TrainConfig:
        images = round(stage_end(config, len(config.stages) - 1) * 0.2 / 13)
        loss = replace(config.model.loss, pose_regulariser_images=images, **values)  # type: ignore[arg-type]
        return replace(config, model=replace(config.model, loss=loss))

    return change


GANS: dict[str, Change] = {
    "coarse": _coarse,
    "self-learned": lambda config: config,
    "paper": _weighted(),
    "floor": _weighted(pose_regulariser_floor=0.05),
    "mean-pose": _weighted(mean_pose=1.0),
}
"""GANs by name, from the config whose pose regulariser is full until poses are frozen."""


def run_of(folder: Path, name: str) -> Path:
    """Where a GAN is trained."""
    return folder / ("run" if name == "self-learned" else f"run-{name}")


def train_all(
    folder: Path, names: Sequence[str], data: Path, config: TrainConfig, device: str, processes: int
) -> None:
    """Train regressions and GANs, `processes` pieces at once. Raises `CalledProcessError` where one fails."""
    commands = []
    (folder / "config.json").write_text(config.to_json())
    for name in names:
        if name in (SUPERVISED, JUDGE):
            commands.append(["-m", "benchmarks.learn_arms", name, str(folder), str(data), device])
            continue
        run = run_of(folder, name)
        run.mkdir(exist_ok=True)
        if not (run / "config.json").exists():
            (run / "config.json").write_text(GANS[name](replace(config, name=f"learn-{name}")).to_json())
        commands.append(
            ["-m", "portraitgan", "train", "--data", str(data), "--out", str(run), "--device", device]
        )
    with ThreadPoolExecutor(processes) as pool:
        for _ in pool.map(lambda one: subprocess.run([sys.executable, *one], check=True), commands):
            pass


def regress(
    config: TrainConfig, data: PortraitData, folder: Path, of_truth: bool, device: str = "cpu"
) -> None:
    """Train the discriminator's trunk and pose branch to predict labels, or true poses, of real portraits.

    Writes a checkpoint for inference into `folder`, whose generator has fresh weights. Portraits do not
    interact in it, as they do not at inference.
    """
    torch.manual_seed(config.seed)
    network = weights.make_discriminator(config.model).to(device)
    network.b4.group = 1
    averaged = ema.averaged_copy(network)
    rates = config.optimiser
    optimiser = torch.optim.Adam(network.parameters(), rates.discriminator_rate, (0.9, rates.beta2))
    sampler = Sampler(len(data), config.seed)
    side = config.model.generator.render.resolution
    for step in range(stage_end(config, len(config.stages) - 1) // BATCH):
        chosen = sampler.take(BATCH)
        batch = data.batch(chosen)
        truth = data.truth(chosen)
        assert truth is not None
        target = (truth[1] if of_truth else batch.poses).to(device)
        images, masks = batch.images.to(device).float(), batch.masks.to(device).float()
        seen = prepare_real(images / 127.5 - 1, masks / 255, side, 0.0)
        loss = functional.mse_loss(network.predict_pose(seen, batch.cameras.to(device)), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        half_life = min(config.ema.half_life, config.ema.ramp * (step + 1) * BATCH)
        ema.update(averaged, network, 0.5 ** (BATCH / half_life))
    folder.mkdir(parents=True, exist_ok=True)
    states = {
        weights.GENERATOR_EMA: weights.make_generator(config.model), weights.DISCRIMINATOR_EMA: averaged
    }  # fmt: skip
    for name, one in states.items():
        weights.write_tensors(folder / f"{name}.safetensors", one.state_dict())
    weights.write_config(folder, config.model)  # last: what has it is whole


def blind(
    labels: NDArray[np.floating],  # [N, 6] of training portraits, radians
    truth: NDArray[np.floating],  # [N, 6]
    asked: NDArray[np.floating],  # [M, 6] of other portraits
) -> NDArray[np.float64]:
    """The best linear guess of poses from labels alone, [M, 6]: shrunk towards the labels' mean.

    By the covariances of labels and truth; their means stay the labels', whose bias nobody knows.
    """
    mean = labels.mean(axis=0, dtype=np.float64)
    spread = labels - mean
    slope = np.linalg.lstsq(spread, truth - truth.mean(axis=0), rcond=None)[0]
    return mean + (asked - mean) @ slope


def main(name: str, folder: Path, release: Path, device: str) -> None:
    """Train a regression, unless that was done."""
    if (folder / name / weights.CONFIG_FILE).exists():
        return
    if device == "cpu":
        torch.set_num_threads(1)  # others are trained beside it
    config = TrainConfig.from_json((folder / "config.json").read_text())
    data = PortraitData.open(release, config.model.generator.image_resolution, verify=False)
    regress(config, data, folder / name, name == JUDGE, device)
    print(f"{name}: trained on {data.portraits} portraits", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
