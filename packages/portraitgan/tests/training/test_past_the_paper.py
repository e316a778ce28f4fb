"""Options beyond the paper: wrong cameras count as fake, several views a person, conditions without camera.

Each against its definition written out, values and gradients.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from phq_data import camera as labels
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.commands.main import main
from portraitgan.config import ModelConfig
from portraitgan.data.dataset import PortraitData
from portraitgan.data.loader import Sampler, loader
from portraitgan.networks.discriminator import Arrangement, Discriminator, Portraits
from portraitgan.networks.mapping import normalise
from portraitgan.presets import tiny, without_deformation, without_pose
from portraitgan.rendering import rays
from portraitgan.training import estimate, losses
from portraitgan.training.config import BatchConfig, StageConfig, TrainConfig
from portraitgan.training.distributed import DistributedError, World
from portraitgan.training.generator_pass import Conditions, PassRandomness, Schedule, Swaps, run_generator
from portraitgan.training.run import make_deformation
from portraitgan.training.schedule import at
from portraitgan.training.step import Stepper, make_networks, together

ALONE = World(0, 1, torch.device("cpu"))
STILL = Schedule(condition_swap=0.0)
NAMES = ("adversarial", "wrong_condition")


def cameras(*yaw_degrees: float) -> Tensor:
    yaw = np.radians(yaw_degrees)
    return torch.from_numpy(labels.to_label(labels.from_angles(yaw, np.full(len(yaw), 0.1))))


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, retain_graph=True)
    return [
        torch.zeros_like(parameter) if one is None else one
        for one, parameter in zip(found, network.parameters(), strict=True)
    ]


def close(found: list[Tensor], wanted: list[Tensor]) -> None:
    scale = max(float(one.abs().max()) for one in wanted)
    assert scale > 0
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * scale)


def seen(batch: int) -> tuple[Discriminator, Portraits]:
    torch.manual_seed(0)
    discriminator = make_discriminator(tiny())
    image = torch.rand(batch, 3, 32, 32) * 2 - 1
    return discriminator, losses.prepare_real(image, torch.rand(batch, 1, 32, 32), 8, 0.0)


def test_a_wrong_camera_counts_as_fake() -> None:
    """Against whole passes of the discriminator with the predecessor's camera and pose, two a micro-batch.

    Cameras 10 degrees from each other are no wrong ones.
    """
    discriminator, portraits = seen(4)
    camera = cameras(0, 100, -150, 20)
    near = cameras(0, 100, 10, 20)
    config = replace(tiny().loss, wrong_condition=0.5)
    for label, counts in ((camera, [1, 1, 1, 1]), (near, [1, 1, 0, 0])):
        arranged = Arrangement(micro=2)
        found = losses.discriminator_real_loss(discriminator, portraits, label, config, None, arranged)
        order = [1, 0, 3, 2]
        pose = discriminator(portraits, label, plain=True, arrangement=arranged).pose
        assert pose is not None
        score = discriminator(
            portraits, label[order], pose[order].detach(), plain=True, arrangement=arranged
        ).score
        wanted = 0.5 * nn.functional.softplus(score)[:, 0] * torch.tensor(counts)
        torch.testing.assert_close(found.wrong_condition, wanted, rtol=1e-4, atol=1e-6)
        close(gradients(found.wrong_condition.sum(), discriminator), gradients(wanted.sum(), discriminator))
        right = discriminator(portraits, label, arrangement=arranged).score
        torch.testing.assert_close(found.adversarial, nn.functional.softplus(-right)[:, 0])
        total = (found.adversarial + found.wrong_condition).mean()
        assert float(found.total) == pytest.approx(float(total))


def test_without_its_weight_nothing_is_scored_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    discriminator, portraits = seen(2)
    calls: list[int] = []
    score = Discriminator.score
    monkeypatch.setattr(Discriminator, "score", lambda *all: calls.append(1) or score(*all))  # type: ignore
    found = losses.discriminator_real_loss(discriminator, portraits, cameras(0, 120), tiny().loss)
    assert len(calls) == 1 and (found.wrong_condition == 0).all()


def shared(config: ModelConfig, people: int, views: int) -> Conditions:
    """Micro-batches of `people`; each person is in `views` of them."""
    random = torch.Generator().manual_seed(1)
    z = torch.randn(people, config.generator.z_dim, generator=random).repeat(views, 1)
    camera = cameras(*np.linspace(-170, 160, people * views))
    return Conditions(z, camera, torch.zeros(len(z), 6), Arrangement(micro=people), views)


def test_people_seen_from_several_cameras_are_made_once() -> None:
    """Against a tri-grid for every portrait, from the styles of its person's first view."""
    config = without_deformation(tiny())
    torch.manual_seed(0)
    generator = make_generator(config)
    given = shared(config, 2, 3)
    made: list[int] = []
    planes = generator.planes
    generator.planes = lambda ws, *more: made.append(len(ws)) or planes(ws, *more)  # type: ignore
    draws = rays.draw(config.generator.render, 6, 64, torch.device("cpu"), torch.Generator().manual_seed(2))
    swaps = Swaps(torch.tensor([True, False] * 3), torch.tensor([False] * 5 + [True]))
    found = run_generator(
        generator, given, STILL, config.loss, PassRandomness(swaps, draws, noise_mode="const")
    )
    assert made == [2]
    pose = generator.predict_pose(given.z, given.camera)
    assert found.pose is not None and torch.equal(found.pose, pose)
    # The first person is conditioned on the second one's camera and pose.
    ws = generator.mapping(given.z[:2], given.camera[[1, 1]], pose[[1, 1]]).repeat(3, 1, 1)
    behind = ws[[0, 1, 2, 3, 4, 4]]
    wanted = generator.synthesis(ws, given.camera, pose, behind, noise_mode="const", draws=draws)
    for one, other in (
        (found.generated.image, wanted.image), (found.generated.image_raw, wanted.image_raw),
        (found.generated.mask, wanted.mask),
    ):  # fmt: skip
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    weight = torch.randn(wanted.image.shape, generator=torch.Generator().manual_seed(3))
    close(
        gradients((found.generated.image * weight).sum(), generator),
        gradients((wanted.image * weight).sum(), generator),
    )


def test_views_are_dealt_to_micro_batches_of_their_own(small: TrainConfig, data: PortraitData) -> None:
    """The same latents, other cameras; two processes draw what one does, and all views are in one pass."""
    config = replace(small, batch=BatchConfig(16, 2, views_per_person=2))
    networks = make_networks(config.model, make_deformation(config.model, data.rig), ALONE, 0)
    alone = Stepper(config, networks, data, ALONE)
    assert (alone.per_pass, alone.passes) == (2, 4)

    def numbers(stepper: Stepper) -> list[list[int]]:
        return [found for found, _ in stepper._numbers()]

    assert numbers(alone) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    pair = [Stepper(config, networks, data, World(rank, 2, torch.device("cpu"))) for rank in (0, 1)]
    assert [numbers(one) for one in pair] == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    given = alone.conditions(3, "generator", [4, 5])
    assert given.views == 2 and torch.equal(given.z[:2], given.z[2:])
    assert not torch.equal(given.camera[:2], given.camera[2:])
    assert not torch.equal(given.z[:2], alone.conditions(3, "generator", [6, 7]).z[:2])
    plain = Stepper(replace(config, batch=BatchConfig(16, 2)), networks, data, ALONE)
    once = plain.conditions(3, "generator", [4, 5])
    assert torch.equal(once.z[:2], given.z[:2]) and not torch.equal(once.z[:2], once.z[2:])
    with pytest.raises(DistributedError, match="cannot show 2 views"):
        Stepper(replace(config, batch=BatchConfig(12, 2, 2)), networks, data, World(0, 2, ALONE.device))


def test_a_pass_has_all_views_of_a_person() -> None:
    found = [together(wanted, 12, views) for wanted, views in ((1, 3), (5, 2), (99, 3), (4, 4), (1, 1))]
    assert found == [3, 4, 12, 4, 1]
    with pytest.raises(DistributedError, match="2 micro-batches a process cannot show 4 views"):
        together(1, 2, 4)


def test_views_that_processes_cannot_show_are_refused_before_anything_is_measured(
    small: TrainConfig, data: PortraitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "measure", None)
    config = replace(small, batch=BatchConfig(16, 4, views_per_person=4))
    with pytest.raises(DistributedError, match="2 micro-batches a process cannot show 4 views"):
        estimate.describe(config, data, World(0, 2, ALONE.device), tmp_path, print)


def test_without_the_camera_styles_know_pose_or_nothing() -> None:
    """Against the mapping network written out."""
    alone = replace(tiny(), generator=replace(tiny().generator, pose_in_mapping=False))
    for config, size in ((tiny(), 6), (alone, 0), (without_pose(tiny()), 0)):
        blind = replace(config, generator=replace(config.generator, camera_conditioning=False))
        assert ModelConfig.from_json(blind.to_json()) == blind
        assert blind.generator.condition_size == size
        torch.manual_seed(0)
        generator = make_generator(blind)
        z, pose = torch.randn(3, 32), torch.randn(3, 6, requires_grad=True)
        here, there = cameras(0, 50, 100).requires_grad_(), cameras(180, -20, 5)
        ws = generator.mapping(z, here, pose)
        assert torch.equal(ws, generator.mapping(z, there, pose))
        mapping = generator.backbone.mapping
        values = normalise(z)
        if size:
            values = torch.cat([values, normalise(mapping.embed(pose))], dim=1)
        else:
            assert not hasattr(mapping, "embed")
        wanted = mapping.get_submodule("fc1")(mapping.get_submodule("fc0")(values))
        torch.testing.assert_close(ws[:, 3], wanted)
        close(gradients(ws[:, 0].square().sum(), mapping), gradients(wanted.square().sum(), mapping))
        seen, moved = torch.autograd.grad(ws.sum(), [here, pose], allow_unused=True)
        assert seen is None and (moved is None) == (size == 0)


def options(base: TrainConfig) -> Iterator[tuple[str, TrainConfig]]:
    model = base.model
    loss = replace(model.loss, wrong_condition=1.0)
    blind = replace(model.generator, camera_conditioning=False, pose_in_mapping=False)
    yield "wrong_condition", replace(base, model=replace(model, loss=loss))
    yield "views", replace(base, batch=BatchConfig(8, 2, views_per_person=2))
    yield "blind", replace(base, model=replace(model, generator=blind))


@pytest.mark.training
def test_every_option_trains(release: Path, tmp_path: Path, make_toy: Callable[[], TrainConfig]) -> None:
    base = make_toy()
    base = replace(
        base, stages=(StageConfig("1", 0.016, True, 4, 4),), batch=BatchConfig(8, 4),
        output=replace(base.output, trackers=(), snapshot_portraits=1),
    )  # fmt: skip
    for name, config in options(base):
        out = tmp_path / name
        out.mkdir()
        (out / "config.json").write_text(config.to_json())
        assert main(["train", "--data", str(release), "--out", str(out), "--device", "cpu"]) == 0
        values = json.loads((out / "statistics.jsonl").read_text().splitlines()[-1])
        assert values["images"] == 16 and np.isfinite(values["loss_generator"])
        assert ("wrong_condition" in values) == (name == "wrong_condition")


def test_views_have_an_option_of_their_own(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "--data", str(release), "--out", str(tmp_path / "run"), "--print-config"]
    assert main([*asked, "--preset", "tiny", "--views-per-person", "2"]) == 0
    assert TrainConfig.from_json(capsys.readouterr().out).batch.views_per_person == 2


@pytest.mark.parametrize("kind", ["unified", "hybrid"])
def test_grids_cut_in_space_are_trained(
    kind: Literal["unified", "hybrid"], make_toy: Callable[[], TrainConfig], data: PortraitData
) -> None:
    """A step with such a grid; every plane has a gradient, the plain renderer sees the same."""
    base = make_toy()
    grid = replace(base.model.generator.grid, kind=kind)
    model = replace(base.model, generator=replace(base.model.generator, grid=grid))
    network = make_generator(model, make_deformation(model, data.rig)).eval()
    z, camera = torch.randn(2, model.generator.z_dim), cameras(0, 170)
    pose = torch.full((2, 6), 0.05)
    ws = network.mapping(z, camera, pose)
    planes = network.planes(ws).detach().requires_grad_()
    assert planes.shape[1] == (3 if kind == "unified" else 4)
    draws = rays.draw(model.generator.render, 2, 16, camera.device, torch.Generator().manual_seed(0), 0.0)
    warp = network.warp(pose)
    fast = network.render(planes, camera, 4, warp, draws)
    (found,) = torch.autograd.grad(fast.features.square().sum(), planes)
    assert bool((found.abs().amax(dim=(0, 2, 3, 4, 5)) > 0).all())
    slow = network.render(planes, camera, 4, warp, draws, plain=True)
    torch.testing.assert_close(fast.features, slow.features, rtol=1e-4, atol=1e-5)
    config = replace(base, model=model)
    stepper = Stepper(config, make_networks(model, make_deformation(model, data.rig), ALONE, 0), data, ALONE)
    means = stepper.step(loader(data, Sampler(len(data), 0), config.batch.micro, 0), 0, at(config, 0))
    assert float(means["bad_gradients"]) == 0 and all(bool(one.isfinite().all()) for one in means.values())
