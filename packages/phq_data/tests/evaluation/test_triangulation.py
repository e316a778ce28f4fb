"""Chests from several views: exact points, a detector's noise, exchanged sides, people among others."""

import numpy as np
import pytest

from phq_data.evaluation.triangulation import Rays, chest, frame_of, turn_between, yaw_std
from phq_data.evaluation.true_poses import TRUSTED, matched_people, true_poses
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.synthesis import figure, people
from phq_data.synthesis.multiview import _people, studio

SHOULDERS, HIPS = [5, 6], [11, 12]


def stand(seed):
    """COCO points [17, 3] in the world of a random person in the studio, and their chest frame there."""
    rng = np.random.default_rng(seed)
    place = _people(rng)[0]
    person = people.random_person(rng, 0.0)
    posed = figure.pose_person(people.parts_of(person)[:1], person.build, person.stance)
    model = figure.body()
    points = posed.landmarks[[model.landmark(name) for name in COCO_KEYPOINTS]]
    points = points @ place.rotation.T + place.translation
    frame = frame_of(points[5], points[6], points[HIPS].mean(axis=0))
    assert frame is not None
    return points, frame


def seen_by(cameras, points, noise=0.0, rng=None):
    """Keypoints [17, 3] in each camera; noise in metres at the person."""
    found = []
    for camera in cameras:
        pixels = camera.project(points)
        if noise:
            scale = camera.K[0][0] / camera.local(points)[:, 2:]
            pixels = pixels + rng.normal(0, noise, pixels.shape) * scale
        found.append(np.column_stack([pixels, np.full(17, 0.8)]))
    return found


def exchange(keypoints):
    """The same with the shoulders exchanged."""
    other = keypoints.copy()
    other[SHOULDERS] = keypoints[SHOULDERS[::-1]]
    return other


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exact_points_give_the_exact_chest(seed, count):
    cameras = studio(seed, count)
    assert all(camera.distortion for camera in cameras)
    points, frame = stand(seed)
    if count == 2:
        cameras = (cameras[0], studio(seed, 5)[1])  # two opposite ones see no depth
    found = chest(Rays.of(cameras, seen_by(cameras, points)))
    assert found is not None
    assert np.abs(found.rotation - frame).max() < 1e-6
    assert np.abs(found.neck - points[SHOULDERS].mean(axis=0)).max() < 1e-6
    assert not found.swapped.any() and found.residual < 1e-6


@pytest.mark.parametrize("view", range(4))
def test_shoulders_that_one_view_exchanges_do_not_turn_the_truth(view):
    cameras = studio(1, 4)
    for seed in range(6):
        points, frame = stand(seed)
        keypoints = seen_by(cameras, points)
        keypoints[view] = exchange(keypoints[view])
        found = chest(Rays.of(cameras, keypoints))
        assert found is not None and np.abs(found.rotation - frame).max() < 1e-6
        assert found.swapped.tolist() == [number == view for number in range(4)]


def test_where_views_are_divided_the_nose_decides():
    cameras = studio(1, 4)
    points, frame = stand(3)
    keypoints = seen_by(cameras, points)
    for view in (0, 2):
        keypoints[view] = exchange(keypoints[view])
    found = chest(Rays.of(cameras, keypoints))
    assert found is not None and np.abs(found.rotation - frame).max() < 1e-6
    assert found.swapped.tolist() == [True, False, True, False]


def test_one_view_that_sees_something_else_does_not_count():
    cameras = studio(2, 5)
    points, frame = stand(4)
    keypoints = seen_by(cameras, points)
    keypoints[1][SHOULDERS, :2] += 150
    found = chest(Rays.of(cameras, keypoints))
    assert found is not None and np.degrees(abs(turn_between(frame, found.rotation))) < 1.5


def test_a_detectors_noise_gives_the_error_that_the_truth_states():
    """20 mm at every point, one view in six with exchanged shoulders: the yaw and its standard error."""
    rng, off, stated = np.random.default_rng(0), [], []
    for seed in range(30):
        cameras = studio(seed, 5)
        points, frame = stand(seed)
        keypoints = seen_by(cameras, points, 0.02, rng)
        keypoints = [exchange(one) if rng.random() < 1 / 6 else one for one in keypoints]
        rays = Rays.of(cameras, keypoints)
        found = chest(rays)
        assert found is not None
        off.append(np.degrees(abs(turn_between(frame, found.rotation))))
        stated.append(np.degrees(yaw_std(rays, found)))
    errors, sigma = np.array(off), np.array(stated)
    trusted = sigma <= TRUSTED
    assert trusted.mean() > 0.7
    # Least squares with the true sides are off by 2.1 degrees at the median and 5.0 at the 90th percentile.
    assert np.median(errors[trusted]) < 2.5 and np.percentile(errors[trusted], 90) < 6
    assert 1 < np.median(sigma) < 5
    assert np.mean(errors < 2 * sigma) > 0.85


def test_fewer_than_two_views_give_no_chest_and_two_no_standard_error():
    cameras = studio(0, 3)
    points, _ = stand(0)
    keypoints = seen_by(cameras, points)
    assert chest(Rays.of(cameras[:1], keypoints[:1])) is None
    both = Rays.of(cameras[:2], keypoints[:2])
    found = chest(both)
    assert found is not None and np.isnan(yaw_std(both, found))
    keypoints[1][HIPS, 2] = 0.0  # hips in one view only
    assert chest(Rays.of(cameras[:2], keypoints[:2])) is None
    keypoints[0][SHOULDERS, :2] = -50.0  # shoulders outside of the other
    assert chest(Rays.of(cameras[:2], keypoints[:2])) is None


def test_people_are_matched_over_views():
    cameras = studio(4, 5)
    rng = np.random.default_rng(5)
    crowd = [
        stand(seed)[0] + shift for seed, shift in ((1, (0.5, 0, 0)), (2, (-0.5, 0, 0.3)), (3, (0, 0, -0.9)))
    ]
    views = [seen_by(cameras, points, 0.02, rng) for points in crowd]
    found, expected = [], []
    for camera in range(5):
        order = rng.permutation(3).tolist()
        if camera == 2:
            order.remove(0)  # one camera does not see the first
        found.append([(f"{camera}-{person}", views[person][camera]) for person in order])
        expected.append(order)
    groups = matched_people(cameras, [[keypoints for _, keypoints in people] for people in found])
    who = sorted(sorted({expected[camera][one] for camera, one in group.items()}) for group in groups)
    assert who == [[0], [1], [2]]
    assert [len(group) for group in groups] == [5, 4, 4]  # the third stands outside of one image
    poses = true_poses("now", cameras, found)
    assert [len(pose.members) for pose in poses] == [5, 4, 4]
    assert all(len({name.rpartition("-")[2] for name in pose.members.values()}) == 1 for pose in poses)


def test_people_whose_face_a_detector_does_not_see_from_behind_are_matched():
    cameras = studio(4, 4)
    crowd = [stand(seed)[0] + shift for seed, shift in ((1, (0.5, 0, 0)), (2, (-0.5, 0, 0.3)))]
    found = [[seen_by([camera], points)[0] for points in crowd] for camera in cameras]
    found[2][0][:5] = 0.0  # as YOLO gives points that it does not see
    found[3][0][:5] = 0.0
    groups = matched_people(cameras, found)
    assert groups == [dict.fromkeys(range(4), person) for person in (0, 1)] or groups == [
        dict.fromkeys(range(4), person) for person in (1, 0)
    ]


def test_nobody_is_made_of_two_people():
    cameras = studio(4, 2)
    points = [stand(seed)[0] + shift for seed, shift in ((1, (0.6, 0, 0)), (2, (-0.6, 0.3, 0)))]
    found = [[("a", seen_by(cameras, points[0])[0])], [("b", seen_by(cameras, points[1])[1])]]
    assert true_poses("now", cameras, found) == []
    assert true_poses("now", cameras[:1], found[:1]) == []
