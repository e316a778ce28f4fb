"""SMPL: the rig equals smplx for neck and head poses; three skinnings of one body agree."""

from __future__ import annotations

import os

import numpy as np
import pytest
import smpl_files as files

from phq_data.bodies import JOINT_NAMES, SMPL_JOINT_INDEX
from phq_data.bodies.smpl import SmplBody, load_body, portrait_rig
from phq_data.bodies.smpl_arrays import SmplArrays
from phq_data.bodies.template import template_joints
from phq_data.rig import PortraitRig

pytest.importorskip("smplx", reason="SMPL's mesh needs the extra 'smpl'")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def arrays():
    return files.smpl_arrays(3)


def full_pose(neck_head):
    pose = np.zeros((len(neck_head), 72))
    pose[:, 36:39], pose[:, 45:48] = neck_head[:, :3], neck_head[:, 3:]
    return pose


def check_rig(arrays):
    poses = np.random.default_rng(0).normal(0, 0.5, (8, 6))
    poses[0] = 0.0
    rig = portrait_rig(arrays)
    wanted = SmplBody(arrays).posed(full_pose(poses), np.zeros((8, 10)))
    neck = arrays.j_regressor.astype(np.float64)[12] @ arrays.v_template
    assert np.abs(rig.posed(poses) - (wanted - neck)).max() < 1e-5
    assert rig.correctives is not None and rig.correctives.shape[0] == 18
    without = np.abs(rig.posed(poses[1:]) - PortraitRig.posed(_plain(rig), poses[1:])).max()
    assert without > 1e-3  # the correctives matter
    np.testing.assert_allclose(rig.landmarks[JOINT_NAMES.index("neck")], 0.0, atol=1e-6)


def _plain(rig):
    import dataclasses

    return dataclasses.replace(rig, correctives=None)


def test_the_posed_rig_is_smplxs_mesh(arrays):
    check_rig(arrays)


def test_landmarks_follow_the_regressed_joints(arrays):
    """Near the zero pose, where they are, and how the face turns with the head."""
    rig, body = portrait_rig(arrays), SmplBody(arrays)
    neck = arrays.j_regressor.astype(np.float64)[12] @ arrays.v_template
    zero = body.joints(body.posed(np.zeros((1, 72)), np.zeros((1, 10))))[0] - neck
    np.testing.assert_allclose(rig.landmarks, zero, atol=1e-5)
    bare = SmplArrays(**{**vars_of(arrays), "posedirs": np.zeros_like(arrays.posedirs)})
    pose = np.array([[0.1, -0.4, 0.2, 0.3, 0.2, -0.1]])
    posed = SmplBody(bare)
    moved = posed.joints(posed.posed(full_pose(pose), np.zeros((1, 10))))[0] - neck
    face = [JOINT_NAMES.index(n) for n in ("nose", "left_eye", "right_ear", "head_top")]
    np.testing.assert_allclose(rig.posed_landmarks(pose[0])[face], moved[face], atol=1e-5)


def vars_of(arrays):
    names = ("v_template", "shapedirs", "posedirs", "j_regressor", "weights", "faces")
    return {name: getattr(arrays, name) for name in names}


def test_our_batched_layer_is_smplx(arrays):
    from phq_data.models.crowdnet.smpl_layer import SmplLayer

    rng = np.random.default_rng(1)
    pose, shape = rng.normal(0, 0.4, (3, 72)), rng.normal(0, 1, (3, 10))
    move = rng.normal(0, 1, (3, 3))
    wanted = SmplBody(arrays).posed(pose, shape, move)
    numbers = (torch.from_numpy(a.astype(np.float32)) for a in (pose, shape, move))
    found = SmplLayer(arrays)(*numbers)
    assert np.abs(found.vertices.numpy() - wanted).max() < 1e-5
    rows = [SMPL_JOINT_INDEX[name] for name in JOINT_NAMES]
    np.testing.assert_allclose(found.joints[:, rows].numpy(), SmplBody(arrays).joints(wanted), atol=1e-5)


def test_an_added_file_gives_the_rig_of_the_official_one(arrays, tmp_path, monkeypatch):
    from phq_data.bodies import smpl

    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "models"))
    official = tmp_path / "official.pkl"
    official.write_bytes(files.python2_pickle(files.body_values(3)))
    from phq_data.models import importers

    importers.add("smpl", official)
    smpl.default_rig.cache_clear()
    digest = smpl.default_rig().digest
    smpl.default_rig.cache_clear()
    assert digest == load_body(official).make_rig().digest == portrait_rig(arrays).digest


@pytest.mark.skipif("PHQ_SMPL" not in os.environ, reason="PHQ_SMPL names no SMPL file")
def test_the_official_file():
    body = load_body(os.environ["PHQ_SMPL"])
    check_rig(body.arrays)
    rig = body.make_rig()
    np.testing.assert_allclose(rig.landmarks, template_joints("smpl"), atol=1e-3)
