"""Meshes: metres, the right place, the right way round, and the same thing that the camera sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from phq_data import camera as cameras
from portraitgan.commands.main import main
from portraitgan.inference import views
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.mesh import (
    Mesh,
    MeshOptions,
    extract,
    grid_points,
    largest_part,
    save_mesh,
    surface,
)
from portraitgan.inference.model import Model

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("skimage")

CENTRE, RADII = (0.05, 0.12, -0.04), (0.06, 0.09, 0.04)
OPTIONS = MeshOptions(resolution=90)


def volume_of(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def silhouette(mesh: Mesh, label: torch.Tensor, side: int) -> np.ndarray:
    """Pixels at least half covered by triangles (each sampled densely, on four times as fine a raster)."""
    matrix, intrinsics = cameras.from_label(label[0].numpy())
    u, v, w = mesh.vertices[mesh.faces].astype(np.float64).transpose(1, 0, 2)
    grid = [(i / 8, j / 8) for i in range(9) for j in range(9 - i)]
    points = np.concatenate([u * (1 - a - b) + v * a + w * b for a, b in grid])
    seen, _ = cameras.project(points, matrix, intrinsics)
    pixel = np.floor(seen * 4 * side).astype(int)
    inside = ((pixel >= 0) & (pixel < 4 * side)).all(axis=1)
    covered = np.zeros((4 * side, 4 * side))
    covered[pixel[inside, 1], pixel[inside, 0]] = 1
    return covered.reshape(side, 4, side, 4).mean(axis=(1, 3)) >= 0.5


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_grid_points_are_exact_for_integer_indices() -> None:
    options = MeshOptions(resolution=300, side=0.6)
    indices = torch.tensor([0, 299, 300 * 300 * 299, 300 * 299, 300**3 - 1, 17_000_001])
    points = grid_points(indices, options).double().numpy()
    low, high = cameras.LOOK_AT - 0.3, cameras.LOOK_AT + 0.3
    assert np.allclose(points[0], low, atol=1e-7) and np.allclose(points[4], high, atol=1e-7)
    assert np.allclose(points[1], [low[0], low[1], high[2]], atol=1e-7)
    assert np.allclose(points[2], [high[0], low[1], low[2]], atol=1e-7)
    assert np.allclose(points[3], [low[0], high[1], low[2]], atol=1e-7)
    x, y, z = np.unravel_index(17_000_001, (300, 300, 300))
    assert np.allclose(points[5], low + np.array([x, y, z]) * 0.6 / 299, atol=1e-7)


def test_ellipsoid_comes_out_in_metres_in_its_place(analytic: Callable, make_ellipsoid: Callable) -> None:
    model: Model = analytic(make_ellipsoid(CENTRE, RADII))
    mesh = extract(model, model.styles(model.latents([0])), options=OPTIONS)
    # The surface crosses the threshold between two grid points; densities are steep, so half a step counts.
    assert np.allclose(mesh.vertices.max(axis=0), np.add(CENTRE, RADII), atol=0.004)
    assert np.allclose(mesh.vertices.min(axis=0), np.subtract(CENTRE, RADII), atol=0.004)
    assert volume_of(mesh) == pytest.approx(4 / 3 * np.pi * np.prod(RADII), rel=0.06)  # positive: outward
    outward = mesh.vertices - np.array(CENTRE)
    assert (np.einsum("ij,ij->i", mesh.normals, outward) > 0).all()


def test_colors_are_the_decoders(analytic: Callable, make_ellipsoid: Callable) -> None:
    model: Model = analytic(make_ellipsoid((0, 0.0649, 0), (0.1, 0.1, 0.1)))
    mesh = extract(model, model.styles(model.latents([0])), options=OPTIONS)
    left, front = mesh.vertices[:, 0], mesh.vertices[:, 2]
    clear = (np.abs(left) > 0.02) & (np.abs(front) > 0.02)
    assert ((mesh.colors[:, 0] > 128) == (left > 0))[clear].all()
    assert ((mesh.colors[:, 2] > 128) == (front > 0))[clear].all()
    assert mesh.colors[clear].max() > 240 and mesh.colors[clear].min() < 15


@pytest.mark.parametrize("yaw", [0, 90, -130])
@pytest.mark.parametrize("turned", [False, True])
def test_mesh_covers_what_the_camera_sees(
    analytic: Callable, make_ellipsoid: Callable, yaw: float, turned: bool
) -> None:
    model: Model = analytic(make_ellipsoid(CENTRE, RADII))
    ws = model.styles(model.latents([0]))
    pose = views.body_pose((10, 20, 0), (0, 30, 15)) if turned else None
    mesh = extract(model, ws, pose, OPTIONS)
    label = views.camera(yaw, 12, 6)
    made = model.render(ws, label, pose, resolution=64, sample_factor=12)
    mask = (made.mask[0, 0] > 0.5).numpy()
    assert mask.sum() > 100
    assert overlap(silhouette(mesh, label, 64), mask) > 0.9


def test_posed_mesh_is_the_canonical_one_moved_with_the_head(
    analytic: Callable, make_ellipsoid: Callable
) -> None:
    centre = (0.02, 0.17, 0.03)  # inside the bust's head, which moves rigidly
    model: Model = analytic(make_ellipsoid(centre, (0.04, 0.05, 0.04)))
    ws = model.styles(model.latents([0]))
    pose = views.body_pose((0, 0, 0), (0, 40, 0))
    mesh = extract(model, ws, pose, OPTIONS)
    assert model.generator.deformation is not None
    head = model.generator.deformation.mesh.joints(pose).head[0].numpy()
    expected = head[:, :3] @ np.array(centre) + head[:, 3]
    middle = (mesh.vertices.max(axis=0) + mesh.vertices.min(axis=0)) / 2
    assert np.allclose(middle, expected, atol=0.006)
    assert expected[0] > 0.03  # positive about y turns to the subject's left


def test_chunks_do_not_matter(model: Model) -> None:
    ws = model.styles(model.latents([1]))
    pose = views.body_pose((0, 0, 0), (0, 25, 0))
    cut = MeshOptions(resolution=16, threshold=0.2)
    whole = extract(model, ws, pose, cut)
    parts = extract(model, ws, pose, MeshOptions(resolution=16, threshold=0.2, points=1000))
    assert np.array_equal(whole.faces, parts.faces)
    assert np.allclose(whole.vertices, parts.vertices, atol=1e-6)
    assert np.abs(whole.colors.astype(int) - parts.colors).max() <= 1


def test_body_cut_by_the_cube_is_closed() -> None:
    options = MeshOptions(resolution=12)
    grid = np.full((12, 12, 12), 50.0, np.float32)
    vertices, faces, _ = surface(grid, options)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()
    step = 0.6 / 11
    assert (np.abs(vertices - cameras.LOOK_AT).max(axis=0) >= 0.3).all()
    assert (np.abs(vertices - cameras.LOOK_AT) <= 0.3 + step).all()


def test_largest_part_drops_the_rest() -> None:
    grid = np.full((30, 30, 30), -50.0, np.float32)
    grid[5:20, 5:20, 5:20] = 50
    grid[25:27, 25:27, 25:27] = 50
    options = MeshOptions(resolution=30)
    vertices, faces, normals = surface(grid, options)
    kept, kept_faces, kept_normals = largest_part(vertices, faces, normals)
    assert len(kept) < len(vertices) and len(kept_normals) == len(kept)
    assert kept.max() < vertices.max() and kept_faces.max() == len(kept) - 1


def test_no_surface_is_explained() -> None:
    with pytest.raises(InferenceError, match=r"between -50 and 3.*threshold is 10"):
        grid = np.full((9, 9, 9), -50.0, np.float32)
        grid[4, 4, 4] = 3
        surface(grid, MeshOptions(resolution=9))


@pytest.mark.parametrize("suffix", [".ply", ".glb"])
def test_files_hold_the_mesh(
    analytic: Callable, make_ellipsoid: Callable, tmp_path: Path, suffix: str
) -> None:
    model: Model = analytic(make_ellipsoid(CENTRE, RADII))
    mesh = extract(model, model.styles(model.latents([0])), options=MeshOptions(resolution=40))
    path = tmp_path / f"shape{suffix}"
    save_mesh(path, mesh)
    read = trimesh.load(path, force="mesh", process=False)
    assert np.allclose(read.vertices, mesh.vertices, atol=1e-6)
    assert np.array_equal(read.faces, mesh.faces)
    assert np.array_equal(np.asarray(read.visual.vertex_colors)[:, :3], mesh.colors)
    assert read.is_watertight and read.volume > 0


def test_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["mesh", str(run), str(tmp_path / "a.glb"), "--grid", "16"]
    assert main([*base, "--threshold", "0.2", "--head", "0", "30", "0"]) == 0
    assert "vertices" in capsys.readouterr().out
    assert main([*base, "--threshold", "1e6"]) == 1
    assert "no surface" in capsys.readouterr().err
    assert main([*base, "--seeds", "0,1"]) == 1
    assert "folder" in capsys.readouterr().err
    assert main(["mesh", str(run), str(tmp_path / "a.stl")]) == 1
    assert ".ply" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.glb"]
