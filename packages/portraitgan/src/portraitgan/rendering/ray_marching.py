"""From densities along a ray to a pixel: equation 8 with mask and depth.

Between neighbouring samples, depth, raw density and feature are averaged; the last sample therefore ends the
ray and nothing lies at infinity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from portraitgan.rendering.compiled import compilable

DENSITY_BIAS = -1.0
"""Added to the raw density before the softplus."""


@dataclass(frozen=True)
class Marched:
    """One value per ray."""

    features: Tensor  # [B, N, C], sum of weights times features (not divided by the mask)
    mask: Tensor  # [B, N], sum of the weights
    depth: Tensor  # [B, N] metres; infinite where the mask is 0
    weights: Tensor  # [B, N, S - 1]


def interval_weights(densities: Tensor, depths: Tensor) -> Tensor:
    """Weights [B, N, S - 1] of the intervals; raw densities and ascending depths are [B, N, S]."""
    steps = depths[..., 1:] - depths[..., :-1]
    middle = 0.5 * (densities[..., 1:] + densities[..., :-1])
    opacity = 1 - torch.exp(-functional.softplus(middle + DENSITY_BIAS) * steps)
    passed = torch.cumprod(1 - opacity + 1e-10, dim=-1)
    transmittance = torch.cat([torch.ones_like(passed[..., :1]), passed[..., :-1]], dim=-1)
    return opacity * transmittance


def expected_depth(weights: Tensor, depths: Tensor) -> Tensor:
    """Mean depth [B, N] of the intervals; infinite for rays that meet nothing."""
    middle = 0.5 * (depths[..., 1:] + depths[..., :-1])
    depth = (weights * middle).sum(dim=-1) / weights.sum(dim=-1)
    return torch.nan_to_num(depth, nan=torch.inf)


def march_plain(features: Tensor, densities: Tensor, depths: Tensor) -> Marched:
    """March over sorted samples: features [B, N, S, C], raw densities and depths [B, N, S]."""
    weights = interval_weights(densities, depths)
    middle = 0.5 * (features[..., 1:, :] + features[..., :-1, :])
    pixel = (weights[..., None] * middle).sum(dim=-2)
    return Marched(pixel, weights.sum(dim=-1), expected_depth(weights, depths), weights)


def merge_plain(
    coarse: tuple[Tensor, Tensor, Tensor], fine: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Two sets of (features [B, N, S, C], densities, depths [B, N, S]) as one set sorted by depth."""
    features, densities, depths = (torch.cat(pair, dim=2) for pair in zip(coarse, fine, strict=True))
    depths, order = depths.sort(dim=-1)
    features = features.gather(2, order[..., None].expand(-1, -1, -1, features.shape[-1]))
    return features, densities.gather(-1, order), depths


@dataclass(frozen=True)
class SampleWeights:
    """How much every sample, in the order it was computed, adds to its pixel."""

    coarse: Tensor  # [B, N, S]
    fine: Tensor  # [B, N, F]
    mask: Tensor  # [B, N]
    depth: Tensor  # [B, N] metres, infinite where the mask is 0


def march_merged(
    coarse_densities: Tensor,  # [B, N, S] raw
    coarse_depths: Tensor,  # [B, N, S] metres
    fine_densities: Tensor,  # [B, N, F] raw
    fine_depths: Tensor,  # [B, N, F] metres
) -> SampleWeights:
    """`merge_plain` and `march_plain` without moving features.

    A sample's feature enters the two intervals beside it with half their weight each. So only the densities
    are sorted, and the resulting factors go back to the samples' own order.
    """
    depths, order = torch.cat([coarse_depths, fine_depths], dim=-1).sort(dim=-1)
    densities = torch.cat([coarse_densities, fine_densities], dim=-1).gather(-1, order)
    factors, mask, depth = _march(densities, depths)
    unsorted = torch.empty_like(factors).scatter(-1, order, factors)
    count = coarse_densities.shape[-1]
    return SampleWeights(unsorted[..., :count], unsorted[..., count:], mask, depth)


@compilable
def _march(densities: Tensor, depths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(factor of each sample [B, N, S], mask [B, N], depth [B, N]) of samples sorted by depth [B, N, S]."""
    weights = interval_weights(densities, depths)
    padded = functional.pad(weights, (1, 1))
    factors = 0.5 * (padded[..., 1:] + padded[..., :-1])
    return factors, weights.sum(dim=-1), expected_depth(weights, depths)


def clamp_depth(depth: Tensor, nearest: Tensor, farthest: Tensor) -> Tensor:
    """Depths [B, N] in metres, limited to the sampled range of the whole batch (spec section 2.7, Q31)."""
    return torch.minimum(torch.maximum(depth, nearest), farthest)
