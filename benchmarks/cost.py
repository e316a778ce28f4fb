"""What an image of training costs in arithmetic, by preset: an estimate for machines that are not at hand.

Operations of matrix products and convolutions are counted by torch while one portrait goes through the three
phases; gathers, sums over samples and other work that moves memory are not. So this is a lower bound, and the
hours made of it are an estimate: `portraitgan train --dry-run` measures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import timing
from phq_data import camera as labels
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.config import DeformationConfig
from portraitgan.training import losses
from portraitgan.training.config import PRESETS, TrainConfig
from portraitgan.training.generator_pass import Conditions, Schedule

SHARE = 1 / 3
"""Of the data sheet's rate, which is assumed to be reached."""
GPUS = {"A100 80 GB": 19.5, "RTX 4090": 82.6, "H100 SXM": 67.0}
"""Float32 TFLOP/s without tensor cores, from the vendor's data sheets."""


def measure(presets: Sequence[str] | None) -> tuple[str, dict[str, Any]]:
    """(table, figures) of the presets. Raises `SystemExit` for an unknown one."""
    names = list(presets or PRESETS)
    unknown = sorted(set(names) - set(PRESETS))
    if unknown:
        raise SystemExit(f"unknown presets {', '.join(unknown)}; known: {', '.join(PRESETS)}")
    lines = [
        f"TFLOP an image; hours of the whole run on one GPU at {SHARE:.0%} of its float32 rate (estimated)",
        f"{'preset':<12}{'rays':>6}{'TFLOP':>9}{'kimg':>8}" + "".join(f"{gpu:>14}" for gpu in GPUS),
    ]
    figures: dict[str, Any] = {"share": SHARE, "gpus": GPUS, "presets": {}}
    for name in names:
        config = PRESETS[name]()
        by_rays: dict[int, float] = {}
        total = begin = 0.0
        for stage in config.stages:
            if stage.resolution not in by_rays:
                by_rays[stage.resolution] = flops_an_image(config, stage.resolution) / 1e12
            total += by_rays[stage.resolution] * 1000 * (stage.until_kimg - begin)
            begin = stage.until_kimg
        hours = {gpu: total / (rate * SHARE) / 3600 for gpu, rate in GPUS.items()}
        for rays, work in by_rays.items():
            last = rays == list(by_rays)[-1]
            row = f"{name:<12}{rays:>6}{work:>9.3f}"
            if last:
                row += f"{begin:>8g}" + "".join(f"{value:>14.1f}" for value in hours.values())
            lines.append(row)
        figures["presets"][name] = {"tflop_an_image": by_rays, "kimg": begin, "hours": hours}
    return "\n".join(lines), figures


def flops_an_image(config: TrainConfig, rays: int) -> float:
    """Operations (a multiply-add is two) of one image in all phases, R1 by its share."""
    torch.manual_seed(0)
    # The search for closest faces is neither a product nor a convolution: without it the count is the same.
    network = replace(config.model.generator, deformation=DeformationConfig(mode="none"))
    model = replace(config.model, generator=network)
    generator, discriminator = make_generator(model), make_discriminator(model)
    camera = torch.from_numpy(labels.to_label(labels.from_angles(np.zeros(1), np.zeros(1))))
    given = Conditions(torch.randn(1, model.generator.z_dim), camera, torch.full((1, 6), 0.1))
    pixels = model.generator.image_resolution
    real = losses.prepare_real(torch.rand(1, 3, pixels, pixels), torch.ones(1, 1, pixels, pixels), rays, 0.0)
    schedule = Schedule(resolution=rays)

    def generator_phase() -> None:
        discriminator.requires_grad_(False)
        losses.generator_loss(generator, discriminator, given, schedule, model.loss).total.backward()
        discriminator.requires_grad_(True)
        generator.requires_grad_(False)  # constant from here on, as torch's counter wants it said

    def discriminator_phase() -> None:
        fake = losses.discriminator_fake_loss(generator, discriminator, given, schedule, model.loss)
        found = losses.discriminator_real_loss(discriminator, real, camera, model.loss)
        (fake.total + found.total).backward()

    def r1_phase() -> None:
        losses.r1_penalty(discriminator, real, camera, model.loss).penalty.mean().backward()

    lazy = 1 / config.optimiser.r1_interval
    return counted(generator_phase) + counted(discriminator_phase) + lazy * counted(r1_phase)


def counted(run: Callable[[], None]) -> float:
    """Operations of matrix products and convolutions while `run` runs."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; a table on stdout, with JSON=1 one JSON line after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", help="default: all of `portraitgan train`")
    options = parser.parse_args(arguments)
    timing.show(*measure(options.preset))
    return 0


if __name__ == "__main__":
    sys.exit(main())
