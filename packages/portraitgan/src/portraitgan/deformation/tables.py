"""The two node tables behind the `tables` backends: which face of a rigid class is nearest, filled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from portraitgan.deformation.closest import Closest
from portraitgan.deformation.skinning import SkinnedMesh

CORRECTIVE_TOLERANCE = 1e-3
"""Faces that correctives may move further than this (metres) are not looked up but searched."""
Nearest = Callable[[Tensor, Tensor, float], Closest]
"""(points [N, 3], faces [F, 3] of the neutral mesh, metres) to the nearest listed face, [1, N]."""


@dataclass(frozen=True)
class NodeTable:
    """The nearest face of one class at every node of a grid around it."""

    nodes: Tensor  # [X * Y * Z] int16 or int32; -1: none within reach
    distances: Tensor  # [X * Y * Z] metres; infinite where there is none
    origin: tuple[float, float, float]  # metres
    size: tuple[int, int, int]

    def on(self, device: torch.device) -> Tensor:
        """The nodes [X * Y * Z] on `device`, copied there once."""
        if device not in self._copies:
            self._copies[device] = self.nodes.to(device)
        return self._copies[device]

    def distances_on(self, device: torch.device) -> Tensor:
        """The distances [X * Y * Z] on `device`, copied there once."""
        if device not in self._distance_copies:
            self._distance_copies[device] = self.distances.to(device)
        return self._distance_copies[device]

    _copies: dict[torch.device, Tensor] = field(default_factory=dict, compare=False)
    _distance_copies: dict[torch.device, Tensor] = field(default_factory=dict, compare=False)


def fill_table(
    mesh: SkinnedMesh,
    chosen: Tensor,  # [F] bool
    cell: float,  # metres between nodes
    max_distance: float,  # metres around the chosen faces that the table covers
    nearest: Nearest,
) -> NodeTable:
    """The table of the chosen faces of the neutral mesh."""
    numbers = chosen.nonzero()[:, 0]
    kind = torch.int16 if len(mesh.faces) < 2**15 else torch.int32
    if len(numbers) == 0:
        nothing = torch.full((8,), -1, dtype=kind, device=numbers.device)
        return NodeTable(nothing, torch.full((8,), torch.inf), (0.0, 0.0, 0.0), (2, 2, 2))
    faces = mesh.faces[numbers]
    vertices = mesh.vertices[faces].reshape(-1, 3)
    low = vertices.amin(dim=0) - max_distance - cell
    high = vertices.amax(dim=0) + max_distance + cell
    steps = ((high - low) / cell).ceil().int() + 1
    x, y, z = (low[k] + cell * torch.arange(int(steps[k]), device=low.device) for k in range(3))
    nodes = torch.stack(torch.meshgrid(x, y, z, indexing="ij"), dim=-1).reshape(-1, 3)
    found = nearest(nodes.contiguous(), faces, max_distance + 2 * cell)
    face = found.face[0]
    table = torch.where(face >= 0, numbers[face.long().clamp(min=0)], -1).to(kind)
    origin, size = low.tolist(), steps.tolist()
    return NodeTable(table, found.distance[0], (origin[0], origin[1], origin[2]), (size[0], size[1], size[2]))


def coherent_order(centres: Tensor, group: int) -> Tensor:
    """Numbers [N] of the points [N, 3] in an order in which every `group` of them lie close together.

    Halves along the longest side, at a multiple of `group`, until a group is left.
    """
    done: list[Tensor] = []
    waiting = [torch.arange(len(centres), device=centres.device)]
    while waiting:
        members = waiting.pop()
        if len(members) <= group:
            done.append(members)
            continue
        places = centres[members]
        axis = int((places.amax(dim=0) - places.amin(dim=0)).argmax())
        members = members[places[:, axis].argsort(stable=True)]
        half = -(-len(members) // (2 * group)) * group
        waiting += [members[half:], members[:half]]
    return torch.cat(done) if done else torch.arange(0, device=centres.device)
