"""What `make bench-correct` corrects, and what its curator sees."""

import numpy as np
import pytest

from benchmarks.correct_curator import LEVERS, Curator
from benchmarks.correct_eye import SIDE, Sight, agreement, covered, mismatch, sight
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


class Scripted(Curator):
    """A curator before a page whose rig is an ellipse that its keys move; the person is another."""

    PERSON = np.array([0.0, 0.0, 0.0, 0.55, 0.6, 1.1])

    def __init__(self):
        self.start = np.array([0.0, 0.0, 0.0, 0.43, 0.68, 1.0])
        self.state, self.snapped = self.start.copy(), 0

    def _push(self, lever, count):
        self._pushed.append((lever, count))
        self.state[LEVERS.index(lever)] += 0.02 * count

    def _press(self, key):
        assert key == "KeyR"
        self.state = self.start.copy()

    def _snap(self):
        self.snapped += 1
        return True

    def _rig(self):
        return drawn(self.state)


def drawn(state):
    down, across = (np.mgrid[: 2 * SIDE, : 2 * SIDE] + 0.5) / (2 * SIDE)
    off = ((across - state[3]) / 0.2) ** 2 + ((down - state[4]) / 0.3) ** 2
    light = 255 * np.clip(1.2 - off / state[5] ** 2, 0, 1)
    return sight(off < state[5] ** 2, np.repeat(light[..., None], 3, axis=-1).astype(np.uint8))


def test_the_curator_presses_the_keys_that_bring_the_rig_onto_the_person():
    curator = Scripted()
    person = drawn(curator.PERSON)
    assert agreement(person, curator._rig()) < 0.8
    curator._search(person)
    assert agreement(person, curator._rig()) > 0.97
    assert np.abs(curator.state - curator.PERSON)[3:].max() < 0.02


def test_what_did_not_help_is_taken_back():
    curator = Scripted()
    nothing = sight(np.zeros((2 * SIDE, 2 * SIDE), bool), np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8))
    curator.start[5] = curator.state[5] = 0.05  # covers next to nothing, and nothing is to be covered
    curator._search(nothing)
    assert mismatch(nothing, curator._rig(), 3.0) @ mismatch(nothing, curator._rig(), 3.0) < 1.0
    assert curator.snapped  # it began again from where snap had led


def test_light_counts_and_colors_do_not():
    one = drawn(Scripted.PERSON)
    dark = Sight(one.cover, one.light / 2)
    assert np.abs(mismatch(one, dark, 1.0)).max() < 0.05
    turned = Sight(one.cover, one.light[::-1])
    assert np.abs(mismatch(one, turned, 1.0)).sum() > 2 * np.abs(mismatch(one, dark, 1.0)).sum()


def test_a_pixel_that_changed_is_covered():
    bare = np.full((2 * SIDE, 2 * SIDE, 3), 120, np.uint8)
    seen = bare.copy()
    seen[: SIDE // 2, :, 1] = 200
    cover = covered(bare, seen, 14)
    assert cover[: SIDE // 2].all() and not cover[SIDE // 2 :].any()
