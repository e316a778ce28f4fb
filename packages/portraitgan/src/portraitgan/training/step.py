"""One iteration: generator, discriminator, every so often R1, then the EMAs (spec section 5).

Each phase goes through its share of the batch in passes and adds up their gradients (passes.py); several
processes average them. A pass is one micro-batch or several: what couples samples (minibatch statistics,
swaps) and what is random belongs to a micro-batch, so only rounding depends on how many go together. Losses
are means over the whole batch, so neither the number of processes nor that of passes changes a learning
rate's meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from portraitgan.checkpoints.weights import (
    DISCRIMINATOR,
    DISCRIMINATOR_EMA,
    GENERATOR,
    GENERATOR_EMA,
    fit,
    make_discriminator,
    make_generator,
)
from portraitgan.config import ModelConfig
from portraitgan.data.dataset import Batch
from portraitgan.deformation.field import Deformation
from portraitgan.networks import filters
from portraitgan.networks.discriminator import Arrangement, Discriminator
from portraitgan.networks.generator import Generator
from portraitgan.networks.placing import place
from portraitgan.networks.pose import mirrored_rows, padded_rows
from portraitgan.training import ema, losses, rng
from portraitgan.training.config import BatchConfig, OptimiserConfig, TrainConfig
from portraitgan.training.distributed import DistributedError, World
from portraitgan.training.generator_pass import Conditions, PassRandomness, Schedule, Swaps
from portraitgan.training.passes import EagerPasses, Passes
from portraitgan.training.phases import DiscriminatorPhase, GeneratorPhase, PassInputs, RealPass
from portraitgan.training.schedule import ScheduleState
from portraitgan.training.static_passes import Repeater, StaticPasses


class Labels(Protocol):
    """Where the labels of generated portraits come from: `PortraitData`."""

    def draw_labels(self, count: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cameras [count, 25] and coarse poses [count, 6], on the host."""


@dataclass(frozen=True)
class Networks:
    """Both networks and their EMAs."""

    generator: Generator
    discriminator: Discriminator
    generator_ema: Generator
    discriminator_ema: Discriminator

    def named(self) -> dict[str, nn.Module]:
        """By the names of their files."""
        return {
            GENERATOR: self.generator,
            GENERATOR_EMA: self.generator_ema,
            DISCRIMINATOR: self.discriminator,
            DISCRIMINATOR_EMA: self.discriminator_ema,
        }


def make_networks(
    config: ModelConfig,
    deformation: Deformation | None,
    world: World,
    seed: int,
    states: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Networks:
    """Networks with fresh weights of `seed`, or with those of `states` (by the names of their files).

    An EMA that `states` lacks starts as a copy. Raises `WeightsError` for weights that do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.seed_of(seed, "weights").generate_state(1)[0]))
        generator, discriminator = make_generator(config, deformation), make_discriminator(config)
    made: dict[str, nn.Module] = {GENERATOR: generator, DISCRIMINATOR: discriminator}
    for name, network in made.items():
        if states is not None:
            fit(network, dict(states[name]), name)
        place(network, world.device, config.precision)
    generator_ema, discriminator_ema = ema.averaged_copy(generator), ema.averaged_copy(discriminator)
    for name, averaged in ((GENERATOR_EMA, generator_ema), (DISCRIMINATOR_EMA, discriminator_ema)):
        if states is not None and name in states:
            fit(averaged, dict(states[name]), name)
    return Networks(generator.train(), discriminator.train(), generator_ema, discriminator_ema)


class Stepper:
    """Makes iterations on networks and optimisers."""

    def __init__(self, config: TrainConfig, networks: Networks, data: Labels, world: World) -> None:
        self.config = config
        self.networks = networks
        self.data = data
        self.world = world
        self.views = config.batch.views_per_person
        self.micro_batches = dealt(config.batch, world.size)  # of this process
        self.go_together(config.batch.per_pass or 1)
        chosen = config.optimiser
        lazy = chosen.r1_interval / (chosen.r1_interval + 1)
        # Weights that a lazy regulariser steps, too, are corrected for it (StyleGAN2).
        every = chosen.density_interval
        also = every / (every + 1) if config.model.loss.density else 1.0
        self.generator_optimiser = _adam(networks.generator, chosen, chosen.generator_rate * also, also)
        self.discriminator_optimiser = _adam(
            networks.discriminator, chosen, chosen.discriminator_rate * lazy, lazy
        )
        self._stage: int | None = None
        self._repeater: Repeater | None = None
        self._random: list[torch.Generator] = []

    def use_graphs(self, repeater: Repeater | None) -> None:
        """Run passes of generator and discriminator in memory that stays in place, by `repeater`.

        R1, which is differentiated twice, never. None: all as they are written, as at first.
        """
        self._repeater, self._stage = repeater, None

    def go_together(self, wanted: int) -> None:
        """Take up to `wanted` micro-batches a pass, but all views of a person; all passes are of one size."""
        self.per_pass = together(wanted, self.micro_batches, self.views)
        self.passes = self.micro_batches // self.per_pass

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, dict[str, Tensor]]]:
        """Both with their parameters by name, for checkpoints."""
        networks = self.networks
        return {
            GENERATOR: (self.generator_optimiser, dict(networks.generator.named_parameters())),
            DISCRIMINATOR: (self.discriminator_optimiser, dict(networks.discriminator.named_parameters())),
        }

    def step(self, batches: Iterator[Batch], iteration: int, state: ScheduleState) -> dict[str, Tensor]:
        """One iteration on the next batch. Returns this process's mean of every loss and score."""
        self._enter(state)
        real = [
            self.real_pass([next(batches) for _ in range(self.per_pass)], state) for _ in range(self.passes)
        ]
        seen: dict[str, list[Tensor]] = {}
        bad = self._generator(iteration, state, seen)
        if self.config.model.loss.density and iteration % self.config.optimiser.density_interval == 0:
            bad += self._density(iteration, state, seen)
        lazy = iteration % self.config.optimiser.r1_interval == 0
        bad += self._discriminator(iteration, state, real, seen)
        if lazy:
            bad += self._r1(state, real, seen)
        networks = self.networks
        ema.update(networks.generator_ema, networks.generator, state.ema_decay)
        ema.update(networks.discriminator_ema, networks.discriminator, state.ema_decay)
        means = {name: torch.stack(values).mean() for name, values in seen.items()}
        means["bad_gradients"] = bad
        return means

    def real_pass(self, batches: Sequence[Batch], state: ScheduleState) -> RealPass:
        """Micro-batches of real portraits as one pass."""
        take = self.world.take
        images, masks, cameras, poses = (
            torch.cat([getattr(batch, part) for batch in batches])
            for part in ("images", "masks", "cameras", "poses")
        )
        arrangement = self._arrangement(cameras)
        portraits = losses.prepare_real(
            take(images).float() / 127.5 - 1, take(masks).float() / 255,
            self._resolution(state), state.schedule.blur_sigma,
        )  # fmt: skip
        return RealPass(portraits, take(cameras), take(poses), arrangement)

    def conditions(self, iteration: int, phase: str, numbers: Sequence[int]) -> Conditions:
        """Latents, and labels of portraits drawn uniformly, for some micro-batches of the whole run."""
        seed, size, take = self.config.seed, self.config.batch.micro, self.world.take
        z_dim = self.config.model.generator.z_dim
        cpu = torch.device("cpu")
        latents, labels = [], []
        for number in numbers:
            place = (phase, iteration, number)
            labels.append(self.data.draw_labels(size, rng.numpy_random(seed, "labels", *place)))
            person = number - number % self.views
            random = rng.torch_random(cpu, seed, "z", phase, iteration, person)
            latents.append(torch.randn(size, z_dim, generator=random))
        cameras, poses = (torch.cat(parts) for parts in zip(*labels, strict=True))
        return Conditions(
            take(torch.cat(latents)),
            take(cameras),
            take(poses),
            self._arrangement(cameras),
            self.views,
        )

    def draws(
        self, iteration: int, phase: str, numbers: Sequence[int], state: ScheduleState
    ) -> PassRandomness:
        """What else is random in some micro-batches: swaps, rays, noise; each has a generator of its own."""
        device, seed = self.world.device, self.config.seed
        while len(self._random) < len(numbers):  # a graph knows the generators that it was captured with
            self._random.append(torch.Generator(device))
        random = [
            rng.reseed(one, seed, "draws", phase, iteration, number)
            for one, number in zip(self._random, numbers, strict=False)
        ]
        loss, size = self.config.model.loss, self.config.batch.micro
        chosen = torch.cat([torch.rand(2, size, generator=one, device=device) for one in random], dim=1)
        swaps = Swaps(chosen[0] < state.schedule.condition_swap, chosen[1] < loss.background_swap)
        return PassRandomness(swaps, random=random)

    def _arrangement(self, cameras: Tensor) -> Arrangement:
        """Of a pass whose cameras [B, 25] are still on the host."""
        rows = mirrored_rows(cameras)
        padded = None if self._repeater is None else padded_rows(rows, len(cameras))
        taken = self.world.take(rows if padded is None else padded)
        return Arrangement(self.config.batch.micro, taken, padded is not None)

    def _schedule(self, state: ScheduleState) -> Schedule:
        """What a pass of `state` needs of the schedule; with graphs its numbers lie on the device."""
        schedule = state.schedule
        if self._repeater is None:
            return schedule
        numbers = torch.tensor([schedule.density_noise, schedule.pose_regulariser], dtype=torch.float64)
        noise, regulariser = self.world.take(numbers).unbind()
        return replace(
            schedule,
            condition_swap=0.0,  # the swaps are drawn before
            density_noise=0.0 if schedule.density_noise == 0 else noise,
            pose_regulariser=regulariser,
            blur_sigma=0.0,
            blur_taps=filters.blur_taps(schedule.blur_sigma, self.world.device),
        )

    def _enter(self, state: ScheduleState) -> None:
        """Freeze or thaw the generator's pose predictor as the stage says, and wrap the phases for it."""
        if self._stage == state.stage_index:
            return
        self._stage = state.stage_index
        networks, config = self.networks, self.config.model
        networks.generator.requires_grad_(True)
        if networks.generator.pose_branch is not None and not state.stage.train_pose_predictor:
            networks.generator.pose_branch.requires_grad_(False)
        make = GeneratorPhase(networks.generator, networks.discriminator, config)
        judge = DiscriminatorPhase(networks.discriminator, networks.generator, config)
        self._r1_passes: Passes = EagerPasses(judge, networks.discriminator, self.world)
        if config.loss.density or self._repeater is None:
            self._density_passes: Passes = EagerPasses(make, networks.generator, self.world)
        self._generator_passes: Passes
        self._discriminator_passes: Passes
        if self._repeater is None:
            self._generator_passes = self._density_passes
            self._discriminator_passes = self._r1_passes
            return
        styles = [networks.generator.backbone.mapping.w_avg]
        self._generator_passes, self._discriminator_passes = (
            StaticPasses(phase, trained, changed, self.world, self._repeater)
            for phase, trained, changed in (
                (make, networks.generator, []), (judge, networks.discriminator, styles),
            )
        )  # fmt: skip

    def _generator(self, iteration: int, state: ScheduleState, seen: dict[str, list[Tensor]]) -> Tensor:
        networks = self.networks
        networks.discriminator.requires_grad_(False)
        passes, schedule = self._generator_passes, self._schedule(state)
        passes.begin()
        for numbers, last in self._numbers():
            given = self.conditions(iteration, "generator", numbers)
            draws = self.draws(iteration, "generator", numbers, state)
            _collect(seen, passes.add(PassInputs(schedule, given, draws), 1 / self.passes, last))
        networks.discriminator.requires_grad_(True)
        bad = passes.finish()
        self.generator_optimiser.step()
        return bad

    def _density(self, iteration: int, state: ScheduleState, seen: dict[str, list[Tensor]]) -> Tensor:
        passes = self._density_passes
        passes.begin()
        gain = self.config.optimiser.density_interval / self.passes
        for numbers, last in self._numbers():
            given = self.conditions(iteration, "density", numbers)
            draws = self.draws(iteration, "density", numbers, state)
            _collect(seen, passes.add(PassInputs(state.schedule, given, draws, density=True), gain, last))
        bad = passes.finish()
        self.generator_optimiser.step()
        return bad

    def _discriminator(
        self,
        iteration: int,
        state: ScheduleState,
        real: Sequence[RealPass],
        seen: dict[str, list[Tensor]],
    ) -> Tensor:
        """Also the running mean of styles: each pass starts from the same, then their mean counts."""
        passes, schedule = self._discriminator_passes, self._schedule(state)
        passes.begin()
        styles = self.networks.generator.backbone.mapping.w_avg
        before, after = styles.clone(), torch.zeros_like(styles)
        for (numbers, last), portraits in zip(self._numbers(), real, strict=True):
            given = self.conditions(iteration, "discriminator", numbers)
            draws = self.draws(iteration, "discriminator", numbers, state)
            _collect(seen, passes.add(PassInputs(schedule, given, draws, portraits), 1 / self.passes, last))
            after += styles / self.passes
            styles.copy_(before)
        self.world.mean([after])
        styles.copy_(after)
        bad = passes.finish()
        self.discriminator_optimiser.step()
        return bad

    def _r1(
        self,
        state: ScheduleState,
        real: Sequence[RealPass],
        seen: dict[str, list[Tensor]],
    ) -> Tensor:
        passes = self._r1_passes
        passes.begin()
        gain = self.config.optimiser.r1_interval / self.passes
        for (_, last), portraits in zip(self._numbers(), real, strict=True):
            _collect(seen, passes.add(PassInputs(state.schedule, real=portraits), gain, last))
        bad = passes.finish()
        self.discriminator_optimiser.step()
        return bad

    def _numbers(self) -> Iterator[tuple[list[int], bool]]:
        """Of each pass: the numbers in the whole batch of its micro-batches, and whether it is the last."""
        for index in range(self.passes):
            first = index * self.per_pass
            own = (divmod(number, self.views) for number in range(first, first + self.per_pass))
            size, rank = self.world.size, self.world.rank
            numbers = [(people * size + rank) * self.views + view for people, view in own]
            yield numbers, index == self.passes - 1

    def _resolution(self, state: ScheduleState) -> int:
        return state.schedule.resolution or self.config.model.generator.render.resolution


def dealt(batch: BatchConfig, processes: int) -> int:
    """Micro-batches of each process. Raises `DistributedError` where they cannot be dealt out so."""
    whole = batch.size // batch.micro
    if whole % processes:
        raise DistributedError(
            f"{whole} micro-batches of {batch.micro} cannot be dealt to {processes} processes evenly: change "
            "batch.size or the number of processes"
        )
    own = whole // processes
    together(1, own, batch.views_per_person)
    return own


def together(wanted: int, count: int, views: int = 1) -> int:
    """Micro-batches a pass: at most `wanted`, at least the `views` of a person; `count` in equal passes.

    Raises `DistributedError` where the views do not divide them.
    """
    if count % views:
        raise DistributedError(
            f"{count} micro-batches a process cannot show {views} views of each person: change batch.size, "
            "batch.views_per_person or the number of processes"
        )
    return next(n for n in range(max(views, min(wanted, count)), 0, -1) if count % n == 0 and n % views == 0)


def _adam(
    network: nn.Module, config: OptimiserConfig, rate: float, power: float = 1.0
) -> torch.optim.Optimizer:
    """Adam with both betas to the `power`, in one kernel on a GPU."""
    parameters = list(network.parameters())
    return torch.optim.Adam(
        parameters,
        lr=rate,
        betas=(config.beta1**power, config.beta2**power),
        eps=config.epsilon,
        fused=parameters[0].is_cuda,
    )


def _collect(seen: dict[str, list[Tensor]], found: Mapping[str, Tensor]) -> None:
    for name, value in found.items():
        seen.setdefault(name, []).append(value)
