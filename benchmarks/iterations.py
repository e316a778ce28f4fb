"""Whole training iterations on made-up portraits: batch sizes, CUDA graphs or not, number formats.

One JSON line a case on stdout as soon as it is measured, so that whoever stops it keeps what there is.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.body import bust
from phq_data import camera as labels
from portraitgan.config import ModelConfig
from portraitgan.data.dataset import Batch
from portraitgan.precision import PRECISIONS
from portraitgan.training import cuda_graphs
from portraitgan.training.config import PRESETS, BatchConfig, TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.run import make_deformation
from portraitgan.training.schedule import at
from portraitgan.training.step import Networks, Stepper, make_networks

IMAGES = 1_000_000
"""Seen before: early training's blur and noise are over."""
WARM = 4
"""Iterations not measured: kernels are chosen, graphs captured and compared."""


@dataclass(frozen=True)
class Case:
    """What is measured."""

    preset: str
    batch: int
    graphs: cuda_graphs.GraphMode
    precision: str
    per_pass: int  # micro-batches of four


@dataclass(frozen=True)
class MadeUp:
    """Labels all around."""

    def draw_labels(self, count: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cameras [count, 25] and poses [count, 6] in radians."""
        yaw, pitch = random.uniform(-np.pi, np.pi, count), random.normal(0, 0.1, count)
        cameras = torch.from_numpy(labels.to_label(labels.from_angles(yaw, pitch))).float()
        return cameras, torch.from_numpy(random.normal(0, 0.1, (count, 6))).float()


def batches(config: TrainConfig) -> Iterator[Batch]:
    """Noise, labelled."""
    size, micro = config.model.generator.image_resolution, config.batch.micro
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (micro, 3, size, size), np.uint8))
    masks = torch.full((micro, 1, size, size), 255, dtype=torch.uint8)
    while True:
        yield Batch(images, masks, *MadeUp().draw_labels(micro, random))


def config_of(case: Case) -> TrainConfig:
    """The run whose iterations are measured."""
    base = PRESETS[case.preset]()
    model = replace(base.model, precision=PRECISIONS[case.precision])
    micro = 4 if case.batch % 4 == 0 else case.batch
    return replace(base, model=model, batch=BatchConfig(case.batch, micro, case.per_pass))


@functools.lru_cache(maxsize=1)
def networks_of(model: ModelConfig, world: World) -> Networks:
    """Networks that all cases of one preset and precision share: making them takes seconds."""
    body = bust(16, 12) if model.name == "tiny" else bust()
    return make_networks(model, make_deformation(model, body), world, 0)


def measure(case: Case, device: torch.device, repeats: int) -> dict[str, Any]:
    """Seconds of an iteration with and without R1, images a second, memory, whether graphs were used."""
    config = config_of(case)
    world = World(0, 1, device)
    stepper = Stepper(config, networks_of(config.model, world), MadeUp(), world)
    graphed = cuda_graphs.repeater(case.graphs, device)
    stepper.use_graphs(graphed)
    given, state, interval = batches(config), at(config, IMAGES), config.optimiser.r1_interval
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)

    def seconds(number: int) -> float:
        began = _now(device)
        stepper.step(given, number, state)
        return _now(device) - began

    for number in range(WARM if device.type == "cuda" else 1):
        seconds(number)
    plain = statistics.median(seconds(1 + number) for number in range(repeats))
    with_r1 = statistics.median(seconds(interval * (1 + number)) for number in range(max(1, repeats // 2)))
    mean = (plain * (interval - 1) + with_r1) / interval
    found: dict[str, Any] = {
        **asdict(case), "seconds": plain, "seconds_with_r1": with_r1, "images_per_second": case.batch / mean,
    }  # fmt: skip
    if graphed is not None:
        found.update(captured=graphed.captured, failed=graphed.failed)
    if device.type == "cuda":
        found["peak_gib"] = torch.cuda.max_memory_reserved(device) / 2**30
    return found


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all combinations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="paper_256", choices=list(PRESETS))
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 16, 4])
    parser.add_argument("--graphs", nargs="+", default=["auto", "off"], choices=["auto", "on", "off"])
    parser.add_argument("--precision", nargs="+", default=["bf16", "tf32"], choices=list(PRECISIONS))
    parser.add_argument("--pass", dest="per_pass", type=int, default=0, help="micro-batches (default: all)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
    parser.add_argument("--repeats", type=int, default=6)
    options = parser.parse_args(arguments)
    device = timing.pick_device(options.device)
    if device.type == "cuda":
        device = torch.device("cuda", 0)
        torch.backends.cudnn.benchmark = True  # as `distributed.join` sets it
    for precision, batch, graphs in itertools.product(options.precision, options.batch, options.graphs):
        together = options.per_pass or max(1, batch // 4)
        case = Case(options.preset, batch, graphs, precision, together)
        try:
            found = measure(case, device, options.repeats)
        except RuntimeError as error:  # of memory, or of one form only: the others are worth their time
            found = {**asdict(case), "error": str(error).splitlines()[0]}
        print(json.dumps({"device": timing.describe(device), **found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
