"""Reading features from a tri-grid: three planes of `depth` slices, trilinear, zero outside the cube.

With depth 1 it is a tri-plane and the sampling is bilinear. A hybrid grid has a fourth map around the head: a
sphere's directions, with the back of the head in the middle, and slices by distance (HyPlaneHead's idea).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from portraitgan.config import PlaneAxes, Point, TriGridConfig

_POINTS_FOR_A_TABLE = 4096
"""Points of one sample that make up for a table of its grid."""
_INDICES_AT_ONCE = 2**25
"""Rows that one `embedding_bag` may name on a GPU: its gradient counts 32 threads a row in 32 bits."""
_NEAR = 1e-2
"""Of half the cube's side: so close to the sphere's centre, or to the ray straight ahead from there,
directions are blurred, so that their gradients stay finite."""


def split_planes(image: Tensor, config: TriGridConfig) -> Tensor:
    """The backbone's image [B, channels, H, H] as planes [B, P, features, depth, S, S].

    Cut in channels, S is H; cut in space, S is half of it and planes are the image's quarters.
    """
    batch, _, height, width = image.shape
    if config.kind == "channels":
        return image.reshape(batch, 3, config.features, config.depth, height, width)
    quarters = image.reshape(batch, config.features, config.depth, 2, height // 2, 2, width // 2)
    return quarters.permute(0, 3, 5, 1, 2, 4, 6).flatten(1, 2)[:, : config.planes]


def places(points: Tensor, axes: PlaneAxes, sphere: Point | None = None) -> list[tuple[Tensor, ...]]:
    """Along width, height and depth of every plane, where points [B, N, 3] lie: [B, N] in -1..1 inside.

    A `sphere` is one more map, around its centre: directions in Lambert's azimuthal equal-area projection
    whose middle is straight behind and whose rim is straight ahead, and the distance, 1 at half the cube's
    side and -1 at the centre.
    """
    # Coordinate by coordinate: the gradient of many selects would be as many tensors of all coordinates.
    coordinates = points.unbind(dim=-1)
    found: list[tuple[Tensor, ...]] = [tuple(coordinates[axis] for axis in order) for order in axes]
    if sphere is not None:
        x, y, z = (one - centre for one, centre in zip(coordinates, sphere, strict=True))
        distance = (x * x + y * y + z * z + _NEAR**2).sqrt()
        scale = torch.rsqrt(2 * distance * (distance - z) + _NEAR**2)
        found.append((x * scale, y * scale, 2 * distance - 1))
    return found


def sample_plain(
    grid: Tensor,  # [B, P, C, D, S, S]
    points: Tensor,  # [B, N, 3] in -1..1 inside the cube
    axes: PlaneAxes,
    sphere: Point | None = None,  # centre, of a fourth map
) -> Tensor:
    """Mean over the planes of the interpolated features, [B, N, C], by `grid_sample`."""
    total: Tensor | float = 0.0
    for plane, place in enumerate(places(points, axes, sphere)):
        where = torch.stack(place, dim=-1)
        if grid.shape[3] == 1:
            where = where[:, None, :, :2]
            found = functional.grid_sample(grid[:, plane, :, 0], where, align_corners=False)[:, :, 0]
        else:
            where = where[:, None, None]
            found = functional.grid_sample(grid[:, plane], where, align_corners=False)[:, :, 0, 0]
        total = total + found
    assert isinstance(total, Tensor)
    return (total / grid.shape[1]).transpose(1, 2)


def sample_planes(
    grid: Tensor,  # [B, P, C, D, S, S]
    points: Tensor,  # [B, N, 3]
    axes: PlaneAxes,
    sphere: Point | None = None,
) -> Tensor:
    """`sample_plain` in one `grid_sample` for all planes, [B, N, C]: the grid gets one gradient."""
    batch, planes, channels = grid.shape[:3]
    where = torch.stack([torch.stack(place, dim=-1) for place in places(points, axes, sphere)], dim=1)
    where = where.flatten(0, 1)  # [B * P, N, 3]
    if grid.shape[3] == 1:
        flat = grid.reshape(batch * planes, channels, *grid.shape[4:])
        found = functional.grid_sample(flat, where[:, None, :, :2], align_corners=False)
    else:
        found = functional.grid_sample(grid.flatten(0, 1), where[:, None, None], align_corners=False)
    return found.reshape(batch, planes, channels, -1).mean(dim=1).transpose(1, 2)


def to_table(grid: Tensor) -> Tensor:
    """The grid [B, P, C, D, S, S] as rows of features [B * P * D * S * S, C]."""
    return grid.permute(0, 1, 3, 4, 5, 2).reshape(-1, grid.shape[2])


def sample_rows(
    table: Tensor,  # [B * P * D * S * S, C] of `to_table`
    shape: tuple[int, int],  # (D, S)
    points: Tensor,  # [B, N, 3]
    axes: PlaneAxes,
    sphere: Point | None = None,
) -> Tensor:
    """`sample_plain` from channels-last rows: one weighted sum of 4 or 8 rows a plane and point, [B, N, C].

    A point reads whole rows of memory instead of single numbers, and the mean over the planes and the
    interpolation are the same sum.
    """
    batch, count = points.shape[:2]
    indices, weights = _corners(places(points, axes, sphere), shape)
    corners = indices.shape[-1]
    portion = _INDICES_AT_ONCE // corners if points.is_cuda else max(1, batch * count)
    pairs = zip(
        indices.reshape(-1, corners).split(portion), weights.reshape(-1, corners).split(portion), strict=True
    )
    found = [
        functional.embedding_bag(some, table, per_sample_weights=weight, mode="sum") for some, weight in pairs
    ]
    return torch.cat(found).reshape(batch, count, -1)


def rows_serve(grid: Tensor, points: int) -> bool:
    """Whether `sample_rows` is the faster form for `points` of each sample of a grid [B, P, C, D, S, S].

    On a CPU, unless the points are too few to make up for copying the grid into a table and its gradient
    back. On a GPU `sample_planes` is (docs/benchmarks.md).
    """
    return grid.device.type == "cpu" and points >= _POINTS_FOR_A_TABLE


def _corners(where: Sequence[tuple[Tensor, ...]], shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Rows [B, N, K] int32 and weights [B, N, K] of the corners around every point on every plane."""
    depth, size = shape
    batch, device = where[0][0].shape[0], where[0][0].device
    start = torch.arange(batch, device=device, dtype=torch.int32)[:, None] * (
        len(where) * depth * size * size
    )
    across = _ends([one for place in where for one in place[:2]], size)
    along = _ends([place[2] for place in where], depth) if depth > 1 else {}
    rows: list[Tensor] = []
    weights: list[Tensor] = []
    for plane, (u, v, w) in enumerate(where):
        base = start + plane * depth * size * size
        slices: list[tuple[Tensor | int, Tensor | float]] = [(0, 1.0)]
        if depth > 1:
            slices = list(along[id(w)])
        for slice_index, slice_weight in slices:
            for row_index, row_weight in across[id(v)]:
                line = base + (slice_index * size + row_index) * size
                line_weight = slice_weight * row_weight / len(where)
                for column_index, column_weight in across[id(u)]:
                    rows.append(line + column_index)
                    weights.append(line_weight * column_weight)
    return torch.stack(rows, dim=-1), torch.stack(weights, dim=-1)


def _ends(coordinates: Sequence[Tensor], size: int) -> dict[int, list[tuple[Tensor, Tensor]]]:
    """Lower and upper neighbour along an axis of `size` cells of coordinates [B, N]: (index int32, weight).

    By the `id` of a coordinate: one that several planes share is looked at once, and all of them together.
    """
    distinct = {id(one): one for one in coordinates}
    position = ((torch.stack(list(distinct.values())) + 1) * size - 1) / 2
    lower = position.detach().clamp(-2, size + 1).floor()
    fraction = position - lower
    ends = []
    for index, weight in ((lower, 1 - fraction), (lower + 1, fraction)):
        inside = (index >= 0) & (index < size)
        ends.append(zip(index.clamp(0, size - 1).int().unbind(), (weight * inside).unbind(), strict=True))
    return {name: list(pair) for name, pair in zip(distinct, zip(*ends, strict=True), strict=True)}
