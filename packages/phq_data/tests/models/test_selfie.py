"""The segmenter: one person's mask, bystanders told apart, edges where the picture has them."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from phq_data.models import matting, person_assignment
from phq_data.models.movenet.detector import MoveNetDetector
from phq_data.models.protocols import Segmenter
from phq_data.models.selfie import SelfieConfig, SelfieSegmenter, _attached


@pytest.fixture(scope="module")
def astronaut() -> tuple[np.ndarray, np.ndarray]:
    """The astronaut's portrait [320, 320, 3] and her key points in it."""
    picture = skimage.data.astronaut()
    keypoints = MoveNetDetector().detect(picture)[0].keypoints.copy()
    keypoints[:, 0] -= 60
    return np.ascontiguousarray(picture[:320, 60:380]), keypoints


@pytest.fixture(scope="module")
def pair(astronaut: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two of her side by side on a plain ground, shoulders touching, and both sets of key points."""
    portrait, keypoints = astronaut
    alpha = SelfieSegmenter().segment(portrait, keypoints, [])[..., None] / 255
    picture = np.full((500, 500, 3), (120, 140, 120), np.float64)
    placed = []
    for x in (-15, 195):
        left, right = max(x, 0), min(x + 320, 500)
        part = slice(left - x, right - x)
        ground = picture[180:500, left:right]
        picture[180:500, left:right] = portrait[:, part] * alpha[:, part] + ground * (1 - alpha[:, part])
        shifted = keypoints.copy()
        shifted[:, :2] += (x, 180)
        placed.append(shifted)
    return picture.astype(np.uint8), placed[0], placed[1]


def face_of(alpha: np.ndarray, keypoints: np.ndarray) -> float:
    """Mean alpha on a person's face."""
    x, y = keypoints[:3, :2].mean(axis=0).astype(int)
    return float(alpha[y - 15 : y + 15, x - 15 : x + 15].mean())


def test_astronaut_is_cut_out(astronaut: tuple[np.ndarray, np.ndarray]) -> None:
    portrait, keypoints = astronaut
    segmenter = SelfieSegmenter()
    assert isinstance(segmenter, Segmenter)
    alpha = segmenter.segment(portrait, keypoints, [])
    assert alpha.shape == (320, 320) and alpha.dtype == np.uint8
    assert face_of(alpha, keypoints) == 255
    assert alpha[300, 100:250].min() > 240  # the suit
    assert alpha[40:120, 270:300].max() == 0  # background beside the head
    assert alpha[100:140, 20:60].max() < 20
    # Her hair ends at x = 91 and 241, marked by hand at the height of row 85.
    inside = np.flatnonzero(alpha[85] > 127)
    assert abs(inside[0] - 91) <= 3 and abs(inside[-1] - 241) <= 3


def test_mask_is_deterministic(astronaut: tuple[np.ndarray, np.ndarray]) -> None:
    portrait, keypoints = astronaut
    first, second = (SelfieSegmenter().segment(portrait, keypoints, []) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_bystander_is_left_out(pair: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    picture, left, right = pair
    for target, other in ((left, right), (right, left)):
        alpha = SelfieSegmenter().segment(picture, target, [other])
        assert face_of(alpha, target) > 250
        assert face_of(alpha, other) < 5


def test_everybody_keeps_both(pair: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    picture, left, right = pair
    alpha = SelfieSegmenter(SelfieConfig(include_bystanders=True)).segment(picture, left, [right])
    assert min(face_of(alpha, left), face_of(alpha, right)) > 250
    assert SelfieSegmenter(SelfieConfig(include_bystanders=True)).fingerprint != SelfieSegmenter().fingerprint


def test_far_bystander_changes_nothing(astronaut: tuple[np.ndarray, np.ndarray]) -> None:
    portrait, keypoints = astronaut
    alone = SelfieSegmenter().segment(portrait, keypoints, [])
    far = keypoints + np.array([2000.0, 0, 0])
    np.testing.assert_array_equal(SelfieSegmenter().segment(portrait, keypoints, [far]), alone)


def test_unseen_target_keeps_the_largest_part(astronaut: tuple[np.ndarray, np.ndarray]) -> None:
    portrait, keypoints = astronaut
    unseen = keypoints * np.array([1, 1, 0])
    assert face_of(SelfieSegmenter().segment(portrait, unseen, []), keypoints) > 250


def test_empty_picture_gives_no_mask() -> None:
    """Nothing to see, and key points that claim there is: the mask must not be made up."""
    grey = np.full((256, 256, 3), 128, np.uint8)
    keypoints = np.zeros((17, 3))
    assert SelfieSegmenter().segment(grey, keypoints, []).mean() < 25


def test_wrong_crops_are_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 \[S, S, 3\]; this one is uint8 \(4, 5, 3\)"):
        SelfieSegmenter().segment(np.zeros((4, 5, 3), np.uint8), np.zeros((17, 3)), [])


def test_loose_blobs_go_and_the_body_stays() -> None:
    mask = np.zeros((256, 256), np.float32)
    mask[100:250, 80:180] = 1
    mask[10:80, 200:250] = 1
    body = np.zeros((256, 256), bool)
    body[120:140, 110:130] = True
    kept = _attached(mask, body, 0.35)
    np.testing.assert_array_equal(kept[100:250, 80:180], 1)
    assert kept[10:80, 200:250].max() == 0


# -- edges -------------------------------------------------------------------------------------


def test_edges_move_to_the_picture() -> None:
    """A mask whose edge is 6 picture pixels off finds the picture's edge."""
    picture = np.full((512, 512, 3), 60, np.uint8)
    picture[:, 300:] = (60, 180, 60)
    columns = np.arange(256)
    coarse = np.tile(np.clip((columns - 153 + 4) / 8, 0, 1), (256, 1)).astype(np.float32)
    assert abs(np.argmax(matting.resize_plane(coarse, 512)[256] > 0.5) - 306) <= 1
    refined = matting.refine(coarse, picture, radius=5, smoothness=2e-4)
    assert abs(np.argmax(refined[256] > 0.5) - 300) <= 1
    assert refined[256, 295] < 0.05 and refined[256, 305] > 0.7


def test_flat_masks_stay_as_they_are() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    for value in (0.0, 0.5, 1.0):
        mask = np.full((128, 128), value, np.float32)
        np.testing.assert_allclose(matting.refine(mask, picture, 5, 1e-3), value, atol=1e-5)


def test_linear_model_matches_least_squares() -> None:
    """One window, solved by ridge regression in float64."""
    random = np.random.default_rng(1)
    guide, mask = random.random((21, 21, 3)), random.random((21, 21))
    radius, smoothness = 2, 1e-2
    slopes, offsets = [], []
    for row in range(8, 13):
        for column in range(8, 13):
            window = (slice(row - radius, row + radius + 1), slice(column - radius, column + radius + 1))
            colors, values = guide[window].reshape(-1, 3), mask[window].reshape(-1)
            centred = colors - colors.mean(axis=0)
            normal = centred.T @ centred / len(values) + smoothness * np.eye(3)
            slope = np.linalg.solve(normal, centred.T @ (values - values.mean()) / len(values))
            slopes.append(slope)
            offsets.append(values.mean() - slope @ colors.mean(axis=0))
    model = matting._Guide.of(np.moveaxis(guide, 2, 0).astype(np.float32), radius, smoothness)
    slope, offset = model.fit(mask.astype(np.float32))
    np.testing.assert_allclose(slope[:, 10, 10], np.mean(slopes, axis=0), atol=1e-3)
    np.testing.assert_allclose(offset[10, 10], np.mean(offsets), atol=1e-3)


# -- ownership ---------------------------------------------------------------------------------


def standing_at(x: float) -> np.ndarray:
    """Key points of somebody with the head at x, 100 and shoulders 90 pixels broad."""
    keypoints = np.zeros((17, 3))
    places = [(0, 5), (-8, 0), (8, 0), (-18, 4), (18, 4), (-45, 60), (45, 60)]
    keypoints[:7, :2] = np.array(places) + np.array([x, 100])
    keypoints[:7, 2] = 0.9
    return keypoints


def test_two_people_share_the_ground_between_them() -> None:
    person = np.ones((256, 256), np.float32)
    plain = np.full((256, 256, 3), 128, np.uint8)
    share = person_assignment.share_of(standing_at(70), [standing_at(190)], person, plain)
    assert share[:, :60].min() > 0.95 and share[:, 200:].max() < 0.05
    np.testing.assert_allclose(share[100, 128:132].mean(), 0.5, atol=0.15)


def test_claims_stop_at_edges() -> None:
    """Off the middle, an edge of the picture decides, not the distance."""
    person = np.ones((256, 256), np.float32)
    picture = np.full((256, 256, 3), 60, np.uint8)
    picture[:, 150:] = 200
    share = person_assignment.share_of(standing_at(70), [standing_at(190)], person, picture)
    assert share[40, 143] > 0.8 and share[40, 158] < 0.2


def test_nobody_else_means_all_of_it() -> None:
    share = person_assignment.share_of(
        standing_at(70), [], np.ones((64, 64), np.float32), np.zeros((256, 256, 3), np.uint8)
    )
    np.testing.assert_array_equal(share, 1)
