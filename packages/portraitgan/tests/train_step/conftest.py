"""golden_train_step.npz read and set up: weights, body, inputs, draws; what the tests of this folder share.

Everything needed is read from the file (salt, counts, draws, body), so another file of the layout works too.
"""

from __future__ import annotations

import copy
import types
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from portraitgan.config import (
    CompatibilityConfig,
    DiscriminatorConfig,
    LossConfig,
    ModelConfig,
    PosePredictorConfig,
    RenderConfig,
    SuperResolutionConfig,
    SynthesisConfig,
)
from portraitgan.deformation.closest import BruteForce
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.networks.discriminator import Discriminator, Portraits
from portraitgan.networks.generator import Generator
from portraitgan.presets import paper_256
from portraitgan.rendering.rays import RayDraws, fixed_draws
from portraitgan.training import losses
from portraitgan.training.generator_pass import Conditions, PassRandomness, Schedule, Swaps

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
    """The configuration of the golden training step (docs/references.md)."""
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
    """The weights of the golden training step (docs/references.md)."""
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
        state[key] = torch.from_numpy(np.asarray(rule(key, normal.astype(np.float32), network), np.float32))
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
    for changed, state in zip(networks, states, strict=True):
        changed.load_state_dict(state)


def conditions(official: Official, phase: str) -> Conditions:
    z, camera, coarse_pose = (official.tensor(f"in/{phase}/{name}") for name in ("z", "c", "pose"))
    return Conditions(z, camera, coarse_pose)


def schedule(images: int) -> Schedule:
    fade = max(0.0, 1 - images / 200_000)
    return Schedule(
        condition_swap=1 - 0.3 * min(images / 1_000_000, 1),
        blur_sigma=10 * fade,
        density_noise=fade,
        pose_regulariser=losses.pose_regulariser_strength(images, LossConfig()),
    )


def chance(official: Official, phase: str, images: int, density_noise: bool = True) -> PassRandomness:
    planned = schedule(images)
    swaps = Swaps(
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
    return PassRandomness(swaps, draws, noise_mode="const")


@pytest.fixture(scope="module")
def real(official: Official) -> tuple[Tensor, Tensor, Tensor]:
    """(images, masks, cameras) of the golden training step, checked against the file's sums."""
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


@pytest.fixture(scope="session")
def tools() -> types.SimpleNamespace:
    """This file's functions, for the tests."""
    functions = (
        conditions,
        schedule,
        chance,
        seen_real,
        close,
        check_gradients,
        step_networks,
        check_change,
    )
    return types.SimpleNamespace(**{function.__name__: function for function in functions})
