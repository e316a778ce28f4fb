"""Reading features from a tri-grid: three planes of `depth` slices, trilinear, zero outside the cube.

With depth 1 it is a tri-plane and the sampling is bilinear.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from portraitgan.config import PlaneAxes, TriGridConfig

_LARGE_GRID, _POINTS_FOR_A_TABLE = 2**20, 4096
"""Numbers of one sample's grid that are worth counting, and points of one that make up for them."""
_INDICES_AT_ONCE = 2**25
"""Rows that one `embedding_bag` may name on a GPU: its gradient counts 32 threads a row in 32 bits."""


def split_planes(planes: Tensor, config: TriGridConfig) -> Tensor:
    """The backbone's image [B, 3 * features * depth, S, S] as [B, 3, features, depth, S, S]."""
    batch, _, height, width = planes.shape
    return planes.reshape(batch, 3, config.features, config.depth, height, width)


def sample_plain(
    grid: Tensor,  # [B, 3, C, D, S, S]
    points: Tensor,  # [B, N, 3] in -1..1 inside the cube
    axes: PlaneAxes,
) -> Tensor:
    """Mean over the three planes of the interpolated features, [B, N, C], by `grid_sample`."""
    total: Tensor | float = 0.0
    coordinates = points.unbind(dim=-1)
    for plane, order in enumerate(axes):
        where = torch.stack([coordinates[axis] for axis in order], dim=-1)
        if grid.shape[3] == 1:
            where = where[:, None, :, :2]
            found = functional.grid_sample(grid[:, plane, :, 0], where, align_corners=False)[:, :, 0]
        else:
            where = where[:, None, None]
            found = functional.grid_sample(grid[:, plane], where, align_corners=False)[:, :, 0, 0]
        total = total + found
    assert isinstance(total, Tensor)
    return (total / 3).transpose(1, 2)


def sample_planes(
    grid: Tensor,  # [B, 3, C, D, S, S]
    points: Tensor,  # [B, N, 3]
    axes: PlaneAxes,
) -> Tensor:
    """`sample_plain` in one `grid_sample` for all planes, [B, N, C]: the grid gets one gradient."""
    batch, planes, channels = grid.shape[:3]
    coordinates = points.unbind(dim=-1)
    where = torch.stack(
        [torch.stack([coordinates[axis] for axis in order], dim=-1) for order in axes], dim=1
    ).flatten(0, 1)  # [B * 3, N, 3]
    if grid.shape[3] == 1:
        flat = grid.reshape(batch * planes, channels, *grid.shape[4:])
        found = functional.grid_sample(flat, where[:, None, :, :2], align_corners=False)
    else:
        found = functional.grid_sample(grid.flatten(0, 1), where[:, None, None], align_corners=False)
    return found.reshape(batch, planes, channels, -1).mean(dim=1).transpose(1, 2)


def to_table(grid: Tensor) -> Tensor:
    """The grid [B, 3, C, D, S, S] as rows of features [B * 3 * D * S * S, C]."""
    return grid.permute(0, 1, 3, 4, 5, 2).reshape(-1, grid.shape[2])


def sample_rows(
    table: Tensor,  # [B * 3 * D * S * S, C] of `to_table`
    shape: tuple[int, int],  # (D, S)
    points: Tensor,  # [B, N, 3]
    axes: PlaneAxes,
) -> Tensor:
    """`sample_plain` from channels-last rows: one weighted sum of up to 24 rows a point, [B, N, C].

    A point reads whole rows of memory instead of single numbers, and the mean over the planes and the
    interpolation are the same sum.
    """
    batch, count = points.shape[:2]
    indices, weights = _corners(points, shape, axes)
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
    """Whether `sample_rows` is the faster form for `points` of each sample of a grid [B, 3, C, D, S, S].

    On a CPU, unless the points are too few to make up for copying a large grid into a table and its gradient
    back. On a GPU `sample_planes` is (docs/benchmarks.md).
    """
    large = grid[0].numel() > _LARGE_GRID
    return grid.device.type == "cpu" and not (large and points < _POINTS_FOR_A_TABLE)


def _corners(points: Tensor, shape: tuple[int, int], axes: PlaneAxes) -> tuple[Tensor, Tensor]:
    """Rows [B, N, K] int32 and weights [B, N, K] of the corners around every point on every plane."""
    depth, size = shape
    batch = points.shape[0]
    start = torch.arange(batch, device=points.device, dtype=torch.int32)[:, None] * (3 * depth * size * size)
    # Coordinate by coordinate: the gradient of many selects would be as many tensors of all coordinates.
    coordinates = points.unbind(dim=-1)
    across = [_ends(one, size) for one in coordinates]
    along = [_ends(one, depth) for one in coordinates] if depth > 1 else None
    rows: list[Tensor] = []
    weights: list[Tensor] = []
    for plane, (u, v, w) in enumerate(axes):
        base = start + plane * depth * size * size
        slices: list[tuple[Tensor | int, Tensor | float]] = [(0, 1.0)]
        if along is not None:
            slices = list(along[w])
        for slice_index, slice_weight in slices:
            for row_index, row_weight in across[v]:
                line = base + (slice_index * size + row_index) * size
                line_weight = slice_weight * row_weight / 3
                for column_index, column_weight in across[u]:
                    rows.append(line + column_index)
                    weights.append(line_weight * column_weight)
    return torch.stack(rows, dim=-1), torch.stack(weights, dim=-1)


def _ends(coordinate: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """Lower and upper neighbour along an axis of `size` cells: (index int32, weight), each [B, N]."""
    position = ((coordinate + 1) * size - 1) / 2
    lower = position.detach().clamp(-2, size + 1).floor()
    fraction = position - lower
    ends = []
    for index, weight in ((lower, 1 - fraction), (lower + 1, fraction)):
        inside = (index >= 0) & (index < size)
        ends.append((index.clamp(0, size - 1).int(), weight * inside))
    return ends
