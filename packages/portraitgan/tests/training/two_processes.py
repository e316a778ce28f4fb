"""One of the processes of test_distributed: some iterations of a run, and what came of them.

Arguments: config file, release, iterations, file to write.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from portraitgan.checkpoints import checkpoint
from portraitgan.data.dataset import PortraitData
from portraitgan.data.loader import loader
from portraitgan.training import statistics
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import join
from portraitgan.training.run import open_run
from portraitgan.training.schedule import at


def main(config_file: str, release: str, iterations: str, out: str) -> None:
    torch.set_num_threads(1)
    config = TrainConfig.from_json(Path(config_file).read_text())
    with join("cpu") as world:
        data = PortraitData.open(release, config.model.generator.image_resolution)
        run = open_run(Path(out).parent / f"run-{world.size}", config, data, world, lambda _: None)
        batches = loader(data, run.sampler, config.batch.micro, 0)
        tally = statistics.Tally()
        for _ in range(int(iterations)):
            tally.add(run.stepper.step(batches, run.iteration, at(config, run.images)))
            run.images += config.batch.size
            run.iteration += 1
        found = {f"mean/{name}": torch.tensor(value) for name, value in tally.take(world).items()}
        for name, network in run.networks.named().items():
            found.update({f"{name}/{key}": value.clone() for key, value in network.state_dict().items()})
        found.update(checkpoint.optimiser_tensors(run.stepper.optimisers()))
        save_file(found, f"{out}-{world.rank}-of-{world.size}")


if __name__ == "__main__":
    main(*sys.argv[1:])
