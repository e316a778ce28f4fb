"""What `make bench-correct` corrects, and what its curator sees."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.correct_curator import LEVERS, SIDE, Curator
from benchmarks.correct_fixtures import LEAST, MOST, camera_errors, errors_of, figures
from phq_data import camera


def test_labels_are_turned_by_what_was_asked_for_and_only_once(tmp_path):
    _, known = figures(tmp_path, 3, seed=5)
    _, again = figures(tmp_path, 3, seed=5)
    assert [one.turned for one in again] == [one.turned for one in known]
    for one in known:
        whole, yaw = errors_of(one.turned, one.truth)
        assert LEAST - 2 < whole < MOST + 2  # the normal camera looks at the head again: a degree or two
        assert yaw <= 180
    assert camera_errors(known[0].truth, known[0].truth) == (0.0, 0.0)
    yawed = camera.from_angles(0.5, 0.1, 0.0)
    assert camera_errors(yawed, camera.from_angles(0.4, 0.1, 0.0))[1] == pytest.approx(np.degrees(0.1))


class Page:
    """A page whose rig is a rectangle that two keys move; the person is one that does not move."""

    SIZE = 4 * SIDE

    def __init__(self):
        self.keyboard, self.right, self.hidden, self.masked = self, 0.0, False, False
        self.pressed: list[str] = []

    def press(self, key):
        self.pressed.append(key)
        step = 3.0 if not key.startswith("Shift+") else 0.75
        self.right += {"KeyD": step, "KeyA": -step}.get(key.removeprefix("Shift+"), 0.0)
        self.masked ^= key == "KeyM"

    def down(self, key):
        self.hidden = True

    def up(self, key):
        self.hidden = False

    def wait_for_timeout(self, milliseconds):
        pass

    def locator(self, selector):
        return self

    def bounding_box(self):
        return {"x": 0, "y": 0, "width": self.SIZE, "height": self.SIZE}

    def screenshot(self, clip, type):
        pixels = np.full((self.SIZE, self.SIZE, 3), 120.0)
        person = (slice(80, 256), slice(90, 170))
        if self.masked:
            shown = np.full_like(pixels, 17.0)
            shown[person] = pixels[person]
            pixels = shown
        if not self.hidden:
            left = round(66 + self.right)
            pixels[80:256, left : left + 80] = (230, 170, 120)
        stream = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
        return stream.getvalue()


def test_the_curator_finds_the_key_that_helps_and_presses_it_far_enough():
    page = Page()
    curator = Curator(page)
    bare, person = curator._person()
    rig, better = curator._refine(bare, person, curator._rig(bare))
    rig, _ = curator._refine(bare, person, rig)
    assert better and abs(page.right - 24) <= 5  # pixels of 256: a fifth of what was missing
    assert {"KeyD", "KeyA"} <= {lever.plus for lever in LEVERS} | {lever.minus for lever in LEVERS}
