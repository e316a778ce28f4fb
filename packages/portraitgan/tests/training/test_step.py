"""One iteration against the same iteration written out: order, rates, gains, averages (spec section 5)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from portraitgan.data.dataset import Batch, PortraitData
from portraitgan.data.loader import Sampler, loader
from portraitgan.training import ema, losses
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.gradients import LARGEST_GRADIENT
from portraitgan.training.passes import EagerPasses
from portraitgan.training.run import make_deformation
from portraitgan.training.schedule import ScheduleState, at
from portraitgan.training.static_passes import StaticPasses, as_written
from portraitgan.training.step import Networks, Stepper, make_networks

Network = TypeVar("Network", bound=nn.Module)
ALONE = World(0, 1, torch.device("cpu"))

pytestmark = pytest.mark.training


@pytest.fixture
def stepper(small: TrainConfig, data: PortraitData) -> Stepper:
    networks = make_networks(small.model, make_deformation(small.model, data.rig), ALONE, 0)
    return Stepper(small, networks, data, ALONE)


def batches(config: TrainConfig, data: PortraitData) -> Iterator[Batch]:
    return loader(data, Sampler(len(data), config.seed), config.batch.micro, 0)


def copied(networks: Networks) -> Networks:
    """Networks of their own with the same weights."""
    return Networks(
        _thawed(networks.generator), _thawed(networks.discriminator),
        _thawed(networks.generator_ema), _thawed(networks.discriminator_ema),
    )  # fmt: skip


def _thawed(network: Network) -> Network:
    return ema.averaged_copy(network).train().requires_grad_(True)


def gradients_of_steps(stepper: Stepper) -> list[dict[str, Tensor]]:
    """A list that gets the gradients of every optimiser's step, in the order of the steps."""
    steps: list[dict[str, Tensor]] = []
    for optimiser, parameters in stepper.optimisers().values():

        def note(*_: object, parameters: dict[str, Tensor] = parameters) -> None:
            steps.append({k: p.grad.clone() for k, p in parameters.items() if p.grad is not None})

        optimiser.register_step_pre_hook(note)
    return steps


def step_with(network: nn.Module, optimiser: torch.optim.Optimizer, gradients: dict[str, Tensor]) -> None:
    """Compare the network's gradients with those that were used, and step with the latter.

    Both differ by rounding. Adam's first steps are about rate x sign(gradient), so steps with each of them
    would differ by twice the rate wherever a gradient is rounding only.
    """
    found = {name: p for name, p in network.named_parameters() if p.grad is not None}
    assert set(found) == set(gradients)
    floor = 1e-6 * float(torch.stack([gradient.norm() for gradient in gradients.values()]).norm())
    for name, parameter in found.items():
        apart = float((parameter.grad - gradients[name]).norm())
        assert apart <= 1e-4 * float(gradients[name].norm()) + floor, name
        parameter.grad = gradients[name]
    optimiser.step()


def written_out(
    stepper: Stepper,
    networks: Networks,
    iteration: int,
    state: ScheduleState,
    batch: list[Batch],
    steps: list[dict[str, Tensor]],
) -> None:
    """Generator, discriminator, R1 in every second iteration, averages; two micro-batches of four."""
    assert len(steps) == (3 if iteration % 2 == 0 else 2)
    g, d = networks.generator, networks.discriminator
    g_ema, d_ema = networks.generator_ema, networks.discriminator_ema
    loss = stepper.config.model.loss
    optimise_g = torch.optim.Adam(g.parameters(), lr=0.0025, betas=(0.0, 0.99), eps=1e-8)
    lazy = 2 / 3
    optimise_d = torch.optim.Adam(d.parameters(), lr=0.002 * lazy, betas=(0.0, 0.99**lazy), eps=1e-8)
    real = [
        losses.prepare_real(b.images / 127.5 - 1, b.masks / 255, 4, state.schedule.blur_sigma) for b in batch
    ]
    total = torch.zeros(())
    for n in range(2):
        given, draws = (
            stepper.conditions(iteration, "generator", [n]),
            stepper.draws(iteration, "generator", [n], state),
        )
        total = total + losses.generator_loss(g, d, given, state.schedule, loss, draws).total / 2
    total.backward()
    step_with(g, optimise_g, steps[0])
    d.zero_grad(set_to_none=True)

    before, means = g.backbone.mapping.w_avg.clone(), []
    total = torch.zeros(())
    for n in range(2):
        given, draws = (
            stepper.conditions(iteration, "discriminator", [n]),
            stepper.draws(iteration, "discriminator", [n], state),
        )
        fake = losses.discriminator_fake_loss(g, d, given, state.schedule, loss, draws)
        means.append((g.backbone.mapping.w_avg - 0.998 * before) / 0.002)
        g.backbone.mapping.w_avg.copy_(before)
        found = losses.discriminator_real_loss(d, real[n], batch[n].cameras, loss)
        total = total + (fake.total + found.total) / 2
    total.backward()
    step_with(d, optimise_d, steps[1])
    g.backbone.mapping.w_avg.copy_(torch.stack(means).mean(dim=0).lerp(before, 0.998))

    if iteration % 2 == 0:
        d.zero_grad(set_to_none=True)
        for n in range(2):
            (losses.r1_penalty(d, real[n], batch[n].cameras, loss).penalty.mean() * 2 / 2).backward()
        step_with(d, optimise_d, steps[2])
    for average, network in ((g_ema, g), (d_ema, d)):
        with torch.no_grad():
            for kept, current in zip(average.parameters(), network.parameters(), strict=True):
                kept.mul_(state.ema_decay).add_(current, alpha=1 - state.ema_decay)
        for copied, own in zip(average.buffers(), network.buffers(), strict=True):
            copied.copy_(own)


@pytest.mark.parametrize("iteration", [0, 1])
def test_an_iteration_is_what_the_paper_says(
    iteration: int, stepper: Stepper, small: TrainConfig, data: PortraitData
) -> None:
    state = at(small, 16)
    reference = copied(stepper.networks)
    steps = gradients_of_steps(stepper)
    stepper.step(batches(small, data), iteration, state)
    stream = batches(small, data)
    written_out(stepper, reference, iteration, state, [next(stream), next(stream)], steps)
    for name, network in stepper.networks.named().items():
        expected = reference.named()[name].state_dict()
        for key, value in network.state_dict().items():
            apart = float((value - expected[key]).abs().max())
            assert apart <= 1e-6 * max(1.0, float(value.abs().max())), f"{name} {key}"


def test_frozen_poses_get_no_gradient_and_the_rest_does(
    stepper: Stepper, small: TrainConfig, data: PortraitData
) -> None:
    stepper.step(batches(small, data), 1, at(small, 24_000))
    generator = stepper.networks.generator
    assert generator.pose_branch is not None
    assert all(p.grad is None for p in generator.pose_branch.parameters())
    assert generator.decoder.net[0].weight.grad is not None


class Poisoned(nn.Module):
    """Weights whose gradients are what they are told to be."""

    def __init__(self, gradients: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros_like(gradients))
        self.weight.grad = gradients


def test_gradients_that_are_not_finite_are_mended_and_counted(stepper: Stepper) -> None:
    network = Poisoned(torch.tensor([float("nan"), float("inf"), -float("inf"), 0.5]))
    assert EagerPasses(network, network, stepper.world).finish() == 1
    assert network.weight.grad.tolist() == [0.0, LARGEST_GRADIENT, -LARGEST_GRADIENT, 0.5]
    healthy = Poisoned(torch.tensor([1.0]))
    assert EagerPasses(healthy, healthy, stepper.world).finish() == 0
    static = StaticPasses(network, network, [], stepper.world, as_written)
    static.begin()
    static.used = [True]
    static.gradient.copy_(torch.tensor([float("nan"), float("inf"), -float("inf"), 0.5]))
    assert static.finish() == 1
    assert network.weight.grad.tolist() == [0.0, LARGEST_GRADIENT, -LARGEST_GRADIENT, 0.5]


def test_chance_is_a_function_of_its_place(stepper: Stepper, small: TrainConfig) -> None:
    state = at(small, 0)
    torch.manual_seed(1)
    first = stepper.conditions(3, "generator", [1])
    swaps = stepper.draws(3, "generator", [1], state).swaps
    torch.manual_seed(2)
    again = stepper.conditions(3, "generator", [1])
    assert torch.equal(first.z, again.z) and torch.equal(first.camera, again.camera)
    assert swaps is not None and bool(swaps.condition.all())  # swapped with probability 1 at the start
    for other in (
        stepper.conditions(4, "generator", [1]),
        stepper.conditions(3, "discriminator", [1]),
        stepper.conditions(3, "generator", [0]),
    ):
        assert not torch.equal(first.z, other.z)
    reseeded = Stepper(replace(small, seed=1), stepper.networks, stepper.data, ALONE)
    assert not torch.equal(first.z, reseeded.conditions(3, "generator", [1]).z)


def test_averages_follow_weights_and_copy_buffers(stepper: Stepper) -> None:
    generator = stepper.networks.generator
    average = ema.averaged_copy(generator)
    assert average.deformation is generator.deformation
    start = copy.deepcopy(dict(average.named_parameters()))
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(1.0)
        generator.backbone.mapping.w_avg.fill_(7.0)
    ema.update(average, generator, 0.75)
    for name, parameter in average.named_parameters():
        assert torch.allclose(parameter, start[name] + 0.25, atol=1e-4), name
    assert torch.equal(average.backbone.mapping.w_avg, torch.full_like(average.backbone.mapping.w_avg, 7.0))
