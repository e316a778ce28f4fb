"""The viewer: what its states show, and that a browser can turn, pose and switch."""

from __future__ import annotations

import io
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from phq_data import camera as cameras
from portraitgan.images.drawing import PARTS
from portraitgan.inference import views
from portraitgan.inference.latents import from_seeds
from portraitgan.inference.model import Model
from portraitgan.inference.sample import shoot
from portraitgan.inference.view_state import ViewRenderer, ViewState, mixed_layers, view_of

viser = pytest.importorskip("viser")
from portraitgan.inference.viewer import BEHIND, Viewer, letterbox  # noqa: E402


@pytest.fixture
def renderer(model: Model) -> ViewRenderer:
    return ViewRenderer(model, 32)


def test_a_state_is_the_sample_of_it(model: Model, renderer: ViewRenderer) -> None:
    state = ViewState(yaw=35, pitch=-5, seed=4, truncation=0.8, head=(0.0, 25.0, 0.0), sample_factor=2.0)
    person = from_seeds(model, [4], 0.8)
    pose = views.body_pose((0, 0, 0), (0, 25, 0))
    for part in PARTS:
        shown = renderer.render(replace(state, part=part)).pixels
        shot = next(iter(shoot(model, person, views.camera(35, -5), pose, parts=[part], side=32)))
        assert np.abs(shown.astype(int) - shot.images[part]).max() <= 1, part


def test_mixing_goes_from_one_person_to_the_other(renderer: ViewRenderer) -> None:
    first, second = ViewState(seed=1), ViewState(seed=2)
    mixed = ViewState(seed=1, second_seed=2, mix=1.0)
    assert np.array_equal(renderer.render(mixed).pixels, renderer.render(second).pixels)
    assert np.array_equal(renderer.render(replace(mixed, mix=0)).pixels, renderer.render(first).pixels)
    coarse, fine = (
        renderer.render(replace(mixed, mixed_layers=which)).pixels for which in ("coarse", "fine")
    )
    assert not np.array_equal(coarse, fine)
    assert torch.equal(mixed_layers(8, "coarse") + mixed_layers(8, "fine"), mixed_layers(8, "all"))


def test_predicted_pose_is_rendered_and_told(model: Model, renderer: ViewRenderer) -> None:
    done = renderer.render(ViewState(seed=3, yaw=20, predicted_pose=True))
    expected = model.generator.predict_pose(model.latents([3]), views.camera(20))[0]
    assert np.allclose(done.pose, np.degrees(expected.numpy()), atol=1e-3)


def test_free_cameras_become_those_of_the_sphere() -> None:
    for yaw, pitch in ((0, 0), (100, 20), (-150, -30)):
        place = cameras.from_angles(np.radians(yaw), np.radians(pitch))[:3, 3]
        found = view_of(place, cameras.LOOK_AT)
        assert found[:2] == pytest.approx((yaw, pitch), abs=1e-6)
        assert found[2] == pytest.approx(1, abs=0.03)
    near = cameras.LOOK_AT + np.array([0, 0, cameras.RADIUS / 2])
    assert view_of(near, cameras.LOOK_AT)[2] == pytest.approx(2)
    shift = np.array([0.3, -0.2, 0.1])
    assert view_of(near + shift, cameras.LOOK_AT + shift) == pytest.approx(view_of(near, cameras.LOOK_AT))
    assert view_of(cameras.LOOK_AT, cameras.LOOK_AT) == (0.0, 0.0, 1.0)


def test_zoom_enlarges_the_middle(analytic: Callable, make_ellipsoid: Callable) -> None:
    model = analytic(make_ellipsoid((0, 0.0649, 0), (0.05, 0.05, 0.05)))
    renderer = ViewRenderer(model, 64)
    areas = [
        (renderer.render(ViewState(part="mask", zoom=zoom, sample_factor=6.0), 64).pixels > 128).mean()
        for zoom in (1.0, 2.0)
    ]
    assert areas[1] / areas[0] == pytest.approx(4, rel=0.1)


def test_moving_images_get_the_resolution_that_keeps_up(renderer: ViewRenderer) -> None:
    small, large = ViewState(resolution=8), ViewState(resolution=64)
    assert renderer.moving_resolution(large, 1.0) == 8  # nothing is known yet
    renderer.render(ViewState())
    renderer._seconds_per_ray = 0.12 / 30**2
    assert renderer.moving_resolution(small, 0.12) == 8  # never above the full resolution
    assert renderer.moving_resolution(large, 0.12) == pytest.approx(30, abs=1)
    assert renderer.moving_resolution(large, 10) == 64 and renderer.moving_resolution(large, 1e-9) == 8
    assert renderer.full_resolution(ViewState()) == 8 and renderer.render(large).resolution == 64


def test_square_images_stand_in_the_middle_of_any_window() -> None:
    image = np.full((10, 10, 3), 200, np.uint8)
    wide, tall = letterbox(image, 2.0), letterbox(image, 0.5)
    assert wide.shape == (10, 20, 3) and tall.shape == (20, 10, 3)
    assert (wide[:, 5:15] == 200).all() and (wide[:, :5] == BEHIND).all() and (tall[:5] == BEHIND).all()


def test_server_listens_on_loopback_only(renderer: ViewRenderer, capsys: pytest.CaptureFixture[str]) -> None:
    viewer = Viewer(renderer, port=8761)
    assert capsys.readouterr().out == ""  # the command says where it is, once
    try:
        assert viewer.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(viewer.url, timeout=90) as page:
            assert page.status == 200
    finally:
        viewer.close()


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of a real browser."""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium here")
    flags = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --use-gl=angle --use-angle=swiftshader "
        "--enable-unsafe-swiftshader"
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags.split())
        yield browser.new_page(viewport={"width": 900, "height": 600})
        browser.close()


def middle(page: Any) -> np.ndarray:
    """The image between the edges of the window and the panel, averaged over small squares."""
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    return pixels[200:440, 200:480].reshape(12, 20, 14, 20, 3).mean(axis=(1, 3))


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the page did not change in time"
        time.sleep(0.3)


@pytest.mark.slow
def test_browser_turns_the_camera_and_switches_parts(
    analytic: Callable, make_ellipsoid: Callable, page: Any
) -> None:
    """A ball that is red on the subject's left and blue in front, turned by dragging and by a button."""
    model = analytic(make_ellipsoid((0, 0.0649, 0), (0.12, 0.12, 0.12)))
    viewer = Viewer(ViewRenderer(model, 128), port=8771)
    try:
        page.goto(viewer.url)
        page.get_by_text("Truncation").wait_for(timeout=90_000)
        until(lambda: middle(page).max() > 100)
        page.get_by_role("combobox", name="Show").click()
        page.get_by_role("option", name="raw").click()

        def color() -> np.ndarray:
            return middle(page)[5:7, 5:9].mean(axis=(0, 1))  # of the ball's middle

        until(lambda: color()[2] > 180)  # blue: from the front
        page.get_by_role("button", name="back").click()
        until(lambda: color()[2] < 60)
        page.get_by_role("button", name="front").click()
        until(lambda: color()[2] > 180)
        page.mouse.move(300, 400)
        page.mouse.down()
        for step in range(20):
            page.mouse.move(300 - 10 * step, 400)
            time.sleep(0.03)
        page.mouse.up()
        until(lambda: color()[0] > 180)  # dragging to the left goes to the subject's left, which is red
    finally:
        viewer.close()
