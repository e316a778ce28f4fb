"""The generator: latent, camera and pose to a portrait (equations 5-9).

Attribute names are those of the official state dict, so that converted weights load key by key.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from portraitgan.config import CAMERA_SIZE, ModelConfig
from portraitgan.deformation.field import Deformation
from portraitgan.networks import filters
from portraitgan.networks.backbone import Backbone, SynthesisNetwork
from portraitgan.networks.decoder import Decoder
from portraitgan.networks.discriminator import Portraits
from portraitgan.networks.layers import NoiseMode, ToRGB
from portraitgan.networks.mapping import MappingNetwork
from portraitgan.networks.pose import GeneratorPosePredictor
from portraitgan.networks.superresolution import SuperResolution
from portraitgan.reference_mode import in_reference_mode
from portraitgan.rendering import rays, trigrid
from portraitgan.rendering.random_numbers import Random
from portraitgan.rendering.renderer import Rendering, Volume, Warp, render, render_plain

HALF_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Generated:
    """A batch of generated portraits."""

    image: Tensor  # [B, 3, H, H], about -1..1
    image_raw: Tensor  # [B, 3, R, R]
    mask: Tensor  # [B, 1, R, R], -0.001..1.001
    depth: Tensor  # [B, 1, R, R] metres
    background: Tensor | None  # [B, 3, R, R]

    @property
    def portraits(self) -> Portraits:
        """The discriminator's input."""
        return Portraits(self.image, self.image_raw, self.mask)


class Generator(nn.Module):
    """Mapping, tri-grid backbone, renderer, background, super-resolution, pose predictor.

    The deformation holds the rig; without one the generator renders the canonical pose only.
    """

    def __init__(self, config: ModelConfig, deformation: Deformation | None = None) -> None:
        super().__init__()
        self.model_config = config
        self.config = c = config.generator
        half, large = HALF_TYPES[config.precision.half], config.precision.synthesis_half_resolutions
        self.backbone = Backbone(
            c.backbone, c.grid.channels, c.z_dim, c.condition_size, c.w_dim, c.mapping_layers, half, large
        )
        self.decoder = Decoder(c.decoder, c.grid.features)
        self.superresolution = SuperResolution(
            c.superresolution,
            c.grid.features,
            c.image_resolution,
            c.w_dim,
            config.compatibility.superresolution_overwrites_raw,
            half,
        )
        self.bcg_synthesis: SynthesisNetwork | None = None
        if c.background is not None:
            self.bcg_synthesis = SynthesisNetwork(c.background, c.grid.features, c.w_dim, half, large)
        self.torgb: ToRGB | None = None
        if c.raw_rgb == "to_rgb":
            self.torgb = ToRGB(c.grid.features, 3, c.w_dim)
        self.pose_branch: GeneratorPosePredictor | None = None
        if c.pose_predictor is not None:
            self.pose_branch = GeneratorPosePredictor(c.z_dim, CAMERA_SIZE, c.pose_predictor.hidden)
        self.offset_mapping: MappingNetwork | None = None
        if c.camera_offset:
            self.offset_mapping = MappingNetwork(c.z_dim, CAMERA_SIZE, 3, c.mapping_layers, None, plain=True)
        # Not part of the state dict: the rig travels in its own file.
        self.deformation = deformation

    def predict_pose(self, z: Tensor, camera: Tensor) -> Tensor:
        """Poses [B, 6] in radians that portraits of z [B, z_dim] have from `camera` [B, 25] (equation 6)."""
        if self.pose_branch is None:
            raise ValueError("this generator was built without a pose predictor: use the coarse poses")
        output: Tensor = self.pose_branch(z, camera)
        return output

    def moved_camera(self, z: Tensor, camera: Tensor) -> tuple[Tensor, Tensor | None]:
        """Cameras [B, 25] that portraits of z [B, z_dim] are rendered with, and by how much [B, 3] (metres)
        they stand off the `camera` [B, 25] of the label; none where the model learns no offset."""
        if self.offset_mapping is None:
            return camera, None
        offset: Tensor = self.offset_mapping(z, camera)
        moved = torch.zeros_like(camera)
        moved[:, 3:12:4] = offset  # 3, 7, 11: the last column of the camera-to-world matrix
        return camera + moved, offset

    def mapping(
        self,
        z: Tensor,  # [B, z_dim]
        camera: Tensor,  # [B, 25] conditioning camera
        pose: Tensor | None = None,  # [B, 6] conditioning pose; none: zeros
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = False,
    ) -> Tensor:
        """Styles [B, styles, w_dim]."""
        parts = [camera] if self.config.camera_conditioning else []
        if self.config.maps_pose:
            parts.append(camera.new_zeros(camera.shape[0], 6) if pose is None else pose)
        condition = torch.cat(parts, dim=1) if parts else None
        output: Tensor = self.backbone.mapping(z, condition, truncation_psi, truncation_cutoff, update_w_avg)
        return output

    def forward(
        self,
        z: Tensor,
        camera: Tensor,
        pose: Tensor | None = None,
        truncation_psi: float = 1.0,
        noise_mode: NoiseMode = "random",
        random: Random = None,
    ) -> Generated:
        """Portraits of z [B, z_dim] seen from `camera` [B, 25] in `pose` [B, 6], conditioned on the same."""
        ws = self.mapping(z, camera, pose, truncation_psi)
        camera, _ = self.moved_camera(z, camera)
        return self.synthesis(ws, camera, pose, noise_mode=noise_mode, random=random)

    def synthesis(
        self,
        ws: Tensor,  # [B, styles, w_dim]
        camera: Tensor,  # [B, 25]
        pose: Tensor | None = None,  # [B, 6] radians; none: the canonical pose, not deformed
        background_ws: Tensor | None = None,  # [B, styles, w_dim]; none: `ws`
        resolution: int | None = None,  # neural rendering resolution; none: the config's
        noise_mode: NoiseMode = "random",
        draws: rays.RayDraws | None = None,  # none: fresh ones from `random`
        random: Random = None,  # on the generator's device
        density_noise: float | Tensor = 0.0,
        plain: bool = False,  # the renderer's reference implementation
        planes: Tensor | None = None,  # `self.planes(ws)`, where it is known already
    ) -> Generated:
        """Portraits of given styles. Equal `random` seeds give equal portraits.

        Raises `DeformationError` for a pose without a rig or with numbers that are not finite, `ValueError`
        for an empty batch.
        """
        side = resolution or self.config.render.resolution
        plain = plain or in_reference_mode()
        batch = camera.shape[0]
        if batch == 0:
            raise ValueError("an empty batch cannot be rendered")
        background_ws = ws if background_ws is None else background_ws
        if planes is None:
            planes = self.planes(ws, noise_mode, random)
        if draws is None:
            draws = rays.draw(self.config.render, batch, side * side, camera.device, random, density_noise)
        seen = self.render(planes, camera, side, self.warp(pose), draws, plain)
        features = seen.features.transpose(1, 2).reshape(batch, -1, side, side)
        coverage = seen.mask.reshape(batch, 1, side, side)
        background: Tensor | None = None
        if self.bcg_synthesis is not None:
            styles = background_ws[:, : self.bcg_synthesis.config.styles]
            behind = filters.resize(self.bcg_synthesis(styles, noise_mode, random), side)
            features = features + (1 - coverage) * behind  # equation 9, on features
            background = self.raw_colors(behind, styles[:, -1])
        raw = self.raw_colors(features, ws[:, -1])
        image, raw = self.superresolution(features, raw, ws[:, -1])
        mask = coverage * 1.002 - 0.001
        return Generated(image, raw, mask, seen.depth.reshape(batch, 1, side, side), background)

    def planes(self, ws: Tensor, noise_mode: NoiseMode = "const", random: Random = None) -> Tensor:
        """The tri-grid [B, P, features, depth, S, S]."""
        styles = ws[:, : self.config.backbone.styles]
        return trigrid.split_planes(self.backbone.synthesis(styles, noise_mode, random), self.config.grid)

    def render(
        self,
        planes: Tensor,  # [B, P, C, D, S, S]
        camera: Tensor,  # [B, 25]
        resolution: int,
        warp: Warp | None,
        draws: rays.RayDraws,
        plain: bool = False,
    ) -> Rendering:
        """Features, mask and depth of `resolution` squared rays."""
        origins, directions = rays.camera_rays(camera, resolution)
        volume = self.volume(planes, draws.jitter[0].numel(), plain)
        return (render_plain if plain else render)(volume, origins, directions, warp, draws)

    def volume(self, planes: Tensor, points: int, plain: bool = False) -> Volume:
        """The canonical volume of a tri-grid [B, P, C, D, S, S], to be asked for `points` of each at once."""
        table = trigrid.to_table(planes) if trigrid.rows_serve(planes, points) and not plain else None
        return Volume(planes, self.decoder, self.config.grid, self.config.render, table, plain)

    def sample_volume(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """(raw densities [B, N], color features [B, N, C]) at canonical points [B, N, 3] in metres.

        Neither deformed nor cropped.
        """
        made: tuple[Tensor, Tensor] = self.decoder(self.volume(planes, points.shape[1]).features(points))
        return made

    def warp(self, pose: Tensor | None) -> Warp | None:
        """The map from posed to canonical points for `pose` [B, 6], computed once for all passes."""
        if pose is None or self.config.deformation.mode == "none":
            return None
        if self.deformation is None:
            from portraitgan.deformation.errors import DeformationError

            raise DeformationError("rendering a pose needs a rig: build the generator with a Deformation")
        # In training the guard against gradients that are not finite notices, without waiting for a GPU.
        return self.deformation.posed(pose, check=not self.training or pose.device.type == "cpu").warp

    def raw_colors(self, features: Tensor, style: Tensor) -> Tensor:
        """Features [B, C, H, W] to RGB [B, 3, H, W] of the raw image, about -1..1."""
        if self.torgb is None:
            return features[:, :3] * 2 - 1  # EG3D: the first channels are the color, 0..1
        output: Tensor = self.torgb(features, style)
        return output
