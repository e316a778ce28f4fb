"""Rays, sampling and marching against closed forms and slow references."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from phq_data import camera as labels
from portraitgan.config import EG3D_AXES, TRI_GRID_AXES, DecoderConfig, RenderConfig, TriGridConfig
from portraitgan.networks.decoder import Decoder
from portraitgan.rendering import compiled, ray_marching, rays, trigrid


def test_rays_project_back_onto_their_pixels() -> None:
    cam2world = labels.from_angles(np.array([0.3, 2.0]), np.array([0.2, -0.1]), 0.1)
    origins, directions = rays.camera_rays(torch.from_numpy(labels.to_label(cam2world)), 5)
    assert torch.allclose(directions.norm(dim=-1), torch.ones(2, 25))
    image, depth = labels.project((origins + 2.7 * directions).numpy(), cam2world)
    centres = (np.arange(5) + 0.5) / 5
    expected = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(25, 2)
    assert np.allclose(image, expected, atol=1e-5) and (depth > 0).all()


def test_stratified_depths_stay_in_their_steps() -> None:
    config = RenderConfig(coarse_samples=12)
    jitter = torch.rand(2, 3, 12)
    depths = rays.stratified_depths(config, jitter)
    step = (config.ray_end - config.ray_start) / 11
    ladder = torch.linspace(config.ray_start, config.ray_end, 12)
    assert ((depths >= ladder) & (depths <= ladder + step)).all()
    assert (depths[..., 1:] >= depths[..., :-1]).all()


def test_draws_repeat() -> None:
    config = RenderConfig()
    first, second = (
        rays.draw(config, 2, 5, torch.device("cpu"), torch.Generator().manual_seed(4), 0.5) for _ in range(2)
    )
    assert first.coarse_noise is not None and second.coarse_noise is not None
    assert torch.equal(first.jitter, second.jitter) and torch.equal(first.coarse_noise, second.coarse_noise)
    assert rays.draw(config, 2, 5, torch.device("cpu")).coarse_noise is None


def test_importance_depths_go_where_the_weight_is() -> None:
    depths = torch.linspace(2, 3, 48).expand(1, 1, 48)
    weights = torch.zeros(1, 1, 47)
    weights[..., 30] = 1
    drawn = rays.importance_depths(depths, weights, torch.rand(1, 1, 4000))
    near = (drawn - depths[..., 30]).abs() < 0.06
    assert near.float().mean() > 0.75
    assert (drawn >= depths.min()).all() and (drawn <= depths.max()).all()


def test_marching_a_constant_fog() -> None:
    """Transmittance of a constant density is an exponential."""
    depths = torch.linspace(2.0, 3.0, 200, dtype=torch.float64).expand(1, 1, 200)
    raw = torch.full_like(depths, 1.5)
    density = torch.nn.functional.softplus(torch.tensor(0.5, dtype=torch.float64))
    marched = ray_marching.march_plain(torch.ones(1, 1, 200, 2, dtype=torch.float64), raw, depths)
    assert torch.allclose(marched.mask, 1 - torch.exp(-density), atol=1e-6)
    assert torch.allclose(marched.features, marched.mask[..., None].expand(1, 1, 2))


def test_marching_nothing_and_a_wall() -> None:
    depths = torch.linspace(2, 3, 50).expand(1, 2, 50)
    raw = torch.full((1, 2, 50), -1000.0)
    raw[0, 1, 25:] = 1000.0
    marched = ray_marching.march_plain(torch.rand(1, 2, 50, 3), raw, depths)
    assert marched.mask[0, 0] == 0 and torch.isinf(marched.depth[0, 0])
    assert marched.mask[0, 1] > 0.999 and abs(marched.depth[0, 1] - depths[0, 0, 25]) < 0.03
    limited = ray_marching.clamp_depth(marched.depth, depths.min(), depths.max())
    assert limited[0, 0] == depths.max()


def merged(plain: bool, parts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    colors, densities, depths, fine_colors, fine_densities, fine_depths = parts
    if plain:
        fine = (fine_colors, fine_densities, fine_depths)
        combined = ray_marching.merge_plain((colors, densities, depths), fine)
        marched = ray_marching.march_plain(*combined)
        return marched.features, marched.mask, marched.depth
    factors = ray_marching.march_merged(densities, depths, fine_densities, fine_depths)
    summed = (factors.coarse[..., None] * colors).sum(2) + (factors.fine[..., None] * fine_colors).sum(2)
    return summed, factors.mask, factors.depth


def test_compiled_parts_equal_the_written_ones(caplog: pytest.LogCaptureFixture) -> None:
    """Values and gradients; where there is no compiler, the warning says so and the same numbers come out."""
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(), 32)
    features = torch.randn(2, 3 * 7, 32)
    depths = torch.rand(2, 3, 7).sort().values

    def run() -> list[Tensor]:
        leaf = features.clone().requires_grad_()
        hidden, density = decoder.hidden_and_density(leaf)
        density = density.reshape(2, 3, 7)
        pixel = ray_marching.march_merged(
            density[..., :4], depths[..., :4], density[..., 4:], depths[..., 4:]
        )
        loss = hidden.square().mean() + pixel.mask.square().sum() + pixel.coarse.square().sum()
        return [
            hidden,
            density,
            pixel.mask,
            pixel.depth,
            *torch.autograd.grad(loss, [leaf, *decoder.parameters()]),
        ]

    written = run()
    compiled.use()
    try:
        compiled_values = run()
        assert compiled.is_used() or "torch.compile failed" in caplog.text
    finally:
        compiled.use(False)
    for fast, plain in zip(compiled_values, written, strict=True):
        assert torch.allclose(fast, plain, rtol=1e-5, atol=1e-6)


def test_a_failing_compiler_is_told_and_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> object:
        def fail(*_: Tensor) -> object:
            raise RuntimeError("no compiler\nlong story")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    double = compiled.compilable(lambda x: (2 * x,))
    compiled.use()
    try:
        assert double(torch.ones(1))[0].item() == 2.0
        assert not compiled.is_used()
    finally:
        compiled.use(False)
    assert "torch.compile failed (no compiler)" in caplog.text


def test_merging_without_moving_features() -> None:
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    depths, fine_depths = draw(2, 3, 7).sort().values, draw(2, 3, 5)
    results = []
    inputs = [draw(2, 3, 7, 4), draw(2, 3, 7) * 3, depths, draw(2, 3, 5, 4), draw(2, 3, 5) * 3, fine_depths]
    for plain in (False, True):
        leaves = [value.clone().requires_grad_(k % 3 < 2) for k, value in enumerate(inputs)]
        features, mask, depth = merged(plain, leaves)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        grads = torch.autograd.grad(features.square().sum() + mask.square().sum(), wanted)
        results.append([features, mask, depth, *grads])
    for fast, plain_result in zip(*results, strict=True):
        assert torch.allclose(fast, plain_result, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("axes", "sphere"), [(TRI_GRID_AXES, None), (EG3D_AXES, None), (TRI_GRID_AXES, (0.0, 0.25, 0.06))]
)
def test_both_fast_samplings_equal_the_plain_one(
    depth: int, axes: tuple[tuple[int, int, int], ...], sphere: tuple[float, float, float] | None
) -> None:
    """Inside, at the border and outside the cube; values, and gradients to grid and points."""
    random = torch.Generator().manual_seed(0)
    planes_of = 3 if sphere is None else 4
    grid = torch.randn(2, planes_of, 4, depth, 6, 6, generator=random, dtype=torch.float64)
    points = torch.rand(2, 300, 3, generator=random, dtype=torch.float64) * 3 - 1.5
    points[0, :3] = torch.tensor([[1.0, -1.0, 0.0], [50.0, 0.0, 0.0], [0.999, 0.5, -0.999]])
    weights = torch.randn(2, 300, 4, generator=random, dtype=torch.float64)
    results = []
    for form in ("rows", "planes", "plain"):
        g, p = grid.clone().requires_grad_(), points.clone().requires_grad_()
        if form == "rows":
            found = trigrid.sample_rows(trigrid.to_table(g), (depth, 6), p, axes, sphere)
        else:
            found = (trigrid.sample_plain if form == "plain" else trigrid.sample_planes)(g, p, axes, sphere)
        results.append([found, *torch.autograd.grad((found * weights).sum(), [g, p])])
    for rows, planes, slow in zip(*results, strict=True):
        assert torch.allclose(rows, slow, atol=1e-12) and torch.allclose(planes, slow, atol=1e-12)


def test_the_sphere_maps_equal_areas_and_has_the_back_in_the_middle() -> None:
    """Lambert's projection: straight behind the centre is the middle, straight ahead the rim."""
    centre = (0.1, 0.2, -0.1)
    directions = torch.tensor([[0.0, 0, -1], [1, 0, 0], [0, -1, 0], [1e-3, 0, 1]], dtype=torch.float64)
    *_, (across, up, outward) = trigrid.places(
        (torch.tensor(centre) + 0.5 * directions)[None], TRI_GRID_AXES, centre
    )
    found = torch.stack([across, up], dim=-1)[0]
    wanted = torch.tensor([[0.0, 0], [0.5**0.5, 0], [0, -(0.5**0.5)]], dtype=torch.float64)
    torch.testing.assert_close(found[:3], wanted, atol=1e-3, rtol=0)
    assert float(found[3].norm()) < 1  # ahead nothing leaves the map, gradients stay finite
    assert outward[0].tolist() == pytest.approx([0.0] * 4, abs=1e-3)  # half way to half a side
    # Directions drawn uniformly fill the disc uniformly: a quarter of them within half its radius.
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(1, 20_000, 3, generator=random, dtype=torch.float64)
    drawn = drawn / drawn.norm(dim=-1, keepdim=True)
    x, y, _ = trigrid.places(drawn, TRI_GRID_AXES, (0.0, 0.0, 0.0))[3]
    radius = torch.hypot(x, y)
    assert float(radius.max()) <= 1
    for share in (0.25, 0.5, 0.81):
        assert float((radius < share**0.5).double().mean()) == pytest.approx(share, abs=0.015)


def test_the_centre_and_the_ray_ahead_have_finite_gradients() -> None:
    points = torch.tensor([[[0.0, 0.25, 0.06], [0.0, 0.25, 0.5], [0.0, 0.25, 0.9]]], requires_grad=True)
    grid = torch.randn(1, 4, 3, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    trigrid.sample_plain(grid, points, TRI_GRID_AXES, (0.0, 0.25, 0.06)).square().sum().backward()
    assert (
        points.grad is not None
        and bool(points.grad.isfinite().all())
        and float(points.grad.abs().max()) < 1e4
    )


def test_few_points_need_no_table() -> None:
    large, small = torch.empty(1, 3, 32, 3, 128, 128), torch.empty(4, 3, 8, 3, 32, 32)
    for grid in (large, small):
        assert not trigrid.rows_serve(grid, 2048) and trigrid.rows_serve(grid, 4096)
    assert not trigrid.rows_serve(large.to("meta"), 10**6)


def test_planes_are_split_feature_major() -> None:
    config = TriGridConfig(features=2, depth=3)
    planes = torch.arange(18.0).reshape(1, 18, 1, 1)
    grid = trigrid.split_planes(planes, config)
    assert grid[0, 1, 1, :, 0, 0].tolist() == [9.0, 10.0, 11.0]


@pytest.mark.parametrize(("kind", "planes"), [("unified", 3), ("hybrid", 4)])
def test_planes_cut_in_space_are_quarters_of_the_image(
    kind: Literal["unified", "hybrid"], planes: int
) -> None:
    config = TriGridConfig(features=3, depth=2, kind=kind)
    assert config.channels == 6 and config.planes == planes
    image = torch.randn(2, 6, 8, 8)
    grid = trigrid.split_planes(image, config)
    assert grid.shape == (2, planes, 3, 2, 4, 4)
    for plane, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)][:planes]):
        for feature in range(3):
            for depth in range(2):
                quarter = image[:, 2 * feature + depth, row : row + 4, column : column + 4]
                assert torch.equal(grid[:, plane, feature, depth], quarter)
