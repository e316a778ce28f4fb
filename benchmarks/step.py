"""One generator and one discriminator step, by part, against the same networks in reference mode."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import against, timing
from benchmarks.body import bust
from phq_data import camera as labels
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.config import ModelConfig
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.networks.discriminator import Arrangement, Discriminator, Portraits
from portraitgan.networks.generator import Generator
from portraitgan.networks.placing import place
from portraitgan.networks.pose import mirrored_rows
from portraitgan.precision import HalfPrecision
from portraitgan.presets import PRESETS
from portraitgan.reference_mode import in_reference_mode, reference_mode
from portraitgan.rendering import compiled, rays
from portraitgan.training import losses
from portraitgan.training.generator_pass import Conditions, Schedule

SCHEDULE = Schedule(condition_swap=0.7)


def measure(
    presets: Sequence[str] | None,
    device_name: str | None,
    batch: int,
    repeats: int,
    side: int | None = None,
    tf32: bool = False,
    half: HalfPrecision | None = None,
) -> tuple[str, dict[str, Any]]:
    """(table, figures) of the presets, with `side` squared rays instead of their own.

    Raises `SystemExit` for an unknown preset.
    """
    device = timing.pick_device(device_name)
    names = list(presets or (["paper_256", "paper_512"] if device.type == "cuda" else ["tiny", "middle"]))
    unknown = sorted(set(names) - set(PRESETS))
    if unknown:
        raise SystemExit(f"unknown presets {', '.join(unknown)}; known: {', '.join(PRESETS)}")
    lines = [f"device  {timing.describe(device)}"]
    figures: dict[str, Any] = {"device": timing.describe(device), "batch": batch, "presets": {}}
    for name in names:
        config = PRESETS[name]()
        render = replace(config.generator.render, resolution=side or config.generator.render.resolution)
        config = replace(
            config,
            generator=replace(config.generator, render=render),
            precision=replace(config.precision, tf32=tf32, half=half or config.precision.half),
        )
        text, found = _preset(config, device, batch, repeats)
        lines += ["", *text]
        figures["presets"][name] = found
    figures["speedup_vs_plain"] = figures["presets"][names[-1]]["speedup_vs_plain"]
    return "\n".join(lines), figures


def _preset(
    config: ModelConfig, device: torch.device, batch: int, repeats: int
) -> tuple[list[str], dict[str, Any]]:
    """Lines and figures of one preset."""
    torch.manual_seed(0)
    mesh = SkinnedMesh.from_rig(bust())
    deformation = Deformation(mesh, config.generator.deformation)
    generator = place(make_generator(config, deformation), device, config.precision)
    discriminator = place(make_discriminator(config), device, config.precision)
    yaw = np.linspace(-2.5, 2.7, batch)
    camera = torch.from_numpy(labels.to_label(labels.from_angles(yaw, np.full(batch, 0.05)))).to(device)
    z = torch.randn(batch, config.generator.z_dim, device=device)
    # As in training: micro-batches of four where that divides the batch, rows to mirror known beforehand.
    arrangement = Arrangement(4 if batch % 4 == 0 else None, mirrored_rows(camera))
    given = Conditions(z, camera, 0.1 * torch.randn(batch, 6, device=device), arrangement)
    size = config.generator.image_resolution
    image = torch.rand(batch, 3, size, size, device=device) * 2 - 1
    mask = torch.ones(batch, 1, size, size, device=device)
    real = losses.prepare_real(image, mask, config.generator.render.resolution, 0.0)
    parts = _parts(generator, discriminator, given, real, config)
    seconds: dict[str, dict[str, float]] = {}
    peak: dict[str, float] = {}
    for mode in ("fast", "plain"):
        with reference_mode() if mode == "plain" else nullcontext():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            for name, run in parts.items():
                seconds.setdefault(name, {})[mode] = timing.timed(run, device, repeats)[0]
            if device.type == "cuda":
                peak[mode] = torch.cuda.max_memory_allocated(device) / 2**30
    both = ("generator step", "discriminator step")
    whole = {mode: sum(seconds[step][mode] for step in both) for mode in ("fast", "plain")}
    lines = [
        f"{config.name}: batch {batch}, image {size}, rays {config.generator.render.resolution}",
        f"  {'':<34}{'seconds':>10}{'plain':>10}{'ratio':>8}",
        *(
            f"  {name:<34}{took['fast']:>10.4f}{took['plain']:>10.4f}{took['plain'] / took['fast']:>8.2f}"
            for name, took in seconds.items()
        ),
        f"  {'one G + D step':<34}{whole['fast']:>10.4f}{whole['plain']:>10.4f}"
        f"{whole['plain'] / whole['fast']:>8.2f}",
    ]
    figures: dict[str, Any] = {
        "speedup_vs_plain": round(whole["plain"] / whole["fast"], 3),
        "seconds": seconds,
        "share_of_deformation": round(seconds["deformation"]["fast"] * 2 / whole["fast"], 4),
    }
    if peak:
        figures["peak_gib"] = peak
        lines.append(f"  peak memory: {peak['fast']:.2f} GiB, plain {peak['plain']:.2f} GiB")
    return lines, figures


def _parts(
    generator: Generator,
    discriminator: Discriminator,
    given: Conditions,
    real: Portraits,
    config: ModelConfig,
) -> dict[str, Callable[[], object]]:
    """What is timed: forward passes of the parts, and the two whole steps with their gradients."""
    batch, side = len(given.z), config.generator.render.resolution
    device = given.z.device
    with torch.no_grad():
        pose = given.coarse_pose
        ws = generator.mapping(given.z, given.camera, pose)
        planes = generator.planes(ws)
        made = generator.synthesis(ws, given.camera, pose)
    draws = rays.fixed_draws(config.generator.render, batch, side * side, device)
    samples = config.generator.render.coarse_samples + config.generator.render.fine_samples
    origins, directions = rays.camera_rays(given.camera, side)
    depths = torch.linspace(2.25, 3.3, samples, device=device)[None, None, :, None]
    points = (origins[:, :, None] + depths * directions[:, :, None]).flatten(1, 2)

    def steps(network: torch.nn.Module, loss: Tensor) -> None:
        network.zero_grad(set_to_none=True)
        loss.backward()

    def generator_step() -> None:
        discriminator.requires_grad_(False)
        steps(generator, losses.generator_loss(generator, discriminator, given, SCHEDULE, config.loss).total)
        discriminator.requires_grad_(True)

    def discriminator_step() -> None:
        fake = losses.discriminator_fake_loss(generator, discriminator, given, SCHEDULE, config.loss)
        found = losses.discriminator_real_loss(
            discriminator, real, given.camera, config.loss, arrangement=given.arrangement
        )
        steps(discriminator, fake.total + found.total)

    def without_gradient(run: Callable[[], object]) -> Callable[[], object]:
        def quiet() -> object:
            with torch.no_grad():
                return run()

        return quiet

    forward = {
        "backbone": lambda: generator.planes(ws),
        "deformation": lambda: _warp(generator, pose, points),
        "render without deformation": lambda: generator.render(
            planes, given.camera, side, None, draws, plain=in_reference_mode()
        ),
        "synthesis": lambda: generator.synthesis(ws, given.camera, pose, draws=draws),
        "discriminator": lambda: discriminator(made.portraits, given.camera),
    }
    return {
        **{f"{name}": without_gradient(run) for name, run in forward.items()},
        "generator step": generator_step,
        "discriminator step": discriminator_step,
    }


def _warp(generator: Generator, pose: Tensor, points: Tensor) -> Tensor | None:
    warp = generator.warp(pose)
    return None if warp is None else warp(points)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; a table on stdout, with JSON=1 one JSON line after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", help="default: tiny middle; on a GPU: paper_256 paper_512")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--rays", type=int, help="neural rendering resolution (default: the preset's)")
    parser.add_argument("--tf32", action="store_true", help="TensorFloat-32 in the float32 parts (GPU)")
    parser.add_argument("--half", choices=["float32", "float16", "bfloat16"], help="default: the preset's")
    parser.add_argument("--compile", action="store_true", help="with compiled decoder and ray marching")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
    parser.add_argument("--repeats", type=int, default=3, help="timed so often; the median counts")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="beside the official modules")
    parser.add_argument("--small", action="store_true", help="with --against: thin networks only")
    options = parser.parse_args(arguments)
    if options.against is not None:
        presets = options.preset or ["paper_256"]
        device = timing.pick_device(options.device)
        checkout = options.against.resolve()
        timing.show(
            "", against.compare(checkout, presets, device, options.batch, options.repeats, options.small)
        )
        return 0
    compiled.use(options.compile)
    timing.show(
        *measure(
            options.preset,
            options.device,
            options.batch,
            options.repeats,
            options.rays,
            options.tf32,
            options.half,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
