"""One of the processes of test_distributed: the first iterations of some runs, and what came of them.

Arguments: a folder with the run configs named in `ITERATIONS`, a release. Passes of `static` run in memory
that stays in place.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from portraitgan.checkpoints import checkpoint
from portraitgan.data.dataset import PortraitData
from portraitgan.data.loader import loader
from portraitgan.training import statistics
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import World, join
from portraitgan.training.run import Run, open_run
from portraitgan.training.schedule import at
from portraitgan.training.static_passes import as_written

ITERATIONS = {"adam": 3, "sgd": 1, "static": 2, "density": 2}


def linear_optimisers(run: Run, gradients: dict[str, Tensor]) -> None:
    """Exchange Adam for plain gradient descent, which magnifies no rounding, and note every gradient used."""
    config = run.config.optimiser
    rates = {"generator": config.generator_rate, "discriminator": config.discriminator_rate}
    for owner, rate in rates.items():
        named = dict(run.networks.named()[owner].named_parameters())
        optimiser = torch.optim.SGD(named.values(), lr=rate)

        def note(*_: object, owner: str = owner, named: dict[str, torch.nn.Parameter] = named) -> None:
            step = 1 + sum(key.startswith(f"gradient/{owner}/") for key in gradients) // len(named)
            for name, parameter in named.items():
                gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                gradients[f"gradient/{owner}/{step}/{name}"] = gradient.clone()

        optimiser.register_step_pre_hook(note)
        setattr(run.stepper, f"{owner}_optimiser", optimiser)


def iterate(kind: str, folder: Path, data: PortraitData, world: World) -> dict[str, Tensor]:
    """Everything a run has after its first iterations."""
    config = TrainConfig.from_json((folder / f"{kind}.json").read_text())
    run = open_run(folder / f"{kind}-{world.size}", config, data, world, lambda _: None)
    found: dict[str, Tensor] = {}
    if kind == "sgd":
        linear_optimisers(run, found)
    if kind == "static":
        run.stepper.use_graphs(as_written)
    batches = loader(data, run.sampler, config.batch.micro, 0)
    tally = statistics.Tally()
    for _ in range(ITERATIONS[kind]):
        tally.add(run.stepper.step(batches, run.iteration, at(config, run.images)))
        run.images += config.batch.size
        run.iteration += 1
    found.update({f"mean/{name}": torch.tensor(value) for name, value in tally.take(world).items()})
    for name, network in run.networks.named().items():
        found.update({f"{name}/{key}": value.clone() for key, value in network.state_dict().items()})
    found.update(checkpoint.optimiser_tensors(run.stepper.optimisers()))
    return found


def main(folder: Path, release: Path) -> None:
    torch.set_num_threads(1)
    with join("cpu") as world:
        data = PortraitData.open(release, 16)
        for kind in ITERATIONS:
            found = iterate(kind, folder, data, world)
            save_file(found, folder / f"{kind}-{world.rank}-of-{world.size}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
