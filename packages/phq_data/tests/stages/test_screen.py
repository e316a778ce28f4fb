from __future__ import annotations

import dataclasses
import json
from typing import Any

import align_crop_bench
import bodyworks as works
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from phq_data import records
from phq_data.config import ScreenConfig
from phq_data.images.codecs import decode_struct, encode_image
from phq_data.records import EncodedImage, Fit, Person, Portrait, Screened
from phq_data.stages import quality as stage
from phq_data.stages.crop import LabelledCrop, Window
from phq_data.stages.screen import Scores, judge, screen

EVERYWHERE = np.ones((256, 256), bool)


def texture(size: int = 256, seed: int = 0) -> np.ndarray:
    """A sharp picture with structure at every scale, like photos have."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size))
    for octave in range(1, 8):
        coarse = rng.normal(size=(2**octave, 2**octave))
        total += np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.NEAREST)) / octave
    grey = np.clip(128 + 40 * total / total.std(), 0, 255)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def encoded(pixels: np.ndarray) -> EncodedImage:
    return EncodedImage(encode_image(pixels, "png")[0], "a.png")


def decoded(image: EncodedImage | None) -> np.ndarray:
    assert image is not None
    return decode_struct(dataclasses.asdict(image))


def luminance(picture: np.ndarray) -> np.ndarray:
    return picture.astype(float) @ [0.299, 0.587, 0.114]


def test_sharpness_falls_with_blur_and_ignores_contrast() -> None:
    grey = luminance(texture())
    values = [
        stage.sharpness(gaussian_filter(grey, s) if s else grey, EVERYWHERE, 1.0) for s in (0, 1, 2, 4, 8)
    ]
    assert (np.diff(values[:4]) < -0.1).all() and values[4] <= values[3]
    half = stage.sharpness(128 + (grey - 128) * 0.5, EVERYWHERE, 1.0)
    assert half == pytest.approx(values[0], abs=0.05)


def test_sharpness_sees_motion_along_one_axis() -> None:
    from scipy.ndimage import uniform_filter1d

    grey = luminance(texture())
    still = stage.sharpness(grey, EVERYWHERE, 1.0)
    for axis in (0, 1):
        assert stage.sharpness(uniform_filter1d(grey, 15, axis=axis), EVERYWHERE, 1.0) < 0.7 * still


def test_enlarging_is_not_blur_but_blur_stays_blur() -> None:
    small = texture(128)
    soft = np.stack([gaussian_filter(small[..., c].astype(float), 2.5) for c in range(3)], -1)
    grow = lambda p: np.asarray(  # noqa: E731
        Image.fromarray(p.astype(np.uint8)).resize((512, 512), Image.Resampling.LANCZOS)
    )
    whole = np.ones((512, 512), bool)
    native = stage.sharpness(luminance(small), np.ones((128, 128), bool), 1.0)
    grown = stage.sharpness(luminance(grow(small)), whole, 0.25)
    assert grown == pytest.approx(native, abs=0.12)
    assert stage.sharpness(luminance(grow(soft)), whole, 0.25) < grown - 0.15
    assert stage.sharpness(luminance(grow(small)), whole, 1.0) < grown - 0.15  # what it would be without


def test_the_references_blur_score_is_the_variance_of_the_laplacian() -> None:
    cv2_like = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], float)
    grey = texture(96)[..., 0].astype(float)
    wanted = convolve(grey, cv2_like, mode="mirror").var()
    assert stage.laplacian_variance(texture(96), 96) == pytest.approx(wanted)
    flat = np.full((96, 96, 3), 90, np.uint8)
    assert stage.laplacian_variance(flat, 96) == 0.0
    assert stage.laplacian_variance(texture(96), 768) < wanted  # enlarged is smoother


def test_a_flat_portrait_fails_the_references_blur_filter_only_when_asked() -> None:
    portrait = align_crop_bench.Bench().run().records[0]
    flat = np.full((128, 128, 3), 90, np.uint8)
    portrait = dataclasses.replace(portrait, image=encoded(flat))
    lenient: dict[str, Any] = {
        "min_blur": 0.0,
        "min_contrast": 0.0,
        "max_head_outside": 1.0,
        "max_overlap": 1.0,
    }
    people = align_crop_bench.Bench().people
    for least, wanted in ((4.0, ("blurry",)), (0.0, ())):
        config = ScreenConfig(**lenient, min_mask_share=0.0, max_error_probability=1.0, min_laplacian=least)
        result = screen([portrait], people, config, align_crop_bench.RIG)
        assert result.records[0].reasons == wanted
        if least:
            assert json.loads(result.outcomes[0].entry("screen").evidence)["laplacian"] == 0.0
            assert "variance of the Laplacian 0.0" in result.outcomes[0].message


def test_only_the_person_inside_the_photo_counts() -> None:
    picture = texture()
    picture[:, 128:] = 0
    mask = np.zeros((256, 256), np.uint8)
    mask[:, :128] = 255
    found = stage.pixel_scores(picture, mask, EVERYWHERE, 1.0)
    assert found.exposure_low < 0.05 and found.mask_share == pytest.approx(0.5)
    mask[:] = 255
    inside = EVERYWHERE.copy()
    inside[:, 128:] = False
    assert stage.pixel_scores(picture, mask, inside, 1.0).exposure_low < 0.05
    assert stage.pixel_scores(picture, mask, EVERYWHERE, 1.0).exposure_low >= 0.5
    white = np.full_like(picture, 255)
    assert stage.pixel_scores(white, mask, EVERYWHERE, 1.0).exposure_high == 1.0
    assert stage.pixel_scores(white, mask, EVERYWHERE, 1.0).contrast == 0.0
    nobody = stage.pixel_scores(picture, np.zeros_like(mask), EVERYWHERE, 1.0)
    assert (nobody.blur, nobody.contrast, nobody.mask_share) == (0, 0, 0)


def shifted(points: np.ndarray, x: float, scale: float = 1.0) -> np.ndarray:
    moved = points.copy()
    centre = points[:7, :2].mean(axis=0)
    moved[:, :2] = (points[:, :2] - centre) * scale + centre + [x, 0]
    return moved


def test_intrusion_grows_as_the_other_comes_near() -> None:
    fit = works.fit_record(works.facing(), np.array([0.0, 0.0, 3.0]))
    own = works.keypoints_of(fit)
    side = 900 / 3.0 * 0.4147
    window = Window(320 - side / 2, 240 - side * 0.7, side)
    far, near, front = shifted(own, 300), shifted(own, 70), shifted(own, 20, 1.5)
    values = [stage.intrusion(window, own, [points]) for points in (far, near, front)]
    assert values[0] == 0.0 and 0.0 < values[1] < values[2] < 1.001
    assert stage.intrusion(window, own, [far, front, near]) == values[2]
    small = shifted(own, 30, 0.2)
    assert 0 < stage.intrusion(window, own, [small]) < 0.05
    beside = own.copy()
    beside[:, :2] += [40, 0]  # a head as large, wholly in the picture
    assert 0.2 < stage.intrusion(window, own, [beside]) < 0.4
    again = own.copy()
    again[:, :2] += 1.0
    assert stage.intrusion(window, own, [again]) == 0.0  # the same person, detected twice
    unseen = front.copy()
    unseen[:, 2] = 0.05
    assert stage.intrusion(window, own, [unseen]) == 0.0


def test_coverage_asks_whether_the_rig_lies_on_the_person() -> None:
    from phq_data import camera

    rig = works.make_rig()
    crop = LabelledCrop(camera.from_angles(0.0, 0.0), np.zeros(6), Window(0.0, 0.0, 64.0), 64)
    everywhere = np.ones((64, 64), bool)
    mask = np.full((64, 64), 255, np.uint8)
    found = stage.rig_evidence(rig, crop, mask, everywhere)
    assert (found.coverage, found.head_outside) == (1.0, 0.0)
    mask[:36] = 0  # no person where the head is
    found = stage.rig_evidence(rig, crop, mask, everywhere)
    assert (found.coverage, found.head_outside) == (0.0, 0.0)
    below = everywhere.copy()
    below[:36] = False  # the head lies in the padding: nothing to be said about it
    found = stage.rig_evidence(rig, crop, mask, below)
    assert (found.coverage, found.head_outside) == (1.0, 1.0)
    assert stage.rig_evidence(rig, crop, mask, ~everywhere).coverage == 1.0


def portraits() -> tuple[list[Portrait], list[Person], list[Fit]]:
    bench = align_crop_bench.Bench()
    return bench.run().records, bench.people, bench.fits


def test_every_portrait_gets_a_row_and_rejects_an_overlay() -> None:
    rows, people, fits = portraits()
    lenient = ScreenConfig(
        min_effective_resolution=0,
        min_blur=0,
        max_padding=1,
        max_exposure=1,
        min_contrast=0,
        min_mask_share=0,
        max_overlap=1,
        max_error_probability=1,
        max_head_outside=1,
    )
    ticks: list[int] = []
    kept = screen(rows, people, lenient, works.make_rig(), tick=lambda: ticks.append(1), fits=fits)
    records.to_table(Screened, kept.records)
    assert [row.kept for row in kept.records] == [True] * 3 and len(ticks) == 3
    assert all(row.overlay is None and row.reasons == () for row in kept.records)
    strict = ScreenConfig(
        min_effective_resolution=1e6,
        max_error_probability=-1,
        max_padding=1,
        min_blur=0,
        max_exposure=1,
        min_contrast=0,
        min_mask_share=0,
        max_overlap=1,
        max_head_outside=1,
    )
    found = screen(rows, people, strict, works.make_rig(), fits=fits)
    records.to_table(Screened, found.records)
    assert [row.reasons for row in found.records] == [("too_small", "uncertain")] * 3
    outcome = found.outcomes[0]
    assert (outcome.outcome, outcome.reason) == ("rejected", "too_small")
    assert "photo pixels" in outcome.message and outcome.evidence["error_probability"] >= 0
    drawn = decoded(found.records[0].overlay).astype(int)
    assert np.abs(drawn - decoded(rows[0].image)).mean() > 3  # the rig is on it


def test_damaged_picture_is_a_failure_not_a_crash() -> None:
    rows, people, _ = portraits()
    rows[1] = dataclasses.replace(rows[1], image=EncodedImage(b"not a picture", "x.png"))
    result = screen(rows, people, ScreenConfig(), works.make_rig())
    assert [o.outcome == "failed" for o in result.outcomes] == [False, True, False]
    assert len(result.records) == 2


def test_padding_is_not_judged() -> None:
    """A picture that is half padding: the padded half is black, the person is not too dark."""
    rows, people, _ = portraits()
    picture = texture(128)
    picture[:, :64] = 0
    row = dataclasses.replace(
        rows[0],
        window=np.array([-128.0, 100.0, 256.0]),
        image=encoded(picture),
        mask=encoded(np.full((128, 128), 255, np.uint8)),
    )
    found = screen([row], people, ScreenConfig(), works.make_rig()).records[0]
    assert found.exposure_low < 0.05


GOOD = Scores(
    blur=1.0,
    exposure_low=0.0,
    exposure_high=0.0,
    contrast=1.0,
    effective_resolution=2.0,
    padding=0.0,
    landmark_error=0.0,
    shoulder_error=0.0,
    mask_share=0.5,
    overlap=0.0,
    error_probability=0.0,
    expected_yaw_error=1.0,
    coverage=1.0,
    head_outside=0.0,
)


@pytest.mark.parametrize(
    ("score", "value", "reason"),
    [
        ("effective_resolution", 0.01, "too_small"),
        ("shoulder_error", 0.9, "off_shoulders"),
        ("landmark_error", 0.9, "off_keypoints"),
        ("overlap", 0.99, "crowded"),
        ("padding", 0.99, "too_much_padding"),
        ("head_outside", 0.9, "head_cut"),
        ("mask_share", 0.0, "mask_too_small"),
        ("blur", 0.0, "blurry"),
        ("exposure_low", 1.0, "too_dark"),
        ("exposure_high", 1.0, "too_bright"),
        ("contrast", 0.0, "low_contrast"),
        ("error_probability", 1.0, "uncertain"),
    ],
)
def test_each_score_has_its_reason(score: str, value: float, reason: str) -> None:
    assert judge(GOOD, ScreenConfig()) == []
    assert judge(dataclasses.replace(GOOD, **{score: value}), ScreenConfig()) == [reason]
