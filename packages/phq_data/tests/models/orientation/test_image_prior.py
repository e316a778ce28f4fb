"""The guess of the view from pictures."""

import numpy as np
import pytest
import skimage.data
from PIL import Image

from phq_data.models import onnx
from phq_data.models.movenet.crops import CROP, crop_square
from phq_data.models.movenet.detector import MoveNetDetector
from phq_data.models.orientation import image_prior, keypoint_prior
from phq_data.models.protocols import FitRequest, PreparingFitter
from phq_data.models.smplify import SmplifyConfig, SmplifyFitter


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def keypoints(astronaut: np.ndarray) -> np.ndarray:
    (person,) = MoveNetDetector().detect(astronaut)
    return person.keypoints


@pytest.fixture(scope="module")
def fitter() -> SmplifyFitter:
    return SmplifyFitter()


def mirrored_points(keypoints: np.ndarray, width: int) -> np.ndarray:
    other = keypoints.copy()
    other[:, : keypoint_prior.USED] = keypoint_prior.mirror(keypoints)
    other[..., 0] = width - np.abs(other[..., 0])
    return other


def test_guess_of_mirrored_maps_is_the_mirrored_guess() -> None:
    rng = np.random.default_rng(3)
    prior = image_prior.load_image_prior()
    points = rng.uniform(100, 400, (5, 17, 3))
    points[..., 2] = rng.uniform(0.2, 0.9, (5, 17))
    maps = rng.normal(size=(5, 2, prior.squeeze.shape[1], 8, 8)).astype(np.float32)
    guess, deviation = prior.predict(points, maps)
    other, spread = prior.predict(mirrored_points(points, 500), maps[:, ::-1])
    np.testing.assert_allclose(other, guess * (-1, 1, 1), atol=1e-5)
    np.testing.assert_allclose(spread, deviation, atol=1e-5)
    assert (deviation > 0).all() and np.isfinite(guess).all()


def test_a_frontal_portrait_is_seen_from_the_front(astronaut: np.ndarray, keypoints: np.ndarray) -> None:
    maps = image_prior.image_features(astronaut, [keypoints])
    guess, deviation = image_prior.load_image_prior().predict(keypoints[None], maps)
    assert maps.shape[:2] == (1, 2) and maps.shape[3:] == (8, 8)
    for which in (0, 1):
        assert abs(np.degrees(np.arctan2(guess[0, which, 0], guess[0, which, 2]))) < 30
        assert guess[0, which, 2] > 0.7
    assert (deviation < 0.5).all()


def test_the_maps_of_the_mirrored_picture_are_the_same_the_other_way_round(
    astronaut: np.ndarray, keypoints: np.ndarray
) -> None:
    # A square that lies on whole pixels is cut from the mirrored picture exactly.
    x, y, side = (round(v) for v in image_prior.square_around(keypoints))
    flipped = np.ascontiguousarray(astronaut[:, ::-1])
    here, there = crop_square(astronaut, x, y, side), crop_square(flipped, 512 - x - side, y, side)
    np.testing.assert_allclose(here.astype(int), there[:, ::-1].astype(int), atol=1)
    assert here.shape == (CROP, CROP, 3)


def test_what_lies_outside_the_photo_is_black(astronaut: np.ndarray) -> None:
    cut = crop_square(astronaut, -100, 412, 200)
    assert (cut[:, :100] == 0).all() and (cut[140:] == 0).all()
    assert cut[:100, 150:].mean() > 5


def test_the_square_follows_the_person(keypoints: np.ndarray) -> None:
    x, y, side = image_prior.square_around(keypoints)
    twice = image_prior.square_around(keypoints * (2, 2, 1) + (30, 10, 0))
    np.testing.assert_allclose(twice, (2 * x + 30, 2 * y + 10, 2 * side), rtol=1e-9)
    nose = keypoints[0, :2]
    assert x < nose[0] < x + side and y < nose[1] < y + side / 2


def test_fitter_looks_at_pictures_where_there_are_any(
    fitter: SmplifyFitter, astronaut: np.ndarray, keypoints: np.ndarray
) -> None:
    assert isinstance(fitter, PreparingFitter) and fitter.needs_image
    request = FitRequest(keypoints, np.zeros(4), (512, 512))
    (bare,) = fitter.prepare([request])
    (seen,) = fitter.prepare([FitRequest(keypoints, np.zeros(4), (512, 512), astronaut)])
    assert seen.request.image is None  # pictures are let go
    expected, _ = keypoint_prior.load_keypoint_prior().predict(keypoints[None])
    np.testing.assert_allclose(bare.directions, expected[0])
    assert np.abs(seen.directions - bare.directions).max() > 1e-3
    (fit,) = fitter.fit_prepared([seen])
    assert fit.orientation_prior is not None and fit.orientation_prior.shape == (8,)
    np.testing.assert_allclose(fit.orientation_prior[:6], seen.directions.ravel())
    assert 0.005 < fit.yaw_std < 0.6


def test_what_is_seen_of_one_person_does_not_depend_on_the_others(
    astronaut: np.ndarray, keypoints: np.ndarray
) -> None:
    shifted = keypoints + np.array([20.0, 0.0, 0.0])
    both = image_prior.image_features(astronaut, [keypoints, shifted])
    np.testing.assert_array_equal(image_prior.image_features(astronaut, [shifted])[0], both[1])


def test_fingerprints_follow_what_is_looked_at(fitter: SmplifyFitter) -> None:
    names = {
        fitter.fingerprint,
        SmplifyFitter(SmplifyConfig(orientation_prior_image=False)).fingerprint,
        SmplifyFitter(SmplifyConfig(orientation_prior_weight=0.0)).fingerprint,
    }
    assert len(names) == 3
    assert not SmplifyFitter(SmplifyConfig(orientation_prior_weight=0.0)).needs_image


def test_the_network_tells_its_features() -> None:
    picture = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((CROP, CROP)))
    maps = onnx.run(image_prior.NETWORK, {"image": picture[None]})["features"]
    assert maps.shape == (1, image_prior.load_image_prior().squeeze.shape[1], 8, 8)
