"""Body poses: does the canonical space hold a neutral body, and are learned poses true?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phq_data import camera as cameras
from phq_data.rig import rotation_matrix
from portraitgan.data.dataset import PortraitData
from portraitgan.inference.model import Model
from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.generate import (
    Advance,
    Setting,
    drawn,
    gathered,
    predicted_poses,
    settings_of,
    shares,
)
from portraitgan.networks import filters
from portraitgan.networks.discriminator import Portraits
from portraitgan.training.distributed import World

COMPONENTS = ("neck_x", "neck_y", "neck_z", "head_x", "head_y", "head_z")


def angle_errors(poses: NDArray[np.floating], truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angles of the rotations between poses and true ones [N, 6] (radians), [N, 2] degrees: neck, head."""
    errors = []
    for joint in (slice(0, 3), slice(3, 6)):
        relative = np.swapaxes(rotation_matrix(truth[:, joint]), -1, -2) @ rotation_matrix(poses[:, joint])
        # From the sine and the cosine: an arc cosine alone loses half the digits near zero.
        sine = np.linalg.norm(
            np.stack(
                [
                    relative[:, 2, 1] - relative[:, 1, 2],
                    relative[:, 0, 2] - relative[:, 2, 0],
                    relative[:, 1, 0] - relative[:, 0, 1],
                ],
                axis=-1,
            ),
            axis=-1,
        )
        cosine = np.trace(relative, axis1=-2, axis2=-1) - 1
        errors.append(np.degrees(np.arctan2(sine, cosine)))
    return np.stack(errors, axis=-1)


def summary(poses: NDArray[np.floating], truth: NDArray[np.floating]) -> dict[str, Any]:
    """Errors of poses [N, 6] against true ones [N, 6] (radians), in degrees.

    Mean angle over both joints, and by joint; mean and root mean square by component.
    """
    angles = angle_errors(poses, truth)
    apart = np.degrees(np.asarray(poses, np.float64) - truth)
    return {
        "mean_deg": round(float(angles.mean()), 3),
        "median_deg": round(float(np.median(angles.mean(axis=1))), 3),
        "neck_deg": round(float(angles[:, 0].mean()), 3),
        "head_deg": round(float(angles[:, 1].mean()), 3),
        "bias_deg": _named(apart.mean(axis=0)),
        "rms_deg": _named(np.sqrt((apart**2).mean(axis=0))),
        "count": len(angles),
    }


@torch.no_grad()
def canonicality(
    model: Model,
    pose_model: Model,
    world: World,
    *,
    count: int = 1024,
    truncation: float = 1.0,
    batch: int = 4,
    seed: int = 0,
    done: Advance = lambda number: None,
) -> dict[str, Any]:
    """Table 3: mean and standard deviation of the poses that `pose_model` sees in frontal neutral samples.

    The paper's are those of absolute values; signed ones tell a drift to one side from spread.

    Samples are not deformed and conditioned on the front camera and the neutral pose; in a canonical space
    that is neutral they are seen with a pose of zero and little spread. `pose_model` is the model itself, or
    another run's discriminator for a run that was trained on coarse poses.
    """
    found = []
    for number in shares(count, batch, world):
        size = min(batch, count - number * batch)
        random = np.random.default_rng([seed, 2, number])
        z = torch.from_numpy(random.standard_normal((size, model.config.generator.z_dim)).astype(np.float32))
        front = model.neutral_camera.expand(size, -1)
        made = model.render(model.styles(z.to(model.device), truncation), front)
        found.append(discriminator_poses(pose_model, made.portraits, front))
        done(size)
    poses = np.degrees(gathered(found, world))
    return {
        "mean_deg": _named(poses.mean(axis=0)),
        "std_deg": _named(poses.std(axis=0)),
        "absolute_mean_deg": _named(np.abs(poses).mean(axis=0)),
        "absolute_std_deg": _named(np.abs(poses).std(axis=0)),
        "off_neutral_deg": round(float(angle_errors(np.radians(poses), np.zeros_like(poses)).mean()), 3),
        "samples": count,
        "truncation": truncation,
        "pose_discriminator": str(pose_model.folder),
        "seed": seed,
    }


@torch.no_grad()
def generated_error(
    model: Model,
    data: PortraitData,
    world: World,
    *,
    setting: Setting | None = None,
    count: int = 1024,
    batch: int = 8,
    seed: int = 0,
    done: Advance = lambda number: None,
) -> dict[str, Any]:
    """How far the discriminator's poses of generated portraits are from those that were rendered."""
    chosen = setting or settings_of(model)[0]
    seen, wanted = [], []
    for part in drawn(model, data, chosen, count, batch, seed, world, done):
        if part.poses is None:
            raise MetricError(f"the model in {model.folder} renders no body poses")
        seen.append(discriminator_poses(model, part.portraits, part.cameras))
        wanted.append(part.poses.cpu().numpy())
    return {**summary(gathered(seen, world), gathered(wanted, world)), "poses": chosen.poses, "seed": seed}


@torch.no_grad()
def real_errors(
    model: Model,
    data: PortraitData,
    world: World,
    *,
    batch: int = 8,
    done: Advance = lambda number: None,
) -> dict[str, Any] | None:
    """Labels and learned poses of real portraits against the release's truth; None when it knows none.

    The true camera is a little off the labelled one, too; `camera_labels` says how far. Mirrored portraits
    are not counted: the predictor is symmetric.
    """
    truth = data.truth(range(data.portraits))
    if truth is None:
        return None
    true_cameras, true_poses = (part.numpy() for part in truth)
    known = np.flatnonzero(np.isfinite(true_poses).all(axis=1))
    if len(known) == 0:
        return None
    learned = []
    predicts = model.config.discriminator.pose_predictor is not None
    for number in shares(len(known), batch, world):
        part = known[number * batch : (number + 1) * batch]
        if predicts:
            learned.append(predicted_poses(model, data.batch(part)).cpu().numpy())
        done(len(part))
    labels, poses = (part.numpy() for part in data.labels(known))
    of_labels = summary(poses, true_poses[known])
    of_learned = summary(gathered(learned, world), true_poses[known]) if predicts else None
    return {
        "pose_error_labels_deg": of_labels["mean_deg"],
        "pose_error_learned_deg": None if of_learned is None else of_learned["mean_deg"],
        "labels": of_labels,
        "learned": of_learned,
        "camera_labels": _camera_errors(labels, true_cameras[known]),
    }


def discriminator_poses(model: Model, portraits: Portraits, seen: Tensor) -> NDArray[np.float32]:
    """Poses [N, 6] that the discriminator of `model` predicts, images brought to the sizes it knows."""
    if model.config.discriminator.pose_predictor is None:
        raise MetricError(
            f"the discriminator in {model.folder} predicts no poses: name a checkpoint that does "
            "(--pose-discriminator)"
        )
    side, raw = model.config.discriminator.image_resolution, model.config.generator.render.resolution
    fitting = Portraits(
        filters.resize(portraits.image.float(), side),
        filters.resize(portraits.raw.float(), raw),
        None if portraits.mask is None else filters.resize(portraits.mask.float(), raw),
    )
    return model.discriminator.predict_pose(fitting, seen).float().cpu().numpy()


def _camera_errors(labels: NDArray[np.float32], truth: NDArray[np.float32]) -> dict[str, float] | None:
    known = np.isfinite(truth).all(axis=1)
    if not known.any():
        return None
    mine, true = (cameras.from_label(part[known])[0][:, :3, :3] for part in (labels, truth))
    cosine = (np.trace(np.swapaxes(true, -1, -2) @ mine, axis1=-2, axis2=-1) - 1) / 2
    angles = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return {"mean_deg": round(float(angles.mean()), 3), "median_deg": round(float(np.median(angles)), 3)}


def _named(values: NDArray[np.floating]) -> dict[str, float]:
    return {name: round(float(value), 3) for name, value in zip(COMPONENTS, values, strict=True)}
