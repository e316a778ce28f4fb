"""One iteration: generator, discriminator, every so often R1, then the EMAs (spec section 5).

Each phase goes through its share of the batch in micro-batches and adds up their gradients; over several
processes torch's `DistributedDataParallel` averages them with the last micro-batch. Losses are means over the
whole batch, so neither the number of processes nor that of micro-batches changes a learning rate's meaning.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

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
from portraitgan.data.dataset import Batch, PortraitData
from portraitgan.deformation.field import Deformation
from portraitgan.networks.discriminator import Discriminator, Portraits
from portraitgan.networks.generator import Generator
from portraitgan.networks.placing import place
from portraitgan.training import ema, losses, rng
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import DistributedError, World
from portraitgan.training.schedule import ScheduleState

LARGEST_GRADIENT = 1e5
"""What an infinite gradient becomes; NaN becomes 0."""
_NAMES = inspect.signature(DistributedDataParallel).parameters
_OWN_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False
}
"""Buffers are not exchanged: `_discriminator` does that. Newer versions of torch renamed the argument."""


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


class GeneratorPhase(nn.Module):
    """Equation 14 of a micro-batch, as `DistributedDataParallel` wants it: weights in, one loss out."""

    def __init__(self, generator: Generator, discriminator: Discriminator, config: ModelConfig) -> None:
        super().__init__()
        self.generator = generator
        self._others = (discriminator,)  # in a tuple: its weights are none of this module's
        self.config = config

    def forward(
        self,
        given: losses.Conditions,
        schedule: losses.Schedule,
        draws: losses.PassRandomness,
        seen: dict[str, Tensor],
    ) -> Tensor:
        """The loss []; what a status line shows goes into `seen`."""
        loss = losses.generator_loss(
            self.generator, self._others[0], given, schedule, self.config.loss, draws
        )
        seen["loss_generator"] = loss.adversarial
        seen["pose_regulariser"] = loss.pose_regulariser
        seen["score_generated"] = loss.score
        seen["pose_size"] = loss.pose.norm(dim=1)
        seen["mask_share"] = loss.generated.mask.mean(dim=(1, 2, 3))
        return loss.total


class DiscriminatorPhase(nn.Module):
    """Equation 12 of a micro-batch, or its R1 penalty."""

    def __init__(self, discriminator: Discriminator, generator: Generator, config: ModelConfig) -> None:
        super().__init__()
        self.discriminator = discriminator
        self._others = (generator,)
        self.config = config

    def forward(
        self,
        real: Portraits,
        batch: Batch,  # the real portraits' labels
        given: losses.Conditions | None,  # none: the R1 penalty
        schedule: losses.Schedule,
        draws: losses.PassRandomness,
        seen: dict[str, Tensor],
    ) -> Tensor:
        """The loss []; what a status line shows goes into `seen`."""
        if given is None:
            r1 = losses.r1_penalty(self.discriminator, real, batch.cameras, self.config.loss, batch.poses)
            seen["r1"] = r1.penalty
            return r1.penalty.mean()
        fake = losses.discriminator_fake_loss(
            self._others[0], self.discriminator, given, schedule, self.config.loss, draws
        )
        loss, score, pose = losses.discriminator_real_loss(
            self.discriminator, real, batch.cameras, batch.poses
        )
        seen["loss_generated"], seen["loss_real"], seen["loss_pose"] = fake.adversarial, loss, fake.pose
        seen["score_real"] = score
        if fake.predicted_pose is not None:
            error = (fake.predicted_pose - fake.generated_pose).detach()
            seen["pose_error_deg"] = error.square().mean(dim=1).sqrt().rad2deg()
        if pose is not None:
            offset = (pose - batch.poses).detach()
            seen["pose_off_labels_deg"] = offset.square().mean(dim=1).sqrt().rad2deg()
        return fake.total + loss.mean()


class Stepper:
    """Makes iterations on networks and optimisers."""

    def __init__(self, config: TrainConfig, networks: Networks, data: PortraitData, world: World) -> None:
        self.config = config
        self.networks = networks
        self.data = data
        self.world = world
        micro_batches = config.batch.size // config.batch.micro
        if micro_batches % world.size:
            raise DistributedError(
                f"{micro_batches} micro-batches of {config.batch.micro} cannot be dealt to {world.size} "
                "processes evenly: change batch.size or the number of processes"
            )
        self.micro_batches = micro_batches // world.size  # of this process
        chosen = config.optimiser
        lazy = chosen.r1_interval / (chosen.r1_interval + 1)
        self.generator_optimiser = torch.optim.Adam(
            networks.generator.parameters(),
            lr=chosen.generator_rate,
            betas=(chosen.beta1, chosen.beta2),
            eps=chosen.epsilon,
        )
        self.discriminator_optimiser = torch.optim.Adam(
            networks.discriminator.parameters(),
            lr=chosen.discriminator_rate * lazy,
            betas=(chosen.beta1**lazy, chosen.beta2**lazy),
            eps=chosen.epsilon,
        )
        self._stage: int | None = None

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
        device = self.world.device
        batch = [next(batches).to(device) for _ in range(self.micro_batches)]
        real = [
            losses.prepare_real(
                one.images.float() / 127.5 - 1, one.masks.float() / 255,
                self._resolution(state), state.schedule.blur_sigma,
            )
            for one in batch
        ]  # fmt: skip
        seen: dict[str, list[Tensor]] = {}
        bad = self._generator(iteration, state, seen)
        lazy = iteration % self.config.optimiser.r1_interval == 0
        bad += self._discriminator(iteration, state, batch, real, seen)
        if lazy:
            bad += self._r1(state, batch, real, seen)
        networks = self.networks
        ema.update(networks.generator_ema, networks.generator, state.ema_decay)
        ema.update(networks.discriminator_ema, networks.discriminator, state.ema_decay)
        means = {name: torch.stack(values).mean() for name, values in seen.items()}
        means["bad_gradients"] = bad
        return means

    def conditions(self, iteration: int, phase: str, micro_batch: int) -> losses.Conditions:
        """Latents, and labels of portraits drawn uniformly, for one micro-batch of the whole run."""
        place = (phase, iteration, micro_batch)
        device, size = self.world.device, self.config.batch.micro
        cameras, poses = self.data.draw_labels(size, rng.numpy_random(self.config.seed, "labels", *place))
        random = rng.torch_random(torch.device("cpu"), self.config.seed, "z", *place)
        z = torch.randn(size, self.config.model.generator.z_dim, generator=random)
        return losses.Conditions(z.to(device), cameras.to(device), poses.to(device))

    def draws(
        self, iteration: int, phase: str, micro_batch: int, state: ScheduleState
    ) -> losses.PassRandomness:
        """What else is random in one micro-batch: swaps, rays, noise."""
        device, seed = self.world.device, self.config.seed
        random = rng.torch_random(device, seed, "draws", phase, iteration, micro_batch)
        loss, size = self.config.model.loss, self.config.batch.micro
        chosen = torch.rand(2, size, generator=random, device=device)
        swaps = losses.Swaps(chosen[0] < state.schedule.condition_swap, chosen[1] < loss.background_swap)
        return losses.PassRandomness(swaps, random=random)

    def _enter(self, state: ScheduleState) -> None:
        """Freeze or thaw the generator's pose predictor as the stage says, and wrap the phases for it."""
        if self._stage == state.stage_index:
            return
        self._stage = state.stage_index
        networks, config = self.networks, self.config.model
        networks.generator.requires_grad_(True)
        if networks.generator.pose_branch is not None and not state.stage.train_pose_predictor:
            networks.generator.pose_branch.requires_grad_(False)
        self._generator_phase = self._wrapped(
            GeneratorPhase(networks.generator, networks.discriminator, config)
        )
        self._discriminator_phase = self._wrapped(
            DiscriminatorPhase(networks.discriminator, networks.generator, config)
        )

    def _wrapped(self, phase: nn.Module) -> nn.Module:
        if self.world.size == 1:
            return phase
        # Which weights a phase leaves without gradient differs: super-resolution's noise, R1's pose branch.
        return DistributedDataParallel(phase, **_OWN_BUFFERS, find_unused_parameters=True)

    def _generator(self, iteration: int, state: ScheduleState, seen: dict[str, list[Tensor]]) -> Tensor:
        networks = self.networks
        networks.discriminator.requires_grad_(False)
        networks.generator.zero_grad(set_to_none=True)
        for index, number in self._numbers():
            given = self.conditions(iteration, "generator", number)
            draws = self.draws(iteration, "generator", number, state)
            found: dict[str, Tensor] = {}
            with self._last_speaks(self._generator_phase, index):
                loss = self._generator_phase(given, state.schedule, draws, found)
                (loss / self.micro_batches).backward()
            _collect(seen, found)
        networks.discriminator.requires_grad_(True)
        return self._apply(networks.generator, self.generator_optimiser)

    def _discriminator(
        self,
        iteration: int,
        state: ScheduleState,
        batch: Sequence[Batch],
        real: Sequence[Portraits],
        seen: dict[str, list[Tensor]],
    ) -> Tensor:
        """Also the running mean of styles: each micro-batch starts from the same, then their mean counts."""
        networks = self.networks
        networks.discriminator.zero_grad(set_to_none=True)
        styles = networks.generator.backbone.mapping.w_avg
        before, after = styles.clone(), torch.zeros_like(styles)
        for index, number in self._numbers():
            given = self.conditions(iteration, "discriminator", number)
            draws = self.draws(iteration, "discriminator", number, state)
            found: dict[str, Tensor] = {}
            with self._last_speaks(self._discriminator_phase, index):
                loss = self._discriminator_phase(
                    real[index], batch[index], given, state.schedule, draws, found
                )
                (loss / self.micro_batches).backward()
            after += styles / self.micro_batches
            styles.copy_(before)
            _collect(seen, found)
        self.world.mean([after])
        styles.copy_(after)
        return self._apply(networks.discriminator, self.discriminator_optimiser)

    def _r1(
        self,
        state: ScheduleState,
        batch: Sequence[Batch],
        real: Sequence[Portraits],
        seen: dict[str, list[Tensor]],
    ) -> Tensor:
        networks = self.networks
        networks.discriminator.zero_grad(set_to_none=True)
        gain = self.config.optimiser.r1_interval / self.micro_batches
        for index, _ in self._numbers():
            found: dict[str, Tensor] = {}
            with self._last_speaks(self._discriminator_phase, index):
                penalty = self._discriminator_phase(
                    real[index], batch[index], None, state.schedule, losses.PassRandomness(), found
                )
                (penalty * gain).backward()
            _collect(seen, found)
        return self._apply(networks.discriminator, self.discriminator_optimiser)

    def _numbers(self) -> Iterator[tuple[int, int]]:
        """(number in this process, number in the whole batch) of this process's micro-batches."""
        for index in range(self.micro_batches):
            yield index, index * self.world.size + self.world.rank

    def _last_speaks(self, phase: nn.Module, index: int) -> AbstractContextManager[Any]:
        """Gradients are exchanged with the last micro-batch only."""
        if isinstance(phase, DistributedDataParallel) and index < self.micro_batches - 1:
            return phase.no_sync()
        return nullcontext()

    def _apply(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> Tensor:
        """Make gradients finite and step. Returns how many tensors had a gradient that was not finite."""
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        largest = torch.stack(torch._foreach_norm(gradients, float("inf")))
        bad = (~largest.isfinite()).sum().float()
        # On a GPU asking would wait for it; there all are mended unasked.
        if self.world.device.type != "cpu" or bad > 0:
            limit = LARGEST_GRADIENT
            for gradient in gradients:
                torch.nan_to_num(gradient, nan=0.0, posinf=limit, neginf=-limit, out=gradient)
        optimiser.step()
        return bad

    def _resolution(self, state: ScheduleState) -> int:
        return state.schedule.resolution or self.config.model.generator.render.resolution


def _collect(seen: dict[str, list[Tensor]], found: Mapping[str, Tensor]) -> None:
    for name, value in found.items():
        seen.setdefault(name, []).append(value.detach().float().mean())
