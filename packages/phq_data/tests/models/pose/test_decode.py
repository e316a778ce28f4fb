"""Heads of pose networks against closed forms: Gaussians around places that are known."""

from __future__ import annotations

import numpy as np
import pytest

from phq_data.models.pose.decode import decode_heatmap, decode_simcc

WIDTH, HEIGHT = 192, 256


def bumps(at: np.ndarray, cells: int, sigma: float) -> np.ndarray:
    """[..., cells] Gaussians around `at` [...]."""
    return np.exp(-((np.arange(cells) - at[..., None]) ** 2) / (2 * sigma**2))


@pytest.fixture
def pixels() -> np.ndarray:
    """[2, 17, 2] numbers of pixels, not whole ones."""
    return np.random.default_rng(3).uniform((12, 12), (WIDTH - 13, HEIGHT - 13), (2, 17, 2))


@pytest.mark.parametrize("ratio", [1.0, 2.0, 3.0])
def test_simcc_bins_are_parts_of_pixels(pixels, ratio):
    x = bumps(pixels[..., 0] * ratio, int(WIDTH * ratio), 5.0).astype(np.float32)
    y = 0.5 * bumps(pixels[..., 1] * ratio, int(HEIGHT * ratio), 5.0).astype(np.float32)
    found = decode_simcc(x, y, WIDTH)
    assert np.abs(found[..., :2] - 0.5 - pixels).max() <= 0.5 / ratio + 1e-6
    np.testing.assert_allclose(found[..., 2], y.max(axis=-1))  # the lower one


@pytest.mark.parametrize("udp", [True, False])
@pytest.mark.parametrize("stride", [4, 8])
def test_heatmaps_are_read_between_their_cells(pixels, udp, stride):
    width, height = WIDTH // stride, HEIGHT // stride
    per_cell = np.array([(WIDTH - 1) / (width - 1), (HEIGHT - 1) / (height - 1)]) if udp else stride
    cells = pixels / per_cell
    sigma = 2 * height / 64
    maps = (
        0.7
        * bumps(cells[..., 1], height, sigma)[..., None]
        * bumps(cells[..., 0], width, sigma)[..., None, :]
    )
    found = decode_heatmap(maps.astype(np.float32), (WIDTH, HEIGHT), udp=udp)
    inside = (np.minimum(cells, np.array([width, height]) - 1 - cells) > 3 * sigma).all(axis=-1)
    assert inside.sum() > 15
    assert np.abs(found[..., :2] - 0.5 - pixels)[inside].max() < 0.01 * stride
    assert np.abs(found[..., :2] - 0.5 - pixels).max() < 0.5 * stride  # near the border the blur is cut
    np.testing.assert_allclose(found[..., 2], maps.max(axis=(2, 3)), rtol=1e-6)


def test_tilted_peaks_are_found_too():
    """The second mixed difference: with the plain quotients of each axis this would be off."""
    y, x = np.mgrid[:64, :48] - np.array([30.3, 20.3])[:, None, None]
    maps = np.exp(-(x**2 + y**2 + 1.2 * x * y) / (2 * 3.0**2))[None, None].astype(np.float32)
    found = decode_heatmap(maps, (WIDTH, HEIGHT), udp=False)[0, 0]
    np.testing.assert_allclose(found[:2], (20.3 * 4 + 0.5, 30.3 * 4 + 0.5), atol=0.05)


def test_flat_and_negative_maps_stay_in_the_image():
    maps = np.stack([np.zeros((64, 48)), np.full((64, 48), -0.3)])[None].astype(np.float32)
    found = decode_heatmap(maps, (WIDTH, HEIGHT), udp=True)
    assert np.isfinite(found).all() and (found[..., :2] <= 4.5).all()
    np.testing.assert_allclose(found[0, :, 2], (0, -0.3), atol=1e-6)
