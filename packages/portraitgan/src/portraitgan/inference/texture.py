"""A mesh with a texture: its surface unwrapped (xatlas), and the volume's colors baked at a chosen size.

The colors of a texel are what a short ray into the surface sees, as those of a vertex are, but there are as
many texels as are asked for: detail does not end with the grid that the surface was found on. Texels outside
of every chart repeat the nearest one, so that no seam shows when a viewer filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from phq_data.arrays import ImageArray
from phq_data.files import writing
from phq_data.rendering.rasterizer import rasterise
from portraitgan.inference.errors import InferenceError, need
from portraitgan.inference.mesh import Mesh, SurfaceColors

LARGEST = 8192
_PADDING = 4  # texels between charts
_AT_ONCE = 2**15  # texels


@dataclass(frozen=True, eq=False)
class Textured:
    """A surface with an image on it. A corner may lie in several charts, so there are more of them."""

    vertices: NDArray[np.float32]  # [U, 3] metres
    faces: NDArray[np.int32]  # [F, 3]
    normals: NDArray[np.float32]  # [U, 3]
    uv: NDArray[np.float32]  # [U, 2] in 0..1, v upwards
    texture: ImageArray  # [S, S, 3]
    covered: float  # share of the texels that lie in a chart


def check_texture(size: int) -> None:
    """Raise `InferenceError` for sizes that make no sense and for missing packages."""
    if not 16 <= size <= LARGEST:
        raise InferenceError(f"--texture must lie between 16 and {LARGEST} pixels, not {size}")
    need("xatlas", "mesh")


@torch.no_grad()
def bake(mesh: Mesh, colors_at: SurfaceColors, size: int, device: torch.device) -> Textured:
    """`mesh` unwrapped, with a texture of `size` squared; `colors_at` looks up the volume it was cut from."""
    check_texture(size)
    source, faces, uv = unwrap(mesh, size)
    vertices, normals = mesh.vertices[source], mesh.normals[source]
    # The charts lie side by side: drawn flat, every texel sees at most one triangle.
    seen = rasterise(uv * size, np.ones(len(uv)), faces, (size, size))
    points, outward = (seen.interpolate(one, faces) for one in (vertices, normals))
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-20)
    flat = np.zeros((size * size, 3), np.uint8)
    for first in range(0, len(points), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        given = (torch.from_numpy(one[part]).to(device) for one in (points, outward))
        flat[seen.pixel[part]] = colors_at(*given)
    known = np.zeros(size * size, bool)
    known[seen.pixel] = True
    texture = _spread(flat.reshape(size, size, 3), known.reshape(size, size))
    upwards = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)
    return Textured(vertices, faces, normals, upwards.astype(np.float32), texture, float(known.mean()))


def unwrap(mesh: Mesh, size: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """(vertex of the mesh [U], faces [F, 3], texture coordinates [U, 2] in 0..1, v downwards)."""
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices, mesh.faces.astype(np.uint32), mesh.normals)
    options = xatlas.PackOptions()
    options.padding, options.resolution = _PADDING, size
    options.bilinear = True
    atlas.generate(xatlas.ChartOptions(), options)
    source, faces, uv = atlas[0]
    if len(faces) != len(mesh.faces) or atlas.atlas_count != 1:
        raise InferenceError(
            f"the surface of {len(mesh.faces):,} faces cannot be unwrapped into one image of {size} pixels: "
            "give a larger --texture or a coarser --grid"
        )
    return source.astype(np.int64), faces.astype(np.int32), uv.astype(np.float32)


def save_textured(path: str | Path, made: Textured) -> None:
    """Write a GLB file with its texture inside. Raises `InferenceError` for another suffix."""
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise InferenceError(f"{path}: a texture is written into a .glb file")
    import trimesh

    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(made.texture), metallicFactor=0.0, roughnessFactor=1.0
    )
    visual = trimesh.visual.TextureVisuals(uv=made.uv, material=material)
    surface = trimesh.Trimesh(
        made.vertices, made.faces, vertex_normals=made.normals, visual=visual, process=False
    )
    with writing(path) as temporary:
        surface.export(temporary, include_normals=True)


def _spread(texture: ImageArray, known: NDArray[np.bool_]) -> ImageArray:
    """Every texel that is not known with the color of the nearest one that is."""
    from scipy.ndimage import distance_transform_edt

    if not known.any() or known.all():
        return texture
    row, column = distance_transform_edt(~known, return_distances=False, return_indices=True)
    spread: ImageArray = texture[row, column]
    return spread
