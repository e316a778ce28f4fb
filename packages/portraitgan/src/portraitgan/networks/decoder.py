"""The decoder: a tri-grid feature to a raw density and a color feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitgan.config import DecoderConfig
from portraitgan.networks.layers import FullyConnected
from portraitgan.rendering.compiled import compilable


class Decoder(nn.Module):
    """One hidden layer with softplus; output 0 is the raw density, the others the feature.

    `hidden_and_density` and `color` are its parts: since the last layer is linear, a renderer may sum hidden
    values along a ray and decode the color once per ray instead of once per sample.
    """

    def __init__(self, config: DecoderConfig, features: int) -> None:
        super().__init__()
        self.activation = config.activation
        self.net = nn.Sequential(
            FullyConnected(features, config.hidden),
            nn.Softplus(),
            FullyConnected(config.hidden, 1 + features),
        )

    @property
    def linear_color(self) -> bool:
        """Whether colors may be summed before they are decoded."""
        return self.activation == "none"

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [..., C] to (raw density [...], color feature [..., C])."""
        output = self.net(features)
        return output[..., 0], self._activate(output[..., 1:])

    def hidden_and_density(self, features: Tensor) -> tuple[Tensor, ...]:
        """[..., C] to (hidden values [..., hidden], raw densities [...])."""
        first = self.net[0]
        assert isinstance(first, FullyConnected)
        weight, bias = self._last()
        return _hidden_and_density(features, *first.scaled(features.dtype), weight[0], bias[0])

    def color(self, hidden: Tensor, amount: Tensor) -> Tensor:
        """Sums of hidden values [..., hidden] with total weight `amount` [...] to summed colors [..., C]."""
        weight, bias = self._last()
        return functional.linear(hidden, weight[1:]) + amount[..., None] * bias[1:]

    def _last(self) -> tuple[Tensor, Tensor]:
        layer = self.net[2]
        assert isinstance(layer, FullyConnected)
        return layer.weight / layer.weight.shape[1] ** 0.5, layer.bias

    def _activate(self, color: Tensor) -> Tensor:
        if self.activation == "none":
            return color
        return torch.sigmoid(color) * 1.002 - 0.001  # EG3D's range, slightly beyond 0..1


@compilable
def _hidden_and_density(
    features: Tensor, weight: Tensor, bias: Tensor, last_weight: Tensor, last_bias: Tensor
) -> tuple[Tensor, Tensor]:
    hidden = functional.softplus(functional.linear(features, weight, bias))
    return hidden, hidden @ last_weight + last_bias
