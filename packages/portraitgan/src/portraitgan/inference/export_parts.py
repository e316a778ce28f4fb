"""The networks of a model as functions of tensors, for other runtimes.

Noise images are the stored ones and ray depths are fixed, as in `Model.render`, so every part is a function.
Between `volume` and `superresolution` lies the ray marching (equations 8 and 9), which needs no weights:

    features = (sum of the weights times the colors of a ray) + (1 - mask) * background
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from portraitgan.checkpoints import weights
from portraitgan.config import POSE_SIZE
from portraitgan.inference import views
from portraitgan.inference.model import Model
from portraitgan.networks import filters
from portraitgan.networks.backbone import SynthesisNetwork
from portraitgan.networks.discriminator import Portraits
from portraitgan.networks.generator import Generator
from portraitgan.networks.mapping import MappingNetwork
from portraitgan.rendering import trigrid
from portraitgan.rendering.renderer import Volume

MEANINGS: Mapping[str, str] = {
    "z": "latent: standard normal numbers",
    "truncation": "psi: 0 is the average person, 1 is as trained",
    "camera": "camera-to-world matrix (4 x 4, row by row, metres), then intrinsics (3 x 3, in image sizes). "
    "World: y up, the subject faces +z, the subject's left is +x, the neck joint is the origin. "
    "Camera: x right, y down, z forward",
    "moved_camera": "the camera that this latent's portrait is rendered with, in the same form",
    "pose": "axis-angle of the neck, then of the head: radians, in the world's axes",
    "ws": "styles, one w a layer",
    "planes": "tri-grid [batch, planes, features, depth, height, width] of a cube around the origin",
    "points": "canonical points: metres, in the world's axes",
    "density": "raw density: softplus(density - 1) is the density a metre",
    "color": "color features of a point",
    "background": "features of what is behind the person, at the neural rendering resolution",
    "features": "color features that rays have summed up, with the background behind them",
    "image": "portrait: RGB, about -1..1, the upper row first",
    "raw": "portrait before super-resolution: RGB, about -1..1",
    "mask": "how much of a pixel is the person, 0..1",
    "depth": "metres from the camera along the ray",
}
"""What the numbers of an input or output are, by its name."""


@dataclass(frozen=True, eq=False)
class Part:
    """A network as a function of tensors."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: Callable[[int], tuple[Tensor, ...]]  # inputs of a batch, the same for equal sizes
    any_batch: bool = True  # takes batches of any size
    free: Mapping[str, str] = field(default_factory=dict)  # names of second dimensions that have any size
    not_onnx: str | None = None  # why ONNX cannot say it


def parts_of(model: Model) -> Iterator[Part]:
    """The parts that a model has, the whole generator last."""
    generator, config = model.generator, model.config.generator
    ws, z, pose = _random(config.backbone.styles, config.w_dim), _random(config.z_dim), _random(POSE_SIZE)
    side, grid = config.render.resolution, config.grid

    def mapped(batch: int) -> tuple[Tensor, ...]:
        return z(batch), torch.tensor(0.7), _cameras(batch), 0.1 * pose(batch)

    conditions = ("z", "truncation", "camera", "pose")
    yield Part("mapping", _Mapping(generator), conditions, ("ws",), mapped)
    yield Part("backbone", _Backbone(generator), ("ws",), ("planes",), _all(ws))
    planes = _random(*generator.planes(ws(1)).shape[1:])
    points = _random(64, 3)
    yield Part(
        "volume", _Volume(generator), ("planes", "points"), ("density", "color"),
        lambda batch: (planes(batch), points(batch) * (config.render.box_size / 4)),
        free=dict.fromkeys(("points", "density", "color"), "points"),
    )  # fmt: skip
    if generator.bcg_synthesis is not None:
        yield Part(
            "background", _Background(generator.bcg_synthesis, side), ("ws",), ("background",), _all(ws)
        )
    features = _random(grid.features, side, side)
    yield Part(
        "superresolution",
        _SuperResolution(generator),
        ("features", "ws"),
        ("image", "raw"),
        _all(features, ws),
    )
    if generator.offset_mapping is not None:
        yield Part(
            "camera_offset",
            _CameraOffset(generator.offset_mapping),
            ("z", "camera"),
            ("moved_camera",),
            _all(z, _cameras),
        )
    if generator.pose_branch is not None:
        yield Part("generator_pose", generator.pose_branch, ("z", "camera"), ("pose",), _all(z, _cameras))
    if _predicts_poses(model):
        large = _random(3, *[config.image_resolution] * 2)
        raw, mask = _random(3, side, side), _random(1, side, side)
        yield Part(
            "pose", _PoseNetwork(model), ("image", "raw", "mask", "camera"), ("pose",),
            lambda batch: (large(batch), raw(batch), mask(batch).sigmoid(), _cameras(batch)),
        )  # fmt: skip
    # A ray's samples are sorted and shared out by their number: that is traced for one portrait.
    yield Part(
        "generator", _Whole(model), conditions, ("image", "raw", "mask", "depth"),
        lambda batch: tuple(one[:1] if one.ndim else one for one in mapped(batch)), any_batch=False,
        not_onnx="ONNX has no graph of its ray marching: take mapping, backbone, volume, background and "
        "superresolution, or --format torch",
    )  # fmt: skip


# A part holds the networks that it uses and no others: `torch.export` writes all that it holds.


class _Mapping(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.mapping, self.config = generator.backbone.mapping, generator.config

    def forward(self, z: Tensor, truncation: Tensor, camera: Tensor, pose: Tensor) -> Tensor:
        """Styles [B, styles, w_dim] of z, truncation [], camera and pose; a model may not look at both."""
        parts = [camera] if self.config.camera_conditioning else []
        parts += [pose] if self.config.maps_pose else []
        ws: Tensor = self.mapping(z, torch.cat(parts, dim=1) if parts else None)
        return self.mapping.w_avg + (ws - self.mapping.w_avg) * truncation


class _Backbone(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.synthesis, self.grid = generator.backbone.synthesis, generator.config.grid

    def forward(self, ws: Tensor) -> Tensor:
        """Planes [B, P, C, D, S, S]."""
        styles = ws[:, : self.synthesis.config.styles]
        return trigrid.split_planes(self.synthesis(styles, "const"), self.grid)


class _Volume(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.decoder, self.config = generator.decoder, generator.config

    def forward(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """(raw densities [B, N], color features [B, N, C]), cropped as rays see them."""
        volume = Volume(planes, self.decoder, self.config.grid, self.config.render, plain=True)
        density, color = self.decoder(volume.features(points))
        return volume.crop(density, points), color


class _Background(nn.Module):
    def __init__(self, network: SynthesisNetwork, side: int) -> None:
        super().__init__()
        self.synthesis, self.side = network, side

    def forward(self, ws: Tensor) -> Tensor:
        """Features [B, C, R, R]."""
        return filters.resize(self.synthesis(ws[:, : self.synthesis.config.styles], "const"), self.side)


class _SuperResolution(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.torgb, self.superresolution = generator.torgb, generator.superresolution

    def forward(self, features: Tensor, ws: Tensor) -> tuple[Tensor, Tensor]:
        """(image [B, 3, H, H], raw [B, 3, R, R]) of features [B, C, R, R]."""
        raw = features[:, :3] * 2 - 1 if self.torgb is None else self.torgb(features, ws[:, -1])
        made: tuple[Tensor, Tensor] = self.superresolution(features, raw, ws[:, -1])
        return made


class _CameraOffset(nn.Module):
    def __init__(self, network: MappingNetwork) -> None:
        super().__init__()
        self.mapping = network

    def forward(self, z: Tensor, camera: Tensor) -> Tensor:
        """Cameras [B, 25]: the offset goes to the last column of the camera-to-world matrix."""
        x, y, z_offset = self.mapping(z, camera).split(1, dim=1)
        return torch.cat(
            [
                *(camera[:, :3], camera[:, 3:4] + x, camera[:, 4:7], camera[:, 7:8] + y),
                *(camera[:, 8:11], camera[:, 11:12] + z_offset, camera[:, 12:]),
            ],
            dim=1,
        )


class _PoseNetwork(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.discriminator = model.discriminator

    def forward(self, image: Tensor, raw: Tensor, mask: Tensor, camera: Tensor) -> Tensor:
        """Poses [B, 6] radians; each portrait counts by itself. A model may not look at the mask."""
        return self.discriminator.predict_pose(Portraits(image, raw, mask), camera)


class _Whole(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.mapping, self.generator, self.draws = _Mapping(model.generator), model.generator, model.draws(1)

    def forward(
        self, z: Tensor, truncation: Tensor, camera: Tensor, pose: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image, raw, mask, depth of one portrait; the pose conditions the latent, the body is canonical."""
        ws = self.mapping(z, truncation, camera, pose)
        made = self.generator.synthesis(ws, camera, None, noise_mode="const", draws=self.draws)
        return made.image, made.image_raw, made.mask, made.depth


def _all(*inputs: Callable[[int], Tensor]) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda batch: tuple(one(batch) for one in inputs)


def _random(*shape: int) -> Callable[[int], Tensor]:
    """Seeded standard normal numbers [batch, *shape], others for other batches."""
    return lambda batch: torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))


def _cameras(batch: int) -> Tensor:
    """Cameras [batch, 25] on both sides of the person."""
    return torch.cat([views.camera(40.0 * index - 30.0, 5.0) for index in range(batch)])


def _predicts_poses(model: Model) -> bool:
    there = (model.folder / f"{weights.DISCRIMINATOR_EMA}.safetensors").is_file()
    return there and model.config.discriminator.pose_predictor is not None
