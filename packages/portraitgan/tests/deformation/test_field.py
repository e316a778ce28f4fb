"""The deformation field: parity, gradients, saved memory, and what it does with difficult input."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from phq_data.rig import PortraitRig
from portraitgan.config import DeformationConfig
from portraitgan.deformation.closest import BruteForce
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.field import (
    Deformation,
    InverseSkinning,
    face_transforms,
    fade,
    transform_points,
    transform_points_plain,
)
from portraitgan.deformation.skinning import SkinnedMesh

MakeBust = Callable[..., PortraitRig]
POSES = torch.tensor(
    [[0.25, 0.2, 0.1, 0.2, 0.3, -0.1], [-0.1, 0.4, 0.2, 0.1, -0.4, 0.2], [0.3, 0.0, 0.0, 0.3, 0.0, 0.0]]
)


@pytest.fixture(scope="module")
def mesh(make_bust: MakeBust) -> SkinnedMesh:
    return SkinnedMesh.from_rig(make_bust(rings=16, around=12))


def field(mesh: SkinnedMesh, **changes: object) -> Deformation:
    config = DeformationConfig(**changes)  # type: ignore[arg-type]
    return Deformation(mesh, config, BruteForce(mesh.faces))


def cloud(batch: int, count: int = 400, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(batch, count, 3, generator=random) - 0.5


@pytest.mark.parametrize("mode", ["face", "smooth", "rignerf"])
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_zero_pose_is_the_identity(mesh: SkinnedMesh, mode: str, batch: int) -> None:
    points = cloud(batch)
    moved = field(mesh, mode=mode).posed(torch.zeros(batch, 6)).warp(points)
    assert (moved - points).abs().max() < 1e-6


def test_face_mode_follows_the_definition(mesh: SkinnedMesh) -> None:
    """Spec section 3.4 written out per point, in float64; batch 3, where a careless cross product fails."""
    poses, points = POSES.double(), cloud(3).double()
    posed = field(mesh).posed(poses)
    closest = posed.closest(points)
    moved = posed.warp(points, closest)
    canonical = mesh.vertices.double()
    checked = 0
    for b in range(3):
        for n in range(0, 400, 7):
            f = int(closest.face[b, n])
            if f < 0:
                assert torch.equal(moved[b, n], points[b, n])
                continue
            frames = []
            for corners in (posed.vertices[b][mesh.faces[f]], canonical[mesh.faces[f]]):
                edge = corners[1] - corners[0]
                t = edge / edge.norm()
                normal = torch.linalg.cross(edge, corners[2] - corners[0])
                n_ = normal / normal.norm()
                frames.append((corners[0], torch.stack([t, n_, torch.linalg.cross(t, n_)])))
            (v0, frame), (v0c, frame_c) = frames
            expected = v0c + (frame @ (points[b, n] - v0)) @ frame_c
            assert torch.allclose(moved[b, n], expected, atol=1e-12)
            checked += 1
    assert checked > 50
    rotations = face_transforms(posed.vertices, mesh.vertices, mesh.faces)[..., :3]
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(3, len(mesh.faces), dtype=torch.float64))


def test_static_faces_get_exactly_the_identity(mesh: SkinnedMesh) -> None:
    posed = field(mesh).posed(POSES)
    assert posed.transforms is not None
    static = mesh.static
    assert static.any() and not static.all()
    assert torch.equal(posed.transforms[:, static], torch.eye(3, 4).expand(3, int(static.sum()), 3, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("faded", [False, True])
def test_transform_equals_its_plain_form(dtype: torch.dtype, faded: bool) -> None:
    random = torch.Generator().manual_seed(3)
    points = torch.randn(3, 50, 3, generator=random, dtype=dtype)
    transforms = torch.randn(3, 7, 3, 4, generator=random, dtype=dtype)
    face = torch.randint(-1, 7, (3, 50), generator=random)
    strength = torch.rand(3, 50, generator=random, dtype=dtype) if faded else None
    weights = torch.randn(3, 50, 3, generator=random, dtype=dtype)
    results = []
    for form in (transform_points, transform_points_plain):
        inputs = [value.clone().requires_grad_() for value in (points, transforms)]
        moved = form(inputs[0], inputs[1], face, strength)
        results.append((moved, *torch.autograd.grad((moved * weights).sum(), inputs)))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for fast, plain in zip(*results, strict=True):
        assert torch.allclose(fast, plain, atol=tolerance, rtol=tolerance)


def test_gradcheck() -> None:
    random = torch.Generator().manual_seed(4)
    points = torch.randn(2, 6, 3, generator=random, dtype=torch.float64, requires_grad=True)
    transforms = torch.randn(2, 4, 3, 4, generator=random, dtype=torch.float64, requires_grad=True)
    face = torch.randint(-1, 4, (2, 6), generator=random)
    strength = torch.rand(2, 6, generator=random, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p, t: transform_points(p, t, face), (points, transforms))
    assert torch.autograd.gradcheck(lambda p, t: transform_points(p, t, face, strength), (points, transforms))
    weights = torch.rand(2, 6, 2, generator=random, dtype=torch.float64) / 2
    joints = [torch.eye(3, 4, dtype=torch.float64) + 0.2 * transforms[:, k].detach() for k in range(2)]
    joints = [joint.requires_grad_() for joint in joints]
    assert torch.autograd.gradcheck(
        lambda p, n, h: InverseSkinning.apply(p, weights, n, h), (points, joints[0], joints[1])
    )


@pytest.mark.parametrize("mode", ["face", "smooth", "rignerf"])
def test_pose_gradient_in_float32(mesh: SkinnedMesh, mode: str) -> None:
    """Against float64 with the same closest faces, relative 1e-4."""
    points = cloud(3, 3000)
    closest = field(mesh, mode=mode).posed(POSES).closest(points, 1e3 if mode == "rignerf" else None)
    weights = torch.randn(points.shape, generator=torch.Generator().manual_seed(5))
    grads = []
    for dtype in (torch.float32, torch.float64):
        pose = POSES.to(dtype, copy=True).requires_grad_()
        moved = field(mesh, mode=mode).posed(pose).warp(points.to(dtype), closest)
        grads.append(torch.autograd.grad((moved * weights.to(dtype)).sum(), pose)[0])
    assert grads[1].abs().min() > 0
    assert (grads[0] - grads[1]).norm() <= 1e-4 * grads[1].norm()


def test_saved_bytes_per_point(mesh: SkinnedMesh) -> None:
    """At most 32 bytes a point are kept for the gradient, besides what does not grow with the points."""
    count = 5000
    posed = field(mesh).posed(POSES[:1].clone().requires_grad_())
    points = cloud(1, count)
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.numel() >= count:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    closest = posed.closest(points)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        posed.warp(points, closest)
    assert 0 < sum(saved.values()) / count <= 32


def test_smooth_mode_inverts_the_skinning(mesh: SkinnedMesh) -> None:
    """A posed vertex goes back to where it was, also with pose correctives."""
    for rows in (
        None,
        torch.randn(18, len(mesh.vertices), 3, generator=torch.Generator().manual_seed(1)) * 0.01,
    ):
        skinned = SkinnedMesh(mesh.vertices, mesh.faces, mesh.weights, mesh.head_joint, correctives=rows)
        posed = field(skinned, mode="smooth").posed(POSES)
        back = posed.warp(posed.vertices)
        assert (back - skinned.vertices).abs().max() < 2e-5


def test_smooth_mode_is_smoother(mesh: SkinnedMesh) -> None:
    """A step of a millimetre around the neck is rarely more than doubled; the maps of faces jump."""
    points = cloud(1, 5000) * torch.tensor([0.4, 0.2, 0.4]) + torch.tensor([0.0, 0.02, 0.0])
    beside = points + torch.tensor([0.0, 0.001, 0.0])
    jumps = {}
    for mode in ("face", "smooth"):
        posed = field(mesh, mode=mode).posed(POSES[:1])
        step = (posed.warp(beside) - posed.warp(points)).norm(dim=-1)
        jumps[mode] = (step > 0.002).float().mean()
    assert jumps["face"] > 0.01
    assert jumps["smooth"] < 0.5 * jumps["face"], jumps


def test_rignerf_formula(mesh: SkinnedMesh) -> None:
    """Equation 10 at posed vertices: the displacement is canonical minus posed, at distance 0."""
    posed = field(mesh, mode="rignerf").posed(POSES)
    assert (posed.warp(posed.vertices) - mesh.vertices).abs().max() < 1e-5
    above = posed.vertices[:, -1:] + torch.tensor([0.0, 0.3, 0.0])
    moved = posed.warp(above)
    distance = posed.closest(above, 1e3).distance
    assert (distance > 0.25).any()
    expected = (moved - above).norm(dim=-1) * distance.exp()
    assert (expected < 0.5).all() and (moved != above).any()


def test_fade_ends_at_the_limit(mesh: SkinnedMesh) -> None:
    distance = torch.tensor([0.0, 0.2, 0.225, 0.25, torch.inf])
    strength = fade(distance, 0.25, 0.05)
    assert strength is not None
    assert torch.allclose(strength, torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]))
    assert fade(distance, 0.25, 0.0) is None
    points = cloud(3, 4000)
    hard, soft = (field(mesh, fade=width).posed(POSES) for width in (0.0, 0.05))
    closest = hard.closest(points)
    inner = closest.distance < 0.19
    assert torch.allclose(hard.warp(points, closest)[inner], soft.warp(points, closest)[inner], atol=1e-6)
    edge = (closest.distance > 0.249) & (closest.distance < 0.25)
    assert edge.any()
    assert (soft.warp(points, closest) - points).norm(dim=-1)[edge].max() < 1e-3
    assert (hard.warp(points, closest) - points).norm(dim=-1)[edge].max() > 1e-2


def test_far_points_stay(mesh: SkinnedMesh) -> None:
    points = torch.full((3, 4, 3), 3.0)
    for mode in ("face", "smooth"):
        pose = POSES.clone().requires_grad_()
        moved = field(mesh, mode=mode).posed(pose).warp(points)
        assert torch.equal(moved, points)
        moved.sum().backward()
        assert pose.grad is not None and (pose.grad == 0).all()


def test_collapsed_faces_stay_finite(mesh: SkinnedMesh) -> None:
    flat = torch.zeros(1, len(mesh.vertices), 3, requires_grad=True)
    transforms = face_transforms(flat, mesh.vertices, mesh.faces)
    assert torch.isfinite(transforms).all()
    assert torch.isfinite(torch.autograd.grad(transforms.sum(), flat)[0]).all()


def test_clear_errors(mesh: SkinnedMesh) -> None:
    deformation = field(mesh)
    bad = POSES.clone()
    bad[2, 0] = torch.inf
    with pytest.raises(DeformationError, match="not finite"):
        deformation.posed(bad)
    with pytest.raises(DeformationError, match="do not fit 3 poses"):
        deformation.posed(POSES).warp(torch.zeros(2, 5, 3))
    with pytest.raises(DeformationError, match="none"):
        field(mesh, mode="none")
    empty = deformation.posed(POSES).warp(torch.zeros(3, 0, 3))
    assert empty.shape == (3, 0, 3)
    none = deformation.posed(POSES[:0]).warp(torch.zeros(0, 5, 3))
    assert none.shape == (0, 5, 3)


def test_nothing_of_the_rig_is_in_the_state_dict(mesh: SkinnedMesh) -> None:
    assert field(mesh).state_dict() == {}


def test_a_copied_network_shares_the_search(mesh: SkinnedMesh) -> None:
    """The EMA of a generator is a deep copy; it must warp alike, pose by pose."""
    pytest.importorskip("warp")
    original = Deformation(mesh, DeformationConfig(table_resolution=24))
    points = cloud(3)
    expected = original.posed(POSES).warp(points)
    twin = copy.deepcopy(original)
    assert twin.search is original.search
    assert torch.equal(twin.posed(POSES).warp(points), expected)
