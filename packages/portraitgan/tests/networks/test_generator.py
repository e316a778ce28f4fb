"""The generator as a whole: every preset and ablation runs, forms agree, gradients arrive, seeds repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from phq_data import camera as labels
from phq_data.rig import PortraitRig
from portraitgan.config import CompatibilityConfig, ModelConfig
from portraitgan.deformation.closest import BruteForce
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.networks.generator import Generator
from portraitgan.presets import ABLATIONS, eg3d, panohead, tiny, without_deformation
from portraitgan.rendering.rays import fixed_draws

MakeBust = Callable[..., PortraitRig]
CPU = torch.device("cpu")


def cameras(batch: int) -> Tensor:
    yaw = np.linspace(-2.5, 2.6, batch)
    return torch.from_numpy(labels.to_label(labels.from_angles(yaw, np.full(batch, 0.1))))


def build(config: ModelConfig, make_bust: MakeBust) -> Generator:
    torch.manual_seed(0)
    deformation = None
    if config.generator.deformation.mode != "none":
        mesh = SkinnedMesh.from_rig(make_bust(rings=10, around=8))
        deformation = Deformation(mesh, config.generator.deformation, BruteForce(mesh.faces))
    return Generator(config, deformation)


@pytest.mark.parametrize("name", ["tiny", "eg3d", "panohead", *ABLATIONS])
def test_every_variant_runs_forward_and_backward(name: str, make_bust: MakeBust) -> None:
    variants = {"tiny": tiny(), "eg3d": eg3d(tiny()), "panohead": panohead(tiny())}
    config = variants.get(name) or ABLATIONS[name](tiny())
    generator = build(config, make_bust)
    z, camera = torch.randn(2, 32), cameras(2)
    pose: Tensor | None = None
    if generator.pose_branch is not None:
        pose = generator.predict_pose(z, camera) * 0.2
    elif config.generator.pose_conditioning:
        pose = torch.full((2, 6), 0.1)
    made = generator(z, camera, pose)
    assert made.image.shape == (2, 3, 32, 32) and made.image_raw.shape == (2, 3, 8, 8)
    assert made.mask.shape == made.depth.shape == (2, 1, 8, 8)
    assert (made.background is None) == (config.generator.background is None)
    assert ((made.mask >= -0.0011) & (made.mask <= 1.0011)).all()
    (made.image.sum() + made.image_raw.sum() + made.mask.sum()).backward()
    without = {key for key, p in generator.named_parameters() if p.grad is None}
    # Super-resolution is made without noise, so its strengths are never used.
    expected = {f"superresolution.block{k}.conv{i}.noise_strength" for k in (0, 1) for i in (0, 1)}
    assert without == expected


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("variant", [tiny, lambda: eg3d(tiny())])
def test_fast_and_plain_rendering_agree(
    variant: Callable[[], ModelConfig], batch: int, make_bust: MakeBust
) -> None:
    generator = build(variant(), make_bust).double()
    config = generator.config
    random = torch.Generator().manual_seed(1)
    ws = torch.randn(batch, config.backbone.styles, 32, generator=random).double()
    draws = fixed_draws(config.render, batch, 64, CPU)
    draws = replace(draws, jitter=draws.jitter.double(), importance=draws.importance.double())
    camera = cameras(batch).double()
    results = []
    for plain in (False, True):
        pose = torch.full((batch, 6), 0.15, dtype=torch.float64, requires_grad=True)
        generator.zero_grad(set_to_none=True)
        made = generator.synthesis(
            ws,
            camera,
            pose if config.deformation.mode != "none" else None,
            noise_mode="const",
            draws=draws,
            plain=plain,
        )
        (made.image.square().sum() + made.mask.sum() + made.depth.sum()).backward()
        grads = {key: p.grad for key, p in generator.named_parameters() if p.grad is not None}
        results.append((made, grads, pose.grad))
    (fast, fast_grads, fast_pose), (slow, slow_grads, slow_pose) = results
    for name in ("image", "image_raw", "mask", "depth"):
        assert torch.allclose(getattr(fast, name), getattr(slow, name), atol=1e-8)
    assert fast_grads.keys() == slow_grads.keys()
    for key in fast_grads:
        assert (fast_grads[key] - slow_grads[key]).norm() <= 1e-6 * (1 + slow_grads[key].norm()), key
    assert (fast_pose is None) == (slow_pose is None)
    if fast_pose is not None and slow_pose is not None:
        assert fast_pose.abs().max() > 0 and torch.allclose(fast_pose, slow_pose, rtol=1e-6, atol=1e-9)


def test_equal_seeds_give_equal_portraits(make_bust: MakeBust) -> None:
    generator = build(tiny(), make_bust)
    z, camera, pose = torch.randn(3, 32), cameras(3), torch.zeros(3, 6)

    def once(seed: int) -> Tensor:
        return generator(z, camera, pose, random=torch.Generator().manual_seed(seed)).image

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))


def test_inference_does_not_depend_on_portions(make_bust: MakeBust) -> None:
    generator = build(tiny(), make_bust)
    ws, camera, pose = torch.randn(2, 8, 32), cameras(2), torch.full((2, 6), 0.1)
    draws = fixed_draws(generator.config.render, 2, 64, CPU)
    with torch.no_grad():
        whole = generator.synthesis(ws, camera, pose, noise_mode="const", draws=draws)
        small = replace(generator.config, render=replace(generator.config.render, max_points=100))
        generator.config = small
        parts = generator.synthesis(ws, camera, pose, noise_mode="const", draws=draws)
    for name in ("image_raw", "mask", "depth"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name), atol=1e-5)


def test_a_pose_moves_the_portrait_and_nothing_else_does(make_bust: MakeBust) -> None:
    generator = build(tiny(), make_bust)
    ws, camera = torch.randn(1, 8, 32), cameras(1)
    draws = fixed_draws(generator.config.render, 1, 64, CPU)

    def show(pose: Tensor | None) -> Tensor:
        return generator.synthesis(ws, camera, pose, noise_mode="const", draws=draws).image_raw

    assert torch.allclose(show(None), show(torch.zeros(1, 6)), atol=1e-4)
    assert (show(torch.full((1, 6), 0.3)) - show(None)).abs().max() > 1e-3


def test_quirk_3_changes_the_raw_image_only_at_full_rays(make_bust: MakeBust) -> None:
    config = without_deformation(tiny())
    images = {}
    for quirk in (False, True):
        chosen = replace(config, compatibility=CompatibilityConfig(False, quirk))
        generator = build(chosen, make_bust)
        generator.load_state_dict(build(config, make_bust).state_dict())
        for side in (8, 16):
            draws = fixed_draws(generator.config.render, 1, side * side, CPU)
            ws = torch.ones(1, 8, 32)
            images[quirk, side] = generator.synthesis(
                ws, cameras(1), resolution=side, noise_mode="const", draws=draws
            )
    assert torch.equal(images[True, 8].image_raw, images[False, 8].image_raw)
    assert (images[True, 16].image_raw - images[False, 16].image_raw).abs().max() > 1e-3
    assert torch.equal(images[True, 16].image, images[False, 16].image)


def test_a_pose_without_a_rig_is_a_clear_error() -> None:
    generator = Generator(tiny())
    with pytest.raises(DeformationError, match="needs a rig"):
        generator(torch.zeros(1, 32), cameras(1), torch.zeros(1, 6))
    assert generator(torch.zeros(1, 32), cameras(1)).image.isfinite().all()


def test_empty_batch(make_bust: MakeBust) -> None:
    generator = build(tiny(), make_bust)
    with pytest.raises(ValueError, match="empty batch"):
        generator(torch.zeros(0, 32), torch.zeros(0, 25), torch.zeros(0, 6))


@pytest.mark.gpu
def test_half_precision_on_a_gpu(make_bust: MakeBust) -> None:
    generator = build(without_deformation(tiny()), make_bust).cuda()
    made = generator(torch.zeros(2, 32).cuda(), cameras(2).cuda())
    assert made.image.isfinite().all() and made.image.dtype == torch.float32
