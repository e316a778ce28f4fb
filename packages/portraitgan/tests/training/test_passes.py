"""Micro-batches that go through the networks together give what they give one by one, up to rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from portraitgan.config import SuperResolutionConfig
from portraitgan.data.dataset import Batch, PortraitData
from portraitgan.data.loader import Sampler, loader
from portraitgan.networks.discriminator import Portraits, append_minibatch_deviation
from portraitgan.training.config import BatchConfig, TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.generator_pass import Conditions, predecessors
from portraitgan.training.gradients import mend, mend_plain
from portraitgan.training.phases import RealPass
from portraitgan.training.run import make_deformation
from portraitgan.training.schedule import ScheduleState, at
from portraitgan.training.step import Networks, Stepper, make_networks

pytestmark = pytest.mark.training
ALONE = World(0, 1, torch.device("cpu"))


class Exact(Stepper):
    """A stepper in float64: what differs by more than rounding shows."""

    def conditions(self, iteration: int, phase: str, numbers: Sequence[int]) -> Conditions:
        given = super().conditions(iteration, phase, numbers)
        return replace(
            given, z=given.z.double(), camera=given.camera.double(), coarse_pose=given.coarse_pose.double()
        )

    def real_pass(self, batches: Sequence[Batch], state: ScheduleState) -> RealPass:
        made = super().real_pass(batches, state)
        image, raw, mask = made.portraits.image, made.portraits.raw, made.portraits.mask
        assert mask is not None
        portraits = Portraits(image.double(), raw.double(), mask.double())
        return replace(made, portraits=portraits, cameras=made.cameras.double(), poses=made.poses.double())


def small_form(base: TrainConfig, factor: int) -> TrainConfig:
    """Four micro-batches; super-resolution by 2 as `paper_256` has it, or by 4 as `paper_512` has it."""
    generator = base.model.generator
    deformation = replace(generator.deformation, search="brute")
    size = 8 * factor
    generator = replace(
        generator,
        image_resolution=size,
        superresolution=SuperResolutionConfig(8, (8, 8)),
        deformation=deformation,
    )
    discriminator = replace(base.model.discriminator, image_resolution=size)
    model = replace(base.model, generator=generator, discriminator=discriminator)
    return replace(base, model=model, batch=BatchConfig(16, 4))


def after_steps(
    config: TrainConfig, data: PortraitData, networks: Networks, per_pass: int
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]], Networks]:
    """(losses of two iterations, the gradients of all optimisers' steps, the networks afterwards)."""
    own = copy.deepcopy(networks)
    stepper = Exact(replace(config, batch=replace(config.batch, per_pass=per_pass)), own, data, ALONE)
    assert (stepper.per_pass, stepper.passes) == (per_pass, 4 // per_pass)
    steps: list[dict[str, Tensor]] = []
    for optimiser, parameters in stepper.optimisers().values():

        def note(*_: object, parameters: dict[str, Tensor] = parameters) -> None:
            steps.append({k: p.grad.clone() for k, p in parameters.items() if p.grad is not None})

        optimiser.register_step_pre_hook(note)
    batches = loader(data, Sampler(len(data), 0), config.batch.micro, 0)
    means = [stepper.step(batches, iteration, at(config, 16 * iteration)) for iteration in range(2)]
    return means, steps, own


def close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Every tensor to 1e-6 of itself; one in which much cancels to 1e-8 of all together."""
    assert set(found) == set(wanted)
    whole = float(torch.stack([value.double().norm() for value in wanted.values()]).norm())
    for name, value in wanted.items():
        apart = float((found[name] - value).double().norm())
        assert apart <= 1e-6 * float(value.double().norm()) + 1e-8 * whole, f"{name}: {apart:.1e}"


@pytest.mark.parametrize("factor", [2, 4])
def test_a_pass_over_several_micro_batches_equals_them_one_by_one(
    factor: int, small: TrainConfig, release: object, data: PortraitData
) -> None:
    """Losses, gradients, and weights and averages after Adam's steps: G, D and R1, blur, noise and swaps."""
    config = small_form(small, factor)
    size = config.model.generator.image_resolution
    portraits = PortraitData.open(str(release), size) if size != data.resolution else data
    networks = make_networks(config.model, make_deformation(config.model, data.rig), ALONE, 0)
    torch.manual_seed(3)
    for network in (networks.generator, networks.discriminator):
        for parameter in network.parameters():  # noise has a strength and poses are some
            parameter.data += 0.05 * torch.randn_like(parameter)
    for one in networks.named().values():
        one.double()
    alone = after_steps(config, portraits, networks, 1)
    for per_pass in (2, 4):
        together = after_steps(config, portraits, networks, per_pass)
        assert len(together[1]) == len(alone[1]) == 5
        for found, wanted in zip(together[0] + together[1], alone[0] + alone[1], strict=True):
            close(found, wanted)
        for name, trained in together[2].named().items():
            close(trained.state_dict(), alone[2].named()[name].state_dict())


def test_statistics_and_swaps_stay_within_a_micro_batch() -> None:
    features = torch.randn(12, 5, 4, 4, dtype=torch.float64)
    parts = [append_minibatch_deviation(part, 4) for part in features.split(4)]
    assert torch.allclose(append_minibatch_deviation(features, 4, micro=4), torch.cat(parts))
    assert not torch.allclose(append_minibatch_deviation(features, 4), torch.cat(parts))
    rolled = torch.cat([part.roll(1, 0) for part in features.split(3)])
    assert torch.equal(predecessors(features, 3), rolled)


def test_a_pass_takes_what_divides_the_batch(small: TrainConfig, data: PortraitData) -> None:
    networks = make_networks(small.model, make_deformation(small.model, data.rig), ALONE, 0)
    stepper = Stepper(replace(small, batch=BatchConfig(24, 2)), networks, data, ALONE)
    for wanted, taken in ((0, 1), (1, 1), (5, 4), (7, 6), (11, 6), (12, 12), (99, 12)):
        stepper.go_together(wanted)
        assert stepper.per_pass == taken and stepper.passes * taken == 12


class Weights(nn.Module):
    """Weights in several layouts; one without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        square = torch.zeros(2, 3, 4, 4)
        self.a = nn.Parameter(square.clone(memory_format=torch.channels_last))
        self.b = nn.Parameter(torch.zeros(5, 2))
        self.c = nn.Parameter(torch.zeros(()))
        self.d = nn.Parameter(torch.zeros(3))


def test_all_gradients_are_mended_at_once_as_one_by_one() -> None:
    results = []
    for form in (mend, mend_plain):
        torch.manual_seed(0)
        weights = Weights()
        for parameter in (weights.a, weights.b, weights.c):
            parameter.grad = torch.randn_like(parameter)
        assert weights.a.grad is not None and weights.b.grad is not None
        weights.a.grad[0, 1, 2, 3], weights.a.grad[1, 2, 0, 0] = float("nan"), float("inf")
        weights.b.grad[4, 1] = -float("inf")
        form(weights.parameters())
        assert weights.d.grad is None
        results.append(weights)
    for (name, found), wanted in zip(results[0].named_parameters(), results[1].parameters(), strict=True):
        assert (found.grad is None) == (wanted.grad is None)
        if found.grad is not None and wanted.grad is not None:
            assert torch.equal(found.grad, wanted.grad), name
            assert found.grad.stride() == found.stride(), name  # as fused optimisers want it


def test_every_micro_batch_draws_its_own_numbers(make_toy: Callable[[], TrainConfig]) -> None:
    from portraitgan.rendering import random_numbers

    def seeded() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]

    cpu = torch.device("cpu")
    together = random_numbers.normal((6, 2), seeded(), cpu)
    alone = [random_numbers.normal((2, 2), one, cpu) for one in seeded()]
    assert torch.equal(together, torch.cat(alone))
    with pytest.raises(ValueError, match="equal parts"):
        random_numbers.uniform((7, 2), seeded(), cpu)
