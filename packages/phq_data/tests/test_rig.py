"""The rig's file and its skinning, against a slow float64 loop and SciPy's rotations."""

import os
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.spatial.transform import Rotation

from phq_data import camera
from phq_data.rig import FORMAT, FORMAT_WITH_NECK, PortraitRig, RigError, rotation_matrix

POSES = [
    np.zeros(6),
    np.array([0.3, -0.2, 0.1, -0.4, 0.7, 0.05]),
    np.array([0, 3.0, 0, 0, 0, 1e-9]),
    np.array([1e-12, 0, 0, 2.0, -1.5, 1.0]),
]


def make_rig(corrected=True, count=60, seed=0, **changes):
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet([1, 1, 1], count)[:, :2]
    values = {
        "vertices": generator.normal(size=(count, 3)) * 0.2,
        "weights": weights,
        "head_joint": np.array([0.005, 0.0649, 0.05]),
        "landmarks": generator.normal(size=(4, 3)) * 0.1,
        "landmark_weights": generator.dirichlet([1, 1, 1], 4)[:, :2],
    }
    if corrected:
        values["correctives"] = generator.normal(size=(18, count, 3)) * 0.01
    arrays = {name: value.astype(np.float32) for name, value in values.items()}
    faces = generator.integers(0, count, (100, 3)).astype(np.int32)
    fields: dict[str, Any] = {
        "faces": faces,
        "landmark_names": ("neck", "head", "left_eye", "right_eye"),
        "metadata": {"license": "CC0-1.0", "origin": "made up: ü"},
    }
    return PortraitRig(**(arrays | fields | changes))


def naive_skin(points, weights, correctives, joint, pose, centre=0.0):
    """One vertex after the other, as the module's docstring defines it."""
    neck, head = (Rotation.from_rotvec(pose[i : i + 3]).as_matrix() for i in (0, 3))
    feature = np.concatenate([(neck - np.eye(3)).ravel(), (head - np.eye(3)).ravel()])
    result = []
    for index, point in enumerate(points.astype(np.float64)):
        for k in range(18):
            if correctives is not None:
                point = point + feature[k] * correctives[k, index].astype(np.float64)
        by_neck = neck @ (point - centre) + centre
        by_head = neck @ (head @ (point - joint) + joint - centre) + centre
        w_neck, w_head = (float(w) for w in weights[index])
        result.append((1 - w_neck - w_head) * point + w_neck * by_neck + w_head * by_head)
    return np.array(result)


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("correctives", [True, False])
def test_skinning_is_its_definition(pose, correctives):
    rig = make_rig(correctives)
    joint = rig.head_joint.astype(np.float64)
    expected = naive_skin(rig.vertices, rig.weights, rig.correctives, joint, pose)
    assert np.abs(rig.posed(pose) - expected).max() < 1e-12
    expected = naive_skin(rig.landmarks, rig.landmark_weights, None, joint, pose)
    assert np.abs(rig.posed_landmarks(pose) - expected).max() < 1e-12


def test_a_neck_that_turns_elsewhere_is_kept_and_older_readers_refuse_it(tmp_path):
    centre = np.array([0.01, -0.02, 0.03], np.float32)
    rig = make_rig(neck_joint=centre)
    args = (rig.vertices, rig.weights, rig.correctives, rig.head_joint.astype(np.float64))
    expected = naive_skin(*args, POSES[1], centre.astype(np.float64))
    assert np.abs(rig.posed(POSES[1]) - expected).max() < 1e-12
    rig.save(tmp_path / "rig.safetensors")
    loaded = PortraitRig.load(tmp_path / "rig.safetensors")
    np.testing.assert_array_equal(loaded.neck_joint, centre)
    assert loaded.digest == rig.digest != make_rig().digest
    with safe_open(tmp_path / "rig.safetensors", framework="numpy") as file:
        assert file.metadata()["format"] != FORMAT
    # A rig that turns about the origin keeps the file and the digest that it always had.
    make_rig().save(tmp_path / "old.safetensors")
    with safe_open(tmp_path / "old.safetensors", framework="numpy") as file:
        assert file.metadata()["format"] == FORMAT and "neck_joint" not in file.keys()  # noqa: SIM118
    assert not PortraitRig.load(tmp_path / "old.safetensors").neck_joint.any()
    with pytest.raises(RigError, match="neck_joint"):
        make_rig(neck_joint=np.zeros(2, np.float32))
    save_file(
        {k: v for k, v in load_file(tmp_path / "rig.safetensors").items() if k != "neck_joint"},
        tmp_path / "lacking.safetensors",
        metadata={"format": FORMAT_WITH_NECK, "body": "anny", "landmark_names": "[]"},
    )
    with pytest.raises(RigError, match="lacks 'neck_joint'"):
        PortraitRig.load(tmp_path / "lacking.safetensors")


def test_many_poses_at_once_are_the_same_as_one_by_one():
    rig = make_rig()
    poses = np.stack(POSES).reshape(2, 2, 6)
    together = rig.posed(poses)
    assert together.shape == (2, 2, 60, 3)
    for index in np.ndindex(2, 2):
        assert np.abs(together[index] - rig.posed(poses[index])).max() < 1e-14
    assert rig.posed_landmarks(poses).shape == (2, 2, 4, 3)


def test_no_pose_leaves_every_vertex_in_place():
    rig = make_rig()
    assert np.abs(rig.posed(np.zeros(6)) - rig.vertices).max() < 1e-15
    assert np.abs(rig.posed_landmarks(np.zeros(6)) - rig.landmarks).max() < 1e-15


def test_the_head_turns_about_its_own_joint_and_the_neck_about_the_origin():
    ones, zeros = np.ones((60, 1), np.float32), np.zeros((60, 1), np.float32)
    rig = make_rig(corrected=False, weights=np.hstack([zeros, ones]))
    turn = np.array([0.0, np.pi / 2, 0])
    by_head = rig.posed(np.concatenate([np.zeros(3), turn]))
    offset = rig.vertices.astype(np.float64) - rig.head_joint
    expected = np.stack([offset[:, 2], offset[:, 1], -offset[:, 0]], axis=1) + rig.head_joint
    assert np.abs(by_head - expected).max() < 1e-9
    by_neck = rig.posed(np.concatenate([turn, np.zeros(3)]))
    v = rig.vertices
    assert np.abs(by_neck - np.stack([v[:, 2], v[:, 1], -v[:, 0]], axis=1)).max() < 1e-9


def test_what_no_joint_holds_stays_put():
    rig = make_rig(corrected=False, weights=np.zeros((60, 2), np.float32))
    assert np.abs(rig.posed(POSES[1]) - rig.vertices).max() < 1e-12


def test_a_symmetric_rig_in_the_mirrored_pose_is_the_mirror_image():
    half = make_rig(corrected=False)
    flip = np.array([-1, 1, 1], np.float32)
    rig = make_rig(
        corrected=False,
        vertices=np.concatenate([half.vertices, half.vertices * flip]),
        weights=np.concatenate([half.weights, half.weights]),
        head_joint=np.array([0, 0.0649, 0.05], np.float32),
    )
    partner = np.concatenate([np.arange(60, 120), np.arange(60)])
    for pose in POSES:
        mirrored = rig.posed(camera.mirror_pose(pose))
        assert np.abs(mirrored - (rig.posed(pose) * flip)[partner]).max() < 1e-12


@pytest.mark.parametrize(
    "pose", [np.zeros(5), np.zeros((6, 2)), np.full(6, np.nan), np.array([np.inf, 0, 0, 0, 0, 0])]
)
def test_what_is_no_pose_is_refused(pose):
    with pytest.raises(RigError, match="6 finite numbers"):
        make_rig().posed(pose)


def test_rotation_matrices_are_scipys_for_every_size_of_angle():
    generator = np.random.default_rng(5)
    for size in (0, 1e-300, 1e-12, 1e-8, 1e-4, 0.1, 1.0, np.pi - 1e-9, np.pi, 4.0, 7.0, 100.0):
        axes = generator.normal(size=(20, 3))
        vectors = size * axes / np.linalg.norm(axes, axis=1, keepdims=True)
        expected = Rotation.from_rotvec(vectors).as_matrix()
        assert np.abs(rotation_matrix(vectors) - expected).max() < 1e-13 * max(1, size), size


# ---- the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correctives", [True, False])
def test_a_saved_rig_comes_back_whole(tmp_path, correctives):
    rig = make_rig(correctives)
    rig.save(tmp_path / "rig.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["rig.safetensors"]  # no temporary file is left
    back = PortraitRig.load(tmp_path / "rig.safetensors")
    assert back.digest == rig.digest
    for name in ("vertices", "faces", "weights", "head_joint", "landmarks", "landmark_weights"):
        assert (getattr(back, name) == getattr(rig, name)).all()
        assert getattr(back, name).dtype == getattr(rig, name).dtype
    assert (back.correctives is None) == (not correctives)
    assert back.landmark_names == rig.landmark_names
    assert (back.body, dict(back.metadata)) == (rig.body, dict(rig.metadata))


def test_equal_rigs_are_equal_bytes():
    assert make_rig().to_bytes() == make_rig().to_bytes()
    assert make_rig().digest != make_rig(seed=1).digest


@pytest.mark.parametrize(
    "name", ["vertices", "faces", "weights", "head_joint", "landmarks", "landmark_weights"]
)
def test_any_number_of_the_rig_changes_its_digest(name):
    rig = make_rig()
    array = getattr(rig, name).copy()
    array.flat[0] = array.flat[0] * 0.5 if array.dtype == np.float32 else (array.flat[0] + 1) % 60
    assert make_rig(**{name: array}).digest != rig.digest


def test_the_body_and_the_landmark_names_are_in_the_digest_and_the_notes_are_not():
    rig = make_rig()
    assert make_rig(body="smpl").digest != rig.digest
    assert make_rig(landmark_names=("head", "neck", "left_eye", "right_eye")).digest != rig.digest
    assert make_rig(metadata={"license": "other"}).digest == rig.digest


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RigError, match=r"nowhere\.safetensors"):
        PortraitRig.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_a_cut_file_is_refused_with_its_name(tmp_path, kept):
    path = tmp_path / "cut.safetensors"
    data = make_rig().to_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(RigError, match=r"cut\.safetensors"):
        PortraitRig.load(path)


def test_other_files_are_refused_with_their_name(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(os.urandom(1000))
    with pytest.raises(RigError, match=r"other\.safetensors"):
        PortraitRig.load(path)
    save_file({"vertices": np.zeros((2, 3), np.float32)}, path)
    with pytest.raises(RigError, match="not a portrait rig"):
        PortraitRig.load(path)
    with pytest.raises(RigError, match="safetensors"):
        PortraitRig.load(tmp_path)  # a folder


def tampered(tmp_path, arrays=None, header=None):
    path = tmp_path / "rig.safetensors"
    make_rig().save(path)
    with safe_open(str(path), framework="numpy") as file:
        metadata = file.metadata()
    content = load_file(path)
    for target, changes in ((content, arrays or {}), (metadata, header or {})):
        for name, value in changes.items():
            if value is None:
                target.pop(name)
            else:
                target[name] = value
    save_file(content, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    "name", ["vertices", "faces", "weights", "head_joint", "landmarks", "landmark_weights"]
)
def test_a_rig_that_lacks_an_array_says_which(tmp_path, name):
    with pytest.raises(RigError, match=rf"rig\.safetensors lacks '{name}'"):
        PortraitRig.load(tampered(tmp_path, {name: None}))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"landmark_names": None}, "landmark_names"),
        ({"landmark_names": "not json"}, r"rig\.safetensors"),
        ({"landmark_names": '"nose"'}, r"rig\.safetensors"),
        ({"landmark_names": "[1, 2, 3, 4]"}, r"rig\.safetensors"),
        ({"body": None}, "body"),
        ({"format": "phq-portrait-rig/99"}, FORMAT),
    ],
)
def test_a_wrong_header_is_refused_with_the_files_name(tmp_path, header, message):
    with pytest.raises(RigError, match=message):
        PortraitRig.load(tampered(tmp_path, header=header))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertices": np.zeros((60, 2), np.float32)}, "'vertices' has shape"),
        ({"vertices": np.full((60, 3), np.nan, np.float32)}, "'vertices' holds numbers that are not finite"),
        ({"weights": np.zeros((59, 2), np.float32)}, "'weights' has shape"),
        ({"weights": np.full((60, 2), 0.6, np.float32)}, "sum to at most 1"),
        ({"weights": np.full((60, 2), -0.1, np.float32)}, "must lie in 0..1"),
        ({"landmark_weights": np.full((4, 2), 0.9, np.float32)}, "sum to at most 1"),
        ({"faces": np.full((5, 3), 60, np.int32)}, r"outside 0\.\.59"),
        ({"faces": np.full((5, 3), -1, np.int32)}, r"outside 0\.\.59"),
        ({"faces": np.zeros((0, 3), np.int32)}, "needs vertices and faces"),
        ({"faces": np.full((5, 3), 1.5, np.float32)}, "whole numbers"),
        ({"head_joint": np.zeros(4, np.float32)}, "'head_joint' has shape"),
        ({"landmarks": np.zeros((3, 3), np.float32)}, "'landmarks' has shape"),
        ({"correctives": np.zeros((9, 60, 3), np.float32)}, "'correctives' has shape"),
    ],
)
def test_arrays_that_make_no_rig_are_refused_also_from_a_file(tmp_path, changes, message):
    with pytest.raises(RigError, match=message):
        make_rig(**changes)
    with pytest.raises(RigError, match=message) as caught:
        PortraitRig.load(tampered(tmp_path, changes))
    assert "rig.safetensors" in str(caught.value)


def test_landmarks_are_found_by_name():
    rig = make_rig()
    assert rig.landmark("left_eye") == 2
    with pytest.raises(RigError, match=r"no landmark 'tail' \(it has neck, head"):
        rig.landmark("tail")
