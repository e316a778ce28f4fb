import numpy as np
import pytest

from phq_data import camera
from phq_data.bodies.anny import load_body
from phq_data.models.orientation import keypoint_prior
from phq_data.models.protocols import COCO_KEYPOINTS, FitRequest
from phq_data.models.smplify import SmplifyConfig, SmplifyFitter
from phq_data.rig import rotation_matrix


@pytest.fixture(scope="module")
def prior() -> keypoint_prior.KeypointOrientationPrior:
    return keypoint_prior.load_keypoint_prior()


def people(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(keypoints [N, 17, 3] of the neutral body, directions [N, 3]); hidden points score low."""
    body, rng = load_body(), np.random.default_rng(4)
    yaw, pitch = rng.uniform(-np.pi, np.pi, count), rng.uniform(-0.3, 0.3, count)
    cam2world = camera.from_angles(yaw, pitch)
    points = body.posed_landmarks(np.zeros((count, 1)), np.broadcast_to(body.relaxed, (count, 16, 3)))
    points = points[:, [body.landmark(name) for name in COCO_KEYPOINTS]]
    image, _ = camera.project(points, cam2world)
    direction = cam2world[:, :3, 3] / camera.RADIUS
    face = np.where(direction[:, 2] > 0, 0.7, 0.3)
    score = np.full((count, 17), 0.7)
    score[:, :3] = face[:, None]
    score[:, 3] = np.where(direction[:, 0] > -0.5, 0.6, 0.2)
    score[:, 4] = np.where(direction[:, 0] < 0.5, 0.6, 0.2)
    return np.concatenate([image * 1000, score[..., None]], axis=-1), direction


def test_guess_knows_front_from_back_and_left_from_right(prior: keypoint_prior.KeypointOrientationPrior):
    keypoints, direction = people(200)
    guess, deviation = prior.predict(keypoints)
    yaw, true = (np.arctan2(v[:, 0], v[:, 2]) for v in (guess[:, 0], direction))
    off = np.degrees(np.abs((yaw - true + np.pi) % (2 * np.pi) - np.pi))
    assert np.median(off) < 15 and (off > 90).mean() < 0.03
    assert (deviation > 0).all() and np.median(deviation) < 0.4


def test_guess_of_a_mirrored_person_is_the_mirrored_guess(prior: keypoint_prior.KeypointOrientationPrior):
    keypoints, _ = people()
    mirrored = keypoints.copy()
    mirrored[:, : keypoint_prior.USED] = keypoints[:, keypoint_prior.MIRROR]
    mirrored[..., 0] = 1500 - mirrored[..., 0]
    guess, deviation = prior.predict(keypoints)
    other, spread = prior.predict(mirrored)
    np.testing.assert_allclose(other, guess * (-1, 1, 1), atol=1e-9)
    np.testing.assert_allclose(spread, deviation, atol=1e-9)


def test_guess_does_not_depend_on_place_and_size_in_the_photo(prior: keypoint_prior.KeypointOrientationPrior):
    keypoints, _ = people()
    moved = keypoints * (3.5, 3.5, 1.0) + (400.0, -80.0, 0.0)
    np.testing.assert_allclose(prior.predict(moved)[0], prior.predict(keypoints)[0], atol=1e-6)


def test_the_fit_follows_the_guess_where_keypoints_leave_the_view_open():
    keypoints, _ = people(60)
    keypoints[:, 5:, 2] = 0.0  # of the torso nothing is seen: only the guess can know more than the head
    keypoints[:, :, :2] += 200.0
    people_seen = [FitRequest(k, np.zeros(4), (1400, 1400)) for k in keypoints]
    guess = keypoint_prior.load_keypoint_prior().predict(keypoints)[0][:, 0]
    off = {}
    for trust in (0.0, 4.0):
        fits = SmplifyFitter(SmplifyConfig(orientation_prior_weight=trust)).fit(people_seen)
        towards = np.stack([-rotation_matrix(f.root_orient).T @ f.translation for f in fits])
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        off[trust] = np.median(np.linalg.norm(towards - guess, axis=1))
    assert off[4.0] < 0.5 * off[0.0]


def test_nothing_seen_gives_a_finite_and_doubtful_guess(prior: keypoint_prior.KeypointOrientationPrior):
    guess, deviation = prior.predict(np.zeros((1, 17, 3)))
    assert np.isfinite(guess).all() and np.isfinite(deviation).all()
