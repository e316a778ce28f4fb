import dataclasses

import numpy as np
import pytest

from phq_data import camera
from phq_data.bodies import JOINT_NAMES
from phq_data.bodies.anny import load_body
from phq_data.models.protocols import COCO_KEYPOINTS, BodyFit, BodyFitter, FitRequest
from phq_data.models.smplify import SmplifyConfig, SmplifyFitter
from phq_data.rig import rotation_matrix

SIZE = (1200, 1600)
IDEAL = SmplifyConfig(
    nose_offset=(0.0, 0.0, 0.0),
    shoulder_offset=(0.0, 0.0, 0.0),
    shoulder_slide=(0.0, 0.35, 0.4),
    hip_offset=(0.0, 0.0, 0.0),
    orientation_prior_weight=0.0,
)
"""For keypoints that lie on the body's landmarks with scores that say nothing, as no detector's do."""


@dataclasses.dataclass(frozen=True)
class Crowd:
    """Synthetic people: the body seen by unknown cameras, keypoints with noise."""

    requests: list[FitRequest]
    root: np.ndarray  # [N, 3, 3]
    translation: np.ndarray  # [N, 3]
    yaw: np.ndarray  # [N] of the camera, radians
    pitch: np.ndarray  # [N]


def camera_angles(root: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    towards = -np.einsum("nji,nj->ni", root, translation)
    return np.arctan2(towards[:, 0], towards[:, 2]), np.arctan2(
        towards[:, 1], np.hypot(towards[:, 0], towards[:, 2])
    )


def crowd(count: int, seed: int, noise: float = 0.006) -> Crowd:
    """`noise` in metres on the body at the nose; shapes beyond the fit's directions; focal unknown."""
    body, rng = load_body(), np.random.default_rng(seed)
    yaw = rng.uniform(-np.pi, np.pi, count)
    pitch, roll = np.radians(rng.uniform(-40, 40, count)), np.radians(rng.uniform(-15, 15, count))
    root = np.swapaxes(camera.from_angles(yaw, pitch, roll)[:, :3, :3], -1, -2)
    turn = np.radians(np.clip(rng.normal(0, [12, 25, 8], (count, 3)), [-40, -65, -30], [40, 65, 30]))
    share = rng.normal(0.5, 0.1, (count, 3))
    pose = np.concatenate([turn * share, turn * (1 - share)], axis=1)
    focal = rng.uniform(0.8, 2.0, count) * max(SIZE)
    depth = focal * 0.25 / rng.uniform(80, 400, count)
    centre = rng.uniform(-0.25, 0.25, (count, 2)) * SIZE
    translation = np.concatenate([centre / focal[:, None], np.ones((count, 1))], axis=1) * depth[:, None]
    points = body.posed_landmarks(
        rng.normal(0, 0.7, (count, body.shape_size)), body.relaxed + body.pose(pose)
    )
    points = points[:, [body.landmark(name) for name in COCO_KEYPOINTS]]
    points = points @ np.swapaxes(root, -1, -2) + translation[:, None]
    pixels = focal[:, None, None] * points[..., :2] / points[..., 2:] + np.array(SIZE) / 2
    spread = noise * np.array([1, 1, 1, 1.5, 1.5, 2.5, 2.5, 3, 3, 3, 3, 5, 5, 5, 5, 5, 5])
    pixels += rng.normal(size=pixels.shape) * (spread * (focal / depth)[:, None])[..., None]
    requests = [
        FitRequest(np.c_[p, np.full(17, 0.8)], np.array([*p.min(0), *p.max(0)]), SIZE) for p in pixels
    ]
    return Crowd(requests, root, translation, *camera_angles(root, translation))


def errors(fits: list[BodyFit], people: Crowd) -> tuple[np.ndarray, np.ndarray]:
    """Yaw and pitch errors in degrees."""
    root = rotation_matrix(np.stack([f.root_orient for f in fits]))
    yaw, pitch = camera_angles(root, np.stack([f.translation for f in fits]))
    turn = (yaw - people.yaw + np.pi) % (2 * np.pi) - np.pi
    return np.degrees(np.abs(turn)), np.degrees(np.abs(pitch - people.pitch))


@pytest.fixture(scope="module")
def fitter() -> SmplifyFitter:
    return SmplifyFitter(IDEAL)


def test_people_seen_from_all_around_are_recovered(fitter: SmplifyFitter):
    people = crowd(200, seed=1)
    fits = fitter.fit(people.requests)
    yaw, pitch = errors(fits, people)
    assert np.median(yaw) < 5.0 and np.percentile(yaw, 95) < 22.0
    assert np.median(pitch) < 5.0
    assert (yaw > 90).mean() <= 0.01  # front-back confusions
    rear = np.cos(people.yaw) < -0.5
    assert np.median(yaw[rear]) < 8.0
    assert np.mean([f.converged for f in fits]) > 0.97


def test_clean_keypoints_of_the_neutral_body_leave_almost_no_residual(fitter: SmplifyFitter):
    body = load_body()
    root = np.swapaxes(camera.from_angles([0.0, 0.7, 3.0], [0.1, -0.2, 0.0])[:, :3, :3], -1, -2)
    points = body.posed_landmarks(np.zeros((3, 1)), np.broadcast_to(body.relaxed, (3, 16, 3)))
    points = points[:, [body.landmark(n) for n in COCO_KEYPOINTS]] @ np.swapaxes(root, -1, -2) + [0, 0, 4.0]
    focal = fitter.config.focal_long_sides * max(SIZE)
    pixels = focal * points[..., :2] / points[..., 2:] + np.array(SIZE) / 2
    fits = fitter.fit([FitRequest(np.c_[p, np.ones(17)], np.zeros(4), SIZE) for p in pixels])
    for fit, truth in zip(fits, root, strict=True):
        assert fit.residual < 0.02
        off = rotation_matrix(fit.root_orient).T @ truth
        assert np.degrees(np.arccos((np.trace(off) - 1) / 2)) < 4.0
        assert abs(fit.translation[2] / 4.0 - 1) < 0.05


def test_fit_is_deterministic_and_independent_of_the_batch(fitter: SmplifyFitter):
    people = crowd(12, seed=2).requests
    together, again = fitter.fit(people), SmplifyFitter(IDEAL).fit(people)
    alone = [fitter.fit([person])[0] for person in people]
    for first, second, single in zip(together, again, alone, strict=True):
        np.testing.assert_array_equal(first.joints, second.joints)
        np.testing.assert_allclose(first.joints, single.joints, atol=1e-4)
        np.testing.assert_allclose(first.hypotheses, single.hypotheses, atol=1e-2)


def test_record_is_consistent(fitter: SmplifyFitter):
    fit = fitter.fit(crowd(1, seed=5).requests)[0]
    np.testing.assert_allclose(fit.joints[JOINT_NAMES.index("neck")], fit.translation, atol=1e-9)
    assert fit.joints.shape == (len(JOINT_NAMES), 3) and fit.neck_head_pose.shape == (6,)
    assert fit.hypotheses.shape == (2 * fitter.config.initializations, 2)
    assert (np.diff(fit.hypotheses[:, 1]) >= 0).all()
    yaw = camera_angles(rotation_matrix(fit.root_orient)[None], fit.translation[None])[0][0]
    assert abs(fit.hypotheses[0, 0] - yaw) < 1e-9
    body = load_body()
    pose = body.relaxed + body.pose(fit.neck_head_pose)
    again = body.posed_landmarks(fit.shape, pose, fit.root_orient, fit.translation)
    for name in ("nose", "left_ear", "right_shoulder", "head_top"):
        np.testing.assert_allclose(again[body.landmark(name)], fit.joints[JOINT_NAMES.index(name)], atol=1e-9)


def test_a_hidden_ear_and_guessed_hips_do_not_matter_much(fitter: SmplifyFitter):
    people = crowd(60, seed=7)
    changed = []
    for request in people.requests:
        keypoints = request.keypoints.copy()
        keypoints[[4, 11, 12], 2] = 0.0
        keypoints[[4, 11, 12], :2] = 9999.0
        changed.append(dataclasses.replace(request, keypoints=keypoints))
    yaw, _ = errors(fitter.fit(changed), people)
    assert np.median(yaw) < 8.0 and (yaw > 90).mean() <= 0.05


def test_one_keypoint_far_off_is_shrugged_off(fitter: SmplifyFitter):
    people = crowd(60, seed=8)
    changed = []
    for request in people.requests:
        keypoints = request.keypoints.copy()
        keypoints[1, :2] += 400.0
        changed.append(dataclasses.replace(request, keypoints=keypoints))
    yaw, _ = errors(fitter.fit(changed), people)
    assert np.median(yaw) < 9.0


def test_shoulders_taken_for_each_other_are_put_right(fitter: SmplifyFitter):
    people = crowd(80, seed=11)
    rear = [i for i in range(80) if np.cos(people.yaw[i]) < -0.3]
    changed = []
    for index in rear:
        keypoints = people.requests[index].keypoints.copy()
        keypoints[[5, 6, 11, 12]] = keypoints[[6, 5, 12, 11]]
        changed.append(dataclasses.replace(people.requests[index], keypoints=keypoints))
    some = Crowd(changed, *(a[rear] for a in (people.root, people.translation, people.yaw, people.pitch)))
    yaw, _ = errors(fitter.fit(changed), some)
    never = SmplifyFitter(dataclasses.replace(IDEAL, exchange_cost=1e6))
    without, _ = errors(never.fit(changed), some)
    assert (yaw > 60).mean() < 0.2 < (without > 60).mean()


def test_only_a_head_still_gives_a_finite_body(fitter: SmplifyFitter):
    people = crowd(40, seed=9)
    changed = []
    for request in people.requests:
        keypoints = request.keypoints.copy()
        keypoints[5:, 2] = 0.0
        changed.append(dataclasses.replace(request, keypoints=keypoints))
    fits = fitter.fit(changed)
    yaw, _ = errors(fits, people)
    assert np.isfinite([f.residual for f in fits]).all()
    assert np.isnan(fits[0].residuals[5:]).all()
    assert np.median(yaw) < 35.0  # the torso is guessed from the head


def test_nobody_to_see_is_said_and_never_raises(fitter: SmplifyFitter):
    nothing = FitRequest(np.zeros((17, 3)), np.zeros(4), SIZE)
    lost = FitRequest(np.full((17, 3), np.nan), np.zeros(4), SIZE)
    point = FitRequest(np.tile([300.0, 300.0, 0.9], (17, 1)), np.zeros(4), SIZE)
    fits = fitter.fit([nothing, lost, point])
    for fit in fits[:2]:
        assert not fit.converged and fit.residual >= 1.0 and np.isnan(fit.residuals).all()
    for fit in fits:
        assert np.isfinite(fit.joints).all() and np.isfinite(fit.hypotheses).all()
    assert fitter.fit([]) == []


def test_fingerprint_follows_the_settings_and_the_protocol_is_met(fitter: SmplifyFitter):
    assert isinstance(fitter, BodyFitter) and fitter.body == "anny" and not fitter.needs_image
    assert SmplifyFitter(IDEAL).fingerprint == fitter.fingerprint
    assert SmplifyFitter(SmplifyConfig(initializations=4)).fingerprint != fitter.fingerprint


def test_without_shape_directions_everybody_has_the_mean_shape():
    people = crowd(20, seed=8)
    fits = SmplifyFitter(dataclasses.replace(IDEAL, shape_directions=0)).fit(people.requests)
    assert all(fit.shape.shape == (0,) and np.isfinite(fit.joints).all() for fit in fits)
    assert np.median(errors(fits, people)[0]) < 15
