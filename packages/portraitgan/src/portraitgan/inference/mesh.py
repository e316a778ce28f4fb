"""The shape of a person: marching cubes over the density, in metres, with the decoder's colors.

Frame: metres, y up, the subject faces +z, the subject's left is +x, the neck joint is the origin; faces are
counter-clockwise seen from outside. That is glTF's convention, so a GLB stands upright and looks forward
everywhere. Grid points are `low + index * step` with integer indices (the official script divides floats
there and shears its grid; spec Q21).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phq_data.camera import LOOK_AT
from phq_data.files import writing
from portraitgan.inference.errors import InferenceError, need
from portraitgan.inference.model import Model
from portraitgan.rendering.ray_marching import interval_weights
from portraitgan.rendering.renderer import OUTSIDE_DENSITY, Volume, Warp

SUFFIXES = (".ply", ".glb")
SurfaceColors = Callable[[Tensor, Tensor], NDArray[np.uint8]]
"""Points [N, 3] on the surface and its outward normals [N, 3] to colors [N, 3]."""
_ABOVE, _BELOW, _STEPS = 0.006, 0.03, 16
"""A vertex's color is what a ray sees that enters the surface there, from metres above to metres below."""


@dataclass(frozen=True)
class MeshOptions:
    """How a mesh is cut out of the volume."""

    resolution: int = 256  # grid points a side
    side: float = 0.6  # metres; the cube is centred on the point that cameras look at
    threshold: float = 10.0  # raw density of the surface
    largest_part: bool = False  # drop everything that does not hang together with the largest part
    points: int = 2**18  # evaluated at once


@dataclass(frozen=True, eq=False)
class Mesh:
    """A colored surface."""

    vertices: NDArray[np.float32]  # [V, 3] metres
    faces: NDArray[np.int32]  # [F, 3] counter-clockwise seen from outside
    normals: NDArray[np.float32]  # [V, 3] unit, outward
    colors: NDArray[np.uint8]  # [V, 3]


@torch.no_grad()
def extract(
    model: Model,
    ws: Tensor,  # [1, styles, w_dim]
    pose: Tensor | None = None,  # [1, 6] radians; none: the canonical body
    options: MeshOptions | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Mesh:
    """The surface of one person, canonical or posed.

    Raises `InferenceError` when there is none at the threshold, or when densities are not finite.
    """
    options = options or MeshOptions()
    volume, warp = _posed_volume(model, ws, pose, options.points)
    grid = density_grid(volume, warp, options, model.device, progress)
    vertices, faces, normals = surface(grid, options)
    if options.largest_part:
        vertices, faces, normals = largest_part(vertices, faces, normals)
    colors_at = partial(_colors, model, ws, volume, warp)
    portions = _portions(vertices, normals, options.points // _STEPS, model.device)
    return Mesh(vertices, faces, normals, np.concatenate([colors_at(*portion) for portion in portions]))


def surface_colors(model: Model, ws: Tensor, pose: Tensor | None = None) -> SurfaceColors:
    """The colors [N, 3] of any points [N, 3] on the surface of a person of `ws` [1, styles, w_dim]."""
    volume, warp = _posed_volume(model, ws, pose, MeshOptions().points)
    return partial(_colors, model, ws, volume, warp)


def _posed_volume(model: Model, ws: Tensor, pose: Tensor | None, points: int) -> tuple[Volume, Warp | None]:
    generator = model.generator
    return generator.volume(generator.planes(ws), points), generator.warp(model.usable(pose))


def check_installed() -> None:
    """Raise `InferenceError` unless the packages of the extra `mesh` are there."""
    need("skimage", "mesh")
    need("trimesh", "mesh")


def grid_points(indices: Tensor, options: MeshOptions) -> Tensor:
    """Points [N, 3] in metres of flat grid indices [N] (int64; z runs fastest)."""
    size = options.resolution
    x, y, z = indices // (size * size), indices // size % size, indices % size
    step = options.side / (size - 1)
    centre = torch.as_tensor(LOOK_AT, dtype=torch.float64, device=indices.device)
    offset = torch.stack([x, y, z], dim=-1).double() * step - options.side / 2
    return (centre + offset).float()


def density_grid(
    volume: Volume,
    warp: Warp | None,
    options: MeshOptions,
    device: torch.device,
    progress: Callable[[float], None] = lambda share: None,
) -> NDArray[np.float32]:
    """Raw densities [n, n, n] over x, y, z, cropped as the renderer crops."""
    if options.resolution < 8 or options.side <= 0:
        raise InferenceError(
            f"a mesh needs a grid of at least 8 points a side and a positive size, not {options.resolution} "
            f"points over {options.side} m"
        )
    size = options.resolution
    grid = np.empty(size**3, np.float32)
    for first in range(0, size**3, options.points):
        last = min(first + options.points, size**3)
        points = grid_points(torch.arange(first, last, device=device), options)[None]
        grid[first:last] = _densities(volume, warp, points)[0].cpu().numpy()
        progress(last / size**3)
    if not np.isfinite(grid).all():
        raise InferenceError(
            "the volume holds densities that are not finite: the model's training has diverged"
        )
    return grid.reshape(size, size, size)


def surface(
    grid: NDArray[np.float32], options: MeshOptions
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """(vertices [V, 3] metres, faces [F, 3], outward normals [V, 3]) where `grid` crosses the threshold.

    Closed also where the cube cuts the body. Raises `InferenceError` when nothing crosses.
    """
    check_installed()
    from skimage.measure import marching_cubes

    lowest, highest = float(grid.min()), float(grid.max())
    if highest <= options.threshold:
        raise InferenceError(
            f"no surface: raw densities lie between {lowest:.3g} and {highest:.3g}, the threshold is "
            f"{options.threshold:g}; give a lower --threshold (a model early in training has none)"
        )
    closed = np.pad(grid, 1, constant_values=min(OUTSIDE_DENSITY, options.threshold - 1))
    step = options.side / (options.resolution - 1)
    vertices, faces, _, _ = marching_cubes(closed, options.threshold, spacing=(step, step, step))
    faces = faces[:, ::-1]  # its triangles are clockwise seen from outside
    vertices = vertices + (LOOK_AT - options.side / 2 - step)
    return vertices.astype(np.float32), faces.astype(np.int32), vertex_normals(vertices, faces)


def vertex_normals(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float32]:
    """Area-weighted unit normals [V, 3] of a mesh."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros((len(vertices), 3))
    for k in range(3):
        np.add.at(total, faces[:, k], across)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(total / np.maximum(length, 1e-20), np.float32)


def largest_part(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], normals: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Only the connected part with the most faces: vertices [V, 3], faces [F, 3] and normals [V, 3]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(vertices),) * 2)
    _, part = connected_components(links, directed=False)
    of_face = part[faces[:, 0]]
    kept = faces[of_face == np.bincount(of_face).argmax()]
    used, renumbered = np.unique(kept, return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3).astype(np.int32), normals[used]


def save_mesh(path: str | Path, mesh: Mesh) -> None:
    """Write a PLY or GLB file, by the suffix. Raises `InferenceError`."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InferenceError(f"{path} is no mesh file: name it {' or '.join(SUFFIXES)}")
    check_installed()
    import trimesh

    made = trimesh.Trimesh(
        mesh.vertices, mesh.faces, vertex_normals=mesh.normals, vertex_colors=mesh.colors, process=False
    )
    with writing(path) as temporary:
        made.export(temporary)


def _densities(volume: Volume, warp: Warp | None, points: Tensor) -> Tensor:
    """Raw densities [B, N] of points [B, N, 3] of the (posed) space."""
    return _look(volume, warp, points)[0]


def _look(volume: Volume, warp: Warp | None, points: Tensor) -> tuple[Tensor, Tensor]:
    """(raw densities [B, N], color features [B, N, C])."""
    canonical = points if warp is None else warp(points)
    density, color = volume.decoder(volume.features(canonical))
    return volume.crop(density, canonical), color


def _portions(
    vertices: NDArray[np.float32], normals: NDArray[np.float32], size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(0, len(vertices), size):
        part = slice(first, first + size)
        yield torch.from_numpy(vertices[part]).to(device), torch.from_numpy(normals[part]).to(device)


def _colors(
    model: Model, ws: Tensor, volume: Volume, warp: Warp | None, points: Tensor, outward: Tensor
) -> NDArray[np.uint8]:
    """Colors [N, 3] of surface points [N, 3]: marched along a short ray into the surface, as pixels are."""
    depths = torch.linspace(-_ABOVE, _BELOW, _STEPS, device=points.device)
    along = points[:, None] - depths[:, None] * outward[:, None]
    density, feature = _look(volume, warp, along.reshape(1, -1, 3))
    density = density.reshape(1, len(points), _STEPS)
    weights = interval_weights(density, depths.expand_as(density))[0]
    between = feature.reshape(len(points), _STEPS, -1)
    between = 0.5 * (between[:, 1:] + between[:, :-1])
    total = weights.sum(dim=1, keepdim=True)
    # Where the ray meets nothing, all of it counts alike.
    weights = torch.where(total > 1e-3, weights / total.clamp(min=1e-3), 1 / (_STEPS - 1))
    mean = (weights[..., None] * between).sum(dim=1)
    image = mean.T[None, :, :, None]
    raw = model.generator.raw_colors(image, ws[:, -1])[0, :, :, 0].T
    return functional.hardtanh(raw * 127.5 + 128, 0, 255).to(torch.uint8).cpu().numpy()
