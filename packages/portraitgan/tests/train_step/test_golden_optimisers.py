"""golden_train_step.npz: Adam steps, moments shared by both discriminator phases, EMAs."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from portraitgan.config import LossConfig
from portraitgan.networks.discriminator import Discriminator
from portraitgan.networks.generator import Generator
from portraitgan.training import losses

pytestmark = pytest.mark.slow


def test_golden_portraitgan_adam_and_ema(
    official: Any,
    tools: Any,
    fresh: tuple[Generator, Discriminator],
    real: tuple[Tensor, Tensor, Tensor],
) -> None:
    generator, discriminator = fresh
    images = official.counts[-1]
    starts = [{k: v.detach().clone() for k, v in n.named_parameters()} for n in fresh]
    optimise_g, optimise_d = tools.step_networks(official, fresh)
    losses.generator_loss(
        generator,
        discriminator,
        tools.conditions(official, "Gmain"),
        tools.schedule(images),
        LossConfig(),
        tools.chance(official, "Gmain", images),
    ).total.backward()
    optimise_g.step()
    discriminator.zero_grad(set_to_none=True)
    prefix = "adam/Gmain"
    tools.check_change(
        generator,
        starts[0],
        "G",
        official[f"{prefix}/change_norm"],
        official[f"{prefix}/change_dot"],
        official,
    )
    fake = losses.discriminator_fake_loss(
        generator,
        discriminator,
        tools.conditions(official, "Dmain"),
        tools.schedule(images),
        LossConfig(),
        tools.chance(official, "Dmain", images),
    )
    fake.total.backward()
    true = losses.discriminator_real_loss(discriminator, tools.seen_real(real, images), real[2], LossConfig())
    true.total.backward()
    # After a first step the two runs are no longer quite at the same weights; the losses still agree.
    tools.close(fake.adversarial, official["adam/Dmain/loss_fake"])
    tools.close(fake.pose, official["adam/Dmain/loss_pose"])
    optimise_d.step()
    norms, dots = (official[f"adam/Dmain/change_{part}"] for part in ("norm", "dot"))
    tools.check_change(discriminator, starts[1], "D", norms, dots, official)
    beta = float(official["adam/ema_beta"])
    assert beta == pytest.approx(0.5 ** (4 / min(10_000, 0.05 * images)))
    for network, module, start in zip("GD", fresh, starts, strict=True):
        parameters = dict(module.named_parameters())
        expected = official[f"adam/{network}_ema_change_norm_exact"]
        for name, norm in zip(official[f"meta/{network}_params"], expected, strict=True):
            change = parameters[str(name)].detach().double() - start[str(name)].double()
            assert (1 - beta) * change.norm().item() == pytest.approx(norm, rel=5e-3, abs=1e-12)


def test_golden_portraitgan_shared_discriminator_optimiser(
    official: Any,
    tools: Any,
    fresh: tuple[Generator, Discriminator],
    real: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Both discriminator phases share Adam's moments."""
    generator, discriminator = fresh
    images = official.counts[-1]
    start = {k: v.detach().clone() for k, v in discriminator.named_parameters()}
    _, optimise = tools.step_networks(official, fresh)
    seen = tools.seen_real(real, images)
    losses.discriminator_fake_loss(
        generator,
        discriminator,
        tools.conditions(official, "Dmain"),
        tools.schedule(images),
        LossConfig(),
        tools.chance(official, "Dmain", images),
    ).total.backward()
    losses.discriminator_real_loss(discriminator, seen, real[2], LossConfig()).total.backward()
    first = {k: v.grad for k, v in discriminator.named_parameters()}
    discriminator.zero_grad(set_to_none=True)
    (losses.r1_penalty(discriminator, seen, real[2], LossConfig()).penalty.mean() * 16).backward()
    second = {k: v.grad for k, v in discriminator.named_parameters()}
    for number, gradients in enumerate((first, second), start=1):
        for name, parameter in discriminator.named_parameters():
            parameter.grad = gradients[name]
        optimise.step()
        tools.check_change(
            discriminator,
            start,
            "D",
            official[f"adam_shared/D_change_norm_step{number}"],
            official[f"adam_shared/D_change_dot_step{number}"],
            official,
        )
