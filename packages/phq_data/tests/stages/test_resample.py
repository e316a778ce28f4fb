from __future__ import annotations

import time

import bodyworks as works
import numpy as np
import pytest

from phq_data.camera import mirror_image
from phq_data.stages import resample as stage
from phq_data.stages.crop import CropError, Window


def test_whole_pixels_are_copied() -> None:
    photo = works.photo_of()
    found = stage.resample(photo, Window(100, 50, 256), 256)
    assert np.array_equal(found.pixels, photo[50:306, 100:356])
    assert (found.padding, found.effective_resolution) == (0.0, 1.0)


def test_subpixel_windows_land_where_they_should() -> None:
    """A linear ramp resampled anywhere stays the ramp: no half-pixel shift at any scale."""
    y, x = np.mgrid[:400, :600]
    photo = np.stack([x * 0.4, y * 0.5, x * 0.2 + y * 0.2], -1)
    photo = np.rint(photo).astype(np.uint8)
    for window in (Window(33.3, 71.9, 123.4), Window(10.25, 10.75, 377.7), Window(-40.5, 20.2, 300.0)):
        found = stage.resample(photo, window, 128)
        centres = window.x + (np.arange(128) + 0.5) * window.side / 128
        inside = centres > 70  # away from the faded padding
        expected = np.clip((centres - 0.5) * 0.4, 0, 255)
        error = np.abs(found.pixels[..., 0].mean(axis=0) - expected)[inside]
        assert error.max() < 0.6


def test_reducing_does_not_alias() -> None:
    """Stripes one pixel wide become their mean, not a pattern."""
    photo = np.zeros((800, 800, 3), np.uint8)
    photo[:, ::2] = 255
    for window in (Window(100, 100, 600.0), Window(-100, 100, 600.0)):
        found = stage.resample(photo, window, 64).pixels[:, 20:]
        assert found.std() < 6
        assert abs(found.mean() - 127.5) < 3


def test_inside_pixels_do_not_depend_on_the_padding() -> None:
    """Beyond a third of the padding's width, a padded picture equals the photo."""
    photo = works.photo_of()
    window = Window(-60, 100, 300)
    padded = stage.resample(photo, window, 300)
    assert padded.padding == pytest.approx(0.2)
    assert np.array_equal(padded.pixels[:, 60 + 21 :], photo[100:400, 21:240])


def test_padding_reflects_then_fades_to_the_median() -> None:
    photo = works.photo_of(seed=3)
    padded = stage.resample(photo, Window(-100, 100, 300), 300).pixels
    gone = stage.fade(np.arange(-100.0, 200.0) + 0.5, -100, 200, 640)
    assert gone[0] == pytest.approx(1.0, abs=0.01) and gone[100] == pytest.approx(0.0, abs=0.01)
    near = padded[:, 95:100].astype(float)
    mirrored = photo[100:400, :5][:, ::-1].astype(float)
    assert np.abs(near - mirrored).mean() < 50  # already mixed with the blur
    outermost = padded[:, 0].astype(float)
    assert np.ptp(outermost, axis=0).max() <= 4  # one color
    assert np.abs(outermost.mean(axis=0) - np.median(photo[100:400, :200].reshape(-1, 3), axis=0)).max() < 25


def test_unpadded_sides_keep_their_pixels() -> None:
    """No line of median color along sides where nothing is padded (the reference draws one)."""
    photo = works.photo_of(300, 300)
    padded = stage.resample(photo, Window(0, -90, 300), 300).pixels
    assert np.array_equal(padded[200:, 0], photo[110:210, 0])
    assert np.array_equal(padded[200:, -1], photo[110:210, -1])
    assert np.array_equal(padded[-1], photo[209])


def test_a_hair_of_padding_leaves_no_line() -> None:
    """Two pixels outside the photo: reflected, not faded to the median within two pixels."""
    photo = works.photo_of(300, 300)
    padded = stage.resample(photo, Window(-2, 0, 300), 300)
    assert padded.padding > 0
    assert np.array_equal(padded.pixels[:, 2:], photo[:, :298])
    assert np.array_equal(padded.pixels[:, :2], photo[:, 1::-1])


@pytest.mark.parametrize(
    "window",
    [
        Window(5000, 5000, 100),  # entirely outside
        Window(-900, -900, 2000),  # far larger than the photo: reflected several times
        Window(-30.5, -20.25, 60.5),
        Window(3, 3, 2.5),  # a few pixels
        Window(99.5, 0, 80),
    ],
)
def test_any_window_of_a_small_photo_gives_a_picture(window: Window) -> None:
    photo = works.photo_of(100, 70)
    found = stage.resample(photo, window, 64)
    assert found.pixels.shape == (64, 64, 3) and found.pixels.dtype == np.uint8
    assert 0 <= found.padding <= 1
    assert found.padding == pytest.approx(window.outside_share(100, 70))


def test_one_pixel_photo_and_absurd_windows() -> None:
    dot = np.full((1, 1, 3), 77, np.uint8)
    assert (stage.resample(dot, Window(-4, -4, 9), 32).pixels == 77).all()
    with pytest.raises(CropError, match="1e\\+06 pixels"):
        stage.resample(dot, Window(0, 0, 1e6), 32)
    with pytest.raises(CropError):
        stage.resample(dot, Window(0, 0, 0.0), 32)


def test_mirrored_photo_gives_the_mirrored_picture() -> None:
    photo = works.photo_of(640, 480)
    for window in (Window(120.3, 80.1, 333.3), Window(-77.7, 200.2, 402.4), Window(400, -50, 900)):
        other = Window(640 - window.x - window.side, window.y, window.side)
        one = stage.resample(photo, window, 200).pixels.astype(int)
        two = mirror_image(stage.resample(mirror_image(photo), other, 200).pixels).astype(int)
        assert np.abs(one - two).max() <= 2


def test_reduced_padding_looks_like_the_full_one() -> None:
    """The shortcut for large windows changes the padded picture by little, and the photo in it by nothing."""
    photo = works.photo_of(1600, 1200)
    window = Window(-400, 100, 1400.0)
    direct = stage.resample(photo, window, 512).pixels.astype(float)  # 2.7 photo pixels a pixel: reduced
    larger = stage.resample(photo, window, 1400).pixels  # one photo pixel a pixel: not reduced
    from PIL import Image

    full = np.asarray(Image.fromarray(larger).resize((512, 512), Image.Resampling.LANCZOS), float)
    assert np.abs(direct - full)[:330, 200:].max() <= 3
    assert np.abs(direct - full).mean() < 1.5


def test_a_large_photo_is_cut_in_a_fraction_of_a_second() -> None:
    photo = np.zeros((4000, 6000, 3), np.uint8)
    began = time.process_time()
    stage.resample(photo, Window(-500, 1500, 3500.0), 512)
    assert time.process_time() - began < 2.0


def test_reflect_folds_back_as_often_as_it_takes() -> None:
    assert stage.reflect(np.arange(-7, 8), 3).tolist() == [0, 0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]
