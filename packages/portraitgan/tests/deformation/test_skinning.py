"""Two-joint skinning in torch against the rig's own numpy form, and which faces deform the volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from phq_data.rig import PortraitRig
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.skinning import FaceClass, SkinnedMesh, check_pose, rotation_matrix

MakeBust = Callable[..., PortraitRig]
POSES = torch.tensor(
    [[0.25, 0.2, 0.1, 0.2, 0.3, -0.1], [0, 0, 0, 0, 0, 0], [-0.4, 0.6, 0.2, 0.1, -0.5, 0.3]]
).double()


@pytest.mark.parametrize("neck", [(0.0, 0.0, 0.0), (0.01, -0.03, 0.02)])
@pytest.mark.parametrize("correctives", [False, True])
def test_agrees_with_the_rig(
    make_bust: MakeBust, correctives: bool, neck: tuple[float, float, float]
) -> None:
    rig = replace(make_bust(correctives=correctives), neck_joint=np.array(neck, np.float32))
    mesh = SkinnedMesh.from_rig(rig)
    expected = rig.posed(POSES.numpy())[:, np.unique(rig.faces)]
    assert np.abs(mesh(POSES).numpy() - expected).max() < 1e-12
    assert np.abs(mesh(POSES.float()).numpy() - expected).max() < 1e-6


def test_any_topology_and_the_cube(make_bust: MakeBust) -> None:
    rig = make_bust(rings=9, around=7)
    moved = replace(rig, vertices=rig.vertices + np.array([0.25, 0, 0], np.float32))
    mesh = SkinnedMesh.from_rig(moved)
    inside = np.asarray((np.abs(moved.vertices) < 0.5).all(axis=1))
    kept = inside[rig.faces].all(axis=1)
    assert 0 < kept.sum() < len(rig.faces)
    assert np.array_equal(mesh.kept.numpy(), np.flatnonzero(kept))
    assert np.array_equal(mesh.vertices[mesh.faces].numpy(), moved.vertices[rig.faces[kept]])
    away = replace(rig, vertices=rig.vertices + np.float32(5))
    with pytest.raises(DeformationError, match="none of the rig's"):
        SkinnedMesh.from_rig(away)


def test_degenerate_faces_are_left_out(make_bust: MakeBust) -> None:
    rig = make_bust(rings=5, around=5)
    faces = np.concatenate([rig.faces, [[0, 0, 1], [3, 4, 3]]]).astype(np.int32)
    mesh = SkinnedMesh.from_rig(replace(rig, faces=faces))
    assert np.array_equal(mesh.kept.numpy(), np.arange(len(rig.faces)))


def test_gradient_of_the_pose(make_bust: MakeBust) -> None:
    mesh = SkinnedMesh.from_rig(make_bust(rings=5, around=4, correctives=True))
    assert torch.autograd.gradcheck(mesh, POSES.clone().requires_grad_())


def test_rotation_is_smooth_at_zero() -> None:
    for dtype in (torch.float32, torch.float64):
        zero = torch.zeros(3, dtype=dtype, requires_grad=True)
        jacobian = torch.autograd.functional.jacobian(rotation_matrix, zero)
        assert isinstance(jacobian, Tensor)
        assert torch.allclose(jacobian[2, 1], torch.tensor([1, 0, 0], dtype=dtype), atol=1e-6)
        assert torch.isfinite(jacobian).all()


def test_classes_and_static_faces(make_bust: MakeBust) -> None:
    rig = make_bust()
    mesh = SkinnedMesh.from_rig(rig)
    classes = mesh.face_classes()
    weights = rig.weights[rig.faces]
    assert (mesh.static == (classes == FaceClass.STATIC)).all()
    assert np.array_equal((classes == FaceClass.HEAD).numpy(), (weights[..., 1] == 1).all(axis=1))
    assert (classes == FaceClass.BLENDED).any()
    posed = mesh(POSES.float()[:1])[0]
    joints = mesh.joints(POSES.float()[:1])
    head = mesh.faces[classes == FaceClass.HEAD].unique()
    by_head = mesh.vertices[head] @ joints.head[0, :, :3].T + joints.head[0, :, 3]
    assert torch.allclose(posed[head], by_head, atol=1e-6)
    with_rows = SkinnedMesh.from_rig(make_bust(correctives=True)).face_classes()
    assert (with_rows == FaceClass.BLENDED).sum() > (classes == FaceClass.BLENDED).sum()


def test_bad_poses_are_named() -> None:
    pose = torch.zeros(3, 6)
    pose[1, 4] = torch.nan
    with pytest.raises(DeformationError, match=r"samples \[1\]"):
        check_pose(pose)
    with pytest.raises(DeformationError, match="shape"):
        check_pose(torch.zeros(6))
    check_pose(torch.zeros(0, 6))
