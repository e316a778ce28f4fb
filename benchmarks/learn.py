"""Proof that training learns: rendered people of known truth, noised labels, several arms, one judge."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import timing
from benchmarks.learn_arms import GANS, JUDGE, SUPERVISED, blind, run_of, train_all
from benchmarks.synthetic import ERRORS, make_release
from phq_data.camera import from_label
from phq_data.files import write_text
from phq_data.process_pool import end_with_parent
from phq_data.release.splits import SplitShares
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
KIMG = 14.0
ARMS = ("self-learned", "coarse")
SHARES = SplitShares(0.8, 0.0, 0.2)
TITLES = {
    "labels": "labels", "blind": "labels shrunk, no image seen", SUPERVISED: "regression on the labels",
    "coarse": "GAN on the labels' poses", "self-learned": "GAN, self-learned poses",
    JUDGE: "judge (regression on the truth)",
}  # fmt: skip
PLAN_FILE = "plan.json"
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


@dataclass(frozen=True)
class Plan:
    """What is drawn, trained and judged."""

    folder: Path  # where everything goes; the same plan continues what was interrupted
    kimg: float = KIMG  # of each arm
    portraits: int = 2000
    processes: int = 2  # arms that are trained at once
    samples: int = 2000  # generated portraits that are judged
    device: str = "cpu"  # cpu trains `learn_config`, cuda `learn_gpu_config`
    arms: Sequence[str] = ARMS  # of `GANS`
    errors: str = "gaussian"  # of `ERRORS`
    seed: int = 0  # of weights, batches and the errors of labels

    @property
    def config(self) -> TrainConfig:
        """Of the self-learned arm."""
        made = (learn_config if self.device == "cpu" else learn_gpu_config)(self.kimg)
        return replace(made, seed=self.seed)

    @property
    def release(self) -> Path:
        """Where the portraits are."""
        return self.folder / "releases" / "1.0.0"


def draw(plan: Plan) -> PortraitData:
    """The training portraits, drawn if they are not there.

    Raises `SystemExit` without the plan's device, or where the folder holds what another plan made.
    """
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here: `make learn` trains a small model on two CPU cores instead")
    _claim(plan)
    pixels = plan.config.model.generator.image_resolution
    if not plan.release.exists():
        shutil.rmtree(plan.folder / "workspace", ignore_errors=True)
        print(f"drawing {plan.portraits} portraits of known truth, labels with noised poses", flush=True)
        make_release(
            plan.folder, plan.portraits, pixels, seed=plan.seed, coarse=ERRORS[plan.errors],
            workers=os.cpu_count() or 1, shares=SHARES,
        )  # fmt: skip
    return PortraitData.open(plan.release, pixels)


def _claim(plan: Plan) -> None:
    """Say in the folder what it is for: figures of another plan's runs would carry this one's name."""
    own = {name: getattr(plan, name) for name in ("kimg", "portraits", "device", "errors", "seed")}
    path = plan.folder / PLAN_FILE
    if not path.exists():
        if any(plan.folder.glob("run*")):
            raise SystemExit(f"{plan.folder} holds runs and no {PLAN_FILE}: choose another --folder")
        plan.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(own))
    elif (known := json.loads(path.read_text())) != own:
        changed = ", ".join(f"{name} {known.get(name)}" for name in own if known.get(name) != own[name])
        raise SystemExit(
            f"{plan.folder} was made with {changed}: choose another --folder, or go on with that"
        )


def train(plan: Plan, data: PortraitData, names: Sequence[str]) -> None:
    """Train some of regressions and GANs to their end; nothing where they are there."""
    _start(plan.folder, plan.config, data)
    os.environ["OMP_NUM_THREADS"] = "1" if plan.device == "cpu" else str(os.cpu_count() or 1)
    train_all(plan.folder, names, plan.release, plan.config, plan.device, plan.processes)


def measure(plan: Plan) -> tuple[str, dict[str, Any]]:
    """(table, figures): draw a release, train all arms on it, judge them on held-out portraits."""
    began = time.monotonic()
    data = draw(plan)
    ready = time.monotonic()
    train(plan, data, [JUDGE, SUPERVISED, *plan.arms])
    trained = time.monotonic()
    figures: dict[str, Any] = {}
    ends: list[dict[str, float]] = []
    run = run_of(plan.folder, plan.arms[0] if plan.arms else "self-learned")
    if "self-learned" in plan.arms:
        own = run_of(plan.folder, "self-learned")
        ends = [
            _judge(path, own / RIG_FILE, data, plan.samples, plan.folder / "features", plan.device)
            for path in (own / "start", latest(own))
        ]
        figures |= {
            _named(name, when): end[name] for name in ends[0] for when, end in zip(WHEN, ends, strict=True)
        }
        figures["pose_error_learned_deg"] = ends[1]["pose_error_learned_deg"]
    held_out = PortraitData.open(plan.release, data.resolution, split="test")
    figures |= _held_out(plan, data, held_out)
    figures |= {
        "errors": plan.errors, "seed": plan.seed, "kimg": plan.kimg, "portraits": data.portraits,
        "held_out": held_out.portraits, "features": FEATURES,
        "minutes_drawing": round((ready - began) / 60, 2),
        "minutes_training": round((trained - ready) / 60, 2),
        "minutes": round((time.monotonic() - began) / 60, 2),
    }  # fmt: skip
    return _table(ends, figures, plan.arms, run), figures


def _start(folder: Path, config: TrainConfig, data: PortraitData) -> None:
    """The self-learning run before its first image, to be measured beside its end."""
    run = run_of(folder, "self-learned")
    if (run / "start").exists():
        return
    named = replace(config, name="learn-self-learned")
    begin = open_run(run, named, data, World(0, 1, torch.device("cpu")), lambda _: None)
    if begin.images:
        raise TrainingError(f"{run} was started by something else: choose another --folder")
    begin.save().rename(run / "start")


def _held_out(plan: Plan, data: PortraitData, held_out: PortraitData) -> dict[str, float]:
    """Errors of poses of portraits that nobody was trained on, and what the judge sees in neutral samples."""
    folder, arms, device, samples = plan.folder, plan.arms, plan.device, plan.samples
    alone = World(0, 1, torch.device(device))
    rig = run_of(folder, "self-learned") / RIG_FILE
    judge = open_model(folder / JUDGE, rig=rig, device=device)
    places = {SUPERVISED: folder / SUPERVISED, JUDGE: folder / JUDGE}
    places |= {name: latest(run_of(folder, name)) for name in arms}
    found: dict[str, float] = {}
    for name, place in places.items():
        model = open_model(place, rig=rig, device=device)
        known = poses.real_errors(model, held_out, alone, batch=BATCH[device])
        assert known is not None
        found["pose_error_labels_deg"] = known["pose_error_labels_deg"]
        found[f"pose_error_{key_of(name)}_deg"] = known["pose_error_learned_deg"]
        if name in arms:
            seen = poses.canonicality(model, judge, alone, count=min(samples, 400), batch=BATCH[device])
            found[f"off_neutral_{key_of(name)}_deg"] = seen["off_neutral_deg"]
    found["pose_error_blind_deg"] = blind_error(data, held_out)
    return found


def blind_error(data: PortraitData, held_out: PortraitData) -> float:
    """Mean angle of `blind`'s poses of held-out portraits from the truth, degrees.

    It knows what trained arms see: the labels of mirrored twins, too, in which half of a bias cancels.
    """
    seen = range(len(data))
    asked = held_out.labels(range(held_out.portraits))[1].numpy()
    guessed = blind(data.labels(seen)[1].numpy(), _truth(data, seen), asked)
    return poses.summary(guessed, _truth(held_out, range(held_out.portraits)))["mean_deg"]


def _truth(data: PortraitData, portraits: range) -> NDArray[np.float32]:
    """True poses [N, 6], radians."""
    truth = data.truth(portraits)
    assert truth is not None
    return truth[1].numpy()


def key_of(name: str) -> str:
    """The name of an arm as keys of figures have it."""
    return name.replace("-", "_")


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


def _table(ends: list[dict[str, float]], figures: dict[str, Any], arms: Sequence[str], run: Path) -> str:
    rows = [f"{'held-out portraits, degrees':<34}{'pose error':>11}{'neutral samples off':>21}"]
    for name, title in {**TITLES, **{arm: TITLES.get(arm, f"GAN: {arm}") for arm in arms}}.items():
        if (error := figures.get(f"pose_error_{key_of(name)}_deg")) is not None:
            off = figures.get(f"off_neutral_{key_of(name)}_deg")
            rows.append(f"{title:<34}{error:>11.2f}{'' if off is None else f'{off:>21.2f}'}")
    rows += (
        ["", f"{'self-learned, training portraits':<34}{'start':>10}{'end':>10}{'ratio':>8}"] if ends else []
    )
    for name, first in ends[0].items() if ends else ():
        last = ends[1][name]
        ratio = f"{last / first:>8.2f}" if first else ""
        rows.append(f"{name:<34}{first:>10.3f}{last:>10.3f}{ratio}")
    rows += [
        f"{figures['kimg']:g} kimg on {figures['portraits']} portraits, {figures['held_out']} held out, "
        f"{figures['errors']} errors of labels; minutes: "
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
    parser.add_argument("--kimg", type=float, default=KIMG, help="how long to train each arm")
    parser.add_argument("--portraits", type=int, default=2000, help="how many are drawn")
    parser.add_argument("--processes", type=int, default=2, help="how many arms are trained at once")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"GANs, of {', '.join(GANS)}; empty: none")
    parser.add_argument("--errors", choices=sorted(ERRORS), default="gaussian", help="of the labels' poses")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=2000, help="generated portraits that are judged")
    options = parser.parse_args(arguments)
    arms = [name for name in options.arms.split(",") if name]
    if unknown := [name for name in arms if name not in GANS]:
        parser.error(f"no arm {unknown[0]!r}; there are {', '.join(GANS)}")
    plan = Plan(
        options.folder, options.kimg, options.portraits, options.processes, options.samples, options.device,
        arms, options.errors, options.seed,
    )  # fmt: skip
    timing.show(*measure(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
