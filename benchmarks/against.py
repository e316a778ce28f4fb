"""Our training step beside the official modules': same device, weights, body and sizes, runs alternating."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import official, timing
from benchmarks.body import bust
from phq_data import camera as labels
from phq_data.rig import PortraitRig
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.config import (
    CompatibilityConfig,
    ModelConfig,
    PosePredictorConfig,
    RenderConfig,
    SynthesisConfig,
)
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.networks.discriminator import Arrangement
from portraitgan.networks.placing import place
from portraitgan.networks.pose import mirrored_rows
from portraitgan.presets import PRESETS
from portraitgan.training import losses
from portraitgan.training.generator_pass import Conditions, Schedule
from portraitgan.training.phases import DiscriminatorPhase, GeneratorPhase, PassInputs, RealPass

PHASES = {"g_step": "Gmain", "d_step": "Dmain", "r1": "Dreg"}
R1_INTERVAL = 16
SCHEDULE = Schedule(condition_swap=0.7)


@dataclass(frozen=True)
class Sizes:
    """What both sides are made of and see."""

    name: str
    config: ModelConfig
    rig: PortraitRig
    batch: int


def sizes(preset: str, batch: int, device: torch.device, small: bool = False) -> Sizes:
    """A preset's sizes, or with `small` those of thin networks with 16 x 16 rays of 8 + 8 samples.

    Everything is float32 without clamps, as the official modules are asked to be. Raises `SystemExit` for a
    preset that the official code cannot be built for.
    """
    if not preset.startswith("paper_") or preset not in PRESETS:
        raise SystemExit(f"--against compares paper_512, paper_256 and paper_128, not {preset}")
    base = PRESETS[preset]()
    generator = replace(base.generator, superresolution=replace(base.generator.superresolution, clamp=None))
    discriminator = replace(base.discriminator, clamp=None)
    if small:
        render = RenderConfig(coarse_samples=8, fine_samples=8, resolution=16)
        generator = replace(
            generator, backbone=SynthesisConfig(256, 1024, 32), background=SynthesisConfig(128, 512, 32),
            render=render,
        )  # fmt: skip
        # The official pose branch wants 512 channels at 4 x 4.
        discriminator = replace(
            discriminator, channel_base=2048, channel_max=512,
            pose_predictor=PosePredictorConfig((2048, 512, 128, 32)),
        )  # fmt: skip
    half = replace(base.precision, half="float32")
    config = replace(
        base, generator=generator, discriminator=discriminator, precision=half,
        compatibility=CompatibilityConfig(True, True),
    )  # fmt: skip
    return Sizes(f"{preset}, small" if small else preset, config, bust(16, 12) if small else bust(), batch)


def measure(
    checkout: Path, chosen: Sizes, device: torch.device, repeats: int
) -> tuple[list[str], dict[str, Any]]:
    """(lines, figures) of the three phases and a whole iteration, R1 by its share.

    Raises `SystemExit` for a folder without the official code or with other networks than ours.
    """
    ours, theirs = phases(checkout, chosen, device)
    seconds: dict[str, dict[str, list[float]]] = {}
    peaks: dict[str, float] = {}
    for turn in range(repeats + 1):  # the first warms up
        for phase in PHASES:
            for side, run in (("ours", ours.run[phase]), ("official", theirs.run[phase])):
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                took = timing.timed(run, device, repeats=1, warm=0)[0]
                if device.type == "cuda":
                    peak = torch.cuda.max_memory_allocated(device) / 2**30
                    peaks[side] = max(peaks.get(side, 0.0), peak)
                if turn:
                    seconds.setdefault(phase, {}).setdefault(side, []).append(took)
    medians = {
        phase: {side: statistics.median(values) for side, values in sides.items()}
        for phase, sides in seconds.items()
    }
    medians["whole"] = {
        side: medians["g_step"][side] + medians["d_step"][side] + medians["r1"][side] / R1_INTERVAL
        for side in ("ours", "official")
    }
    lines = [
        f"{chosen.name}: batch {chosen.batch}, rays {chosen.config.generator.render.resolution}; "
        f"the official modules find closest faces with {theirs.search} search",
        f"  {'':<10}{'ours, s':>12}{'official, s':>14}{'ratio':>8}",
    ]
    figures: dict[str, Any] = {"seconds": medians}
    for phase, both in medians.items():
        ratio = both["official"] / both["ours"]
        figures[f"{phase}_ratio"] = round(ratio, 3)
        lines.append(f"  {phase:<10}{both['ours']:>12.4f}{both['official']:>14.4f}{ratio:>8.2f}")
    if peaks:
        figures["peak_gib"] = peaks
        lines.append(f"  peak memory: ours {peaks['ours']:.2f} GiB, official {peaks['official']:.2f} GiB")
    return lines, figures


@dataclass(frozen=True)
class Side:
    """One side's phases, each of which makes the gradients of its step."""

    run: dict[str, Callable[[], None]]
    search: str


def phases(checkout: Path, chosen: Sizes, device: torch.device) -> tuple[Side, Side]:
    """(ours, the official ones) with equal weights on equal portraits."""
    torch.manual_seed(0)
    config, batch = chosen.config, chosen.batch
    mesh = SkinnedMesh.from_rig(chosen.rig)
    generator = make_generator(config, Deformation(mesh, config.generator.deformation))
    discriminator = make_discriminator(config)
    for network in (generator, discriminator):
        place(network, device, config.precision).train()
    theirs = official.load(checkout, config, chosen.rig, batch, device, (generator, discriminator))
    yaw = np.linspace(-2.5, 2.7, batch)
    camera = torch.from_numpy(labels.to_label(labels.from_angles(yaw, np.full(batch, 0.05)))).float()
    arrangement = Arrangement(batch, mirrored_rows(camera).to(device))
    given = Conditions(
        torch.randn(batch, config.generator.z_dim).to(device), camera.to(device),
        0.1 * torch.randn(batch, 6).to(device), arrangement,
    )  # fmt: skip
    size = config.generator.image_resolution
    image = (torch.rand(batch, 3, size, size) * 2 - 1).to(device)
    mask = torch.ones(batch, 1, size, size, device=device)
    return (
        Side(_ours(GeneratorPhase(generator, discriminator, config),
                   DiscriminatorPhase(discriminator, generator, config), given, image, mask), "ours"),
        Side({name: theirs.phase(one, given, image, mask) for name, one in PHASES.items()}, theirs.search),
    )  # fmt: skip


def _ours(
    make: GeneratorPhase,
    judge: DiscriminatorPhase,
    given: Conditions,
    image: Tensor,
    mask: Tensor,
) -> dict[str, Callable[[], None]]:
    side = make.config.generator.render.resolution

    def backward(trained: torch.nn.Module, other: torch.nn.Module, loss: Callable[[], Tensor]) -> None:
        other.requires_grad_(False)
        trained.requires_grad_(True)
        trained.zero_grad(set_to_none=True)
        loss().backward()

    def real() -> RealPass:
        portraits = losses.prepare_real(image, mask, side, 0.0)
        return RealPass(portraits, given.camera, given.coarse_pose, given.arrangement)

    generator, discriminator = make.generator, judge.discriminator
    return {
        "g_step": lambda: backward(generator, discriminator, lambda: make(PassInputs(SCHEDULE, given), {})),
        "d_step": lambda: backward(
            discriminator, generator, lambda: judge(PassInputs(SCHEDULE, given, real=real()), {})
        ),
        "r1": lambda: backward(
            discriminator, generator, lambda: judge(PassInputs(SCHEDULE, real=real()), {})
        ),
    }


def compare(
    checkout: Path, presets: Sequence[str], device: torch.device, batch: int, repeats: int, small_only: bool
) -> dict[str, Any]:
    """Figures of each preset, full and small, the first full one's ratios foremost; tables are printed."""
    print(f"device  {timing.describe(device)}")
    figures: dict[str, Any] = {"device": timing.describe(device), "batch": batch}
    for preset in presets:
        for small in (True,) if small_only else (False, True):
            chosen = sizes(preset, batch, device, small)
            text, found = measure(checkout, chosen, device, repeats)
            print("", *text, sep="\n", flush=True)
            prefix = "small_" if small else ""
            ratios = {f"{prefix}{name}": value for name, value in found.items() if name.endswith("_ratio")}
            for name, value in ratios.items():
                figures.setdefault(name, value)
            figures[chosen.name] = found
    return figures
