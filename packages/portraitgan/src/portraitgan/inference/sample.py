"""Images of a generator: people by views, as files and as one sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from phq_data.arrays import ImageArray
from portraitgan.images.drawing import draw, to_pixels
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.latents import Subject
from portraitgan.inference.model import Model
from portraitgan.inference.portraits import RealPortrait, cameras_of, discriminator_inputs

PoseSource = Literal["given", "predicted"]


@dataclass(frozen=True, eq=False)
class Shot:
    """One person in one view."""

    subject: int
    view: int
    images: dict[str, ImageArray]  # part to [side, side, 3]


def shoot(
    model: Model,
    subjects: Sequence[Subject],
    cameras: Tensor,  # [V, 25]
    pose: Tensor | None = None,  # [1, 6] radians for all; none: neutral, or predicted
    predicted: bool = False,  # every person's pose in this view as the generator expects it
    parts: Sequence[str] = ("image",),
    side: int | None = None,  # pixels; none: the model's
    resolution: int | None = None,
    sample_factor: float = 2.0,
    batch: int = 4,
) -> Iterator[Shot]:
    """Every subject from every camera, subject by subject. Equal arguments give equal images."""
    if predicted and pose is not None:
        raise InferenceError("a pose can be given or predicted, not both")
    side = side or model.config.generator.image_resolution
    jobs = [(s, v) for s in range(len(subjects)) for v in range(len(cameras))]
    for first in range(0, len(jobs), batch):
        part = jobs[first : first + batch]
        ws = torch.cat([subjects[s].ws for s, _ in part])
        seen = torch.stack([cameras[v] for _, v in part]).to(model.device)
        poses = None if pose is None else pose.to(model.device).expand(len(part), -1)
        if predicted:
            poses = torch.cat([pose_of(model, subjects[s], seen[i : i + 1]) for i, (s, _) in enumerate(part)])
        made = model.render(ws, seen, poses, resolution, sample_factor)
        drawn = {name: to_pixels(draw(made, seen, name, side)) for name in parts}
        for index, (s, v) in enumerate(part):
            yield Shot(s, v, {name: pixels[index] for name, pixels in drawn.items()})


@torch.no_grad()
def pose_of(model: Model, subject: Subject, camera: Tensor) -> Tensor:
    """The pose [1, 6] that the generator's predictor gives, or for an inversion the portrait's own."""
    if subject.z is not None:
        if model.generator.pose_branch is None:
            raise InferenceError(
                f"the generator in {model.folder} has no pose predictor: give --neck and --head"
            )
        return model.generator.predict_pose(subject.z, camera)
    if subject.pose is not None:
        return subject.pose
    return camera.new_zeros(1, 6)


@torch.no_grad()
def predicted_poses(model: Model, portraits: list[RealPortrait]) -> Tensor:
    """Poses [B, 6] of real portraits by the discriminator; independent of how they are batched."""
    if model.config.discriminator.pose_predictor is None:
        raise InferenceError(f"the discriminator in {model.folder} was built without a pose predictor")
    seen = discriminator_inputs(portraits, model.config, model.device)
    poses = model.discriminator.predict_pose(seen, cameras_of(portraits, model.device))
    if not bool(torch.isfinite(poses).all()):
        raise InferenceError(f"the discriminator in {model.folder} predicts poses that are not finite")
    return poses
