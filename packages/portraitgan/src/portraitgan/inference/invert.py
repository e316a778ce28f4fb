"""Inversion: the styles (W+) with which the generator shows a given portrait, then pivotal tuning.

The procedure is that of StyleGAN2's projector as 3DPortraitGAN runs it (spec section 7): start at the mean w,
optimise one w a layer and the backbone's noise images, with fading noise on w and a regulariser that keeps
noise noise. Camera and pose are given, and refined if asked. Pivotal tuning then adapts the weights to the
portrait while the styles stay.

Several portraits of one person are fitted together: styles, noise images and weights are the person's, camera
and pose each portrait's own. What is behind a person differs between photos, so a mask can leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from portraitgan.inference.errors import InferenceError
from portraitgan.inference.inversion_loss import (
    ImageDistance,
    comparable,
    noise_correlation,
    renormalise,
    within,
)
from portraitgan.inference.inversion_state import capture, restore
from portraitgan.inference.latents import Latent
from portraitgan.inference.model import Model
from portraitgan.inference.orbit import angles_of, camera_at


@dataclass(frozen=True)
class InversionOptions:
    """How long and how fast. Defaults are the official script's."""

    steps: int = 500
    rate: float = 0.01  # Adam, at its peak
    ramp_up: float = 0.05  # share of the steps over which the rate rises
    ramp_down: float = 0.25  # ... falls
    w_noise: float = 0.05  # of the spread of w, fading to nothing at `w_noise_until`
    w_noise_until: float = 0.75
    noise_weight: float = 1e5
    average_latents: int = 600  # from which the mean and the spread of w are taken
    average_seed: int = 123
    seed: int = 0  # of the noise
    refine_camera: bool = False  # yaw, pitch and roll
    refine_pose: bool = False
    refine_rate: float = 0.1  # of the rate, for camera and pose (radians)
    pti_steps: int = 0  # of pivotal tuning; the leftover constants of the official code say 350
    pti_rate: float = 1.5e-3
    pti_stop: float = 0.06  # perceptual distance at which tuning ends; means little for another one
    sample_factor: float = 2.0
    resolution: int | None = None  # neural rendering resolution
    keep_every: int = 50  # steps


@dataclass(frozen=True, eq=False)
class Step:
    """What an inversion tells after a step."""

    number: int  # from 1, tuning included
    phase: str  # "styles" or "tuning"
    distance: float
    image: Tensor  # [V, 3, H, W], without gradient


@dataclass(frozen=True, eq=False)
class Inverted:
    """What an inversion found."""

    latent: Latent
    distances: tuple[float, ...]  # image distance before every step, and after the last
    image: Tensor  # [V, 3, H, W]
    cameras: Tensor  # [V, 25], refined if asked; the latent has the first one
    poses: Tensor | None  # [V, 6]


def invert(
    model: Model,
    target: Tensor,  # [V, 3, H, W] in -1..1, portraits of one person
    camera: Tensor,  # [V, 25]
    pose: Tensor | None,  # [V, 6] radians; none: canonical
    distance: ImageDistance,
    options: InversionOptions | None = None,
    told: Callable[[Step], None] = lambda step: None,
    keep: Callable[[dict[str, Tensor]], None] | None = None,
    kept: dict[str, Tensor] | None = None,
    mask: Tensor | None = None,  # [V, 1, H, W] in 0..1, what of the portraits counts; none: all
) -> Inverted:
    """Fit the model to portraits of one person. Changes the model's noise images (and weights, by tuning).

    `keep` is given the state every `keep_every` steps of the first phase; given back as `kept`, the search
    continues there with the result of an uninterrupted one. Equal arguments give equal results on a CPU.
    Raises `InferenceError` when the optimisation diverges.
    """
    options = options or InversionOptions()
    if pose is not None and not model.deforms:
        pose = None
    if mask is not None:
        mask = mask.to(model.device)
        target, distance = target.to(model.device) * mask, within(mask, distance)
    search = _Search(model, target, camera, pose, distance, options, told, mask)
    search.fit_styles(keep, kept)
    if options.pti_steps:
        search.tune()
    return search.result()


def rate_at(share: float, options: InversionOptions) -> float:
    """The learning rate at `share` (0..1) of the steps: up in a line, then flat, then down in a cosine."""
    down = min(1.0, (1 - share) / options.ramp_down) if options.ramp_down else 1.0
    up = min(1.0, share / options.ramp_up) if options.ramp_up else 1.0
    return options.rate * (0.5 - 0.5 * math.cos(math.pi * down)) * up


@torch.no_grad()
def style_statistics(model: Model, pose: Tensor | None, options: InversionOptions) -> tuple[Tensor, float]:
    """(mean w [1, 1, w_dim], spread of w) from the front camera with the portraits' mean pose."""
    random = np.random.RandomState(options.average_seed)
    z = random.randn(options.average_latents, model.config.generator.z_dim).astype(np.float32)
    latents = torch.from_numpy(z).to(model.device)
    held = None if pose is None else pose.mean(dim=0, keepdim=True).expand(len(latents), -1)
    w = model.styles(latents, pose=held)[:, :1]
    mean = w.mean(dim=0, keepdim=True)
    spread = ((w - mean).square().sum() / options.average_latents).sqrt()
    return mean, float(spread)


class _Search:
    """One inversion under way."""

    def __init__(
        self,
        model: Model,
        target: Tensor,
        camera: Tensor,
        pose: Tensor | None,
        distance: ImageDistance,
        options: InversionOptions,
        told: Callable[[Step], None],
        mask: Tensor | None = None,
    ) -> None:
        self.mask, self.views = mask, len(target)
        self.model, self.options, self.distance, self.told = model, options, distance, told
        self.target, self.camera = target.to(model.device), camera.to(model.device)
        self.pose = None if pose is None else pose.to(model.device).clone()
        self.angles = angles_of(self.camera)
        mean, self.spread = style_statistics(model, self.pose, options)
        self.ws = mean.repeat(1, model.config.generator.backbone.styles, 1)
        self.draws = model.draws(self.views, options.resolution, options.sample_factor)
        self.noise = {
            f"backbone.synthesis.{name}": module
            for name, module in model.generator.backbone.synthesis.named_modules()
            if hasattr(module, "noise_const")
        }
        self.tuned: dict[str, Tensor] = {}
        self.distances: list[float] = []

    def fit_styles(
        self, keep: Callable[[dict[str, Tensor]], None] | None, kept: dict[str, Tensor] | None
    ) -> None:
        """Optimise styles and noise images, and camera and pose if asked."""
        options = self.options
        noise = self._fresh_noise()
        refined = self._refined()
        leaves = {"ws": self.ws.requires_grad_(True), **noise, **refined}
        images = list(noise.values())
        optimiser = torch.optim.Adam(
            [
                {"params": [self.ws, *images], "factor": 1.0},
                {"params": list(refined.values()), "factor": options.refine_rate},
            ],
            lr=options.rate,
            betas=(0.9, 0.999),
        )
        done = 0
        if kept is not None:
            done, self.distances = restore(kept, leaves, optimiser)
        for step in range(done, options.steps):
            share = step / options.steps
            for group in optimiser.param_groups:
                group["lr"] = rate_at(share, options) * group["factor"]
            fading = max(0.0, 1 - share / options.w_noise_until) ** 2
            jitter = torch.randn(self.ws.shape, generator=self._random(step + 1), device=self.ws.device)
            seen = self._render(self.ws + jitter * (self.spread * options.w_noise * fading))
            off = self.distance(seen)
            loss = off + options.noise_weight * noise_correlation(images)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            renormalise(images)
            self._record(step + 1, "styles", off, seen)
            if keep is not None and ((step + 1) % options.keep_every == 0 or step + 1 == options.steps):
                keep(capture(step + 1, leaves, optimiser, self.distances))
        for leaf in leaves.values():
            leaf.requires_grad_(False)

    def tune(self) -> None:
        """Pivotal tuning: adapt everything that makes images from styles."""
        generator, options = self.model.generator, self.options
        parts = (
            generator.backbone.synthesis,
            generator.bcg_synthesis,
            generator.decoder,
            generator.torgb,
            generator.superresolution,
        )
        chosen = {id(p) for part in parts if part is not None for p in part.parameters()}
        tuned = {name: p for name, p in generator.named_parameters() if id(p) in chosen}
        for parameter in tuned.values():
            parameter.requires_grad_(True)
        optimiser = torch.optim.Adam(tuned.values(), lr=options.pti_rate)
        wanted = comparable(self.target)
        for step in range(options.pti_steps):
            seen = self._render(self.ws)
            off = self.distance(seen)
            self._record(options.steps + step + 1, "tuning", off, seen)
            if float(off.detach()) <= options.pti_stop:
                break
            counted = seen if self.mask is None else seen * self.mask
            loss = off + (comparable(counted) - wanted).square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        for parameter in tuned.values():
            parameter.requires_grad_(False)
        self.tuned = {name: p.detach().clone() for name, p in tuned.items()}

    @torch.no_grad()
    def result(self) -> Inverted:
        """The latent, how the distance went, and the image."""
        image = self._render(self.ws)
        self.distances.append(float(self.distance(image)))
        noise = {f"{name}.noise_const": m.noise_const.detach().clone() for name, m in self.noise.items()}
        cameras = self._camera().detach()
        poses = None if self.pose is None else self.pose.detach()
        first = None if poses is None else poses[:1]
        latent = Latent(self.ws.detach(), cameras[:1], first, noise, self.tuned, {})
        return Inverted(latent, tuple(self.distances), image, cameras, poses)

    def _random(self, step: int) -> torch.Generator:
        """Random numbers of one step (0: the noise images at the start), whatever was drawn before."""
        return torch.Generator(self.model.device).manual_seed(self.options.seed * 1_000_003 + step)

    def _fresh_noise(self) -> dict[str, Tensor]:
        """New noise images in the generator, as leaves that can be optimised."""
        images = {}
        random = self._random(0)
        for name, module in self.noise.items():
            old = module.noise_const
            module.noise_const = torch.randn(old.shape, generator=random, device=old.device)
            images[f"{name}.noise_const"] = module.noise_const
        renormalise(list(images.values()))
        return {name: image.requires_grad_(True) for name, image in images.items()}

    def _refined(self) -> dict[str, Tensor]:
        leaves = {}
        if self.options.refine_camera:
            leaves["angles"] = self.angles.requires_grad_(True)
        if self.options.refine_pose:
            if self.pose is None:
                raise InferenceError("the pose can only be refined with the model's rig (--rig FILE)")
            leaves["pose"] = self.pose.requires_grad_(True)
        return leaves

    def _camera(self) -> Tensor:
        return camera_at(self.angles, self.camera) if self.options.refine_camera else self.camera

    def _render(self, ws: Tensor) -> Tensor:
        generator = self.model.generator
        planes: Tensor | None = None
        if self.views > 1:  # one volume, seen several times
            planes = generator.planes(ws, "const").expand(self.views, *[-1] * 5)
            ws = ws.expand(self.views, -1, -1)
        made = generator.synthesis(
            ws,
            self._camera(),
            self.pose,
            resolution=self.options.resolution,
            noise_mode="const",
            draws=self.draws,
            planes=planes,
        )
        return made.image

    def _record(self, number: int, phase: str, off: Tensor, seen: Tensor) -> None:
        value = float(off.detach())
        if not math.isfinite(value):
            raise InferenceError(
                f"the inversion diverged in step {number} ({phase}): try a lower --rate, or check "
                "camera and pose"
            )
        self.distances.append(value)
        self.told(Step(number, phase, value, seen.detach()))
