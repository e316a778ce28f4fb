"""Half precision: the layers against float32, and what of a training step runs in which format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from phq_data import camera as labels
from phq_data.rig import PortraitRig
from phq_data.typed_json import ConfigError
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.config import ModelConfig
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.networks.discriminator import DiscriminatorBlock
from portraitgan.networks.layers import Convolution, SynthesisLayer, ToRGB, in_precision
from portraitgan.presets import tiny
from portraitgan.training import losses
from portraitgan.training.generator_pass import Conditions, PassRandomness, Schedule, Swaps

HALF = [(torch.float16, 1.5e-2), (torch.bfloat16, 3e-2)]


@pytest.mark.parametrize(("half", "tolerance"), HALF)
@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolutions_in_half(up: bool, half: torch.dtype, tolerance: float) -> None:
    """Values and gradients; also with weights and styles whose products leave float16's range."""
    torch.manual_seed(0)
    layer, rgb = SynthesisLayer(8, 6, 5, 16 if up else 8, up=up, clamp=256.0), ToRGB(6, 3, 5, clamp=256.0)
    layer.noise_strength.data.fill_(0.3)
    style = torch.randn(2, 5)
    for size in (1.0, 3e3):
        layer.weight.data.normal_(0, size)
        layer.affine.weight.data.normal_(0, size)
        features = torch.randn(2, 8, 8, 8)
        found: list[list[Tensor]] = []
        for form in (torch.float32, half):
            given = features.clone().requires_grad_()
            layer.zero_grad()
            hidden = layer(given.to(form), style, "const")
            assert hidden.dtype == form
            made = rgb(hidden, style).float()
            made.square().mean().backward()
            assert layer.bias.grad is not None and given.grad is not None
            assert layer.bias.grad.dtype == given.grad.dtype == torch.float32
            found.append([made.detach(), layer.bias.grad.clone(), given.grad])
        for exact, rounded in zip(*found, strict=True):
            assert rounded.isfinite().all()
            assert (exact - rounded).norm() <= tolerance * exact.norm()


@pytest.mark.parametrize(("half", "tolerance"), HALF)
def test_discriminator_convolutions_in_half(half: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    for layer in (Convolution(7, 8, 1), Convolution(7, 8, 3, down=True), Convolution(7, 8, 1, down=True)):
        features = torch.randn(2, 7, 16, 16)
        exact, rounded = layer(features), layer(features.to(half))
        assert rounded.dtype == half
        assert (exact - rounded.float()).norm() <= tolerance * exact.norm()


def test_a_cpu_knows_bfloat16_only() -> None:
    features = torch.ones(2)
    assert in_precision(features, torch.bfloat16).dtype == torch.bfloat16
    assert in_precision(features, torch.float16).dtype == torch.float32
    assert in_precision(features.bfloat16()).dtype == torch.float32


def in_half(half: Any, synthesis: int = 0) -> ModelConfig:
    base = tiny()
    judge = replace(base.discriminator, half_resolutions=2)
    form = replace(base.precision, half=half, synthesis_half_resolutions=synthesis)
    return replace(base, discriminator=judge, precision=form)


def outputs(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> dict[str, set[torch.dtype]]:
    """Filled with what formats the modules of `kinds` put out, while the network runs."""
    seen: dict[str, set[torch.dtype]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: object, result: object) -> None:
            parts = result if isinstance(result, tuple) else (result,)
            seen.setdefault(name, set()).update(one.dtype for one in parts if isinstance(one, Tensor))

        return hook

    for name, module in network.named_modules():
        if isinstance(module, kinds):
            module.register_forward_hook(keep(name))
    return seen


@pytest.mark.parametrize("synthesis", [0, 2])
def test_a_training_step_in_bfloat16(synthesis: int, make_bust: Callable[..., PortraitRig]) -> None:
    """The large resolutions run in bfloat16, all else in float32; values and gradients stay close."""
    found: dict[str, dict[str, Tensor]] = {}
    for half in ("float32", "bfloat16"):
        config = in_half(half, synthesis)
        torch.manual_seed(0)
        deformation = Deformation(SkinnedMesh.from_rig(make_bust(16, 12)), config.generator.deformation)
        generator, discriminator = make_generator(config, deformation), make_discriminator(config)
        blocks = outputs(discriminator, (DiscriminatorBlock, nn.Linear))
        layers = outputs(generator, (SynthesisLayer, ToRGB))
        random = torch.Generator().manual_seed(1)
        camera = torch.from_numpy(labels.to_label(labels.from_angles(0.7, 0.1)))[None].repeat(4, 1)
        given = Conditions(
            torch.randn(4, config.generator.z_dim, generator=random), camera, torch.full((4, 6), 0.1)
        )
        chance = PassRandomness(
            Swaps(torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)),
            random=torch.Generator().manual_seed(2),
        )
        schedule = Schedule(pose_regulariser=1.0)
        g = losses.generator_loss(generator, discriminator, given, schedule, config.loss, chance)
        g.total.backward()
        real = losses.prepare_real(
            torch.rand(4, 3, 32, 32, generator=random) * 2 - 1, torch.ones(4, 1, 32, 32), 8, 0.0
        )
        r1 = losses.r1_penalty(discriminator, real, camera, config.loss)
        (r1.penalty.mean()).backward()
        for tensor in (g.adversarial, g.score, g.pose, g.generated.depth, g.generated.mask, r1.penalty):
            assert tensor.dtype == torch.float32
        assert g.generated.image.dtype == g.generated.image_raw.dtype == torch.float32
        assert all(p.grad is None or p.grad.dtype == torch.float32 for p in generator.parameters())
        chosen = torch.bfloat16 if half == "bfloat16" else torch.float32
        assert blocks["b32"] == blocks["b16"] == {chosen} and blocks["b8"] == {torch.float32}
        halved: tuple[str, ...] = ("superresolution",)
        if synthesis:
            halved += tuple(f"backbone.synthesis.b{side}." for side in (16, 32))
            halved += tuple(f"bcg_synthesis.b{side}." for side in (8, 16))
        for name, dtypes in layers.items():
            large = name.startswith(halved)
            assert dtypes == {chosen if large else torch.float32}, name
        found[half] = {
            "loss": g.adversarial.detach(), "image": g.generated.image.detach(), "r1": r1.penalty.detach(),
            **{name: p.grad for name, p in generator.named_parameters() if p.grad is not None},
        }  # fmt: skip
    for name in ("loss", "image", "r1", "decoder.net.0.weight", "backbone.mapping.fc0.weight"):
        exact, rounded = found["float32"][name], found["bfloat16"][name]
        assert rounded.isfinite().all()
        assert (exact - rounded).norm() <= 0.1 * exact.norm(), name


def test_float16_is_not_for_layers_without_clamps() -> None:
    with pytest.raises(ConfigError, match="needs half bfloat16"):
        in_half("float16", 1)
    with pytest.raises(ConfigError, match="at least 0"):
        in_half("bfloat16", -1)
