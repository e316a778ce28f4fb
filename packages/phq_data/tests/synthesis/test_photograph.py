"""Synthetic photos: the truth is true of the picture, and a series is its own beginning."""

import io

import numpy as np
import pytest
from PIL import Image

from phq_data import camera
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.stages.align import camera_on_sphere
from phq_data.synthesis import figure, people, photograph, wardrobe
from phq_data.synthesis.draw import Lens
from phq_data.synthesis.truth import true_people

VARIETIES: tuple[people.Variety, people.Variety] = ("usual", "wide")
SHOULDERS = [COCO_KEYPOINTS.index(f"{side}_shoulder") for side in ("left", "right")]


@pytest.fixture(scope="module")
def photos():
    return [photograph.take(3, index) for index in range(6)]


def test_a_photo_depends_on_seed_and_index_alone(photos):
    assert photograph.take(3, 2).jpeg == photos[2].jpeg
    assert photograph.take(4, 2).jpeg != photos[2].jpeg
    assert photos[1].jpeg != photos[2].jpeg


def test_photos_are_ordinary_jpegs_with_one_or_two_people(photos):
    for photo in photos:
        with Image.open(io.BytesIO(photo.jpeg)) as opened:
            assert opened.format == "JPEG"
            assert opened.size == (photo.lens.width, photo.lens.height)
        assert max(photo.lens.width, photo.lens.height) in (480, 640, 800, 1024, 1280, 1600)
        assert len(photo.subjects) in (1, 2)


@pytest.mark.parametrize("pixel", [(320.0, 240.0), (20.0, 400.0), (600.0, 30.0)])
@pytest.mark.parametrize("angles", [(0.3, 0.2, 0.1), (-2.8, -0.6, -0.25), (1.6, 0.0, 0.0)])
def test_a_placed_person_is_seen_from_the_wanted_side_at_the_wanted_pixel(pixel, angles):
    lens = Lens(640, 480, 900.0)
    yaw, pitch, roll = angles
    place = photograph.place_person(yaw, pitch, roll, 2.5, pixel, lens)
    assert np.allclose(lens.project(place.translation[None])[0], pixel)
    assert np.allclose(place.rotation @ place.rotation.T, np.eye(3))
    assert np.linalg.det(place.rotation) > 0
    label = photograph.label_of(place)
    camera.check_label(camera.to_label(label))
    yaw, pitch, roll = camera.angles(label)
    assert np.allclose([yaw, pitch], angles[:2])
    # Panning away from the middle turns the picture around the neck a little; in the middle it does not.
    assert abs(roll - angles[2]) < (0.01 if pixel == (320.0, 240.0) else 0.3)


def test_the_label_is_what_the_alignment_makes_of_the_same_body(photos):
    for photo in photos:
        for subject in photo.subjects:
            expected = camera_on_sphere(subject.place.rotation, subject.place.translation)
            assert np.allclose(photograph.label_of(subject.place), expected)


def test_keypoints_lie_on_the_person_and_face_the_way_the_label_says(photos):
    checked = 0
    for index, photo in enumerate(photos):
        for person, subject in zip(true_people(photo, 3, index, "x"), photo.subjects, strict=True):
            points, mask = person.keypoints, subject.mask
            for x, y, seen in points[:7]:
                if seen == 2:
                    assert mask[int(y), int(x)] >= 128
            # Who is seen from the front has the left shoulder on the picture's right.
            apart = points[SHOULDERS[0], 0] - points[SHOULDERS[1], 0]
            if abs(np.cos(person.yaw)) > 0.6 and abs(person.roll) < 0.5:
                assert np.sign(apart) == np.sign(np.cos(person.yaw))
                checked += 1
    assert checked >= 3


def test_the_true_window_and_label_put_the_rig_on_the_true_joints(photos):
    from phq_data.bodies import JOINT_NAMES
    from phq_data.bodies.anny import default_rig

    rig, off = default_rig(), []
    for index, photo in enumerate(photos):
        for person in true_people(photo, 3, index, "x"):
            cam2world, intrinsics = camera.from_label(person.camera)
            seen, _ = camera.project(rig.posed_landmarks(person.pose), cam2world, intrinsics)
            true = (person.joints - person.window[:2]) / person.window[2]
            rows = [
                JOINT_NAMES.index(name) for name in ("left_shoulder", "right_shoulder", "left_ear", "nose")
            ]
            off.append(np.linalg.norm(seen[rows] - true[rows], axis=1).mean())
    # Bodies differ from the rig, so not zero; but a wrong axis or side would be many times this.
    assert np.median(off) < 0.04
    assert max(off) < 0.12


def test_masks_of_two_people_do_not_overlap():
    pair = photograph.take(11, 14)
    assert len(pair.subjects) == 2
    first, second = (subject.mask.astype(int) for subject in pair.subjects)
    assert (first + second).max() <= 257
    assert first.max() > 200 or second.max() > 200
    assert (
        pair.lens.project(pair.subjects[0].place.translation[None])[0, 0]
        <= pair.lens.project(pair.subjects[1].place.translation[None])[0, 0]
    )


def test_bodies_keep_the_neck_joint_at_the_origin_and_left_on_the_left():
    rng = np.random.default_rng(0)
    model = figure.body()
    for _ in range(3):
        person = people.random_person(rng, 0.0)
        posed = figure.pose_person(people.parts_of(person)[:1], person.build, person.stance)
        at = {name: posed.landmarks[model.landmark(name)] for name in model.landmark_names}
        assert np.allclose(at["neck"], 0, atol=1e-9)
        assert at["left_shoulder"][0] > 0.08 > -0.08 > at["right_shoulder"][0]
        assert at["nose"][1] > 0 and np.isfinite(posed.vertices[0]).all()
        wrist = at["left_wrist"] - at["left_elbow"]
        upper = person.stance.left_arm[1]
        assert wrist @ upper / np.linalg.norm(wrist) > 0.999


def test_bodies_leave_the_shape_basis_of_the_fit():
    """What remains of a random body after the best fit of all shape directions is no numerical dust."""
    model = figure.body()
    rng = np.random.default_rng(2)
    near = np.abs(model.vertices).max(axis=1) < 0.3
    basis = model.shape_vertices[:, near].reshape(model.shape_size, -1).T.astype(float)
    rest = []
    for _ in range(5):
        build = people.random_build(rng)
        points = model.vertices.astype(float) + np.einsum(
            "k,kvc->vc", np.array(build.shape), model.shape_vertices
        )
        moved = (figure.warp(points, build) - model.vertices)[near].ravel()
        left = moved - basis @ np.linalg.lstsq(basis, moved, rcond=None)[0]
        rest.append(np.sqrt((left.reshape(-1, 3) ** 2).sum(axis=1).mean()))
    assert np.median(rest) > 0.003  # metres


def test_heads_stay_within_what_necks_can_do_and_follow_the_camera():
    rng = np.random.default_rng(1)
    poses = np.array([people.neck_and_head(rng, 1.2) for _ in range(400)])
    total = poses[:, :3] + poses[:, 3:]
    assert np.abs(total[:, 1]).max() <= people.YAW_LIMIT + 1e-9
    assert total[:, 0].min() >= np.radians(-40) and total[:, 0].max() <= np.radians(45)
    assert np.median(total[:, 1]) > 0.2
    assert np.corrcoef(poses[:, 1], poses[:, 4])[0, 1] > 0.7


def test_the_wide_variety_has_steep_views_and_the_carriage_of_real_people():
    """Drawn as the photos draw them, without rendering: heads before the shoulders, longer trunks."""
    pitches, carriage, trunk = [], [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        pitches.append(photograph._wide_tilt(rng)[0])
        usual, wide = (people.random_person(np.random.default_rng(seed), 0.4, kind) for kind in VARIETIES)
        assert wide.hair == usual.hair and wide.appearance == usual.appearance
        neck, head = wide.stance.pose[0], wide.stance.pose[3]
        carriage.append((neck - head) - (usual.stance.pose[0] - usual.stance.pose[3]))
        trunk.append(wide.build.trunk_stretch)
    assert max(pitches) > np.radians(60) and min(pitches) < np.radians(-50)
    assert np.radians(14) < np.mean(carriage) < np.radians(26)
    assert 0.02 < np.mean(trunk) < 0.04


def test_a_longer_trunk_lowers_the_hips_and_a_head_is_carried_forward():
    parts = [wardrobe.dressed_body(wardrobe.Outfit())]
    body, stance = figure.body(), figure.Stance()
    plain, changed = (
        figure.pose_person(parts, build, stance).landmarks
        for build in (figure.Build(), figure.Build(trunk_stretch=0.03, head_forward=0.02))
    )
    moved = changed - plain
    assert moved[body.landmark("left_hip"), 1] == pytest.approx(-0.03, abs=0.004)
    assert np.abs(moved[body.landmark("left_shoulder")]).max() < 0.012
    assert moved[body.landmark("nose"), 2] > 0.005
