"""Closest faces: the triangle formula, the tie rules, and every backend against the float64 oracle."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from phq_data import camera
from phq_data.rig import PortraitRig
from portraitgan.config import DeformationConfig, RenderConfig
from portraitgan.deformation.closest import (
    BruteForce,
    Closest,
    ClosestFaces,
    feature_of,
    on_triangles,
    tie_table,
)
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.search import make_search
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.rendering import rays

MakeBust = Callable[..., PortraitRig]
needs_warp = pytest.mark.skipif(importlib.util.find_spec("warp") is None, reason="needs portraitgan[warp]")
POSES = torch.tensor(
    [
        [0.25, 0.2, 0.1, 0.2, 0.3, -0.1],
        [-0.1, 0.4, 0.2, 0.1, -0.4, 0.2],
        [0.3, 0.0, 0.0, 0.3, 0.0, 0.0],
        [0.0, 0.5, -0.2, -0.2, 0.4, 0.3],
    ]
)
LIMIT = 0.25


def ray_points(count: int, per_side: int = 12, seed: int = 0) -> Tensor:
    """Sample points [count, N, 3] of rays and of the cube around the body."""
    random = np.random.RandomState(seed)
    labels = camera.to_label(
        camera.from_angles(random.uniform(-3, 3, count), random.uniform(-0.3, 0.3, count))
    )
    origins, directions = rays.camera_rays(torch.from_numpy(labels), per_side)
    config = RenderConfig(coarse_samples=24)
    depths = rays.stratified_depths(
        config, torch.from_numpy(random.rand(count, per_side**2, 24).astype(np.float32))
    )
    along = (origins[:, :, None] + depths[..., None] * directions[:, :, None]).flatten(1, 2)
    cube = torch.from_numpy(random.uniform(-0.5, 0.5, (count, 1000, 3)).astype(np.float32))
    return torch.cat([along, cube], dim=1)


def run(search: ClosestFaces, mesh: SkinnedMesh, poses: Tensor, points: Tensor) -> Closest:
    joints = mesh.joints(poses)
    return search.pose(mesh(poses, joints), joints.head)(points, LIMIT)


def make(kind: str, mesh: SkinnedMesh, resolution: int = 96, closest_only: bool = True) -> ClosestFaces:
    if kind == "brute":
        return BruteForce(mesh.faces, torch.float32)
    from portraitgan.deformation.warp_search import BvhSearch, TableSearch

    return BvhSearch(mesh) if kind == "bvh" else TableSearch(mesh, resolution, closest_only=closest_only)


@pytest.fixture(scope="module")
def mesh(make_bust: MakeBust) -> SkinnedMesh:
    return SkinnedMesh.from_rig(make_bust(rings=30, around=28))


@pytest.fixture(scope="module")
def points() -> Tensor:
    return ray_points(len(POSES), per_side=8)


@pytest.fixture(scope="module")
def oracle(mesh: SkinnedMesh, points: Tensor) -> Closest:
    return run(BruteForce(mesh.faces), mesh, POSES, points)


def test_triangle_formula_against_a_dense_grid() -> None:
    random = np.random.RandomState(1)
    corners = torch.from_numpy(random.standard_normal((40, 3, 3)))
    points = torch.from_numpy(random.standard_normal((40, 3)) * 2)
    barycentric, squared = on_triangles(points, *corners.unbind(dim=1))
    assert (barycentric >= -1e-12).all() and torch.allclose(
        barycentric.sum(-1), torch.ones(40, dtype=torch.float64)
    )
    closest = (barycentric[..., None] * corners).sum(dim=1)
    assert torch.allclose((points - closest).square().sum(-1), squared)
    steps = np.linspace(0, 1, 151)
    grid = np.array([(u, v, 1 - u - v) for u in steps for v in steps if u + v <= 1 + 1e-12])
    dense = np.einsum("gk,tkc->tgc", grid, corners.numpy())
    smallest = ((dense - points.numpy()[:, None]) ** 2).sum(-1).min(axis=1)
    assert (squared.numpy() <= smallest + 1e-12).all()
    assert np.allclose(np.sqrt(squared.numpy()), np.sqrt(smallest), atol=0.03)


def test_triangle_formula_without_area() -> None:
    """A triangle two corners of which coincide is a line, whichever two they are."""
    end = torch.tensor([0.0, 0, 0], dtype=torch.float64), torch.tensor([1.0, 0, 0], dtype=torch.float64)
    for corners in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1)):
        for x, expected in ((0.3, 0.04), (1.3, 0.13), (-0.3, 0.13)):
            point = torch.tensor([x, 0.2, 0.0], dtype=torch.float64)
            barycentric, squared = on_triangles(point, *(end[k] for k in corners))
            assert squared == pytest.approx(expected) and barycentric.sum() == pytest.approx(1)


def test_tie_table_of_two_triangles() -> None:
    """Faces (0 1 2) and (2 1 3) share the edge 1-2."""
    ties = tie_table(torch.tensor([[2, 1, 3], [0, 1, 2]]))
    assert ties.tolist() == [[0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1, 1]]
    barycentric = torch.tensor(
        [[0.2, 0.3, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    )
    assert feature_of(barycentric).tolist() == list(range(7))


def test_official_rule_takes_the_lowest_tied_face() -> None:
    """Four triangles around the vertex above which the point hangs: all tie."""
    vertices = torch.tensor([[[0.0, 0, 0], [0.1, -0.1, 0], [0, -0.1, 0.1], [-0.1, -0.1, 0], [0, -0.1, -0.1]]])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2], [0, 4, 3], [0, 1, 4]])
    above = torch.tensor([[[0.0, 0.1, 0.0]]])
    head = torch.zeros(1, 3, 4)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        for dtype in (torch.float64, torch.float32):
            found = BruteForce(faces[order], dtype).pose(vertices, head)(above, LIMIT)
            assert found.face.item() == 0
            assert found.distance.item() == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["brute", pytest.param("bvh", marks=needs_warp)])
def test_exact_backends_match_the_oracle(
    kind: str, mesh: SkinnedMesh, points: Tensor, oracle: Closest
) -> None:
    found = run(make(kind, mesh), mesh, POSES, points)
    near = oracle.face >= 0
    border = (oracle.distance - LIMIT).abs() < 1e-6
    assert ((found.face >= 0) == near)[~border].all()
    both = near & (found.face >= 0)
    assert (found.distance - oracle.distance)[both].abs().max() <= 1e-6
    assert (found.face == oracle.face)[both].float().mean() >= 0.999
    displaced = [warp(mesh, points, c) for c in (found, oracle)]
    error = (displaced[0] - displaced[1]).norm(dim=-1)
    assert (error[both] < 1e-5).float().mean() >= 0.999


def warp(mesh: SkinnedMesh, points: Tensor, closest: Closest) -> Tensor:
    search = BruteForce(mesh.faces)
    return Deformation(mesh, DeformationConfig(), search).posed(POSES[: len(points)]).warp(points, closest)


def correct_where(doubted: Tensor, expected: Closest, mesh: SkinnedMesh, points: Tensor) -> None:
    """Replace what the tree found for some points by the oracle's choice.

    Within 0.1 mm of where an edge takes over from a face, float32 distances cannot decide, nor the tree's.
    """
    oracle = BruteForce(mesh.faces)
    for sample, here in enumerate(doubted):
        alone = slice(sample, sample + 1)
        right = run(oracle, mesh, POSES[alone], points[alone, here])
        expected.face[sample, here] = right.face[0]


@needs_warp
@pytest.mark.parametrize(("resolution", "share"), [(64, 3e-4), (96, 1.5e-4)])
@pytest.mark.parametrize(
    ("correctives", "closest_only"), [(False, False), (False, True), (True, True), (True, False)]
)
def test_tables_meet_their_contract(
    resolution: int, share: float, correctives: bool, closest_only: bool, make_bust: MakeBust
) -> None:
    """Many points, four poses, against the exact tree; where a point ends elsewhere, the oracle decides."""
    mesh = SkinnedMesh.from_rig(make_bust(rings=60, around=40, correctives=correctives))
    points = ray_points(len(POSES), per_side=40, seed=2)
    expected = run(make("bvh", mesh), mesh, POSES, points)
    found = run(make("tables", mesh, resolution, closest_only), mesh, POSES, points)
    near = expected.face >= 0
    assert ((found.face >= 0) != near).float().mean() <= 1e-5
    both = near & (found.face >= 0)
    cell = 1 / (resolution - 1)
    assert (found.distance - expected.distance)[both].max() <= cell
    difference = (warp(mesh, points, found) - warp(mesh, points, expected)).norm(dim=-1)
    correct_where(both & (difference > 1e-5), expected, mesh, points)
    error = (warp(mesh, points, found) - warp(mesh, points, expected)).norm(dim=-1)[both]
    assert error.mean() <= 5e-6
    assert (error > 1e-3).float().mean() <= share
    classes = mesh.face_classes()
    wrong = classes[found.face[both].long()] != classes[expected.face[both].long()]
    assert wrong.float().mean() <= 3e-4


@needs_warp
def test_rig_without_rigid_or_blended_faces(mesh: SkinnedMesh) -> None:
    """All blended, all static, all head: the tables degrade to a tree, or need none."""
    points = ray_points(2, per_side=6)
    for weights in (
        torch.full_like(mesh.weights, 0.5),
        torch.zeros_like(mesh.weights),
        torch.tensor([[0.0, 1.0]]).expand_as(mesh.weights),
    ):
        same = SkinnedMesh(mesh.vertices, mesh.faces, weights, mesh.head_joint)
        exact, found = (run(make(kind, same, 48), same, POSES[:2], points) for kind in ("bvh", "tables"))
        assert torch.equal(exact.face >= 0, found.face >= 0)
        near = exact.face >= 0
        assert (found.distance - exact.distance)[near].max() <= 1 / 47


@pytest.mark.parametrize(
    "kind", ["brute", pytest.param("bvh", marks=needs_warp), pytest.param("tables", marks=needs_warp)]
)
def test_independent_of_batch_order_and_chunks(
    kind: str, mesh: SkinnedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ray_points(3)[:, :: 80 if kind == "brute" else 1]
    search = make(kind, mesh)
    together = run(search, mesh, POSES[:3], points)
    again = run(search, mesh, POSES[:3], points)
    assert torch.equal(together.face, again.face) and torch.equal(together.distance, again.distance)
    for sample in range(3):
        alone = run(search, mesh, POSES[sample : sample + 1], points[sample : sample + 1])
        assert torch.equal(alone.face[0], together.face[sample])
    order = torch.from_numpy(np.random.RandomState(0).permutation(points.shape[1]))
    shuffled = run(search, mesh, POSES[:3], points[:, order])
    assert torch.equal(shuffled.face, together.face[:, order])
    monkeypatch.setattr("portraitgan.deformation.closest._PAIRS_AT_ONCE", {"cpu": 50_000})
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        sliced = run(search, mesh, POSES[:3], points)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(sliced.face, together.face)


@pytest.mark.parametrize(
    "kind", ["brute", pytest.param("bvh", marks=needs_warp), pytest.param("tables", marks=needs_warp)]
)
def test_nothing_to_find(kind: str, mesh: SkinnedMesh) -> None:
    search = make(kind, mesh)
    for batch in (1, 3):
        none = run(search, mesh, POSES[:batch], torch.zeros(batch, 0, 3))
        assert none.face.shape == (batch, 0)
        far = run(search, mesh, POSES[:batch], torch.full((batch, 5, 3), 7.0))
        assert (far.face == -1).all() and torch.isinf(far.distance).all()
    empty = run(search, mesh, POSES[:0], torch.zeros(0, 10, 3))
    assert empty.face.shape == (0, 10)


@needs_warp
def test_earlier_poses_stay_valid(mesh: SkinnedMesh) -> None:
    """Trees are reused from pose to pose, but not while somebody still asks the old one."""
    points = ray_points(1)
    for kind in ("bvh", "tables"):
        search = make(kind, mesh)
        fields = [Deformation(mesh, DeformationConfig(), search).posed(POSES[k : k + 1]) for k in range(3)]
        for k in (0, 1, 2):
            expected = run(make(kind, mesh), mesh, POSES[k : k + 1], points)
            assert torch.equal(fields[k].closest(points).face, expected.face)


def test_choice_of_a_backend(mesh: SkinnedMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_search(mesh, DeformationConfig(search="brute")), BruteForce)
    monkeypatch.setattr("portraitgan.deformation.search.warp_available", lambda: False)
    assert isinstance(make_search(mesh, DeformationConfig()), BruteForce)
    with pytest.raises(DeformationError, match=r"portraitgan\[warp\]"):
        make_search(mesh, DeformationConfig(search="tables"))


@needs_warp
def test_tables_refuse_a_longer_reach(mesh: SkinnedMesh) -> None:
    search = make("tables", mesh, 16)
    joints = mesh.joints(POSES[:1])
    posed = search.pose(mesh(POSES[:1], joints), joints.head)
    with pytest.raises(DeformationError, match="bvh"):
        posed(torch.zeros(1, 1, 3), 0.5)
    with pytest.raises(DeformationError, match="rignerf"):
        make_search(mesh, DeformationConfig(mode="rignerf", search="tables"))


@pytest.mark.gpu
@needs_warp
@pytest.mark.parametrize("kind", ["brute", "bvh", "tables"])
def test_on_a_gpu(kind: str, mesh: SkinnedMesh, points: Tensor, oracle: Closest) -> None:
    device = torch.device("cuda")
    moved = SkinnedMesh(mesh.vertices, mesh.faces, mesh.weights, mesh.head_joint).to(device)
    found = run(make(kind, moved), moved, POSES.to(device), points.to(device))
    near = oracle.face >= 0
    assert (found.face.cpu() == oracle.face)[near].float().mean() > 0.98
