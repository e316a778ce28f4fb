"""What a reviewer sees, in a real browser: photo pixels, sizes, a page that does not move, the evidence."""

import io
import time

import numpy as np
import pytest
from browser import LAPTOP, PHONE, decide, until, wait_ready
from PIL import Image
from served import Served, set_policy

from benchmarks.review_fixtures import make_workspace

PORTRAITS = 40
TOLD = "text => document.getElementById('scale').textContent.includes(text)"
BOX = """selector => {
  const { x, y, width, height } = document.querySelector(selector).getBoundingClientRect();
  return [x, y, width, height];
}"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("see") / "workspace"
    make_workspace(folder, PORTRAITS, size=256, faces=300, photos=True)
    set_policy(folder, overlap_share=0.0, gold_share=0.0)
    with Served(folder) as started:
        yield started


@pytest.fixture
def opened(browser):
    contexts = []

    def open_(service, viewport=LAPTOP, scale=1, **more):
        contexts.append(
            browser.new_context(viewport=viewport, device_scale_factor=scale, service_workers="block", **more)
        )
        page = contexts[-1].new_page()
        page.goto(service.url)
        wait_ready(page)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scale", [1, 2])
def test_one_photo_pixel_is_one_device_pixel_for_one_portrait_after_another(service, opened, scale):
    page = opened(service, scale=scale)
    page.keyboard.press("o")  # without the mesh
    page.keyboard.press("1")
    until(page, TOLD, "1:1 · photo pixels")
    for _ in range(2):
        _assert_photo_pixels(service, page, scale)
        decide(page, "s")
        until(page, TOLD, "1:1 · photo pixels")
    page.keyboard.press("0")
    assert "1:1" not in page.inner_text("#scale")
    stage = page.evaluate(BOX, "#stage")
    assert page.evaluate(BOX, "#stage .frame")[2] == pytest.approx(min(stage[2:]), abs=1)


def _assert_photo_pixels(service, page, scale):
    """The screen has the served pixels of the photo, one by one, on the shoulders."""
    portrait = wait_ready(page)
    served = page.context.request.get(f"{service.url}/img/{portrait}/original")
    photo = np.asarray(Image.open(io.BytesIO(served.body())).convert("RGB")).astype(float)
    left, top, width, height = page.evaluate(BOX, "#stage .original")
    assert (width * scale, height * scale) == pytest.approx((photo.shape[1], photo.shape[0]), abs=0.1)
    begin_y, begin_x = round(top * scale), round(left * scale)
    deadline, difference = time.monotonic() + 60, 255.0
    while difference > 2 and time.monotonic() < deadline:  # a busy machine paints late
        page.wait_for_timeout(200)
        screen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(float)
        shown = screen[begin_y + 60 : begin_y + 140, begin_x + 60 : begin_x + 200]
        difference = np.abs(shown - photo[60:140, 60:200]).max()
    assert difference <= 2


def test_zoom_and_place_stay_for_the_next_portrait_and_keys_move_them(service, opened):
    page = opened(service)
    page.keyboard.press("z")
    before = page.evaluate(BOX, "#stage .frame")
    page.keyboard.press("Shift+ArrowLeft")
    moved = page.evaluate(BOX, "#stage .frame")
    assert moved[0] > before[0] + 50 and moved[2] == before[2]
    decide(page, "s")
    assert page.evaluate(BOX, "#stage .frame") == pytest.approx(moved, abs=1)
    page.keyboard.press("Escape")
    assert page.evaluate(BOX, "#stage .frame")[2] < moved[2] / 2
    assert "effective resolution" in page.inner_text("#angles")


def test_a_photo_that_is_gone_is_said_and_the_portrait_enlarged(service, opened):
    page = opened(service)
    page.route("**/img/*/original", lambda route: route.fulfill(status=404, json={"detail": "gone"}))
    page.keyboard.press("1")
    until(page, TOLD, "the photo is not available")
    assert page.query_selector("#stage .original") is None


@pytest.mark.parametrize(
    ("width", "height", "more"),
    [
        (683, 384, {"scale": 2}),  # a laptop at 200 %
        (960, 540, {"scale": 2}),
        (844, 390, {"scale": 3, "has_touch": True, "is_mobile": True}),
        (1366, 625, {}),
    ],
)
def test_the_portrait_is_never_smaller_than_400_pixels(service, opened, width, height, more):
    page = opened(service, {"width": width, "height": height}, **more)
    left, top, side, _ = page.evaluate(BOX, "#stage .frame")
    assert side >= 400 and left >= 0
    assert top + side <= height + 1  # the shoulders are in view
    for name in ("[data-action=accept]", "[data-action=reject]", "[data-action=undo]", "#look-zoom"):
        x, y, across, down = page.evaluate(BOX, name)
        assert x >= left + side - 1 and x + across <= width and y >= 0 and y + down <= height, name
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("viewport", [LAPTOP, PHONE, {"width": 683, "height": 384}])
def test_nothing_moves_when_chips_and_banners_come(service, opened, viewport):
    page = opened(service, viewport)
    until(page, "document.getElementById('photo-text').textContent")  # the panels are filled a moment later
    assert "consent: nobody has said" in page.inner_text("#photo-text")
    names = ["#stage", "#stage .frame", ".caption", "[data-action=accept]", "#look-zoom", "#panel-evidence"]
    names += [".evidence + details"]
    before = {name: page.evaluate(BOX, name) for name in names}
    page.evaluate("""() => {
      const banner = document.getElementById("banner");
      banner.hidden = false;
      document.getElementById("banner-text").textContent = "The service cannot be reached. ".repeat(4);
      const chip = document.getElementById("verdict");
      chip.hidden = false;
      chip.textContent = "you accepted it";
      document.getElementById("saving-text").textContent = "Offline · 9 kept in this browser";
    }""")
    assert page.is_visible("#banner") and page.is_visible("#verdict")
    for name in names:
        assert page.evaluate(BOX, name) == pytest.approx(before[name], abs=0.1), name


def test_the_evidence_begins_with_what_is_beyond_or_near_its_limit(service, opened):
    page = opened(service)
    rows = page.evaluate(
        "[...document.querySelectorAll('#evidence tr')].map(r => [r.className, r.innerText])"
    )
    kinds = [kind for kind, _ in rows]
    assert len(rows) >= 3 and kinds[0] == "broken"
    assert kinds == sorted(kinds, key=["broken", "near", ""].index)
    assert all("at most" in text or "at least" in text for kind, text in rows if kind)
    hidden = page.evaluate("document.querySelectorAll('#evidence-rest tr').length")
    assert hidden >= 5 and page.is_hidden("#evidence-rest")
