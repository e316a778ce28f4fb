"""3D Gaussians on a surface, as a PLY file in the layout of the INRIA code, which public viewers read.

One Gaussian stands at every vertex of the surface: flat, as wide as the surface around the vertex, of the
color there. A file holds, as 32-bit floats: position; normal (unused by viewers); `f_dc_*`, the color as the
coefficient of the constant spherical harmonic; `f_rest_*`, 45 zeros (the color is the same from all sides);
`opacity` as a logit; `scale_*` as natural logarithms of standard deviations in metres; `rot_*`, the
quaternion w, x, y, z that turns the Gaussian's axes into the world. (Kerbl et al. 2023, "3D Gaussian
splatting for real-time radiance field rendering".) The frame is the meshes': metres, y up, facing +z; viewers
made for COLMAP scenes show y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phq_data.files import writing
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.mesh import Mesh

SH_CONSTANT = 0.5 / math.sqrt(math.pi)
"""The constant spherical harmonic: color = 0.5 + SH_CONSTANT * f_dc."""
REST = 45
"""Coefficients of the other harmonics up to degree 3, of three channels."""
OPACITY = 0.99
_WIDTH, _THICKNESS = 0.65, 0.08
"""Standard deviations along and across the surface, of the distance between vertices. Gaussians on a square
lattice that are narrower than 0.6 of its step leave holes that show."""
_FLOOR = 0.25
"""Least width, of the median one: marching cubes also makes vertices that hardly any surface belongs to."""


@dataclass(frozen=True, eq=False)
class Splats:
    """N Gaussians."""

    positions: NDArray[np.float32]  # [N, 3] metres
    normals: NDArray[np.float32]  # [N, 3] unit
    colors: NDArray[np.float32]  # [N, 3] in 0..1
    deviations: NDArray[np.float32]  # [N, 3] metres, along the Gaussian's own axes; the third is the normal
    rotations: NDArray[np.float32]  # [N, 4] unit quaternions w, x, y, z


def splats_of(mesh: Mesh) -> Splats:
    """A Gaussian for every vertex of a surface. Raises `InferenceError` for a surface without area."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    third = np.repeat(np.linalg.norm(across, axis=1) / 6, 3)  # of a face's area, to each of its corners
    area = np.bincount(mesh.faces.reshape(-1), third, minlength=len(mesh.vertices))
    apart = np.sqrt(area)
    usual = float(np.median(apart))
    if not usual > 0:
        raise InferenceError("the surface has no area: no Gaussians can be placed on it")
    apart = np.clip(apart, _FLOOR * usual, None)
    deviations = apart[:, None] * np.array([_WIDTH, _WIDTH, _THICKNESS])
    return Splats(
        mesh.vertices,
        mesh.normals,
        mesh.colors.astype(np.float32) / np.float32(255),
        deviations.astype(np.float32),
        facing(mesh.normals),
    )


def facing(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quaternions [N, 4] of the shortest turns from +z to `normals` [N, 3]."""
    x, y, z = normals.astype(np.float64).T
    turned = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1)  # 1 + z . n and z x n
    turned[z < -1 + 1e-9] = (0, 1, 0, 0)  # half a turn about x
    return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True), np.float32)


def save_splats(path: str | Path, splats: Splats) -> None:
    """Write a binary PLY file. Raises `InferenceError` for another suffix."""
    path = Path(path)
    if path.suffix.lower() != ".ply":
        raise InferenceError(f"{path}: splats are written as a .ply file")
    count = len(splats.positions)
    columns = {
        "xyz": splats.positions,
        "normal": splats.normals,
        "color": (splats.colors - 0.5) / SH_CONSTANT,
        "rest": np.zeros((count, REST)),
        "opacity": np.full((count, 1), math.log(OPACITY / (1 - OPACITY))),
        "scale": np.log(splats.deviations),
        "rotation": splats.rotations,
    }
    names = [
        *"xyz", "nx", "ny", "nz", *(f"f_dc_{n}" for n in range(3)), *(f"f_rest_{n}" for n in range(REST)),
        "opacity", *(f"scale_{n}" for n in range(3)), *(f"rot_{n}" for n in range(4)),
    ]  # fmt: skip
    header = "".join(
        f"{line}\n"
        for line in (
            "ply", "format binary_little_endian 1.0", f"element vertex {count}",
            *(f"property float {name}" for name in names), "end_header",
        )
    )  # fmt: skip
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(header.encode("ascii"))
        file.write(np.concatenate(list(columns.values()), axis=1).astype("<f4").tobytes())
