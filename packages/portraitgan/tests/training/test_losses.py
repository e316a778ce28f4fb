"""The objective: schedules, swaps and what each phase may touch, on the tiny network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from phq_data import camera as labels
from phq_data.rig import PortraitRig
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.config import LossConfig, ModelConfig
from portraitgan.deformation.closest import BruteForce
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.networks import filters
from portraitgan.networks.discriminator import Arrangement, Discriminator, Portraits
from portraitgan.networks.generator import Generator
from portraitgan.presets import ABLATIONS, eg3d, panohead, tiny
from portraitgan.training import losses
from portraitgan.training.generator_pass import Conditions, PassRandomness, Schedule, Swaps, run_generator

MakeBust = Callable[..., PortraitRig]
SCHEDULE = Schedule(condition_swap=0.5, blur_sigma=0.4, density_noise=0.3, pose_regulariser=1.0)


def build(config: ModelConfig, make_bust: MakeBust) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    deformation = None
    if config.generator.deformation.mode != "none":
        mesh = SkinnedMesh.from_rig(make_bust(rings=10, around=8))
        deformation = Deformation(mesh, config.generator.deformation, BruteForce(mesh.faces))
    return make_generator(config, deformation), make_discriminator(config)


def conditions(batch: int) -> Conditions:
    yaw = np.linspace(-2.5, 2.6, batch)
    camera = torch.from_numpy(labels.to_label(labels.from_angles(yaw, np.full(batch, 0.1))))
    return Conditions(torch.randn(batch, 32), camera, 0.1 * torch.randn(batch, 6))


@pytest.mark.parametrize("name", ["tiny", "eg3d", "panohead", *ABLATIONS])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_whole_step_of_every_variant(name: str, batch: int, make_bust: MakeBust) -> None:
    variants = {"tiny": tiny(), "eg3d": eg3d(tiny()), "panohead": panohead(tiny())}
    config = variants.get(name) or ABLATIONS[name](tiny())
    generator, discriminator = build(config, make_bust)
    given = conditions(batch)
    loss = losses.generator_loss(generator, discriminator, given, SCHEDULE, config.loss)
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in generator.parameters())
    discriminator.zero_grad(set_to_none=True)
    generator.zero_grad(set_to_none=True)
    fake = losses.discriminator_fake_loss(generator, discriminator, given, SCHEDULE, config.loss)
    fake.total.backward()
    assert all(p.grad is None for p in generator.parameters())
    image, mask = torch.rand(batch, 3, 32, 32) * 2 - 1, torch.ones(batch, 1, 32, 32)
    real = losses.prepare_real(image, mask, 8, SCHEDULE.blur_sigma)
    true = losses.discriminator_real_loss(discriminator, real, given.camera, config.loss, given.coarse_pose)
    true.total.backward()
    # The pose branch learns only from generated portraits with known poses.
    assert all(p.grad is not None for p in discriminator.parameters())
    discriminator.zero_grad(set_to_none=True)
    r1 = losses.r1_penalty(discriminator, real, given.camera, config.loss, given.coarse_pose)
    r1.penalty.mean().backward()
    without = {key for key, p in discriminator.named_parameters() if p.grad is None}
    assert all(key.startswith("pose_branch.") or key == "b4.out.bias" for key in without)


def test_pose_regulariser_fades() -> None:
    config = LossConfig()
    strengths = [losses.pose_regulariser_strength(n, config) for n in (0, 199_999, 300_000, 400_000, 10**7)]
    assert strengths == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_a_floor_of_the_pose_regulariser_stays() -> None:
    config = LossConfig(pose_regulariser_floor=0.05)
    strengths = [losses.pose_regulariser_strength(n, config) for n in (0, 300_000, 385_000, 400_000, 10**7)]
    assert strengths == pytest.approx([1.0, 0.5, 0.075, 0.05, 0.05])
    never = LossConfig(pose_regulariser_images=0, pose_regulariser_floor=0.1)
    assert losses.pose_regulariser_strength(5, never) == 0.1


def test_the_mean_pose_is_held_and_each_pose_is_free(make_bust: MakeBust) -> None:
    """Products of different portraits of a micro-batch alone: its gradient for one is the others' sum."""
    config = tiny()
    generator, discriminator = build(config, make_bust)
    given = replace(conditions(4), arrangement=Arrangement(micro=2))
    free = replace(config.loss, pose_regulariser=0.0)
    still = PassRandomness(noise_mode="const", random=torch.Generator().manual_seed(0))
    weighted = losses.generator_loss(
        generator, discriminator, given, SCHEDULE, replace(free, mean_pose=3.0), still
    )
    off = (weighted.pose - given.coarse_pose).detach().reshape(2, 2, 6)
    wanted = 3 * (off[:, 0] * off[:, 1]).sum(dim=1)
    torch.testing.assert_close(weighted.mean_pose, wanted.repeat_interleave(2))
    slope = torch.autograd.grad(weighted.mean_pose.mean(), weighted.pose)[0]
    by_hand = 3 * off[:, [1, 0]].reshape(4, 6) * 2 / 4
    torch.testing.assert_close(slope, by_hand)
    total = (weighted.adversarial + weighted.mean_pose).mean()
    torch.testing.assert_close(weighted.total, total)


def test_logistic_losses() -> None:
    score = torch.tensor([[0.0], [2.0]])
    assert torch.allclose(losses.fake_loss(score), torch.tensor([math.log(2), math.log(1 + math.exp(2))]))
    assert torch.allclose(losses.real_loss(score), torch.tensor([math.log(2), math.log(1 + math.exp(-2))]))


def test_r1_weighs_the_gradients_of_the_score() -> None:
    torch.manual_seed(0)
    discriminator = make_discriminator(tiny())
    given = conditions(2)
    mask = torch.rand(2, 1, 32, 32)
    real = losses.prepare_real(torch.rand(2, 3, 32, 32), mask, 8, 0.0)
    r1 = losses.r1_penalty(discriminator, real, given.camera, LossConfig(r1_gamma=3.0, r1_gamma_mask=5.0))
    assert r1.mask is not None
    assert torch.allclose(r1.penalty, 1.5 * (r1.image + r1.raw) + 2.5 * r1.mask)
    image = real.image.clone().requires_grad_()
    score = discriminator(Portraits(image, real.raw, real.mask), given.camera, plain=True).score
    gradient = torch.autograd.grad(score.sum(), image)[0]
    assert torch.allclose(r1.image, gradient.square().sum(dim=(1, 2, 3)), rtol=1e-4)


def test_swaps_change_conditioning_not_rendering(make_bust: MakeBust) -> None:
    generator, _ = build(tiny(), make_bust)
    given = conditions(3)
    none, all_ = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    seen = []
    generator.mapping = (  # type: ignore[method-assign]
        lambda z, camera, pose, **_: seen.append((camera, pose)) or torch.ones(3, 8, 32)
    )
    generator.synthesis = lambda ws, camera, pose, **_: (camera, pose)  # type: ignore
    for swap in (none, all_):
        chance = PassRandomness(Swaps(swap, none))
        made: Any = run_generator(generator, given, SCHEDULE, LossConfig(), chance).generated
        camera, pose = made
        assert torch.equal(camera, given.camera)
        assert torch.equal(pose, generator.predict_pose(given.z, given.camera))
    assert torch.equal(seen[0][0], given.camera)
    assert torch.equal(seen[1][0], given.camera.roll(1, 0))
    assert torch.equal(seen[1][1], seen[0][1].roll(1, 0))


def test_real_portraits_are_resized_before_they_are_blurred() -> None:
    image = torch.rand(1, 3, 64, 64)
    mask = torch.rand(1, 1, 64, 64)
    sharp, soft = (losses.prepare_real(image, mask, 16, sigma) for sigma in (0.0, 1.5))
    assert torch.equal(sharp.image, image) and sharp.raw.shape == (1, 3, 16, 16)
    assert sharp.mask is not None and soft.mask is not None
    assert torch.equal(sharp.mask, soft.mask)
    assert torch.allclose(soft.raw, filters.blur(sharp.raw, 1.5))
    assert not torch.equal(soft.image, image)
