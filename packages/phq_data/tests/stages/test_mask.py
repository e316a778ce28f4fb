from __future__ import annotations

from collections.abc import Sequence

import bodyworks as works
import numpy as np
import pytest

from phq_data.stages import mask, resample
from phq_data.stages.crop import Window


class Bright:
    """A segmenter that takes bright pixels for the person."""

    fingerprint = "bright/1"

    def segment(self, image: np.ndarray, target: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
        self.seen = (target, others)
        return np.where(image[..., 0] > 127, 255, 0).astype(np.uint8)


def test_a_window_inside_the_photo_keeps_the_segmenters_mask() -> None:
    photo = works.photo_of()
    window = Window(10, 20, 300)
    picture = resample.resample(photo, window, 128).pixels
    segmenter = Bright()
    alpha = mask.person_mask(picture, window, (640, 480), np.zeros((17, 3)), [np.ones((17, 3))], segmenter)
    assert np.array_equal(alpha, np.where(picture[..., 0] > 127, 255, 0))
    assert segmenter.seen[0].shape == (17, 3) and len(segmenter.seen[1]) == 1


def test_padding_reflects_the_mask_and_fades_it() -> None:
    """A person cut by the photo's lower border: full at the border, nothing at the picture's edge."""
    alpha = np.full((100, 100), 255, np.uint8)
    found = mask.without_padding(alpha, Window(50, 400, 100), (640, 480))  # 20 rows of padding below
    assert (found[:80] == 255).all()
    column = found[80:, 50].astype(float)
    assert column[0] > 240 and column[-1] < 15
    assert (np.diff(column) < 0).all()


def test_padding_takes_the_photos_mask_not_the_segmenters() -> None:
    alpha = np.zeros((100, 100), np.uint8)
    alpha[80:] = 255  # the segmenter sees a person in the padding only
    assert not mask.without_padding(alpha, Window(50, 400, 100), (640, 480)).any()
    alpha = np.zeros((100, 100), np.uint8)
    alpha[75:80, 30:40] = 255
    found = mask.without_padding(alpha, Window(50, 400, 100), (640, 480))
    assert (found[80:85, 30:40] > 150).all() and not found[85:].any()


def test_a_window_that_shows_little_photo_still_gets_a_mask() -> None:
    alpha = np.full((64, 64), 255, np.uint8)
    far = mask.without_padding(alpha, Window(1000, 1000, 100), (640, 480))
    assert far.shape == (64, 64) and not far.any()
    huge = mask.without_padding(alpha, Window(-900, -900, 2000), (100, 70))
    step = 2000 / 64
    inside = mask.inside_photo(Window(-900, -900, 2000), 64, (100, 70))
    assert inside.sum() == pytest.approx(100 * 70 / step**2, rel=0.5)
    assert (huge[inside] == 255).all()


def test_a_mask_of_the_wrong_shape_is_an_error() -> None:
    class Broken:
        fingerprint = "broken/1"

        def segment(self, image: np.ndarray, target: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
            return np.zeros((3, 3), np.uint8)

    with pytest.raises(ValueError, match="broken/1"):
        mask.person_mask(
            np.zeros((8, 8, 3), np.uint8), Window(0, 0, 8), (8, 8), np.zeros((17, 3)), [], Broken()
        )
