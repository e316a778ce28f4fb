"""The mapping network: latent and condition to styles; also embeds the discriminator's condition."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from portraitgan.networks.layers import FullyConnected

W_AVERAGE_DECAY = 0.998


def normalise(values: Tensor) -> Tensor:
    """[B, N] scaled to a mean square of 1 per row."""
    return values * (values.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class MappingNetwork(nn.Module):
    """z and the condition (camera, pose or both, raw numbers; or none) to `styles` equal w vectors.

    Without z (`z_dim` 0) it is the discriminator's condition embedding; that, and the small network of
    PanoHead's camera offset (`plain`: ordinary learning rate, no activation at the end), keep no average.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        condition: int,
        w_dim: int,
        layers: int,
        styles: int | None,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.z_dim, self.condition, self.styles, self.layers = z_dim, condition, styles, layers
        inputs = z_dim
        if condition:
            self.embed = FullyConnected(condition, w_dim)
            inputs += w_dim
        for index in range(layers):
            activation: Literal["linear", "lrelu"] = "linear" if plain and index == layers - 1 else "lrelu"
            layer = FullyConnected(inputs, w_dim, activation, lr_multiplier=1.0 if plain else 0.01)
            setattr(self, f"fc{index}", layer)
            inputs = w_dim
        if styles is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor | None,  # [B, z_dim]
        condition: Tensor | None,  # [B, condition]; none where the network has no condition
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,  # how many styles are truncated; None: all
        update_w_avg: bool = False,
    ) -> Tensor:
        """Styles [B, styles, w_dim]; [B, w_dim] for the discriminator's embedding."""
        parts = [] if z is None else [normalise(z)]
        if self.condition:
            parts.append(normalise(self.embed(condition)))
        values = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        for index in range(self.layers):
            values = getattr(self, f"fc{index}")(values)
        if self.styles is None:
            return values
        if update_w_avg:
            with torch.no_grad():
                self.w_avg.copy_(values.detach().mean(dim=0).lerp(self.w_avg, W_AVERAGE_DECAY))
        ws = values[:, None].expand(-1, self.styles, -1)
        if truncation_psi == 1.0:
            return ws
        cutoff = self.styles if truncation_cutoff is None else truncation_cutoff
        return torch.cat([self.w_avg.lerp(ws[:, :cutoff], truncation_psi), ws[:, cutoff:]], dim=1)
