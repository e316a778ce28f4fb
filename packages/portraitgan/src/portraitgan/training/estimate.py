"""What a run will cost, measured before its first iteration, and how many micro-batches go together.

One micro-batch goes through the phases as in training, on random portraits; weights stay as they are.
The first time warms up, then the median of three counts. On a GPU torch counts the memory. On a CPU what the
backward pass keeps is counted, and where even a single portrait takes long, that one is measured and
multiplied.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from portraitgan.data.dataset import PortraitData
from portraitgan.training import losses
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.generator_pass import Conditions, PassRandomness, Schedule, Swaps, run_generator
from portraitgan.training.run import Run, make_deformation
from portraitgan.training.schedule import at, stage_end, stage_start
from portraitgan.training.statistics import duration
from portraitgan.training.step import Networks, dealt, make_networks, together

_SHORT, _PATIENCE = 10.0, 60.0
"""Seconds for one portrait beyond which a CPU measures no more than one; seconds after which it has measured
enough, be it less than three times."""
_REPEATS = 3
_BUSY, _UNSTEADY = 0.75, 0.3
"""Load a core, and difference of the measurements as a share of their median, that are worth a warning."""
_SHARE = 0.85
"""Of the free memory of a GPU that passes may take: fragments and the loader's images need some."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """What one process needs, at one number of rays."""

    resolution: int  # neural rendering resolution
    activations_gib: float  # kept for the backward pass of the hungriest phase, or what graphs hold and R1
    seconds_per_kimg: float  # of the whole run, all processes at work
    quick: bool  # whole micro-batches were measured, not one portrait
    spread: float = 0.0  # slowest less fastest measurement, as a share of the median


@dataclass(frozen=True)
class Estimate:
    """What `describe` found."""

    lines: list[str]
    seconds: float  # to the end of the run
    per_pass: int  # micro-batches that should go together


def describe(
    config: TrainConfig,
    data: PortraitData,
    world: World,
    out: Path,
    say: Say,
    run: Run | None = None,
    graphs: bool = False,
) -> Estimate:
    """What a run will cost, in the lines it starts with. Every process must call it.

    With CUDA `graphs` passes take more memory: what these hold is not free for R1. Time is measured without.
    `say` hears what is being measured. Where it is quick, the rays of the last stage are measured too: they
    decide whether the memory suffices. Raises `DistributedError`, before anything is measured, for a batch
    that cannot be dealt out.
    """
    batch = config.batch
    rounds = dealt(batch, world.size)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)  # before this process adds to it
    images = 0 if run is None else run.images
    state = at(config, images)
    networks = run.networks if run is not None else _fresh(config, data, world)
    now = measure(config, networks, data, world, state.schedule, say, graphs)
    costs, most = [now], max(stage.resolution for stage in config.stages[state.stage_index :])
    if now.quick and most > now.resolution:
        later = replace(state.schedule, resolution=most)
        costs.append(measure(config, networks, data, world, later, say, graphs))
    counts = [_count(networks.generator), _count(networks.discriminator)]
    stages = ", ".join(
        f"{s.name} to {s.until_kimg:g} kimg at R {s.resolution_start}"
        + (f"->{s.resolution}" if s.resolution != s.resolution_start else "")
        + ("" if s.train_pose_predictor else " (poses frozen)")
        for s in config.stages
    )
    per_pass = world.least(batch.per_pass or _fitting(costs, counts, world.device))
    per_pass = together(per_pass, rounds, batch.views_per_person)
    static, checkpoint = static_gib(counts), 16 * sum(counts) / 2**30
    kept = "; ".join(f"{cost.activations_gib:.2f} for a micro-batch at R {cost.resolution}" for cost in costs)
    rates = ", ".join(f"{cost.seconds_per_kimg:.1f} s/kimg at R {cost.resolution}" for cost in costs)
    whole = seconds_left(config, costs, images)
    mirrored = ", each also mirrored" if data.mirror else ""
    lines = [
        f"config     {config.name}: {config.model.generator.image_resolution} pixels; stages {stages}",
        f"data       {data.release.url}: {data.portraits:,} portraits of '{config.data.split}'{mirrored}",
        f"batch      {batch.size} = {world.size} process(es) x {rounds} x micro-batch {batch.micro}, "
        f"{per_pass} a pass, on {world.device}",
        f"parameters generator {counts[0]:,}, discriminator {counts[1]:,}",
        f"memory     about {static + max(cost.activations_gib for cost in costs):.2f} GiB a process: "
        f"{static:.2f} for weights, EMA, gradients and moments; {kept}",
        f"time       about {rates}: {duration(whole)} to {config.stages[-1].until_kimg:g} kimg",
        f"output     {out}: a checkpoint is {checkpoint:.2f} GiB, one is kept every "
        f"{config.output.checkpoint_kimg:g} kimg",
    ]
    spread = max(cost.spread for cost in costs)
    if load > _BUSY or spread > _UNSTEADY:
        lines.append(
            f"busy       other programs compute here (load {load:.1f} a core, measurements differ by "
            f"{spread:.0%}): the time is that of now; status lines say it anew"
        )
    return Estimate(lines, whole, per_pass)


def fitting(free: float, reserved: float, a_micro_batch: float) -> int:
    """How many micro-batches fit together, at least 1: of `free` bytes, `reserved` are for other things."""
    return max(1, int((_SHARE * free - reserved) // max(a_micro_batch, 1.0)))


def _fitting(costs: Sequence[Cost], parameters: Sequence[int], device: torch.device) -> int:
    """Micro-batches a pass: on a GPU what fits at the most rays; 1 on a CPU (docs/benchmarks.md)."""
    if device.type != "cuda":
        return 1
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    moments = 8 * sum(parameters)
    return fitting(free, moments, 2**30 * max(cost.activations_gib for cost in costs))


def static_gib(parameters: Sequence[int]) -> float:
    """Weights, their EMA, two moments each, and the gradients of one network at a time."""
    return (4 * 4 * sum(parameters) + 4 * max(parameters)) / 2**30


def seconds_left(config: TrainConfig, costs: Sequence[Cost], images: int) -> float:
    """Seconds from `images` to the end: each stage at the speed of the measured rays nearest to its own."""
    total = 0.0
    for index, stage in enumerate(config.stages):
        rest = stage_end(config, index) - max(images, stage_start(config, index))
        nearest = min(costs, key=lambda cost: abs(cost.resolution - stage.resolution))
        total += max(rest, 0) / 1000 * nearest.seconds_per_kimg
    return total


def measure(
    config: TrainConfig,
    networks: Networks,
    data: PortraitData,
    world: World,
    schedule: Schedule,
    say: Say = lambda line: None,
    graphs: bool = False,
) -> Cost:
    """Time and memory of the phases, from `networks` whose weights do not change."""
    resolution = schedule.resolution or config.model.generator.render.resolution
    averages = networks.generator.backbone.mapping.w_avg.clone()
    size, whole = 1, config.batch.micro
    say(f"measuring one portrait at R {resolution} on {world.device} …")
    phases = _phases(config, networks, data, schedule, size, world.device)
    first = sum(_on(world.device, phase)[0] for phase in phases.values())  # also warms up
    if world.device.type != "cuda" and first >= _SHORT:  # kernels and tables may have been made just now
        first = sum(_on(world.device, phase)[0] for phase in phases.values())
    quick = world.device.type == "cuda" or first < _SHORT
    if quick:
        size = whole
        say(f"measuring one micro-batch of {size} …")
        phases = _phases(config, networks, data, schedule, size, world.device)
        first = sum(_on(world.device, phase)[0] for phase in phases.values())
    say(f"  {first:.1f} s for generator, discriminator and R1 when cold; up to {_REPEATS} times more …")
    times: list[dict[str, float]] = []
    kept: dict[str, float] = {}
    began = time.perf_counter()
    while len(times) < _REPEATS and (not times or time.perf_counter() - began < _PATIENCE):
        found = {name: _on(world.device, phase) for name, phase in phases.items()}
        times.append({name: seconds for name, (seconds, _) in found.items()})
        kept = {name: max(kept.get(name, 0.0), peak) for name, (_, peak) in found.items()}
    if world.device.type != "cuda":
        kept = {name: _kept_bytes(phase) * whole / size for name, phase in phases.items()}
    seconds = {name: statistics.median(one[name] for one in times) for name in phases}
    sums = [sum(one.values()) for one in times]
    spread = (max(sums) - min(sums)) / statistics.median(sums)
    networks.generator.backbone.mapping.w_avg.copy_(averages)
    for network in networks.named().values():
        network.zero_grad(set_to_none=True)
    shares = _shares(config)
    held = max(kept[name] for name in kept if name != "r1")
    memory = held + kept["r1"] if graphs else max(held, kept["r1"])
    per_image = sum(shares[name] * seconds[name] for name in phases) / size
    return Cost(resolution, memory / 2**30, per_image * 1000 / world.size, quick, spread)


def _shares(config: TrainConfig) -> dict[str, float]:
    """How often each phase goes over an image for one image of training."""
    output, optimiser = config.output, config.optimiser
    found = {"generator": 1.0, "discriminator": 1.0, "r1": 1 / optimiser.r1_interval}
    if config.model.loss.density:
        found["density"] = 1 / optimiser.density_interval
    if output.fid_kimg > 0:
        found["fid"] = output.fid_images / (1000 * output.fid_kimg)
    return found


def _phases(
    config: TrainConfig,
    networks: Networks,
    data: PortraitData,
    schedule: Schedule,
    size: int,
    device: torch.device,
) -> dict[str, Callable[[], None]]:
    """The phases of `_shares` on portraits of noise, with real labels.

    FID is what renders portraits: the features of an Inception network take little beside it.
    """
    model = config.model
    generator, discriminator = networks.generator, networks.discriminator
    indices = [i % len(data) for i in range(size)]
    cameras, poses = (part.to(device) for part in data.labels(indices))
    pixels = model.generator.image_resolution
    resolution = schedule.resolution or model.generator.render.resolution
    random = torch.Generator().manual_seed(0)
    image = (torch.rand(size, 3, pixels, pixels, generator=random) * 2 - 1).to(device)
    mask = torch.ones(size, 1, pixels, pixels, device=device)
    real = losses.prepare_real(image, mask, resolution, schedule.blur_sigma)
    given = Conditions(torch.randn(size, model.generator.z_dim, generator=random).to(device), cameras, poses)
    swaps = Swaps(torch.ones(size, dtype=torch.bool, device=device), torch.ones_like(cameras[:, 0]) > 0)
    draws = PassRandomness(swaps, random=torch.Generator(device).manual_seed(0))

    def generator_phase() -> None:
        discriminator.requires_grad_(False)
        losses.generator_loss(generator, discriminator, given, schedule, model.loss, draws).total.backward()
        discriminator.requires_grad_(True)
        generator.zero_grad(set_to_none=True)

    def discriminator_phase() -> None:
        fake = losses.discriminator_fake_loss(generator, discriminator, given, schedule, model.loss, draws)
        found = losses.discriminator_real_loss(discriminator, real, cameras, model.loss, poses)
        (fake.total + found.total).backward()

    def r1_phase() -> None:
        losses.r1_penalty(discriminator, real, cameras, model.loss, poses).penalty.mean().backward()

    def density_phase() -> None:
        losses.density_loss(generator, given, schedule, model.loss, draws).mean().backward()
        generator.zero_grad(set_to_none=True)

    def fid_phase() -> None:
        with torch.no_grad():
            run_generator(generator, given, schedule, model.loss, draws)

    every = {
        "generator": generator_phase, "discriminator": discriminator_phase, "r1": r1_phase,
        "density": density_phase, "fid": fid_phase,
    }  # fmt: skip
    return {name: every[name] for name in _shares(config)}


def _on(device: torch.device, phase: Callable[[], None]) -> tuple[float, float]:
    """(seconds, on a GPU also the peak of bytes above what was there before)."""
    if device.type != "cuda":
        began = time.perf_counter()
        phase()
        return time.perf_counter() - began, 0.0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before, began = torch.cuda.memory_allocated(device), time.perf_counter()
    phase()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began, torch.cuda.max_memory_allocated(device) - before


def _kept_bytes(phase: Callable[[], None]) -> float:
    """Bytes that a phase's graph keeps for its backward pass, each storage counted once."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = max(storages.get(storage.data_ptr(), 0), storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        phase()
    return math.fsum(storages.values())


def _fresh(config: TrainConfig, data: PortraitData, world: World) -> Networks:
    """Networks to measure with."""
    return make_networks(config.model, make_deformation(config.model, data.rig), world, config.seed)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
