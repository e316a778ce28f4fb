"""StyleGAN2 synthesis with skip connections; the backbone's output is the tri-grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portraitgan.config import SynthesisConfig
from portraitgan.networks import filters
from portraitgan.networks.layers import NoiseMode, SynthesisLayer, ToRGB, in_precision
from portraitgan.networks.mapping import MappingNetwork
from portraitgan.rendering.random_numbers import Random


class SynthesisBlock(nn.Module):
    """One resolution: two modulated convolutions (one in the first block) and a skip to the image."""

    def __init__(
        self,
        inputs: int,  # 0: starts from a learned 4x4 constant
        outputs: int,
        image_channels: int,
        w_dim: int,
        resolution: int,
        up: bool = True,
        clamp: float | None = None,
        half: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.up = up
        self.half_type = half
        self.styles = 2 if inputs == 0 else 3
        if inputs == 0:
            self.const = nn.Parameter(torch.randn(outputs, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(inputs, outputs, w_dim, resolution, up=up, clamp=clamp)
        self.conv1 = SynthesisLayer(outputs, outputs, w_dim, resolution, clamp=clamp)
        self.torgb = ToRGB(outputs, image_channels, w_dim, clamp=clamp)

    def forward(
        self,
        features: Tensor | None,  # [B, inputs, H, W]
        image: Tensor | None,  # [B, image_channels, H, W], float32
        ws: Tensor,  # [B, 2 or 3, w_dim]
        noise_mode: NoiseMode,
        random: Random = None,
    ) -> tuple[Tensor, Tensor]:
        """(features [B, outputs, H', W'], image [B, image_channels, H', W'])."""
        styles = iter(ws.unbind(dim=1))
        if features is None:
            features = in_precision(self.const.expand(ws.shape[0], -1, -1, -1), self.half_type)
        else:
            features = in_precision(features, self.half_type)
            features = self.conv0(features, next(styles), noise_mode, random)
        features = self.conv1(features, next(styles), noise_mode, random)
        added = in_precision(self.torgb(features, next(styles)))
        if image is None:
            return features, added
        return features, (filters.upsample(image) if self.up else image) + added


class SynthesisNetwork(nn.Module):
    """Styles to an image of any number of channels; blocks are named b4, b8, ... after their resolution.

    The `half_resolutions` largest of them compute in `half`; the image is float32.
    """

    def __init__(
        self,
        config: SynthesisConfig,
        image_channels: int,
        w_dim: int,
        half: torch.dtype = torch.float32,
        half_resolutions: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.resolutions = [2**power for power in range(2, config.resolution.bit_length())]
        inputs = 0
        large = self.resolutions[len(self.resolutions) - min(half_resolutions, len(self.resolutions)) :]
        for resolution in self.resolutions:
            outputs = config.channels(resolution)
            form = half if resolution in large else torch.float32
            block = SynthesisBlock(inputs, outputs, image_channels, w_dim, resolution, half=form)
            setattr(self, f"b{resolution}", block)
            inputs = outputs

    def forward(
        self,
        ws: Tensor,  # [B, config.styles, w_dim]
        noise_mode: NoiseMode = "random",
        random: Random = None,
    ) -> Tensor:
        """[B, image_channels, resolution, resolution].

        A block's ToRGB shares its style with the next block's first convolution.
        """
        features: Tensor | None = None
        image: Tensor | None = None
        first = 0
        for resolution in self.resolutions:
            block = getattr(self, f"b{resolution}")
            styles = ws[:, first : first + block.styles]
            features, image = block(features, image, styles, noise_mode, random)
            first += block.styles - 1
        assert image is not None
        return image


class Backbone(nn.Module):
    """Mapping and synthesis of the tri-grid planes."""

    def __init__(
        self,
        config: SynthesisConfig,
        plane_channels: int,
        z_dim: int,
        condition: int,
        w_dim: int,
        mapping_layers: int,
        half: torch.dtype = torch.float32,
        half_resolutions: int = 0,
    ) -> None:
        super().__init__()
        self.mapping = MappingNetwork(z_dim, condition, w_dim, mapping_layers, config.styles)
        self.synthesis = SynthesisNetwork(config, plane_channels, w_dim, half, half_resolutions)
