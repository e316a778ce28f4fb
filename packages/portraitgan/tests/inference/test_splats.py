"""Splats: a viewer's formulas applied to the file show the person that the model shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from phq_data import camera as cameras
from portraitgan.inference import views
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.mesh import Mesh, MeshOptions, extract
from portraitgan.inference.model import Model
from portraitgan.inference.splats import facing, save_splats, splats_of

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("skimage")
CENTRE, RADII = (0.03, 0.12, -0.02), (0.07, 0.1, 0.05)
SIDE = 96


def rotations(quaternions: np.ndarray) -> np.ndarray:
    """Matrices [N, 3, 3] of w, x, y, z, by the textbook's formula."""
    w, x, y, z = quaternions.T
    return np.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ], axis=1,
    ).reshape(-1, 3, 3)  # fmt: skip


def covariances(data: np.ndarray) -> np.ndarray:
    """World covariances [N, 3, 3] as viewers make them of a file's fields."""
    turn = rotations(np.stack([data[f"rot_{n}"] for n in range(4)], axis=1).astype(np.float64))
    scale = np.exp(np.stack([data[f"scale_{n}"] for n in range(3)], axis=1).astype(np.float64))
    return np.einsum("nij,nj,nkj->nik", turn, scale**2, turn)


def splatted(data: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(colors [S, S, 3] in 0..1, coverage [S, S]) by elliptical weighted averaging, front to back."""
    matrix, intrinsics = cameras.from_label(label)
    rotation = matrix[:3, :3].T.astype(np.float64)
    points = np.stack([data[name] for name in "xyz"], axis=1).astype(np.float64)
    local = (points - matrix[:3, 3]) @ rotation.T
    focal = intrinsics[0, 0] * SIDE
    x, y, z = local.T
    centre = np.stack([focal * x / z, focal * y / z], axis=1) + intrinsics[:2, 2] * SIDE
    slope = np.zeros((len(points), 2, 3))
    slope[:, 0, 0] = slope[:, 1, 1] = focal / z
    slope[:, 0, 2], slope[:, 1, 2] = -focal * x / z**2, -focal * y / z**2
    whole = slope @ rotation
    flat = whole @ covariances(data) @ whole.transpose(0, 2, 1) + 0.3 * np.eye(2)
    inverse = np.linalg.inv(flat)
    colors = 0.5 + 0.28209479177387814 * np.stack([data[f"f_dc_{n}"] for n in range(3)], axis=1)
    opacity = 1 / (1 + np.exp(-data["opacity"].astype(np.float64)))
    grid = np.stack(np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5), axis=-1).reshape(-1, 2)
    image, left = np.zeros((SIDE * SIDE, 3)), np.ones(SIDE * SIDE)
    for n in np.argsort(z):
        off = grid - centre[n]
        alpha = np.minimum(0.99, opacity[n] * np.exp(-0.5 * np.einsum("pi,ij,pj->p", off, inverse[n], off)))
        image += (left * alpha)[:, None] * colors[n]
        left *= 1 - alpha
    return image.reshape(SIDE, SIDE, 3), (1 - left).reshape(SIDE, SIDE)


@pytest.fixture
def person(analytic: Callable[..., Model], make_ellipsoid: Callable[..., Callable]) -> tuple[Model, Mesh]:
    model = analytic(make_ellipsoid(CENTRE, RADII))
    return model, extract(model, model.styles(model.latents([1])), None, MeshOptions(resolution=80))


def written(mesh: Mesh, folder: Path) -> np.ndarray:
    """The rows of the file as another library reads them."""
    save_splats(folder / "head.ply", splats_of(mesh))
    raw = trimesh.load(folder / "head.ply").metadata["_ply_raw"]
    data: np.ndarray = raw["vertex"]["data"]
    return data


def test_the_file_has_the_layout_that_viewers_read(person: tuple[Model, Mesh], tmp_path: Path) -> None:
    _, mesh = person
    data = written(mesh, tmp_path)
    rest = [f"f_rest_{n}" for n in range(45)]
    assert list(data.dtype.names) == [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity",
        "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip
    assert all(data.dtype[name] == np.dtype("<f4") for name in data.dtype.names)
    assert len(data) == len(mesh.vertices) and not any(data[name].any() for name in rest)
    shown = 0.5 + 0.28209479177387814 * np.stack([data[f"f_dc_{n}"] for n in range(3)], axis=1)
    assert np.abs(shown * 255 - mesh.colors).max() < 0.01


def test_gaussians_lie_flat_on_the_surface(person: tuple[Model, Mesh], tmp_path: Path) -> None:
    _, mesh = person
    values, axes = np.linalg.eigh(covariances(written(mesh, tmp_path)))
    along = np.abs((axes[:, :, 0] * mesh.normals).sum(axis=1))  # the thinnest axis is the normal
    assert along.min() > 0.9999
    thin, *wide = np.sqrt(values).T
    assert (thin < 0.2 * wide[0]).all() and np.allclose(*wide)
    # As wide as the surface is there: an ellipse of one standard deviation each covers it 1.3 times.
    area = np.pi * (wide[0] ** 2).sum()
    triangles = mesh.vertices[mesh.faces].astype(np.float64)
    surface = (
        np.linalg.norm(np.cross(*(triangles[:, 1:] - triangles[:, :1]).transpose(1, 0, 2)), axis=1).sum() / 2
    )
    assert 1.2 < area / surface < 1.6


def test_every_direction_can_be_faced() -> None:
    normals = np.random.default_rng(0).normal(size=(500, 3))
    normals = np.concatenate([normals, np.eye(3), -np.eye(3)])
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    turned = rotations(facing(normals).astype(np.float64)) @ np.array([0, 0, 1.0])
    assert np.abs(turned - normals).max() < 1e-5


@pytest.mark.parametrize("yaw", [0, 90, 200])
def test_splatted_they_look_like_the_volume(person: tuple[Model, Mesh], tmp_path: Path, yaw: float) -> None:
    model, mesh = person
    label = views.camera(yaw, 10)
    image, coverage = splatted(written(mesh, tmp_path), label[0].numpy())
    made = model.render(model.styles(model.latents([1])), label, resolution=SIDE, sample_factor=4)
    mask = made.mask[0, 0].numpy() > 0.5
    found = coverage > 0.5
    assert (mask & found).sum() > 0.98 * mask.sum()
    # Gaussians reach beyond the surface by one or two deviations of 5 mm, a pixel being 6 to 7 mm.
    assert not (found & ~binary_dilation(mask, iterations=3)).any()
    assert (found & ~mask).sum() < 0.25 * mask.sum()
    inner = mask & (coverage > 0.97)
    assert inner.sum() > 0.85 * mask.sum()  # no holes
    wanted = made.image_raw[0].permute(1, 2, 0).numpy() / 2 + 0.5
    assert (np.abs(image - wanted)[inner].max(axis=1) < 0.25).mean() > 0.7  # all but where colors change


def test_a_surface_without_area_and_other_files_are_refused(
    person: tuple[Model, Mesh], tmp_path: Path
) -> None:
    _, mesh = person
    with pytest.raises(InferenceError, match=r"written as a \.ply"):
        save_splats(tmp_path / "head.glb", splats_of(mesh))
    flat = Mesh(mesh.vertices * 0, mesh.faces, mesh.normals, mesh.colors)
    with pytest.raises(InferenceError, match="no area"):
        splats_of(flat)
