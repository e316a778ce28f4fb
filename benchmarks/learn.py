"""Proof that training learns: rendered people of known truth, from noised labels to a model, measured."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import timing
from benchmarks.synthetic import make_release
from phq_data.camera import from_label
from phq_data.process_pool import end_with_parent
from phq_data.rendering.renderer import render_mesh
from phq_data.rig import PortraitRig
from portraitgan.checkpoints.checkpoint import RIG_FILE, latest
from portraitgan.config import PosePredictorConfig, RenderConfig, SynthesisConfig
from portraitgan.data.balance import octant_of
from portraitgan.data.dataset import PortraitData
from portraitgan.inference.model import Model, open_model
from portraitgan.metrics import poses, quality
from portraitgan.metrics.features import open_features
from portraitgan.metrics.generate import Setting, drawn
from portraitgan.metrics.statistics import frechet_distance
from portraitgan.presets import tiny as tiny_model
from portraitgan.training.config import (
    BatchConfig,
    EmaConfig,
    OutputConfig,
    ScheduleConfig,
    StageConfig,
    TrainConfig,
    middle,
    tiny,
)
from portraitgan.training.distributed import World
from portraitgan.training.run import TrainingError, open_run
from portraitgan.training.snapshots import newest

BATCH = {"cpu": 8, "cuda": 32}
"""Portraits judged at once."""
POSES = 1000
"""Generated portraits whose poses are compared, at most: their mean is known to a quarter of a degree."""
WHEN = ("start", "end")
FEATURES = "512 features of three fixed random convolutions (metrics/features.py: RandomConvolutions)"


def learn_config(kimg: float) -> TrainConfig:
    """A `tiny`-like run for two CPU cores: 32x32 images, 12x12 rays, frozen poses from 60 % on.

    The pull to the labels' poses lasts until then: a run that trains poses without it lets the canonical
    body drift away (docs/learning.md).
    """
    model = tiny_model()
    generator = replace(
        model.generator,
        z_dim=64,
        w_dim=64,
        backbone=SynthesisConfig(32, 1024, 48),
        render=RenderConfig(coarse_samples=10, fine_samples=10, resolution=12),
        background=SynthesisConfig(16, 256, 24),
        pose_predictor=PosePredictorConfig((64, 32)),
    )
    discriminator = replace(
        model.discriminator,
        channel_base=1024,
        channel_max=48,
        condition_dim=64,
        pose_predictor=PosePredictorConfig((128, 32)),
    )
    loss = replace(model.loss, r1_gamma=0.1, r1_gamma_mask=0.1, pose_regulariser_images=round(kimg * 600))
    return replace(
        tiny(),
        name="learn",
        model=replace(model, name="learn", generator=generator, discriminator=discriminator, loss=loss),
        stages=(
            StageConfig("1", 0.6 * kimg, True, 12, 12),
            StageConfig("2", kimg, False, 12, 12),
        ),
        schedule=ScheduleConfig(
            condition_swap_kimg=0.3 * kimg, blur_sigma=1.0, blur_kimg=0.1 * kimg,
            density_noise_kimg=0.1 * kimg,
        ),
        ema=EmaConfig(half_life=1000.0),
        batch=BatchConfig(8, 4),
        output=OutputConfig(0.5, 0.25 * kimg, 2.0, max(kimg / 8, 0.5), 4),
    )  # fmt: skip


def learn_gpu_config(kimg: float) -> TrainConfig:
    """A larger run for one GPU: 128x128 images of the `middle` preset, rays 32x32 growing to 48x48."""
    base = middle()
    span = round(kimg * 600)  # until poses are frozen, as in `learn_config`
    loss = replace(base.model.loss, r1_gamma=0.3, r1_gamma_mask=0.3, pose_regulariser_images=span)
    precision = replace(base.model.precision, tf32=True)
    return replace(
        base,
        name="learn-gpu",
        model=replace(base.model, name="learn-gpu", loss=loss, precision=precision),
        stages=(
            StageConfig("1", 0.6 * kimg, True, 32, 32),
            StageConfig("2", 0.8 * kimg, False, 32, 32),
            StageConfig("3", kimg, False, 48, 32, 0.1 * kimg),
        ),
        schedule=ScheduleConfig(
            condition_swap_kimg=0.3 * kimg, blur_sigma=3.0, blur_kimg=0.1 * kimg,
            density_noise_kimg=0.1 * kimg,
        ),
        ema=EmaConfig(half_life=2000.0),
        batch=BatchConfig(32, 32),
        output=OutputConfig(1.0, 0.25 * kimg, 10.0, kimg / 8, 6),
    )  # fmt: skip


def measure(
    folder: Path,
    kimg: float = 24.0,
    portraits: int = 2000,
    processes: int = 2,
    samples: int = 2000,
    device: str = "cpu",
) -> tuple[str, dict[str, Any]]:
    """(table, figures): draw a release, train on it, measure at the start and at the end.

    `device` cpu trains `learn_config`, cuda `learn_gpu_config`. Everything stays in `folder`; the same call
    continues an interrupted one. Raises `SystemExit` where there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here: `make learn` trains a small model on two CPU cores instead")
    began = time.monotonic()
    config = (learn_config if device == "cpu" else learn_gpu_config)(kimg)
    pixels = config.model.generator.image_resolution
    release = folder / "releases" / "1.0.0"
    if not release.exists():
        shutil.rmtree(folder / "workspace", ignore_errors=True)
        print(f"drawing {portraits} portraits of known truth, with poses noised for their labels", flush=True)
        make_release(folder, portraits, pixels, workers=os.cpu_count() or 1)
    ready = time.monotonic()
    run = folder / "run"
    first = run / "start"
    data = PortraitData.open(release, pixels)
    if not first.exists():
        alone = World(0, 1, torch.device("cpu"))
        begin = open_run(run, config, data, alone, lambda _: None)
        if begin.images:
            raise TrainingError(f"{run} was started by something else: choose another --folder")
        begin.save().rename(first)
    threads = "1" if device == "cpu" else str(os.cpu_count() or 1)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
        "-m", "portraitgan", "train", "--data", str(release), "--out", str(run), "--device", device,
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": threads})
    trained = time.monotonic()
    kept = folder / "features"
    ends = [_judge(path, run / RIG_FILE, data, samples, kept, device) for path in (first, latest(run))]
    figures = {
        **{_named(name, when): end[name] for name in ends[0] for when, end in zip(WHEN, ends, strict=True)},
        "pose_error_labels_deg": ends[1]["pose_error_labels_deg"],
        "pose_error_learned_deg": ends[1]["pose_error_learned_deg"],
        "kimg": kimg, "portraits": data.portraits, "features": FEATURES,
        "minutes_drawing": round((ready - began) / 60, 2),
        "minutes_training": round((trained - ready) / 60, 2),
        "minutes": round((time.monotonic() - began) / 60, 2),
    }  # fmt: skip
    return _table(ends, figures, run), figures


def _named(name: str, when: str) -> str:
    """`fid_start`, `generated_pose_error_start_deg`: the unit comes last."""
    return f"{name.removesuffix('_deg')}_{when}_deg" if name.endswith("_deg") else f"{name}_{when}"


def _judge(
    checkpoint: Path, rig: Path, data: PortraitData, samples: int, kept: Path, device: str = "cpu"
) -> dict[str, float]:
    """What a checkpoint's EMAs are worth. Features of real portraits stay in the folder `kept`."""
    model = open_model(checkpoint, rig=rig, device=device)
    alone = World(0, 1, torch.device(device))
    # Each portrait is conditioned on another one's camera and pose, so that a view cannot buy a good score.
    setting = Setting("generator", "independent")
    network = open_features(None, device)
    real = quality.real_features(data, network, alone, cache=kept)
    batch = BATCH[device]
    made = quality.made_features(model, data, network, setting, samples, alone, batch=batch, seed=0)
    errors = poses.generated_error(
        model, data, alone, setting=setting, count=min(samples, POSES), batch=batch
    )
    known = poses.real_errors(model, data, alone, batch=batch)
    truth = data.truth(range(data.portraits))
    assert known is not None and truth is not None
    overlaps, spread = _overlaps(model, data, setting, min(samples, 400), alone)
    return {
        "fid": round(frechet_distance(real.all, made.all), 4),
        "generated_pose_error_deg": errors["mean_deg"],
        "generated_pose_spread_deg": spread,
        "pose_error_labels_deg": known["pose_error_labels_deg"],
        "pose_error_learned_deg": known["pose_error_learned_deg"],
        "pose_spread_true_deg": _spread(truth[1].numpy()),
        "mask_overlap": round(float(np.nanmean(overlaps)), 4),
        "mask_overlap_worst_octant": round(float(np.nanmin(overlaps)), 4),
    }


def _overlaps(
    model: Model, data: PortraitData, setting: Setting, count: int, world: World
) -> tuple[NDArray[np.float64], float]:
    """How masks lie over the silhouettes of the bodies they were rendered with, as seen from eight sides [8].

    Intersection over union of soft masks. Also the mean angle of poses from their mean, in degrees: the error
    of a predictor that has learned nothing but the average.
    """
    assert model.rig is not None
    cameras, bodies, masks = [], [], []
    for part in drawn(model, data, setting, count, BATCH[model.device.type], 1, world):
        assert part.poses is not None and part.portraits.mask is not None
        cameras.append(part.cameras.cpu().numpy())
        bodies.append(part.poses.cpu().numpy())
        masks.append(part.portraits.mask[:, 0].clamp(0, 1).cpu().numpy())
    rendered = np.concatenate(bodies)
    every = [np.concatenate(cameras), rendered, np.concatenate(masks)]
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=end_with_parent
    ) as pool:
        overlaps = np.array(list(pool.map(partial(_overlap, model.rig), *every, chunksize=8)))
    sides = octant_of(every[0])
    means = [overlaps[sides == side].mean() if (sides == side).any() else np.nan for side in range(8)]
    return np.array(means), _spread(rendered)


def _overlap(
    rig: PortraitRig, camera: NDArray[np.float32], body: NDArray[np.float32], mask: NDArray[np.float32]
) -> float:
    """Intersection over union of a soft mask [S, S] and the silhouette of a body in a pose."""
    cam2world, intrinsics = from_label(camera)
    finer = max(1, 128 // len(mask)) if len(mask) < 128 else 2
    shape = render_mesh(
        rig.posed(body), rig.faces, cam2world, intrinsics, finer * len(mask), backend="software"
    ).silhouette.astype(np.float64)
    small = shape.reshape(len(mask), finer, len(mask), finer).mean(axis=(1, 3))
    return float(np.minimum(small, mask).sum() / np.maximum(small, mask).sum())


def _spread(bodies: NDArray[np.floating]) -> float:
    """Mean angle of poses [N, 6] from their mean, degrees."""
    mean = np.broadcast_to(bodies.mean(axis=0), bodies.shape)
    return round(float(poses.angle_errors(mean, bodies).mean()), 3)


def _table(ends: list[dict[str, float]], figures: dict[str, Any], run: Path) -> str:
    rows = [f"{'':<30}{'start':>10}{'end':>10}{'ratio':>8}"]
    for name, first in ends[0].items():
        last = ends[1][name]
        ratio = f"{last / first:>8.2f}" if first else ""
        rows.append(f"{name:<30}{first:>10.3f}{last:>10.3f}{ratio}")
    rows += [
        f"{figures['kimg']:g} kimg on {figures['portraits']} portraits; minutes: "
        f"{figures['minutes_drawing']:.1f} drawing, {figures['minutes_training']:.1f} training, "
        f"{figures['minutes']:.1f} in all",
        f"features: {FEATURES}; comparable with nothing but itself",
        f"images: {newest(run)}; curves: portraitgan watch {run}",
    ]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; a table on stdout, with JSON=1 one JSON line after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: a larger model")
    parser.add_argument("--folder", type=Path, default=Path("learn-out"), help="where everything goes")
    parser.add_argument("--kimg", type=float, default=24.0, help="how long to train")
    parser.add_argument("--portraits", type=int, default=2000, help="how many are drawn")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--samples", type=int, default=2000, help="generated portraits that are judged")
    options = parser.parse_args(arguments)
    timing.show(
        *measure(
            options.folder,
            options.kimg,
            options.portraits,
            options.processes,
            options.samples,
            options.device,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
