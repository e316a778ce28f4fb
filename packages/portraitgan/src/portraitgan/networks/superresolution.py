"""Super-resolution: two StyleGAN2 blocks from rendered features and raw image to the final image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portraitgan.config import SuperResolutionConfig
from portraitgan.networks import filters
from portraitgan.networks.backbone import SynthesisBlock


class SuperResolution(nn.Module):
    """From `input_resolution` by a factor of 2 (the first block keeps the size) or 4 (both double it)."""

    def __init__(
        self,
        config: SuperResolutionConfig,
        features: int,
        output: int,
        w_dim: int,
        overwrite_raw: bool = False,  # quirk Q3, see CompatibilityConfig
        half: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.input_resolution = config.input_resolution
        self.overwrite_raw = overwrite_raw
        doubled = output == 4 * config.input_resolution
        first, second = config.channels
        form = half if config.half_precision else torch.float32
        self.block0 = SynthesisBlock(features, first, 3, w_dim, output // 2, doubled, config.clamp, form)
        self.block1 = SynthesisBlock(first, second, 3, w_dim, output, True, config.clamp, form)

    def forward(
        self,
        features: Tensor,  # [B, C, R, R]
        raw: Tensor,  # [B, 3, R, R]
        style: Tensor,  # [B, w_dim], shared by all layers
    ) -> tuple[Tensor, Tensor]:
        """(image [B, 3, H, H], the raw image [B, 3, R, R] as a caller of the official code would see it)."""
        ws = style[:, None].expand(-1, 3, -1)
        resized = filters.resize(raw, self.input_resolution)
        hidden, image = self.block0(filters.resize(features, self.input_resolution), resized, ws, "none")
        if self.overwrite_raw and resized is raw and not self.block0.up:
            raw = image
        _, image = self.block1(hidden, image, ws, "none")
        return image, raw
