"""Two passes along every ray, an even one and one where the first found matter; ray marching over both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from portraitgan.config import RenderConfig, TriGridConfig
from portraitgan.rendering import ray_marching, rays, trigrid

Warp = Callable[[Tensor], Tensor]
"""Points [B, N, 3] of the posed space to canonical points [B, N, 3], metres."""

OUTSIDE_DENSITY = -1000.0
"""Raw density of cropped points: nothing is there."""


class Decoder(Protocol):
    """What a tri-grid feature looks like; `networks.decoder.Decoder` is the one that is trained."""

    @property
    def linear_color(self) -> bool:
        """Whether hidden values may be summed along a ray before colors are decoded."""

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [..., C] to (raw density [...], color feature [..., C])."""

    def hidden_and_density(self, features: Tensor) -> tuple[Tensor, ...]:
        """Features [..., C] to (hidden values [..., hidden], raw densities [...])."""

    def color(self, hidden: Tensor, amount: Tensor) -> Tensor:
        """Sums of hidden values [..., hidden] of total weight `amount` [...] to colors [..., C]."""


@dataclass(frozen=True)
class Rendering:
    """What every ray saw."""

    features: Tensor  # [B, N, C]
    mask: Tensor  # [B, N] in 0..1
    depth: Tensor  # [B, N] metres, within the sampled range


@dataclass(frozen=True)
class Volume:
    """A tri-grid with its decoder: what a point of canonical space looks like."""

    grid: Tensor  # [B, P, C, D, S, S]
    decoder: Decoder
    grid_config: TriGridConfig
    config: RenderConfig
    table: Tensor | None = None  # `trigrid.to_table(grid)`; without it the grid is sampled
    plain: bool = False  # plane by plane, as the definition says

    def features(self, points: Tensor) -> Tensor:
        """Tri-grid features [B, N, C] at canonical points [B, N, 3] in metres."""
        scale = 2 / self.config.box_size
        inside, axes, sphere = points * scale, self.grid_config.axes, self.grid_config.sphere(scale)
        if self.table is None:
            sample = trigrid.sample_plain if self.plain else trigrid.sample_planes
            return sample(self.grid, inside, axes, sphere)
        shape = (self.grid.shape[3], self.grid.shape[4])
        return trigrid.sample_rows(self.table, shape, inside, axes, sphere)

    def crop(self, densities: Tensor, points: Tensor) -> Tensor:
        """Raw densities [B, N] without what lies too far to a side, in front or behind (Q6)."""
        if self.config.crop is None:
            return densities
        outside = (points[..., 0].abs() > self.config.crop) | (points[..., 2].abs() > self.config.crop)
        return torch.where(outside, OUTSIDE_DENSITY, densities)


def render_plain(
    volume: Volume, origins: Tensor, directions: Tensor, warp: Warp | None, draws: rays.RayDraws
) -> Rendering:
    """Rays [B, N, 3] to pixels, step by step as the paper says; `render` must equal it."""

    def evaluate(depths: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        points = _points(origins, directions, depths)
        if warp is not None:
            points = warp(points)
        density, color = volume.decoder(volume.features(points))
        if noise is not None:
            density = density + noise.reshape(density.shape)
        density = volume.crop(density, points)
        return color.reshape(*depths.shape, -1), density.reshape(depths.shape)

    coarse_depths = rays.stratified_depths(volume.config, draws.jitter)
    colors, densities = evaluate(coarse_depths, draws.coarse_noise)
    weights = ray_marching.interval_weights(densities, coarse_depths)
    fine_depths = rays.importance_depths(coarse_depths, weights.detach(), draws.importance)
    fine_colors, fine_densities = evaluate(fine_depths, draws.fine_noise)
    merged = ray_marching.merge_plain(
        (colors, densities, coarse_depths), (fine_colors, fine_densities, fine_depths)
    )
    pixel = ray_marching.march_plain(*merged)
    depth = ray_marching.clamp_depth(pixel.depth, merged[2].min(), merged[2].max())
    return Rendering(pixel.features, pixel.mask, depth)


def render(
    volume: Volume, origins: Tensor, directions: Tensor, warp: Warp | None, draws: rays.RayDraws
) -> Rendering:
    """`render_plain` of rays [B, N, 3], faster: row sampling where it pays, features summed in place, colors
    decoded late.

    Without gradients, rays are worked off in portions of `max_points` samples; the result does not depend
    on that.
    """
    per_ray = max(draws.jitter.shape[-1], draws.importance.shape[-1])
    count = origins.shape[1]
    portion = count
    if not torch.is_grad_enabled():
        portion = max(1, volume.config.max_points // max(1, per_ray * origins.shape[0]))
    parts = [slice(first, first + portion) for first in range(0, count, portion)]
    done = [
        _render_part(volume, origins[:, part], directions[:, part], warp, draws.rays(part)) for part in parts
    ]
    features = torch.cat([pixels.features for pixels, _, _ in done], dim=1)
    mask = torch.cat([pixels.mask for pixels, _, _ in done], dim=1)
    depth = torch.cat([pixels.depth for pixels, _, _ in done], dim=1)
    nearest = torch.stack([near for _, near, _ in done]).min()
    farthest = torch.stack([far for _, _, far in done]).max()
    return Rendering(features, mask, ray_marching.clamp_depth(depth, nearest, farthest))


def _render_part(
    volume: Volume, origins: Tensor, directions: Tensor, warp: Warp | None, draws: rays.RayDraws
) -> tuple[Rendering, Tensor, Tensor]:
    """(rendering with unlimited depth, nearest and farthest sample) of some rays."""
    decoder = volume.decoder

    def evaluate(depths: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        points = _points(origins, directions, depths)
        if warp is not None:
            points = warp(points)
        features = volume.features(points)
        if decoder.linear_color:
            values, density = decoder.hidden_and_density(features)
        else:
            density, values = decoder(features)
        if noise is not None:
            density = density + noise.reshape(density.shape)
        density = volume.crop(density, points)
        return values.reshape(*depths.shape, -1), density.reshape(depths.shape)

    coarse_depths = rays.stratified_depths(volume.config, draws.jitter)
    values, densities = evaluate(coarse_depths, draws.coarse_noise)
    with torch.no_grad():
        weights = ray_marching.interval_weights(densities, coarse_depths)
    fine_depths = rays.importance_depths(coarse_depths, weights, draws.importance)
    fine_values, fine_densities = evaluate(fine_depths, draws.fine_noise)
    factors = ray_marching.march_merged(densities, coarse_depths, fine_densities, fine_depths)
    summed = _weighted_sum(factors.coarse, values) + _weighted_sum(factors.fine, fine_values)
    pixel = decoder.color(summed, factors.mask) if decoder.linear_color else summed
    nearest = torch.minimum(coarse_depths.min(), fine_depths.min())
    farthest = torch.maximum(coarse_depths.max(), fine_depths.max())
    return Rendering(pixel, factors.mask, factors.depth), nearest, farthest


def _points(origins: Tensor, directions: Tensor, depths: Tensor) -> Tensor:
    """Sample points [B, N * S, 3] at `depths` [B, N, S] along rays [B, N, 3]."""
    return (origins[:, :, None] + depths[..., None] * directions[:, :, None]).flatten(1, 2)


def _weighted_sum(factors: Tensor, values: Tensor) -> Tensor:
    """sum_s factors [B, N, S] * values [B, N, S, C]."""
    return (factors[:, :, None] @ values).squeeze(2)
