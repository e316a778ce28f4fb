"""The camera label against the reference's numbers and against closed forms."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from phq_data import camera
from phq_data.camera import CameraError

GOLDEN = Path(os.environ.get("PHQ_GOLDEN", Path(__file__).parents[3] / "tests" / "golden"))
ANGLES = (
    np.radians([0, 40, -75, 170, -120, 90]),
    np.radians([0, 10, -15, 5, 20, -25]),
    np.radians([0, 5, -8, 3, 12, 0]),
)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "golden_phq_align.npz") as arrays:
        return dict(arrays)


def grid():
    """Every combination of yaw, pitch, roll [M] that a portrait may have and some that it may not."""
    yaw, pitch, roll = np.meshgrid(
        np.radians([-179, -135, -90, -45, -1, 0, 30, 90, 150, 179.9]),
        np.radians([-85, -40, -5, 0, 20, 60, 89]),
        np.radians([-170, -30, 0, 10, 90]),
        indexing="ij",
    )
    return yaw.ravel(), pitch.ravel(), roll.ravel()


# ---- the reference's numbers ------------------------------------------------------------------------------


def test_golden_camera_spherical_angles_are_the_references(golden):
    theta, phi = camera.spherical(golden["camera_pose_cv"])
    assert np.abs(theta - golden["theta_phi"][:, 0]).max() < 2e-5
    assert np.abs(phi - golden["theta_phi"][:, 1]).max() < 2e-5


def test_golden_camera_poses_are_cameras_of_this_sphere(golden):
    camera.check_label(camera.to_label(golden["camera_pose_cv"]))


def test_golden_camera_rebuilt_from_the_raw_camera_is_the_references(golden):
    raw = golden["camera_pose_gl_raw"].astype(np.float64)  # OpenGL: columns right, up, backward
    rebuilt = camera.look_from(raw[:, :3, 3], raw[:, :3, 1])
    assert np.abs(rebuilt - golden["camera_pose_cv"]).max() < 2e-5


def test_golden_camera_rebuilt_from_its_angles_is_itself(golden):
    poses = golden["camera_pose_cv"].astype(np.float64)
    assert np.abs(camera.from_angles(*camera.angles(poses)) - poses).max() < 2e-5


def test_golden_camera_is_the_inverse_of_the_world_to_camera_matrix(golden):
    product = golden["world2cam_cv"].astype(np.float64) @ golden["camera_pose_cv"]
    assert np.abs(product - np.eye(4)).max() < 2e-5


def test_golden_camera_projection_agrees_with_the_world_to_camera_matrix(golden):
    joints = golden["template_joints_neck_origin"].astype(np.float64)
    pose = golden["camera_pose_cv"].astype(np.float64)
    image, depth = camera.project(joints, pose)
    seen = golden["world2cam_cv"].astype(np.float64) @ np.vstack([joints.T, np.ones(len(joints))])
    expected = (5000 / 0.75) * seen[:, :2] / seen[:, 2:3] / 1024 + 0.5
    assert np.abs(image - expected.swapaxes(1, 2)).max() < 1e-4
    assert np.abs(depth - seen[:, 2]).max() < 2e-5


# ---- closed forms -----------------------------------------------------------------------------------------


def test_the_constants_are_the_labels():
    assert abs(camera.FOCAL - 6.510416667) < 1e-9
    assert camera.INTRINSICS.tolist() == [[camera.FOCAL, 0, 0.5], [0, camera.FOCAL, 0.5], [0, 0, 1]]


@pytest.mark.parametrize(
    ("yaw", "pitch", "centre"),
    [
        (0, 0, [0, 0, 2.7]),  # in front
        (90, 0, [2.7, 0, 0]),  # on the subject's left
        (-90, 0, [-2.7, 0, 0]),
        (180, 0, [0, 0, -2.7]),  # behind
        (0, 30, [0, 1.35, 2.7 * np.sqrt(3) / 2]),  # above
    ],
)
def test_yaw_and_pitch_say_where_the_camera_stands(yaw, pitch, centre):
    pose = camera.from_angles(np.radians(yaw), np.radians(pitch))
    assert np.abs(pose[:3, 3] - centre).max() < 1e-12
    camera.check_label(camera.to_label(pose))


def test_a_level_camera_in_front_sees_the_subjects_left_on_the_right_and_up_above():
    pose = camera.from_angles(0.0, 0.0)
    image, depth = camera.project(np.array([[0.1, 0, 0], [0, 0.3, 0], camera.LOOK_AT]), pose)
    assert image[0, 0] > 0.5 and image[1, 1] < 0.5
    assert np.abs(image[2] - 0.5).max() < 1e-12
    assert depth[2] == pytest.approx(np.hypot(2.7, 0.0649))


def test_positive_roll_turns_the_camera_counter_clockwise_and_the_content_clockwise():
    above = [[0.0, 0.3, 0.0]]
    level, _ = camera.project(above, camera.from_angles(0.0, 0.0))
    rolled, _ = camera.project(above, camera.from_angles(0.0, 0.0, np.radians(10)))
    assert level[0, 0] == pytest.approx(0.5)
    assert rolled[0, 0] > 0.5  # what was at the top has gone to the right
    turned = np.degrees(np.arctan2(rolled[0, 0] - 0.5, 0.5 - rolled[0, 1]))
    assert turned == pytest.approx(10, abs=1e-9)


def test_angles_come_back_from_the_matrix():
    yaw, pitch, roll = grid()
    found = camera.angles(camera.from_angles(yaw, pitch, roll))
    for got, given in zip(found, (yaw, pitch, roll), strict=True):
        assert np.abs(np.angle(np.exp(1j * (got - given)))).max() < 1e-9


def test_every_camera_from_angles_passes_the_check_and_survives_the_label():
    poses = camera.from_angles(*grid())
    labels = camera.to_label(poses)
    assert labels.shape == (len(poses), 25) and labels.dtype == np.float32
    camera.check_label(labels)
    back, intrinsics = camera.from_label(labels)
    assert np.abs(back - poses).max() < 1e-6
    assert np.abs(intrinsics - camera.INTRINSICS).max() < 1e-6


def test_projection_is_the_textbooks():
    generator = np.random.default_rng(3)
    pose = camera.from_angles(0.7, -0.2, 0.1)
    points = generator.normal(size=(50, 3)) * 0.3
    image, depth = camera.project(points, pose)
    rotation, centre = pose[:3, :3], pose[:3, 3]
    for point, position, far in zip(points, image, depth, strict=True):
        x, y, z = np.linalg.solve(rotation, point - centre)
        assert far == pytest.approx(z)
        assert position == pytest.approx([camera.FOCAL * x / z + 0.5, camera.FOCAL * y / z + 0.5])


@pytest.mark.parametrize("pitch", [np.pi / 2, -np.pi / 2, 2.0, np.nan])
def test_poles_and_nan_are_refused(pitch):
    with pytest.raises(CameraError):
        camera.from_angles(0.0, pitch)


@pytest.mark.parametrize(
    ("direction", "up"),
    [
        ([0, 0, 0], [0, 1, 0]),
        ([0, 0, np.inf], [0, 1, 0]),
        ([0, 0, 1], [0, 0.0649, -2.7]),
        ([0, 0, 1], [0, np.nan, 0]),
        ([0, 0, 1], [np.inf, 0, 0]),
    ],
)
def test_directions_that_make_no_camera_are_refused(direction, up):
    with pytest.raises(CameraError):
        camera.look_from(direction, up)


# ---- what is no label -------------------------------------------------------------------------------------


def label_with(change):
    pose, intrinsics = camera.from_angles(0.4, 0.1, 0.05), camera.INTRINSICS.copy()
    pose, intrinsics = change(pose.copy(), intrinsics)
    return camera.to_label(pose, intrinsics)


def turned(pose, intrinsics):
    pose[:3, :3] = Rotation.from_euler("y", 1, degrees=True).as_matrix() @ pose[:3, :3]
    return pose, intrinsics


def opengl(pose, intrinsics):
    pose[:3, 1:3] *= -1
    return pose, intrinsics


def with_entry(row, column, value):
    def change(pose, intrinsics):
        pose[row, column] = value
        return pose, intrinsics

    return change


def scaled_centre(pose, intrinsics):
    pose[:3, 3] *= 1.01
    return pose, intrinsics


def mirrored(pose, intrinsics):
    pose[:3, 0] *= -1
    return pose, intrinsics


def sheared(pose, intrinsics):
    pose[:3, 0] *= 1.01
    return pose, intrinsics


def longer_lens(pose, intrinsics):
    intrinsics[0, 0] = 5000 / 1024  # of crop A
    return pose, intrinsics


def shifted(pose, intrinsics):
    intrinsics[0, 2] = 0.45
    return pose, intrinsics


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_entry(0, 3, np.nan), "finite"),
        (with_entry(3, 3, 0.0), "last row"),
        (with_entry(3, 0, 0.5), "last row"),
        (mirrored, "not a rotation"),
        (sheared, "not a rotation"),
        (scaled_centre, "2.7 m"),
        (turned, "does not look at"),
        (opengl, "does not look at"),
        (longer_lens, "intrinsics"),
        (shifted, "intrinsics"),
    ],
)
def test_every_kind_of_wrong_label_is_told_apart(change, message):
    good = camera.to_label(camera.from_angles(0.4, 0.1, 0.05))
    camera.check_label(good)
    with pytest.raises(CameraError, match=message):
        camera.check_label(np.stack([good, label_with(change)]))


def test_a_label_of_another_length_is_refused():
    with pytest.raises(CameraError, match="25"):
        camera.from_label(np.zeros(31))
    camera.check_label(np.zeros((0, 25)))  # none is fine


# ---- mirror -----------------------------------------------------------------------------------------------


def test_mirroring_twice_is_nothing():
    poses = camera.from_angles(*grid())
    assert (camera.mirror_camera(camera.mirror_camera(poses)) == poses).all()
    labels = camera.to_label(poses)
    assert (camera.mirror_label(camera.mirror_label(labels)) == labels).all()
    pose = np.random.default_rng(0).normal(size=(5, 6))
    assert (camera.mirror_pose(camera.mirror_pose(pose)) == pose).all()
    image = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    assert (camera.mirror_image(camera.mirror_image(image)) == image).all()


def test_a_mirrored_camera_sees_mirrored_points_at_mirrored_pixels():
    poses = camera.from_angles(*grid())
    points = np.random.default_rng(1).normal(size=(40, 3)) * 0.3
    image, depth = camera.project(points, poses)
    flipped, flipped_depth = camera.project(points * [-1, 1, 1], camera.mirror_camera(poses))
    assert np.abs(flipped[..., 0] - (1 - image[..., 0])).max() < 1e-9
    assert np.abs(flipped[..., 1] - image[..., 1]).max() < 1e-9
    assert np.abs(flipped_depth - depth).max() < 1e-12


def test_a_mirrored_camera_has_opposite_yaw_and_roll_and_is_still_one():
    yaw, pitch, roll = grid()
    mirror = camera.mirror_camera(camera.from_angles(yaw, pitch, roll))
    camera.check_label(camera.to_label(mirror))
    assert np.abs(mirror - camera.from_angles(-yaw, pitch, -roll)).max() < 1e-12


def test_mirrored_labels_change_the_signs_that_the_reference_changes():
    label = camera.to_label(camera.from_angles(0.4, 0.1, 0.05))
    changed = np.flatnonzero(camera.mirror_label(label) != label)
    assert changed.tolist() == [1, 2, 3, 4, 8]


def test_a_mirrored_pose_is_the_mirrored_rotation():
    pose = np.random.default_rng(2).normal(size=6)
    flip = np.diag([-1.0, 1, 1])
    for part in (slice(0, 3), slice(3, 6)):
        expected = flip @ Rotation.from_rotvec(pose[part]).as_matrix() @ flip
        found = Rotation.from_rotvec(camera.mirror_pose(pose)[part]).as_matrix()
        assert np.abs(found - expected).max() < 1e-12


def test_a_mirrored_image_is_flipped_left_to_right_and_contiguous():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    mirror = camera.mirror_image(image)
    assert (mirror[:, 0] == image[:, 3]).all() and mirror.flags.c_contiguous
    assert (camera.mirror_image(image[..., 0]) == image[:, ::-1, 0]).all()
