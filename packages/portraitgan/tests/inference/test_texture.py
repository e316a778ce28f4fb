"""Textured meshes: the image on the surface is what the volume shows there, also between the vertices."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phq_data.camera import LOOK_AT
from portraitgan.commands.main import main
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.mesh import Mesh, MeshOptions, extract, surface_colors
from portraitgan.inference.model import Model
from portraitgan.inference.texture import Textured, bake, save_textured

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("xatlas")
CENTRE, RADII = (0.01, 0.1, 0.0), (0.08, 0.11, 0.09)
SIZE = 256


@pytest.fixture
def person(analytic: Callable[..., Model], make_ellipsoid: Callable[..., Callable]) -> tuple[Model, Mesh]:
    """An ellipsoid across the planes where the analytic volume's colors change, cut out coarsely."""
    model = analytic(make_ellipsoid(CENTRE, RADII))
    return model, extract(model, model.styles(model.latents([1])), None, MeshOptions(resolution=40))


def baked(model: Model, mesh: Mesh, size: int = SIZE) -> Textured:
    return bake(mesh, surface_colors(model, model.styles(model.latents([1]))), size, model.device)


def sampled(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Texels [N, 3] at texture coordinates [N, 2], whose v points up."""
    side = len(texture)
    column, row = uv[:, 0] * side, (1 - uv[:, 1]) * side
    return texture[np.clip(row, 0, side - 1).astype(int), np.clip(column, 0, side - 1).astype(int)]


def test_between_the_vertices_the_texture_is_as_sharp_as_the_volume(person: tuple[Model, Mesh]) -> None:
    """The volume is red where x > 0, green above the neck joint, blue in front; vertices are 15 mm apart."""
    model, mesh = person
    made = baked(model, mesh)
    random = np.random.default_rng(0)
    weights = random.dirichlet((1, 1, 1), 4000)
    face = made.faces[random.integers(0, len(made.faces), 4000)]
    points = (made.vertices[face] * weights[:, :, None]).sum(axis=1)
    found = sampled(made.texture, (made.uv[face] * weights[:, :, None]).sum(axis=1))
    wanted = np.where(points > 0, 255, 0)
    near = (np.abs(points) > 0.004) & (np.abs(points) < 0.012)  # a texel is about 2.5 mm
    assert (np.abs(found.astype(int) - wanted)[near] < 30).mean() > 0.97
    # Vertex colors alone, interpolated, are wrong at many of these points.
    source = np.abs(mesh.vertices[:, None] - made.vertices[None]).sum(axis=2).argmin(axis=0)
    blurred = (mesh.colors[source][face] * weights[:, :, None]).sum(axis=1)
    assert (np.abs(blurred - wanted)[near] < 30).mean() < 0.9


def test_the_surface_stays_and_every_texel_has_a_color(person: tuple[Model, Mesh]) -> None:
    model, mesh = person
    made = baked(model, mesh)
    assert made.texture.shape == (SIZE, SIZE, 3) and 0.2 < made.covered < 1
    assert len(made.faces) == len(mesh.faces) and len(made.vertices) >= len(mesh.vertices)
    assert made.uv.min() >= 0 and made.uv.max() <= 1
    triangles = np.sort(made.vertices[made.faces].reshape(-1, 9), axis=0)
    assert np.array_equal(triangles, np.sort(mesh.vertices[mesh.faces].reshape(-1, 9), axis=0))
    # Outside of the charts texels repeat their neighbours: the eight pure colors, nothing black by default.
    assert (made.texture.max(axis=2) > 0).mean() > 0.8


def test_a_glb_holds_the_texture_and_readers_put_it_where_it_belongs(
    person: tuple[Model, Mesh], tmp_path: Path
) -> None:
    model, mesh = person
    made = baked(model, mesh)
    save_textured(tmp_path / "head.glb", made)
    data = (tmp_path / "head.glb").read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    said = json.loads(data[20 : 20 + length])
    assert said["images"][0]["mimeType"] == "image/png" and said["asset"]["version"] == "2.0"
    attributes = said["meshes"][0]["primitives"][0]["attributes"]
    assert {"POSITION", "NORMAL", "TEXCOORD_0"} <= set(attributes)
    (read,) = trimesh.load(tmp_path / "head.glb", process=False).geometry.values()
    assert np.allclose(read.vertices, made.vertices, atol=1e-6) and np.array_equal(read.faces, made.faces)
    assert np.allclose(read.visual.uv, made.uv, atol=1e-6)
    assert np.array_equal(np.asarray(read.visual.material.baseColorTexture.convert("RGB")), made.texture)
    with pytest.raises(InferenceError, match=r"written into a \.glb"):
        save_textured(tmp_path / "head.ply", made)


def test_many_loose_triangles_are_unwrapped_without_overlap(person: tuple[Model, Mesh]) -> None:
    """What floats beside a badly trained person: every crumb gets a place of its own."""
    model, _ = person
    centres = np.random.default_rng(0).uniform(-0.2, 0.2, (60, 1, 3)) + LOOK_AT
    vertices = (centres + np.eye(3) * 0.02).reshape(-1, 3).astype(np.float32)
    faces = np.arange(180, dtype=np.int32).reshape(-1, 3)
    crumbs = Mesh(vertices, faces, np.ones_like(vertices), np.zeros(vertices.shape, np.uint8))
    made = baked(model, crumbs)
    across = np.cross(*np.diff(made.uv[made.faces].astype(np.float64), axis=1).transpose(1, 0, 2))
    assert 0 < np.abs(across).sum() / 2 <= made.covered * 1.1  # the area of all, drawn once


def test_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["mesh", str(run), str(tmp_path / "a.glb"), "--grid", "16", "--threshold", "0.2"]
    assert main([*base, "--texture", "128", "--head", "0", "20", "0"]) == 0
    (read,) = trimesh.load(tmp_path / "a.glb").geometry.values()
    assert read.visual.material.baseColorTexture.size == (128, 128)
    capsys.readouterr()
    for wrong, said in (
        (["--texture", "3"], "between 16 and"),
        (["--texture", "64", "--splats"], "exclude each other"),
        (["--splats"], "name it .ply"),
    ):
        assert main([*base, *wrong]) == 1
        assert said in capsys.readouterr().err
    folder = [
        "mesh",
        str(run),
        str(tmp_path / "people"),
        "--grid",
        "12",
        "--threshold",
        "0.2",
        "--seeds",
        "0,1",
    ]
    assert main([*folder, "--splats", "--device", "cpu"]) == 0
    assert sorted(path.name for path in (tmp_path / "people").iterdir()) == ["seed0000.ply", "seed0001.ply"]
