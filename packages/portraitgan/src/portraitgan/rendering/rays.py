"""Camera rays and the depths sampled along them (equation 8's integration points)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from portraitgan.config import RenderConfig
from portraitgan.rendering.random_numbers import Random, normal, uniform


def camera_rays(camera: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Origins and unit directions, each [B, R * R, 3] in the world, of camera labels [B, 25].

    Row-major pixels; a ray goes through its pixel's centre.
    """
    batch = camera.shape[0]
    cam2world = camera[:, :16].reshape(batch, 4, 4)
    intrinsics = camera[:, 16:25].reshape(batch, 3, 3)
    centre = (torch.arange(resolution, device=camera.device, dtype=camera.dtype) + 0.5) / resolution
    v, u = torch.meshgrid(centre, centre, indexing="ij")
    u, v = u.reshape(1, -1), v.reshape(1, -1)
    fx, skew, cx = (intrinsics[:, 0, i, None] for i in range(3))
    fy, cy = intrinsics[:, 1, 1, None], intrinsics[:, 1, 2, None]
    y = (v - cy) / fy
    x = (u - cx - skew * y) / fx
    local = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    world = local @ cam2world[:, :3, :3].transpose(1, 2)
    origins = cam2world[:, None, :3, 3].expand_as(world)
    return origins, world / world.norm(dim=-1, keepdim=True)


@dataclass(frozen=True)
class RayDraws:
    """Every random number of one rendering, so that it can be repeated exactly."""

    jitter: Tensor  # [B, N, coarse] in 0..1
    importance: Tensor  # [B, N, fine] in 0..1
    coarse_noise: Tensor | None = None  # [B, N, coarse], added to the raw density
    fine_noise: Tensor | None = None  # [B, N, fine]

    def rays(self, part: slice) -> RayDraws:
        """The draws of some rays only."""
        coarse, fine = self.coarse_noise, self.fine_noise
        return RayDraws(
            self.jitter[:, part],
            self.importance[:, part],
            None if coarse is None else coarse[:, part],
            None if fine is None else fine[:, part],
        )


def draw(
    config: RenderConfig,
    batch: int,
    rays: int,
    device: torch.device,
    random: Random = None,
    density_noise: float | Tensor = 0.0,  # standard deviation, a number or []; only a number says "none"
) -> RayDraws:
    """Fresh draws; equal for equally seeded generators."""
    coarse, fine = (batch, rays, config.coarse_samples), (batch, rays, config.fine_samples)

    def noise(shape: tuple[int, ...]) -> Tensor | None:
        silent = not isinstance(density_noise, Tensor) and density_noise == 0
        return None if silent else normal(shape, random, device) * density_noise

    return RayDraws(
        uniform(coarse, random, device), uniform(fine, random, device), noise(coarse), noise(fine)
    )


def fixed_draws(config: RenderConfig, batch: int, rays: int, device: torch.device) -> RayDraws:
    """Draws without randomness: jitter in the middle of every step, evenly spread importance samples."""
    even = torch.linspace(0, 1, config.fine_samples, device=device)
    return RayDraws(
        torch.full((batch, rays, config.coarse_samples), 0.5, device=device),
        even.expand(batch, rays, -1),
    )


def stratified_depths(config: RenderConfig, jitter: Tensor) -> Tensor:
    """Depths [B, N, S] in metres: an even ladder plus `jitter` [B, N, S] of one step.

    The last depth may exceed `ray_end` by up to a step, as in the official renderer.
    """
    samples = jitter.shape[-1]
    ladder = torch.linspace(config.ray_start, config.ray_end, samples, device=jitter.device)
    return ladder + jitter * ((config.ray_end - config.ray_start) / (samples - 1))


@torch.no_grad()
def importance_depths(
    depths: Tensor,  # [B, N, S] ascending
    weights: Tensor,  # [B, N, S - 1]
    draws: Tensor,  # [B, N, F] in 0..1
) -> Tensor:
    """Depths [B, N, F] drawn where the marching weights are large (inverse transform sampling).

    The weights are widened by a max-pool and smoothed by an average-pool first (spec section 2.7).
    """
    padded = torch.nn.functional.pad(weights, (1, 1), value=-torch.inf)
    widened = torch.maximum(padded[..., 1:], padded[..., :-1])
    smooth = 0.5 * (widened[..., 1:] + widened[..., :-1]) + 0.01
    bins = 0.5 * (depths[..., 1:] + depths[..., :-1])
    density = smooth[..., 1:-1] + 1e-5
    density = density / density.sum(dim=-1, keepdim=True)
    cumulative = torch.nn.functional.pad(density.cumsum(dim=-1), (1, 0))
    above = torch.searchsorted(cumulative, draws.contiguous(), right=True)
    last = cumulative.shape[-1] - 1
    below, above = (above - 1).clamp(min=0), above.clamp(max=last)
    cdf_below, cdf_above = cumulative.gather(-1, below), cumulative.gather(-1, above)
    bin_below, bin_above = bins.gather(-1, below), bins.gather(-1, above)
    width = cdf_above - cdf_below
    width = torch.where(width < 1e-5, torch.ones_like(width), width)
    return bin_below + (draws - cdf_below) / width * (bin_above - bin_below)
