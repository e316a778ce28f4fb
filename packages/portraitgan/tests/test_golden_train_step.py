"""golden_train_step.npz: one training step of the official code - losses, poses, every gradient, Adam, EMA.

Everything needed is read from the file (salt, counts, draws, body), so another file of the layout works too.
"""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from portraitgan import losses
from portraitgan.config import (
    CompatibilityConfig,
    DiscriminatorConfig,
    LossConfig,
    ModelConfig,
    PosePredictorConfig,
    RenderConfig,
    SuperResolutionConfig,
    SynthesisConfig,
    paper_256,
)
from portraitgan.deformation.closest import BruteForce
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.networks.discriminator import Discriminator, Portraits
from portraitgan.networks.generator import Generator
from portraitgan.rendering.rays import RayDraws, fixed_draws

pytestmark = pytest.mark.slow
BATCH, RESOLUTION, SAMPLES = 4, 16, 8


@dataclass
class Official:
    """The golden file with what it says about itself."""

    arrays: dict[str, np.ndarray]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key], np.float32))

    @property
    def salt(self) -> str:
        return str(self.arrays["meta/salt"])

    @property
    def counts(self) -> list[int]:
        return [int(n) for n in self.arrays["meta/cur_nimg"]]

    def random(self, name: str) -> np.random.RandomState:
        return np.random.RandomState(zlib.crc32((self.salt + name).encode()))


@pytest.fixture(scope="module")
def official(golden_folder: Path) -> Official:
    with np.load(golden_folder / "golden_train_step.npz") as file:
        return Official({key: file[key] for key in file.files})


def model_config() -> ModelConfig:
    """The page's section 1."""
    base = paper_256()
    generator = replace(
        base.generator,
        backbone=SynthesisConfig(256, 1024, 32),
        background=SynthesisConfig(128, 512, 32),
        render=RenderConfig(coarse_samples=SAMPLES, fine_samples=SAMPLES, resolution=RESOLUTION),
        superresolution=SuperResolutionConfig(128, (128, 64), clamp=None),
    )
    discriminator = DiscriminatorConfig(
        256,
        channel_base=2048,
        channel_max=512,
        pose_predictor=PosePredictorConfig((2048, 512, 128, 32)),
        clamp=None,
    )
    return replace(
        base,
        generator=generator,
        discriminator=discriminator,
        compatibility=CompatibilityConfig(True, True),
    )


def rule(key: str, normal: np.ndarray, network: str) -> np.ndarray:
    """The page's section 2."""
    if key.endswith("affine.bias"):
        return 1 + np.float32(0.1) * normal
    if key.endswith(".bias"):
        return np.float32(10 if "mapping.fc" in key else 0.1) * normal
    if key.endswith(("noise_strength", "w_avg")):
        return np.float32(0.1) * normal
    if "mapping.fc" in key:
        return np.float32(100) * normal
    if network == "G" and key == "pose_branch.net.2.weight":
        return np.float32(0.3) * normal
    return normal


def fill(module: nn.Module, network: str, official: Official) -> None:
    state = module.state_dict()
    for key, tensor in state.items():
        normal = official.random(f"{network}/{key}").standard_normal(tuple(tensor.shape))
        state[key] = torch.from_numpy(np.asarray(rule(key, np.float32(normal), network), np.float32))
    module.load_state_dict(state)


def probe(network: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.RandomState(zlib.crc32(f"probe/{network}/{key}".encode())).standard_normal(shape)


@pytest.fixture(scope="module")
def mesh(official: Official) -> SkinnedMesh:
    """The file's SMPL-format bust as two joints: 12 is the neck, 15 the head, the rest is static."""
    template = official["smpl/v_template"].astype(np.float64)
    offset = official["smpl/align_regressor_row12"].astype(np.float64) @ template
    joints = official["smpl/J_regressor"].astype(np.float64) @ template
    columns = [*range(11 * 9, 12 * 9), *range(14 * 9, 15 * 9)]
    correctives = official["smpl/posedirs"].astype(np.float32)[:, :, columns].transpose(2, 0, 1)
    return SkinnedMesh(
        torch.from_numpy((template - offset).astype(np.float32)),
        torch.from_numpy(official["smpl/faces"].astype(np.int64)),
        torch.from_numpy(official["smpl/weights"][:, [12, 15]]),
        torch.from_numpy((joints[15] - offset).astype(np.float32)),
        neck_joint=torch.from_numpy((joints[12] - offset).astype(np.float32)),
        correctives=torch.from_numpy(np.ascontiguousarray(correctives)),
    )


@pytest.fixture(scope="module")
def networks(official: Official, mesh: SkinnedMesh) -> tuple[Generator, Discriminator]:
    config = model_config()
    search = BruteForce(mesh.faces, torch.float64)
    generator = Generator(config, Deformation(mesh, config.generator.deformation, search))
    discriminator = Discriminator(config.discriminator, pose_camera_unmirrored=True)
    fill(generator, "G", official)
    fill(discriminator, "D", official)
    return generator, discriminator


@pytest.fixture
def fresh(networks: tuple[Generator, Discriminator]) -> Iterator[tuple[Generator, Discriminator]]:
    """The networks with initial weights and no gradients, restored afterwards."""
    states = [copy.deepcopy(network.state_dict()) for network in networks]
    for network in networks:
        network.zero_grad(set_to_none=True)
    yield networks
    for network, state in zip(networks, states, strict=True):
        network.load_state_dict(state)


def conditions(official: Official, phase: str) -> losses.Conditions:
    return losses.Conditions(*(official.tensor(f"in/{phase}/{name}") for name in ("z", "c", "pose")))


def schedule(images: int) -> losses.Schedule:
    fade = max(0.0, 1 - images / 200_000)
    return losses.Schedule(
        condition_swap=1 - 0.3 * min(images / 1_000_000, 1),
        blur_sigma=10 * fade,
        density_noise=fade,
        pose_regulariser=losses.pose_regulariser_strength(images, LossConfig()),
    )


def chance(official: Official, phase: str, images: int, density_noise: bool = True) -> losses.Pass:
    planned = schedule(images)
    swaps = losses.Swaps(
        (official.tensor(f"draw/{phase}/cond_swap") < planned.condition_swap).reshape(BATCH),
        (official.tensor(f"draw/{phase}/bcg_swap") < 0.2).reshape(BATCH),
    )
    config = model_config().generator.render
    draws = fixed_draws(config, BATCH, RESOLUTION**2, torch.device("cpu"))
    if density_noise and planned.density_noise > 0:
        noise = []
        for part in ("coarse", "fine"):
            shape = (BATCH, RESOLUTION**2 * SAMPLES, 1)
            normal = official.random(f"density_noise/{phase}/{part}").standard_normal(shape)
            noise.append(torch.from_numpy(normal.astype(np.float32)).reshape(BATCH, -1, SAMPLES))
        coarse, fine = (planned.density_noise * values for values in noise)
        draws = RayDraws(draws.jitter, draws.importance, coarse, fine)
    return losses.Pass(swaps, draws, noise_mode="const")


@pytest.fixture(scope="module")
def real(official: Official) -> tuple[Tensor, Tensor, Tensor]:
    """(images, masks, cameras) of the page's section 3, checked against the file's sums."""
    random = official.random("real_img")
    low = random.randint(0, 256, (BATCH, 3, 16, 16))
    fine = random.randint(0, 256, (BATCH, 3, 256, 256))
    image = (3 * low.repeat(16, axis=2).repeat(16, axis=3) + fine) // 4
    assert np.array_equal(image.sum(axis=(1, 2, 3)), official["in/real_img_sum"])
    row, column = np.mgrid[:256, :256]
    mask = np.stack(
        [
            (column - cx) ** 2 * ay**2 + (row - cy) ** 2 * ax**2 <= ax**2 * ay**2
            for cx, cy, ax, ay in official["in/real_mask_ellipse"]
        ]
    )
    assert np.array_equal(mask.sum(axis=(1, 2)), official["in/real_mask_sum"])
    pixels = torch.from_numpy(image.astype(np.float32)) / 127.5 - 1
    return pixels, torch.from_numpy(mask[:, None].astype(np.float32)), official.tensor("in/real_c")


def seen_real(real: tuple[Tensor, Tensor, Tensor], images: int) -> Portraits:
    return losses.prepare_real(real[0], real[1], RESOLUTION, schedule(images).blur_sigma)


def close(actual: Tensor, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    difference = np.abs(actual.detach().numpy().reshape(expected.shape) - expected).max()
    assert difference <= tolerance * np.abs(expected).max(), difference / np.abs(expected).max()


def check_gradients(module: nn.Module, network: str, prefix: str, official: Official) -> None:
    """Norms to 5e-3, random projections to 5e-3 of the norm (noise_strength: 3e-2)."""
    parameters = dict(module.named_parameters())
    names = [str(name) for name in official[f"meta/{network}_params"]]
    assert set(names) == set(parameters)
    rows = zip(
        names,
        official[f"{prefix}/grad_has"],
        official[f"{prefix}/grad_norm"],
        official[f"{prefix}/grad_dot"],
        strict=True,
    )
    wrong = []
    for name, has, norm, dot in rows:
        gradient = parameters[name].grad
        if gradient is None:
            assert not has or norm == 0, f"{name} got no gradient"
            continue
        if norm == 0:
            assert gradient.abs().max() == 0, f"{name} should have a zero gradient"
            continue
        assert has, f"{name} should have no gradient"
        tolerance = 3e-2 if name.endswith("noise_strength") else 5e-3
        values = gradient.double().numpy()
        size = np.linalg.norm(values)
        projection = (values * probe(network, name, values.shape)).sum()
        if abs(size - norm) > tolerance * norm or abs(projection - dot) > tolerance * norm:
            wrong.append((name, size / norm - 1, (projection - dot) / norm))
    assert not wrong, wrong


def test_golden_portraitgan_inputs(
    official: Official, networks: tuple[Generator, Discriminator], mesh: SkinnedMesh
) -> None:
    """The regenerated weights and the skinned bust are those of the file."""
    for network, module in zip("GD", networks, strict=True):
        parameters = dict(module.named_parameters())
        for name, norm in zip(
            official[f"meta/{network}_params"], official[f"meta/{network}_value_norm"], strict=True
        ):
            assert parameters[str(name)].double().norm().item() == pytest.approx(norm, rel=1e-6)
    assert np.array_equal(mesh.inside_box.numpy(), official["smpl/face_mask"])
    assert json.loads(str(official["meta/config_json"]))
    whole = SkinnedMesh(
        official.tensor("smpl/V_can"),
        torch.from_numpy(official["smpl/faces"].astype(np.int64)),
        torch.from_numpy(official["smpl/weights"][:, [12, 15]]),
        mesh.head_joint,
        mesh.neck_joint,
        box_size=3.0,
    )
    assert whole.vertices.shape == (len(official["smpl/v_template"]), 3)


@pytest.mark.parametrize("which", [0, 1])
def test_golden_portraitgan_generator_phase(
    which: int, official: Official, fresh: tuple[Generator, Discriminator]
) -> None:
    generator, discriminator = fresh
    images = official.counts[which]
    prefix = f"n{images // 1000}k/Gmain"
    given = conditions(official, "Gmain")
    loss = losses.generator_loss(
        generator,
        discriminator,
        given,
        schedule(images),
        LossConfig(),
        chance(official, "Gmain", images),
    )
    assert np.allclose(
        official[f"{prefix}/schedule"],
        (schedule(images).condition_swap, schedule(images).blur_sigma, schedule(images).density_noise),
    )
    close(loss.pose, official[f"{prefix}/G_pose"])
    close(loss.adversarial, official[f"{prefix}/loss_adv"])
    close(loss.pose_regulariser, official[f"{prefix}/loss_pose_reg"])
    close(loss.total, official[f"{prefix}/loss_total"])
    close(loss.score, official[f"{prefix}/D_score_fake"])
    close(loss.generated.image[:, :, ::8, ::8], official[f"{prefix}/image_sub"], 1e-3)
    close(loss.generated.image_raw, official[f"{prefix}/image_raw"], 1e-3)
    close(loss.generated.mask, official[f"{prefix}/image_mask"], 1e-3)
    close(loss.generated.depth, official[f"{prefix}/image_depth"], 1e-3)
    to_pose = torch.autograd.grad(loss.total, loss.pose, retain_graph=True)[0]
    close(to_pose, official[f"{prefix}/dL_dpose_total"], 5e-3)
    loss.total.backward()
    check_gradients(generator, "G", prefix, official)


def test_golden_portraitgan_generator_phase_without_density_noise(
    official: Official, fresh: tuple[Generator, Discriminator]
) -> None:
    generator, discriminator = fresh
    images = official.counts[0]
    prefix = f"n{images // 1000}k_nodensitynoise/Gmain"
    if f"{prefix}/loss_adv" not in official.arrays:
        pytest.skip("the file has no run without density noise")
    loss = losses.generator_loss(
        generator,
        discriminator,
        conditions(official, "Gmain"),
        schedule(images),
        LossConfig(),
        chance(official, "Gmain", images, density_noise=False),
    )
    close(loss.adversarial, official[f"{prefix}/loss_adv"])
    close(loss.generated.image_raw, official[f"{prefix}/image_raw"], 1e-3)
    loss.total.backward()
    check_gradients(generator, "G", prefix, official)


@pytest.mark.parametrize("which", [0, 1])
def test_golden_portraitgan_discriminator_phase(
    which: int,
    official: Official,
    fresh: tuple[Generator, Discriminator],
    real: tuple[Tensor, Tensor, Tensor],
) -> None:
    generator, discriminator = fresh
    images = official.counts[which]
    prefix = f"n{images // 1000}k/Dmain"
    given = conditions(official, "Dmain")
    before = generator.backbone.mapping.w_avg.clone()
    fake = losses.discriminator_fake_loss(
        generator,
        discriminator,
        given,
        schedule(images),
        LossConfig(),
        chance(official, "Dmain", images),
    )
    fake.total.backward()
    loss, score, pose = losses.discriminator_real_loss(discriminator, seen_real(real, images), real[2])
    loss.mean().backward()
    assert fake.predicted_pose is not None and pose is not None
    for actual, name in (
        (fake.adversarial, "loss_fake"),
        (fake.pose, "loss_pose"),
        (loss, "loss_real"),
        (fake.total + loss.mean(), "loss_total"),
        (fake.score, "D_score_fake"),
        (fake.predicted_pose, "D_pose_fake"),
        (score, "D_score_real"),
        (pose, "D_pose_real"),
    ):
        close(actual, official[f"{prefix}/{name}"])
    close(fake.generated.image_raw, official[f"{prefix}/image_raw"], 1e-3)
    assert all(parameter.grad is None for parameter in generator.parameters())
    check_gradients(discriminator, "D", prefix, official)
    after = generator.backbone.mapping.w_avg
    # The array w_avg_after of the public file was taken after w_avg was put back; its norms were not.
    size = float(official[f"{prefix}/w_avg_after_norm"])
    assert after.double().norm().item() == pytest.approx(size, rel=1e-6)
    moved = (after - before).double().norm().item()
    assert moved == pytest.approx(float(official[f"{prefix}/w_avg_change_norm"]), rel=1e-3)


@pytest.mark.parametrize("which", [0, 1])
def test_golden_portraitgan_r1_phase(
    which: int,
    official: Official,
    fresh: tuple[Generator, Discriminator],
    real: tuple[Tensor, Tensor, Tensor],
) -> None:
    _, discriminator = fresh
    images = official.counts[which]
    prefix = f"n{images // 1000}k/Dreg"
    r1 = losses.r1_penalty(discriminator, seen_real(real, images), real[2], LossConfig())
    assert r1.mask is not None
    close(r1.image, official[f"{prefix}/r1_sumsq_image"])
    close(r1.raw, official[f"{prefix}/r1_sumsq_raw"])
    close(r1.mask, official[f"{prefix}/r1_sumsq_mask"])
    close(r1.penalty, official[f"{prefix}/loss_reg"])
    (r1.penalty.mean() * 16).backward()
    check_gradients(discriminator, "D", prefix, official)


def step_networks(
    official: Official, networks: tuple[Generator, Discriminator]
) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    """The official optimisers (spec section 5.7)."""
    generator, discriminator = networks
    lazy = 16 / 17
    return (
        torch.optim.Adam(generator.parameters(), lr=0.0025, betas=(0.0, 0.99), eps=1e-8),
        torch.optim.Adam(discriminator.parameters(), lr=0.002 * lazy, betas=(0.0, 0.99**lazy), eps=1e-8),
    )


def check_change(
    module: nn.Module,
    start: dict[str, Tensor],
    network: str,
    norms: np.ndarray,
    dots: np.ndarray,
    official: Official,
) -> None:
    """Sizes of the steps to 5e-3; their directions as a median."""
    parameters = dict(module.named_parameters())
    off = []
    for name, norm, dot in zip(official[f"meta/{network}_params"], norms, dots, strict=True):
        change = (parameters[str(name)].detach() - start[str(name)]).double().numpy()
        if norm == 0:
            assert np.abs(change).max() == 0
            continue
        assert np.linalg.norm(change) == pytest.approx(norm, rel=5e-3), name
        off.append(abs((change * probe(network, str(name), change.shape)).sum() - dot) / norm)
    assert np.median(off) < 5e-3


def test_golden_portraitgan_adam_and_ema(
    official: Official,
    fresh: tuple[Generator, Discriminator],
    real: tuple[Tensor, Tensor, Tensor],
) -> None:
    generator, discriminator = fresh
    images = official.counts[-1]
    starts = [{k: v.detach().clone() for k, v in n.named_parameters()} for n in fresh]
    optimise_g, optimise_d = step_networks(official, fresh)
    losses.generator_loss(
        generator,
        discriminator,
        conditions(official, "Gmain"),
        schedule(images),
        LossConfig(),
        chance(official, "Gmain", images),
    ).total.backward()
    optimise_g.step()
    discriminator.zero_grad(set_to_none=True)
    prefix = "adam/Gmain"
    check_change(
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
        conditions(official, "Dmain"),
        schedule(images),
        LossConfig(),
        chance(official, "Dmain", images),
    )
    fake.total.backward()
    loss, _, _ = losses.discriminator_real_loss(discriminator, seen_real(real, images), real[2])
    loss.mean().backward()
    # After a first step the two runs are no longer at the same weights; 1e-3 still pins the losses.
    close(fake.adversarial, official["adam/Dmain/loss_fake"], 1e-3)
    close(fake.pose, official["adam/Dmain/loss_pose"], 1e-3)
    optimise_d.step()
    norms, dots = (official[f"adam/Dmain/change_{part}"] for part in ("norm", "dot"))
    check_change(discriminator, starts[1], "D", norms, dots, official)
    beta = float(official["adam/ema_beta"])
    assert beta == pytest.approx(0.5 ** (BATCH / min(10_000, 0.05 * images)))
    for network, module, start in zip("GD", fresh, starts, strict=True):
        parameters = dict(module.named_parameters())
        expected = official[f"adam/{network}_ema_change_norm_exact"]
        for name, norm in zip(official[f"meta/{network}_params"], expected, strict=True):
            change = parameters[str(name)].detach().double() - start[str(name)].double()
            assert (1 - beta) * change.norm().item() == pytest.approx(norm, rel=5e-3, abs=1e-12)


def test_golden_portraitgan_shared_discriminator_optimiser(
    official: Official,
    fresh: tuple[Generator, Discriminator],
    real: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Both discriminator phases share Adam's moments."""
    generator, discriminator = fresh
    images = official.counts[-1]
    start = {k: v.detach().clone() for k, v in discriminator.named_parameters()}
    _, optimise = step_networks(official, fresh)
    seen = seen_real(real, images)
    losses.discriminator_fake_loss(
        generator,
        discriminator,
        conditions(official, "Dmain"),
        schedule(images),
        LossConfig(),
        chance(official, "Dmain", images),
    ).total.backward()
    losses.discriminator_real_loss(discriminator, seen, real[2])[0].mean().backward()
    first = {k: v.grad for k, v in discriminator.named_parameters()}
    discriminator.zero_grad(set_to_none=True)
    (losses.r1_penalty(discriminator, seen, real[2], LossConfig()).penalty.mean() * 16).backward()
    second = {k: v.grad for k, v in discriminator.named_parameters()}
    for number, gradients in enumerate((first, second), start=1):
        for name, parameter in discriminator.named_parameters():
            parameter.grad = gradients[name]
        optimise.step()
        check_change(
            discriminator,
            start,
            "D",
            official[f"adam_shared/D_change_norm_step{number}"],
            official[f"adam_shared/D_change_dot_step{number}"],
            official,
        )
