"""Passes in memory that stays in place equal those as written; graphs are used once seen to do the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from portraitgan.data.dataset import PortraitData
from portraitgan.data.loader import Sampler, loader
from portraitgan.networks.pose import padded_rows
from portraitgan.training.config import BatchConfig, TrainConfig
from portraitgan.training.cuda_graphs import Capture, Graphed, GraphError
from portraitgan.training.distributed import World
from portraitgan.training.run import make_deformation
from portraitgan.training.schedule import at
from portraitgan.training.static_passes import Repeater, Run, StaticPasses, as_written, flat_gradient
from portraitgan.training.step import Stepper, make_networks

pytestmark = pytest.mark.training
ALONE = World(0, 1, torch.device("cpu"))
ITERATIONS = 4


class Gradients:
    """What a stepper's optimisers were given, step by step."""

    def __init__(self, stepper: Stepper) -> None:
        self.steps: list[dict[str, Tensor]] = []
        for optimiser, parameters in stepper.optimisers().values():

            def note(*_: object, parameters: dict[str, Tensor] = parameters) -> None:
                self.steps.append({k: p.grad.clone() for k, p in parameters.items() if p.grad is not None})

            optimiser.register_step_pre_hook(note)


@pytest.fixture
def config(small: TrainConfig) -> TrainConfig:
    """Three stages, growing rays, blur and noise that end; four micro-batches of two in two passes."""
    model = small.model
    deformation = replace(model.generator.deformation, search="brute")
    model = replace(model, generator=replace(model.generator, deformation=deformation))
    stages = tuple(
        replace(stage, until_kimg=until, resolution_fade_kimg=0.008)
        for stage, until in zip(small.stages, (0.008, 0.016, 0.032), strict=True)
    )
    fades = replace(small.schedule, blur_kimg=0.01, density_noise_kimg=0.01)
    return replace(small, model=model, stages=stages, schedule=fades, batch=BatchConfig(8, 2, 2))


def run(
    config: TrainConfig, data: PortraitData, repeater: Repeater | None, iterations: int = ITERATIONS
) -> tuple[Stepper, list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """(the stepper, losses of every iteration, gradients of every step), weights as at first throughout."""
    networks = make_networks(config.model, make_deformation(config.model, data.rig), ALONE, 0)
    torch.manual_seed(3)
    for network in (networks.generator, networks.discriminator):
        for parameter in network.parameters():  # noise has a strength and poses are some
            parameter.data += 0.05 * torch.randn_like(parameter)
    # Adam magnifies rounding, so weights stay; that Adam gets the same gradients is what is shown.
    still = replace(config, optimiser=replace(config.optimiser, generator_rate=0.0, discriminator_rate=0.0))
    stepper = Stepper(still, networks, data, ALONE)
    stepper.use_graphs(repeater)
    noted = Gradients(stepper)
    batches = loader(data, Sampler(len(data), 0), config.batch.micro, 0)
    means = [stepper.step(batches, number, at(config, 8 * number)) for number in range(iterations)]
    return stepper, means, noted.steps


def close(found: Sequence[dict[str, Tensor]], wanted: Sequence[dict[str, Tensor]]) -> None:
    """Every tensor to 1e-4 of itself, or to 1e-6 of all together where much cancels; none more, none less."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert set(one) == set(other)
        whole = float(torch.stack([value.norm() for value in other.values()]).norm())
        for name, value in other.items():
            apart = float((one[name] - value).norm())
            assert apart <= 1e-4 * float(value.norm()) + 1e-6 * whole, f"{name}: {apart:.1e}"


def test_passes_in_place_equal_passes_as_written(config: TrainConfig, data: PortraitData) -> None:
    """Losses and gradients of G, D and R1, the running mean of styles; frozen and unused weights get none."""
    eager, wanted_means, wanted = run(config, data, None)
    static, means, steps = run(config, data, as_written)
    close(means, wanted_means)
    close(steps, wanted)
    styles = [one.networks.generator.backbone.mapping.w_avg for one in (static, eager)]
    assert torch.allclose(styles[0], styles[1], rtol=1e-5, atol=1e-7)
    assert isinstance(static._generator_passes, StaticPasses) and len(steps) == 10
    missing = set(dict(static.networks.generator.named_parameters())) - set(steps[-2])
    assert any(name.startswith("superresolution") and name.endswith("noise_strength") for name in missing)
    assert any(name.startswith("pose_branch") for name in missing)  # frozen by then


def test_more_mirrored_samples_than_there_is_room_for(
    config: TrainConfig, data: PortraitData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a pass runs outside of its memory and adds up the same."""
    _, _, wanted = run(config, data, None, 2)
    padded: list[bool] = []

    def narrow(rows: Tensor, batch: int) -> Tensor | None:
        found = padded_rows(rows, batch) if len(rows) <= batch // 2 else None
        padded.append(found is not None)
        return found

    monkeypatch.setattr("portraitgan.training.step.padded_rows", narrow)
    _, _, steps = run(config, data, as_written, 2)
    assert set(padded) == {True, False}
    close(steps, wanted)


def steady(config: TrainConfig) -> TrainConfig:
    """All passes are of one form."""
    until = replace(config.stages[0], until_kimg=1.0)
    return replace(
        config, schedule=replace(config.schedule, blur_kimg=0, density_noise_kimg=0), stages=(until,)
    )


def test_a_graph_does_it_from_the_fourth_pass_of_a_form_on(config: TrainConfig, data: PortraitData) -> None:
    """The first three are run, captured and run, replayed and compared; numbers are the same all along."""
    calls: list[int] = []

    def capture(run: Run, random: Sequence[torch.Generator]) -> Run:
        assert len(random) == 2

        def replay() -> None:
            calls.append(1)
            run()

        return replay

    _, wanted_means, wanted = run(steady(config), data, None, 2)
    graphed = Graphed(capture, strict=True)
    _, means, steps = run(steady(config), data, graphed, 2)
    close(means, wanted_means)
    close(steps, wanted)
    assert graphed.captured == 2 and len(calls) == 2 * (4 - 2)


def stale_noise(run: Run, random: Sequence[torch.Generator]) -> Run:
    """A graph that did not learn where its random numbers begin."""
    states = [one.get_state() for one in random]

    def replay() -> None:
        for one, state in zip(random, states, strict=True):
            one.set_state(state)
        run()

    return replay


def nothing(run: Run, random: Sequence[torch.Generator]) -> Run:
    return lambda: None


def refused(run: Run, random: Sequence[torch.Generator]) -> Run:
    raise RuntimeError("operation not permitted when stream is capturing\nand so on")


@pytest.mark.parametrize(
    ("capture", "said"),
    [(refused, "operation not permitted"), (nothing, "other numbers"), (stale_noise, "other numbers")],
)
def test_what_cannot_be_a_graph_is_done_without_and_said_once(
    capture: Capture, said: str, config: TrainConfig, data: PortraitData, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, wanted = run(steady(config), data, None, 2)
    with caplog.at_level(logging.WARNING):
        _, _, steps = run(steady(config), data, Graphed(capture), 2)
    close(steps, wanted)
    assert len(caplog.messages) == 1 and said in caplog.messages[0]
    assert "without CUDA graphs" in caplog.messages[0] and "and so on" not in caplog.messages[0]
    with pytest.raises(GraphError, match="--graphs auto or off"):
        run(steady(config), data, Graphed(capture, strict=True), 2)


def test_gradients_lie_in_memory_as_their_weights_do() -> None:
    square = torch.nn.Parameter(torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last))
    flat, parts = flat_gradient([torch.nn.Parameter(torch.zeros(5)), square])
    assert [one.stride() for one in parts] == [(1,), square.stride()]
    parts[1].copy_(torch.arange(96.0).reshape(2, 3, 4, 4))
    assert flat[:8].abs().sum() == 0 and sorted(flat[8:].tolist()) == list(range(96))


@pytest.mark.parametrize(("batch", "room"), [(4, 4), (8, 8), (32, 25)])
def test_room_for_mirrored_samples(batch: int, room: int) -> None:
    made = padded_rows(torch.tensor([1, 3]), batch)
    assert made is not None and made.tolist() == [1, 3] + [batch] * (room - 2)
    assert (padded_rows(torch.arange(batch), batch) is None) == (room < batch)
