"""golden_portraitgan.npz: numbers of the official modules, met to about 1e-5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from phq_data.camera import mirror_label
from portraitgan.deformation.closest import BruteForce, on_triangles
from portraitgan.deformation.field import face_transforms, transform_points, transform_points_plain
from portraitgan.networks import filters
from portraitgan.networks.discriminator import Discriminator, Portraits
from portraitgan.networks.generator import Generator
from portraitgan.networks.superresolution import SuperResolution
from portraitgan.presets import paper_256, paper_512
from portraitgan.rendering import ray_marching, rays

Golden = dict[str, np.ndarray]


def rule(key: str, normal: np.ndarray) -> np.ndarray:
    """The golden file's weights (spec section 11)."""
    if key.endswith("affine.bias"):
        return 1 + 0.1 * normal
    if "mapping.fc" in key:
        return (10 if key.endswith(".bias") else 100) * normal
    if key.endswith((".bias", "noise_strength", "w_avg")):
        return 0.1 * normal
    return normal


@pytest.fixture(scope="module")
def golden(golden_folder: Path) -> Golden:
    with np.load(golden_folder / "golden_portraitgan.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def generator(weights: Callable[..., None]) -> Generator:
    made = Generator(paper_256()).eval().requires_grad_(False)
    weights(made, rule)
    return made


@pytest.fixture(scope="module")
def inputs(golden: Golden) -> dict[str, Tensor]:
    return {key: torch.from_numpy(golden[f"in/{key}"]) for key in ("c", "z", "p", "points")}


@pytest.fixture(scope="module")
def styles(generator: Generator, inputs: dict[str, Tensor]) -> Tensor:
    return generator.mapping(inputs["z"], inputs["c"], inputs["p"])


@pytest.fixture(scope="module")
def planes(generator: Generator, styles: Tensor) -> Tensor:
    return generator.planes(styles, "const")


def close(actual: Tensor, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Equal up to `tolerance` of the expected numbers' largest."""
    difference = np.abs(actual.detach().numpy().reshape(expected.shape) - expected).max()
    assert difference <= tolerance * np.abs(expected).max(), difference / np.abs(expected).max()


def test_pose_predictor(generator: Generator, golden: Golden, inputs: dict[str, Tensor]) -> None:
    close(generator.predict_pose(inputs["z"], inputs["c"]), golden["G/pose"])
    mirrored = torch.from_numpy(mirror_label(golden["in/c"]))
    close(generator.predict_pose(inputs["z"], mirrored), golden["G/pose_mirror"])


def test_styles(generator: Generator, golden: Golden, inputs: dict[str, Tensor], styles: Tensor) -> None:
    assert styles.shape == (2, 14, 512)
    close(styles[:, 0], golden["G/ws_first"])
    truncated = generator.mapping(inputs["z"], inputs["c"], inputs["p"], truncation_psi=0.6)
    close(truncated[:, 0], golden["G/ws_trunc0.6"])


def test_planes(golden: Golden, planes: Tensor) -> None:
    flat = planes.flatten(1, 3)
    close(flat[:, ::41, ::23, ::23], golden["G/planes_sub"])
    close(flat.std(), golden["G/planes_std"])


def test_background(generator: Generator, golden: Golden, styles: Tensor) -> None:
    assert generator.bcg_synthesis is not None
    close(generator.bcg_synthesis(styles[:, :12], "const")[:, ::5, ::13, ::13], golden["G/bcg_sub"])


def test_density_and_color_feature(
    generator: Generator, golden: Golden, inputs: dict[str, Tensor], planes: Tensor
) -> None:
    density, color = generator.sample_volume(planes, inputs["points"])
    close(density, golden["G/sigma"])
    close(color, golden["G/feat"])


def test_rays(golden: Golden, inputs: dict[str, Tensor]) -> None:
    origins, directions = rays.camera_rays(inputs["c"], 4)
    close(origins, golden["ray/origins_R4"])
    close(directions, golden["ray/dirs_R4"])


def test_marching(golden: Golden) -> None:
    colors, densities, depths = (
        torch.from_numpy(golden[f"march/in_{name}"]) for name in ("colors", "dens", "depth")
    )
    densities, depths = densities[..., 0], depths[..., 0]
    marched = ray_marching.march_plain(colors, densities, depths)
    close(marched.features, golden["march/rgb"])
    close(marched.weights, golden["march/weights"])
    close(ray_marching.clamp_depth(marched.depth, depths.min(), depths.max()), golden["march/depth"])
    draws = torch.linspace(0, 1, 16).expand(1, 3, 16)
    close(rays.importance_depths(depths, marched.weights, draws), golden["march/importance_det16"])


def test_warp(golden: Golden) -> None:
    canonical, posed = torch.from_numpy(golden["warp/V_can"]), torch.from_numpy(golden["warp/V_pos"])
    faces, points = torch.from_numpy(golden["warp/faces"]), torch.from_numpy(golden["warp/points"])
    transforms = face_transforms(posed, canonical, faces)
    given = torch.from_numpy(golden["warp/face"])
    near = torch.from_numpy(golden["warp/dist"]) < 0.25
    chosen = torch.where(near, given, -1)
    for form in (transform_points, transform_points_plain):
        close(form(points, transforms, chosen), golden["warp/out"])
    found = BruteForce(faces).pose(posed, posed.new_zeros(2, 3, 4))(points, 0.25)
    # The file names one face even where several tie exactly: ours is then another of the tied ones.
    same = found.face == chosen
    assert torch.equal(found.face >= 0, near)
    assert same.float().mean() > 0.95
    for sample, point in (~same).nonzero().tolist():
        pair = torch.stack([found.face[sample, point].long(), chosen[sample, point]])
        corners = posed[sample].double()[faces[pair]]
        _, squared = on_triangles(points[sample, point].double(), *corners.unbind(dim=1))
        assert abs(squared[0] - squared[1]) < 1e-12
    assert np.allclose(found.distance[near].numpy(), golden["warp/dist"][near.numpy()], rtol=1e-5, atol=1e-7)


def test_blur(golden: Golden, normals: Callable[[str], np.random.RandomState]) -> None:
    close(filters.blur_taps(2.5), golden["blur/taps_sigma2.5"])
    raw = torch.from_numpy((normals("raw").standard_normal((2, 3, 64, 64)) * 0.5).astype(np.float32))
    close(filters.blur(raw, 2.5)[:, :, ::9, ::9], golden["blur/out"])


@pytest.mark.parametrize("size", [256, 512])
def test_superresolution(
    size: int,
    golden: Golden,
    styles: Tensor,
    weights: Callable[..., None],
    normals: Callable[[str], np.random.RandomState],
) -> None:
    config = {256: paper_256, 512: paper_512}[size]()
    network = SuperResolution(config.generator.superresolution, 32, size, 512).eval().requires_grad_(False)
    weights(network, rule, prefix="superresolution.")
    features = torch.from_numpy(normals("srx").standard_normal((2, 32, 64, 64)).astype(np.float32))
    raw = torch.from_numpy((normals("srrgb").standard_normal((2, 3, 64, 64)) * 0.5).astype(np.float32))
    image, _ = network(features, raw, styles[:, -1])
    close(image[:, :, ::15, ::15], golden[f"SR{size}/out_sub"])
    close(image.std(), golden[f"SR{size}/out_std"])


@pytest.mark.parametrize("plain", [False, True])
def test_whole_synthesis(
    plain: bool, generator: Generator, golden: Golden, inputs: dict[str, Tensor], styles: Tensor
) -> None:
    draws = rays.fixed_draws(generator.config.render, 2, 256, torch.device("cpu"))
    made = generator.synthesis(
        styles, inputs["c"], resolution=16, noise_mode="const", draws=draws, plain=plain
    )
    close(made.image_raw, golden["synth256_R16_det/image_raw"])
    close(made.mask, golden["synth256_R16_det/image_mask"])
    close(made.depth, golden["synth256_R16_det/image_depth"])
    assert made.background is not None
    close(made.background, golden["synth256_R16_det/image_background"])
    close(made.image[:, :, ::7, ::7], golden["synth256_R16_det/image_sub"])


@pytest.fixture(scope="module")
def discriminator(weights: Callable[..., None]) -> Discriminator:
    made = Discriminator(paper_256().discriminator, pose_camera_unmirrored=True).eval().requires_grad_(False)
    weights(made, rule)
    return made


@pytest.mark.parametrize("plain", [False, True])
def test_discriminator(
    plain: bool,
    discriminator: Discriminator,
    golden: Golden,
    inputs: dict[str, Tensor],
    normals: Callable[[str], np.random.RandomState],
) -> None:
    image = normals("img").standard_normal((2, 3, 256, 256)) * 0.5
    raw = normals("raw").standard_normal((2, 3, 64, 64)) * 0.5
    mask = 1 / (1 + np.exp(-normals("msk").standard_normal((2, 1, 64, 64))))
    portraits = Portraits(
        *(torch.from_numpy(part.astype(np.float32)).requires_grad_() for part in (image, raw, mask))
    )
    output = discriminator(portraits, inputs["c"], plain=plain)
    close(output.score, golden["D/score"])
    assert output.pose is not None
    close(output.pose, golden["D/pose"])
    close(discriminator.predict_pose(portraits, inputs["c"]), golden["D/pose"])
    assert portraits.mask is not None
    grads = torch.autograd.grad(output.score.sum(), [portraits.image, portraits.raw, portraits.mask])
    sums = torch.stack([g.square().sum(dim=(1, 2, 3)) for g in grads])
    assert np.allclose(sums.numpy(), golden["D/r1_sumsq"], rtol=1e-5)
