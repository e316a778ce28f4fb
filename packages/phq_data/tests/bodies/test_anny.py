import dataclasses

import numpy as np
import pytest

from phq_data.bodies import JOINT_NAMES
from phq_data.bodies.anny import AnnyBody, BodyError, default_rig, load_body
from phq_data.bodies.template import template_joints
from phq_data.rig import PortraitRig, rotation_matrix


def edges(faces: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def test_landmarks_lie_near_the_smpl_template():
    anny, smpl = template_joints("anny"), template_joints("smpl")
    distance = dict(zip(JOINT_NAMES, np.linalg.norm(anny - smpl, axis=1), strict=True))
    assert distance["neck"] < 1e-6
    for name in ("head", "left_shoulder", "right_shoulder", "left_eye", "right_eye", "head_top"):
        assert distance[name] < 0.008, name
    for name in ("nose", "left_ear", "right_ear"):
        assert distance[name] < 0.015, name


def test_template_of_an_unknown_body_says_what_there_is():
    with pytest.raises(BodyError, match="'smpl' and 'anny'"):
        template_joints("star")


def test_rig_faces_point_outwards_and_every_edge_joins_two_faces_but_at_the_rim():
    rig = default_rig()
    directed = edges(rig.faces)
    # Consistent winding: no directed edge occurs twice.
    assert len(np.unique(directed, axis=0)) == len(directed)
    skull = rig.vertices[rig.faces].mean(1)
    head = skull[:, 1] > 0.2
    corner = rig.vertices[rig.faces[head]]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    outward = skull[head] - skull[head].mean(0)
    assert (np.sum(normal * outward, axis=1) > 0).mean() > 0.99


def test_rig_covers_the_box_with_a_sensible_number_of_faces():
    rig = default_rig()
    inside = (np.abs(rig.vertices[rig.faces]) < 0.5).all((1, 2)).sum()
    assert 6000 <= inside <= 7000
    assert rig.vertices[:, 1].min() < -0.45
    assert 0.26 < rig.vertices[:, 1].max() < 0.28


def test_rig_poses_like_the_body_it_was_made_from():
    body, rig = load_body(), default_rig()
    pose = np.array([0.2, 0.5, -0.1, -0.2, 0.4, 0.1])
    angles = body.relaxed + body.pose(pose)
    used = np.unique(body.rig_faces)
    # Not exact: the rig turns the skinned relaxed shoulders, the body blends all joints at once.
    assert np.abs(rig.posed(pose) - body.posed([0.0], angles)[used]).max() < 2e-3
    rows = [body.landmark(n) for n in JOINT_NAMES]
    np.testing.assert_allclose(
        rig.posed_landmarks(pose), body.posed_landmarks([0.0], angles)[rows], atol=1e-6
    )


def test_rig_survives_a_file(tmp_path):
    rig = default_rig()
    rig.save(tmp_path / "rig.safetensors")
    again = PortraitRig.load(tmp_path / "rig.safetensors")
    assert again.digest == rig.digest and again.landmark_names == JOINT_NAMES


def test_body_is_left_right_symmetric():
    body = load_body()
    mirrored = body.posed_landmarks([0.0], body.pose([0.1, -0.4, 0.2, 0.0, -0.3, -0.1])) * [-1, 1, 1]
    straight = body.posed_landmarks([0.0], body.pose([0.1, 0.4, -0.2, 0.0, 0.3, 0.1]))
    for name in ("nose", "left_eye", "left_ear", "left_shoulder", "left_hip"):
        other = name.replace("left", "right")
        np.testing.assert_allclose(
            mirrored[body.landmark(name)], straight[body.landmark(other)], atol=2e-3, err_msg=name
        )


def test_root_moves_everything_rigidly_and_batches_agree():
    body = load_body()
    rng = np.random.default_rng(0)
    shape, pose = rng.normal(size=(3, 5)), rng.normal(scale=0.2, size=(3, 16, 3))
    root, move = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    still = body.posed_landmarks(shape, pose)
    moved = body.posed_landmarks(shape, pose, root, move, size=1.3)
    expected = 1.3 * np.einsum("nij,nlj->nli", rotation_matrix(root), still) + move[:, None]
    np.testing.assert_allclose(moved, expected, atol=1e-12)
    vertices = body.posed(shape, pose)
    assert vertices.shape == (3, len(body.vertices), 3)
    np.testing.assert_allclose(vertices[1], body.posed(shape[1], pose[1]), atol=1e-12)


def test_every_shape_keeps_the_neck_at_the_origin_and_the_size_of_the_neutral():
    body = load_body()
    for row in 2.0 * np.eye(body.shape_size):
        points = body.posed_landmarks(row, body.pose())
        assert np.abs(points[body.landmark("neck")]).max() < 1e-6
        spread = points[[body.landmark(n) for n in ("left_shoulder", "right_shoulder", "head_top", "pelvis")]]
        neutral = body.landmarks[
            [body.landmark(n) for n in ("left_shoulder", "right_shoulder", "head_top", "pelvis")]
        ]
        assert abs(np.linalg.norm(spread) / np.linalg.norm(neutral) - 1) < 0.05


def test_landmarks_stay_on_the_skin_when_shape_and_pose_change():
    body = load_body()
    pose = body.pose([0.3, 0.4, 0.0, 0.2, 0.5, 0.1])
    shape = np.array([1.0, -1.5, 1.0, 0.5])
    vertices, points = body.posed(shape, pose), body.posed_landmarks(shape, pose)
    for name in ("nose", "left_eye", "right_eye", "head_top"):
        gap = np.linalg.norm(vertices - points[body.landmark(name)], axis=1).min()
        assert gap < 2e-3, name


def test_regions_color_the_right_places():
    body = load_body()
    where = {name: body.vertices[body.region(name)] for name in body.region_names}
    assert all(len(points) > 10 for points in where.values())
    assert where["scalp"][:, 1].mean() > where["face"][:, 1].mean() > where["neck"][:, 1].mean()
    assert where["face"][:, 2].mean() > 0.07 > where["scalp"][:, 2].mean()
    assert where["iris"][:, 2].min() > where["sclera"][:, 2].mean()


def test_wrong_files_and_names_are_explained(tmp_path):
    with pytest.raises(BodyError, match="bake_anny"):
        AnnyBody.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(BodyError, match=r"bad\.safetensors"):
        AnnyBody.load(tmp_path / "bad.safetensors")
    default_rig().save(tmp_path / "rig.safetensors")
    with pytest.raises(BodyError, match="not a baked body"):
        AnnyBody.load(tmp_path / "rig.safetensors")
    with pytest.raises(BodyError, match="no landmark 'tail'"):
        load_body().landmark("tail")
    with pytest.raises(BodyError, match="12 shape directions"):
        load_body().posed_landmarks(np.zeros(40), load_body().pose())


def test_skinning_weights_are_a_partition():
    body = load_body()
    assert body.weights.min() >= 0
    np.testing.assert_allclose(body.weights.sum(1), 1, atol=1e-5)
    assert (body.joint_parents[1:] < np.arange(1, len(body.joint_names))).all()
    assert dataclasses.is_dataclass(body)
