"""Sheets of images: what the run makes now, always of the same latents, cameras and portraits.

Each row shows a portrait and, right of it, its mirrored twin (same latent, mirrored camera): image, raw
image, mask, depth, and the body in the predicted pose over the image. Below are real portraits: image,
mask, the body in the pose of the label, and in the pose that the discriminator predicts; they are of a split
that is not trained on, where the release has one. Latents are
conditioned on the front camera and the neutral pose (spec section 7), as inference does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from phq_data import camera as labels
from phq_data.arrays import ImageArray
from phq_data.files import writing
from phq_data.rendering.renderer import render_mesh
from phq_data.rig import PortraitRig
from portraitgan.data.dataset import PortraitData
from portraitgan.images.drawing import draw, sheet, to_pixels
from portraitgan.networks.discriminator import Discriminator, Portraits
from portraitgan.networks.generator import Generated, Generator
from portraitgan.networks.pose import mirror_camera, mirror_pose
from portraitgan.training import rng
from portraitgan.training.config import TrainConfig
from portraitgan.training.losses import prepare_real
from portraitgan.training.schedule import ScheduleState
from portraitgan.training.step import Networks

FOLDER = "snapshots"
_PARTS = ("image", "raw", "mask", "depth")
_SMALLEST, _LARGEST = 96, 256  # pixels of an image on the sheet
_OPACITY = 0.6
Color = tuple[float, float, float]
_LABEL, _GENERATED, _PREDICTED = (1.0, 0.67, 0.24), (0.35, 0.78, 1.0), (0.47, 0.9, 0.47)


@dataclass(frozen=True)
class Scene:
    """What every sheet of a run shows."""

    z: Tensor  # [N, z_dim]
    cameras: Tensor  # [N, 25]
    coarse_poses: Tensor  # [N, 6]
    real: Portraits  # images [N, 3, H, H] in -1..1, raw the same, masks [N, 1, H, H] in 0..1
    real_cameras: Tensor  # [N, 25]
    real_poses: Tensor  # [N, 6] of the labels
    rig: PortraitRig | None
    held_out: bool  # the real portraits are not trained on


def make_scene(config: TrainConfig, data: PortraitData, device: torch.device) -> Scene:
    """The run's scene: a function of its seed and data."""
    count = config.output.snapshot_portraits
    numbers = rng.numpy_random(config.seed, "sheet")
    cameras, poses = data.draw_labels(count, numbers)
    shown = data.held_out() or data
    batch = shown.batch(numbers.integers(0, len(shown), count)).to(device)
    random = rng.torch_random(torch.device("cpu"), config.seed, "sheet")
    z = torch.randn(count, config.model.generator.z_dim, generator=random)
    image = batch.images.float() / 127.5 - 1
    return Scene(
        z.to(device), cameras.to(device), poses.to(device),
        Portraits(image, image, batch.masks.float() / 255), batch.cameras, batch.poses, data.rig,
        shown is not data,
    )  # fmt: skip


@torch.no_grad()
def write(run: Path, scene: Scene, networks: Networks, state: ScheduleState, images: int) -> Path:
    """Write `RUN/snapshots/kimg-NNNNNN.MMM.jpg` of the EMAs; returns its path."""
    generator, discriminator = networks.generator_ema, networks.discriminator_ema
    resolution = state.schedule.resolution or generator.config.render.resolution
    size = min(_LARGEST, max(_SMALLEST, generator.config.image_resolution))
    ours = [
        a + b
        for a, b in zip(
            _generated(generator, scene, resolution, size, mirrored=False),
            _generated(generator, scene, resolution, size, mirrored=True),
            strict=True,
        )
    ]
    theirs = _real(discriminator, scene, resolution, size)
    titles = ["image", "raw", "mask", "depth", "predicted pose"]
    real = "held out" if scene.held_out else "real"
    parts = [
        _titled(sheet(ours), [*titles, *(f"twin: {title}" for title in titles)], size),
        _titled(sheet(theirs), [real, "mask", "label's pose", "predicted pose"] * 2, size),
    ]
    width = max(part.shape[1] for part in parts)
    padded = [
        np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts
    ]
    path = run / FOLDER / f"kimg-{images // 1000:06d}.{images % 1000:03d}.jpg"
    with writing(path) as temporary:
        Image.fromarray(np.concatenate(padded)).save(temporary, "JPEG", quality=90)
    return path


def newest(run: str | Path) -> Path | None:
    """The newest sheet of a run."""
    found = sorted((Path(run) / FOLDER).glob("kimg-*.jpg"))
    return found[-1] if found else None


def _generated(
    generator: Generator, scene: Scene, resolution: int, size: int, mirrored: bool
) -> list[list[ImageArray]]:
    """Rows of images of the scene's latents."""
    rows = []
    for index in range(len(scene.z)):
        z = scene.z[index : index + 1]
        camera, coarse = scene.cameras[index : index + 1], scene.coarse_poses[index : index + 1]
        if mirrored:
            camera, coarse = mirror_camera(camera), mirror_pose(coarse)
        pose = _pose(generator, z, camera, coarse)
        front = torch.from_numpy(labels.to_label(labels.from_angles(0.0, 0.0))).to(z.device)[None]
        ws = generator.mapping(z, front)
        shown = pose if generator.deformation is not None else None
        made: Generated = generator.synthesis(
            ws, camera, shown, resolution=resolution, noise_mode="const",
            random=rng.torch_random(z.device, 0, "sheet rays", index),
        )  # fmt: skip
        row = [to_pixels(draw(made, camera, part, size))[0] for part in _PARTS]
        row.append(_with_body(row[0], scene.rig, camera, pose, _GENERATED))
        rows.append(row)
    return rows


def _real(discriminator: Discriminator, scene: Scene, resolution: int, size: int) -> list[list[ImageArray]]:
    """Rows of two real portraits each."""
    cells = []
    for index in range(len(scene.real_cameras)):
        one = slice(index, index + 1)
        camera, label = scene.real_cameras[one], scene.real_poses[one]
        mask = scene.real.mask
        assert mask is not None
        seen = prepare_real(scene.real.image[one], mask[one], resolution, 0.0)
        shown = Generated(seen.image, seen.raw, mask[one], mask[one], None)
        image, drawn_mask = (to_pixels(draw(shown, camera, part, size))[0] for part in ("image", "mask"))
        predicted = label
        if discriminator.pose_branch is not None:
            predicted = discriminator.predict_pose(seen, camera)
        cells.append(
            [
                image,
                drawn_mask,
                _with_body(image, scene.rig, camera, label, _LABEL),
                _with_body(image, scene.rig, camera, predicted, _PREDICTED),
            ]
        )
    return [list(chain(*cells[first : first + 2])) for first in range(0, len(cells), 2)]


def _pose(generator: Generator, z: Tensor, camera: Tensor, coarse: Tensor) -> Tensor | None:
    """The pose that the portrait is rendered in."""
    if generator.pose_branch is not None:
        return generator.predict_pose(z, camera)
    return coarse if generator.config.pose_conditioning else None


def _with_body(
    image: ImageArray, rig: PortraitRig | None, camera: Tensor, pose: Tensor | None, color: Color
) -> ImageArray:
    """The image with the posed body over it; as it is where there is no body."""
    if rig is None or pose is None or not bool(pose.isfinite().all()):
        return image
    cam2world, intrinsics = labels.from_label(camera[0].cpu().numpy())
    vertices = rig.posed(pose[0].cpu().numpy())
    tint = np.broadcast_to(np.array(color), vertices.shape)
    drawn = render_mesh(vertices, rig.faces, cam2world, intrinsics, len(image), tint, backend="software")
    weight = drawn.rgba[..., 3:].astype(np.float32) * (_OPACITY / 255)
    return np.round(image * (1 - weight) + drawn.rgba[..., :3] * weight).astype(np.uint8)


def _titled(pixels: ImageArray, titles: list[str], size: int, height: int = 16) -> ImageArray:
    """A sheet with titles over its columns."""
    band = Image.new("RGB", (pixels.shape[1], height), "white")
    brush = ImageDraw.Draw(band)
    for column, title in enumerate(titles):
        left = column * (size + 2)
        if left < pixels.shape[1]:
            brush.text((left + 2, 2), title, fill="black")
    return np.concatenate([np.asarray(band), pixels])
