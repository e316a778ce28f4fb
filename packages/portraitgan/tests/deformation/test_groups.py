"""The grouped search of a CPU: against the float64 oracle, against the tree, and with difficult faces."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.deformation import POSES as POSE_LIST
from phq_data.rig import PortraitRig
from portraitgan.config import DeformationConfig
from portraitgan.deformation.closest import BruteForce, Closest, ClosestFaces, on_triangles
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh

pytest.importorskip("warp", reason="needs portraitgan[warp]")

from portraitgan.deformation import warp_search
from portraitgan.deformation.warp_search import TableSearch

MakeBust = Callable[..., PortraitRig]
POSES = torch.tensor(POSE_LIST)
LIMIT = 0.25


def run(search: ClosestFaces, mesh: SkinnedMesh, poses: Tensor, points: Tensor) -> Closest:
    joints = mesh.joints(poses)
    return search.pose(mesh(poses, joints), joints.head)(points, LIMIT)


def blended(mesh: SkinnedMesh) -> SkinnedMesh:
    """The same body, every face of which moves with both joints: all of it is searched by groups."""
    weights = mesh.weights * 0.8 + 0.1
    return SkinnedMesh(mesh.vertices, mesh.faces, weights, mesh.head_joint)


@pytest.fixture(scope="module")
def mesh(make_bust: MakeBust) -> SkinnedMesh:
    return SkinnedMesh.from_rig(make_bust(rings=30, around=28))


@pytest.fixture(scope="module")
def points() -> Tensor:
    """Per pose, 30 lines of 25 points through the body, and 500 points of the cube: [4, 1250, 3]."""
    random = np.random.RandomState(0)
    ends = random.uniform(-0.5, 0.5, (2, len(POSES), 30, 1, 3))
    along = np.linspace(0, 1, 25)[:, None]
    lines = (ends[0] * (1 - along) + ends[1] * along).reshape(len(POSES), -1, 3)
    cube = random.uniform(-0.5, 0.5, (len(POSES), 500, 3))
    return torch.from_numpy(np.concatenate([lines, cube], axis=1).astype(np.float32))


def same(a: Closest, b: Closest) -> bool:
    return torch.equal(a.face, b.face) and torch.equal(a.distance, b.distance)


@pytest.mark.parametrize(("rings", "around"), [(30, 28), (17, 9), (3, 3)])
def test_every_distance_is_the_oracles(rings: int, around: int, points: Tensor, make_bust: MakeBust) -> None:
    """Four poses, rays and the cube; also bodies whose faces fill no whole group, or hardly one."""
    body = blended(SkinnedMesh.from_rig(make_bust(rings=rings, around=around)))
    search = TableSearch(body, 16)
    assert search.groups is not None and len(search.blended) == len(body.faces)
    found, wanted = run(search, body, POSES, points), run(BruteForce(body.faces), body, POSES, points)
    near = wanted.face >= 0
    border = (wanted.distance - LIMIT).abs() < 1e-6
    assert near.float().mean() > 0.3 and ((found.face >= 0) == near)[~border].all()
    both = near & (found.face >= 0)
    assert (found.distance - wanted.distance)[both].abs().max() <= 1e-6
    assert (found.face == wanted.face)[both].float().mean() >= 0.999


def test_pose_gradient_follows_the_oracles_faces(mesh: SkinnedMesh, points: Tensor) -> None:
    body = blended(mesh)
    weights = torch.rand(points.shape, generator=torch.Generator().manual_seed(0))
    gradients = []
    for search in (TableSearch(body, 16), BruteForce(body.faces)):
        poses = POSES.clone().requires_grad_()
        moved = Deformation(body, DeformationConfig(), search).posed(poses).warp(points)
        gradients.append(torch.autograd.grad((moved * weights).sum(), poses)[0])
    assert (gradients[0] - gradients[1]).norm() <= 2e-3 * gradients[1].norm()


@pytest.mark.parametrize("closest_only", [False, True])
def test_groups_and_tree_agree(mesh: SkinnedMesh, points: Tensor, closest_only: bool) -> None:
    by_groups = TableSearch(mesh, 48, closest_only=closest_only)
    by_tree = TableSearch(mesh, 48, closest_only=closest_only, trees_only=True)
    assert by_groups.groups is not None and by_tree.groups is None
    found, wanted = run(by_groups, mesh, POSES, points), run(by_tree, mesh, POSES, points)
    near = wanted.face >= 0
    assert torch.equal(found.face >= 0, near)
    assert (found.distance - wanted.distance)[near].abs().max() <= 2e-7
    assert (found.face == wanted.face)[near].float().mean() >= 0.998


def test_neighbours_and_slices_change_nothing(mesh: SkinnedMesh, points: Tensor) -> None:
    """Which group is tested first depends on the point before; the result must not, to the last bit."""
    body = blended(mesh)
    search = TableSearch(body, 16)
    together = run(search, body, POSES, points)
    assert same(run(search, body, POSES, points), together)
    order = torch.from_numpy(np.random.RandomState(0).permutation(points.shape[1]))
    shuffled = run(search, body, POSES, points[:, order])
    assert torch.equal(shuffled.face, together.face[:, order])
    assert torch.equal(shuffled.distance, together.distance[:, order])
    for first, last in ((0, 1), (5, 70), (63, 700)):
        part = run(search, body, POSES[2:3], points[2:3, first:last])
        assert same(part, Closest(together.face[2:3, first:last], together.distance[2:3, first:last]))


def test_ties_go_to_the_lowest_face() -> None:
    """Above the tip of four triangles, and beside their edges, whatever the order of the faces."""
    vertices = torch.tensor([[0.0, 0, 0], [0.1, -0.1, 0], [0, -0.1, 0.1], [-0.1, -0.1, 0], [0, -0.1, -0.1]])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2], [0, 4, 3], [0, 1, 4]])
    weights = torch.full((5, 2), 0.3)
    outside = torch.tensor([[[0.0, 0.1, 0.0], [0.08, 0.02, 0.0], [0.0, 0.02, 0.08], [-0.08, 0.02, 0.0]]])
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        body = SkinnedMesh(vertices, faces[order], weights, torch.tensor([0.0, 0.05, 0.0]))
        found = run(TableSearch(body, 16), body, torch.zeros(1, 6), outside)
        lowest = [min(order.index(face) for face in tied) for tied in ((0, 1, 2, 3), (0, 3), (0, 1), (1, 2))]
        assert found.face[0].tolist() == lowest


def test_faces_that_a_pose_collapses(mesh: SkinnedMesh, points: Tensor) -> None:
    """Needles and faces shrunk to a point are as near as their edges are."""
    body = blended(mesh)
    joints = body.joints(POSES[:1])
    posed = body(POSES[:1], joints).clone()
    a, b, c = body.faces[::3].T
    posed[0, a[::2]] = posed[0, b[::2]]
    posed[0, c[1::2]] = 0.5 * (posed[0, a[1::2]] + posed[0, b[1::2]])
    found = TableSearch(body, 16).pose(posed, joints.head)(points[:1], LIMIT)
    wanted = BruteForce(body.faces).pose(posed, joints.head)(points[:1], LIMIT)
    near = (wanted.face >= 0) & (found.face >= 0)
    assert torch.isfinite(found.distance[near]).all() and near.float().mean() > 0.3
    assert (found.distance - wanted.distance)[near].abs().max() <= 1e-6
    corners = posed[0][body.faces][found.face[near].long()].double()
    _, squared = on_triangles(points[:1][near].double(), *corners.unbind(dim=1))
    # The reported face is itself one of the nearest.
    assert (squared.sqrt() - wanted.distance[near]).abs().max() <= 1e-6


def test_tables_of_both_widths(mesh: SkinnedMesh, points: Tensor) -> None:
    """Bodies of more than 32,767 faces store wider numbers."""
    search = TableSearch(mesh, 48)
    narrow = run(search, mesh, POSES, points)
    assert search.static.nodes.dtype == torch.int16
    for name in ("static", "head"):
        table = getattr(search, name)
        setattr(search, name, dataclasses.replace(table, nodes=table.nodes.int(), _copies={}))
    assert same(run(search, mesh, POSES, points), narrow)


def test_numbers_that_are_not_finite(mesh: SkinnedMesh, points: Tensor) -> None:
    """A bad point finds nothing and does not disturb its neighbours."""
    search = TableSearch(mesh, 48)
    wanted = run(search, mesh, POSES, points)
    bad = points.clone()
    bad[:, ::7] = torch.nan
    bad[:, 1::7] = torch.inf
    found = run(search, mesh, POSES, bad)
    assert (found.face[:, ::7] == -1).all() and (found.face[:, 1::7] == -1).all()
    assert torch.equal(found.face[:, 2::7], wanted.face[:, 2::7])


def test_without_vector_code_trees_do_it_and_the_log_says_so(
    mesh: SkinnedMesh, points: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no such instruction")

    warp_search.groups_run.cache_clear()
    monkeypatch.setattr("portraitgan.deformation.warp_search.wp.load_module", refuse)
    try:
        with caplog.at_level(logging.WARNING):
            search = TableSearch(mesh, 48)
    finally:
        warp_search.groups_run.cache_clear()
    assert search.groups is None and "no such instruction" in caplog.text
    wanted = run(TableSearch(mesh, 48, trees_only=True), mesh, POSES, points)
    assert same(run(search, mesh, POSES, points), wanted)
