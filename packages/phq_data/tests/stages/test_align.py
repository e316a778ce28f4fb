from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import bodyworks as works
import numpy as np
import pytest

from phq_data import camera
from phq_data.bodies import JOINT_NAMES, SMPL_JOINT_INDEX
from phq_data.config import AlignConfig
from phq_data.records import Fit
from phq_data.rig import rotation_matrix
from phq_data.stages import align as stage

GOLDEN = Path(os.environ.get("PHQ_GOLDEN", Path(__file__).parents[4] / "tests" / "golden"))

TEMPLATE = {
    "pelvis": [0.0, -0.51, 0.04],
    "neck": [0.0, 0.0, 0.0],
    "head": [0.005, 0.065, 0.051],
    "left_shoulder": [0.173, -0.062, 0.0],
    "right_shoulder": [-0.175, -0.062, -0.005],
    "left_hip": [0.06, -0.6, 0.04],
    "right_hip": [-0.06, -0.6, 0.04],
    "nose": [0.001, 0.133, 0.154],
    "left_eye": [0.035, 0.163, 0.115],
    "right_eye": [-0.032, 0.163, 0.113],
    "left_ear": [0.076, 0.136, 0.02],
    "right_ear": [-0.076, 0.136, 0.02],
    "head_top": [0.0, 0.268, 0.021],
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "golden_phq_align.npz") as file:
        return dict(file)


def fit_record(rotation: np.ndarray, neck: np.ndarray, pose: np.ndarray, body: str = "anny") -> Fit:
    """A fit of the template itself, its root turned by an axis-angle `rotation`."""
    posed = stage.posed_template(TEMPLATE, pose)
    joints = np.stack([posed[name] for name in JOINT_NAMES]) @ rotation_matrix(rotation).T + neck
    return works.fit_record(rotation, neck, pose, body=body, joints=joints)


FACING = np.array([np.pi, 0.0, 0.0])  # body y up, facing the camera: a half turn about x


def raw_camera(rotation: np.ndarray, neck_cam: np.ndarray) -> np.ndarray:
    """The photo's own camera around the un-posed body (step 3): camera-to-world [B, 4, 4], OpenCV axes."""
    pose = np.tile(np.eye(4), (len(rotation), 1, 1))
    pose[:, :3, :3] = np.swapaxes(rotation, -1, -2)
    pose[:, :3, 3] = -(pose[:, :3, :3] @ neck_cam[..., None])[..., 0]
    return pose


def test_golden_align_poses(golden: dict[str, np.ndarray]) -> None:
    index = [SMPL_JOINT_INDEX[name] for name in stage.REFERENCE_JOINTS]
    neck = golden["joints_cam_no_trans"][:, 12] + golden["cam_trans"]
    assert np.abs(neck - golden["neck_cam"]).max() < 2e-5
    joints = golden["joints_cam_no_trans"] + golden["cam_trans"][:, None]
    rotation = stage.kabsch(golden["template_joints_neck_origin"][index], joints[:, index])
    label = stage.camera_on_sphere(rotation, golden["neck_cam"])
    axes = np.diag([1.0, -1.0, -1.0, 1.0])
    assert np.abs(label - golden["camera_pose_cv"]).max() < 2e-5
    assert np.abs(label @ axes - golden["camera_pose_gl"]).max() < 2e-5
    assert np.abs(np.linalg.inv(label) - golden["world2cam_cv"]).max() < 2e-5
    theta, phi = camera.spherical(label)
    assert np.abs(np.stack([theta, phi], -1) - golden["theta_phi"]).max() < 2e-5
    # The file's `camera_pose_gl_raw` holds the finished camera once more, so it proves nothing about ours;
    # what makes it the photo's camera is that both see the body at the same place.
    raw = raw_camera(rotation, golden["neck_cam"])
    world = np.random.default_rng(1).normal(size=(6, 9, 3))
    in_photo = world @ np.swapaxes(rotation, -1, -2) + golden["neck_cam"][:, None]
    in_raw = (world - raw[:, None, :3, 3]) @ raw[:, :3, :3]
    assert np.abs(in_photo - in_raw).max() < 1e-9
    assert np.abs(np.cross(raw[:, :3, 3], label[:, :3, 3])).max() < 1e-4  # same direction from the neck


def test_golden_align_from_fits(golden: dict[str, np.ndarray]) -> None:
    index = [SMPL_JOINT_INDEX[name] for name in JOINT_NAMES]
    template = dict(zip(JOINT_NAMES, golden["template_joints_neck_origin"][index], strict=True))
    for k in range(6):
        joints = golden["joints_cam_no_trans"][k, index] + golden["cam_trans"][k]
        fit = works.fit_record(np.zeros(3), joints[1], np.zeros(6), body="smpl", joints=joints)
        found = stage.align(fit, AlignConfig("reference"), template)
        assert np.abs(found.camera - golden["camera_pose_cv"][k]).max() < 2e-5
        assert np.abs(found.neck_cam - golden["neck_cam"][k]).max() < 2e-5


def test_kabsch_finds_the_rotation_and_never_a_reflection() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 5, 3))
    turn = rotation_matrix(rng.normal(size=(20, 3)))
    found = stage.kabsch(points, points @ np.swapaxes(turn, -1, -2) + rng.normal(size=(20, 1, 3)))
    assert np.abs(found - turn).max() < 1e-9
    mirrored = stage.kabsch(points, points * [-1, 1, 1])
    assert np.linalg.det(mirrored) == pytest.approx(1.0)


@pytest.mark.parametrize("body", ["anny", "smpl"])
@pytest.mark.parametrize("joints", ["torso", "reference"])
def test_every_way_agrees_on_an_exact_fit(body: str, joints: str) -> None:
    neck = np.array([0.2, -0.1, 3.0])
    turn = rotation_matrix(FACING) @ rotation_matrix([0.0, 0.6, 0.0])
    from scipy.spatial.transform import Rotation

    fit = fit_record(
        Rotation.from_matrix(turn).as_rotvec(), neck, np.array([0.2, 0.3, 0.1, -0.1, 0.4, 0]), body
    )
    found = stage.align(fit, AlignConfig(joints), TEMPLATE)  # type: ignore[arg-type]
    assert np.abs(found.rotation - turn).max() < 1e-9
    camera.check_label(camera.to_label(found.camera))


def test_person_turned_to_the_left_shows_the_right_side() -> None:
    """A person turned by +yaw about +y shows the camera their right: the camera's yaw is -yaw."""
    turn = rotation_matrix(FACING) @ rotation_matrix([0.0, 0.5, 0.0])
    label = stage.camera_on_sphere(turn, np.array([0.0, 0.0, 3.0]))
    yaw, pitch, roll = camera.angles(label)
    assert (yaw, pitch, roll) == pytest.approx((-0.5, 0.0, 0.0))


def test_wrong_pelvis_tilts_the_reference_but_not_the_torso() -> None:
    for body in ("anny", "smpl"):
        fit = fit_record(FACING, np.array([0.0, 0.0, 3.0]), np.zeros(6), body)
        fit.joints[0, 2] += 0.2  # the pelvis, away from the camera
        if body == "smpl":
            fit = dataclasses.replace(fit, root_orient=np.array([2.7, 0.0, 0.0]))  # of a bent spine
        torso = stage.align(fit, AlignConfig("torso"), TEMPLATE)
        reference = stage.align(fit, AlignConfig("reference"), TEMPLATE)
        assert camera.angles(torso.camera)[1] == pytest.approx(0.0, abs=1e-6)
        assert abs(camera.angles(reference.camera)[1]) > np.radians(10)


def test_mirrored_fit_gives_the_mirrored_camera() -> None:
    flip = np.diag([-1.0, 1.0, 1.0])
    template = {name: np.asarray(point) for name, point in TEMPLATE.items()}
    swap = [name.replace("left", "#").replace("right", "left").replace("#", "right") for name in JOINT_NAMES]
    mirrored_template = {s: flip @ template[n] for n, s in zip(JOINT_NAMES, swap, strict=True)}
    rng = np.random.default_rng(3)
    fit = fit_record(rng.normal(size=3), np.array([0.3, 0.2, 4.0]), rng.normal(size=6) * 0.2, "smpl")
    order = [JOINT_NAMES.index(name) for name in swap]
    joints, pose = (fit.joints @ flip)[order], camera.mirror_pose(fit.pose)
    mirrored = dataclasses.replace(fit, joints=joints, pose=pose)
    for choice in ("torso", "reference"):
        one = stage.align(fit, AlignConfig(choice), template)  # type: ignore[arg-type]
        other = stage.align(mirrored, AlignConfig(choice), mirrored_template)  # type: ignore[arg-type]
        assert np.abs(camera.mirror_camera(one.camera) - other.camera).max() < 1e-9


def test_hopeless_fits_say_why() -> None:
    fit = fit_record(FACING, np.array([0.0, 0.0, -3.0]), np.zeros(6))
    with pytest.raises(stage.AlignError, match="behind the camera"):
        stage.align(fit, AlignConfig(), TEMPLATE)
    fit = fit_record(FACING, np.array([0.0, 0.0, 3.0]), np.zeros(6))
    fit = dataclasses.replace(fit, joints=fit.joints * np.nan)
    with pytest.raises(stage.AlignError, match="not finite"):
        stage.align(fit, AlignConfig(), TEMPLATE)
