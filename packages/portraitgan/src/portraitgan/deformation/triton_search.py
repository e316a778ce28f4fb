"""The `tables` backend for CUDA machines that have Triton, as torch brings it, but not NVIDIA Warp.

The same tables and rules as `warp_search.TableSearch`. Triton has no trees, so the blended faces are searched
in groups of neighbours: a block of points skips every group whose box lies farther than what they have found.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from portraitgan.deformation import triton_kernels
from portraitgan.deformation.closest import BruteForce, Closest, PosedSearch, tie_table
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.skinning import FaceClass, SkinnedMesh
from portraitgan.deformation.tables import CORRECTIVE_TOLERANCE, NodeTable, coherent_order, fill_table

GROUP = 16
"""Blended faces that share a box."""
BLOCK = 128
"""Points that a program works on: neighbours along a ray, mostly."""


class TritonTableSearch:
    """Tables for the faces that move rigidly, boxed groups for the others."""

    def __init__(
        self,
        mesh: SkinnedMesh,
        resolution: int = 96,
        max_distance: float = 0.25,
        tolerance: float = 1e-4,
        closest_only: bool = True,
    ) -> None:
        """Fill the tables; arguments and errors as `warp_search.TableSearch`."""
        if resolution < 8:
            raise DeformationError(f"deformation.table_resolution must be at least 8, not {resolution}")
        self.faces = mesh.faces
        self.ties = tie_table(mesh.faces)
        self.max_distance = max_distance
        self.cell = 1.0 / (resolution - 1)
        classes = mesh.face_classes(tolerance, CORRECTIVE_TOLERANCE)
        self.slack = 0.0 if mesh.correctives is None else 2 * CORRECTIVE_TOLERANCE
        self.any_face_will_do = not closest_only and mesh.correctives is None
        blended = (classes == FaceClass.BLENDED).nonzero()[:, 0]
        order = coherent_order(mesh.vertices[mesh.faces[blended]].mean(dim=1), GROUP)
        # Whole groups: the last face fills them up, which changes no minimum.
        filled = torch.cat([order, order[-1:].repeat(-len(order) % GROUP)])
        self.blended = blended[filled]
        self.static = _fill(mesh, classes == FaceClass.STATIC, self.cell, max_distance)
        self.head = _fill(mesh, classes == FaceClass.HEAD, self.cell, max_distance)

    def __deepcopy__(self, memo: dict[int, Any]) -> TritonTableSearch:
        """A copied network (the EMA of weights) shares the search: it holds no pose."""
        return self

    def pose(self, posed: Tensor, head: Tensor) -> PosedSearch:
        """See `ClosestFaces`: posed [B, V, 3] metres, head [B, 3, 4]."""
        posed = posed.detach().float()
        corners = posed[:, self.faces.to(posed.device)].contiguous()
        blended = corners[:, self.blended.to(posed.device)].contiguous()
        grouped = blended.reshape(len(posed), len(self.blended) // GROUP, GROUP * 3, 3)
        boxes = torch.cat([grouped.amin(dim=2), grouped.amax(dim=2)], dim=-1).contiguous()
        rows = torch.cat([head[:, :, :3], head[:, None, :, 3]], dim=1).float().contiguous()
        return partial(self._search, corners, blended, boxes, rows)

    @torch.no_grad()
    def _search(
        self,
        corners: Tensor,  # [B, F, 3, 3]
        blended: Tensor,  # [B, G * GROUP, 3, 3]
        boxes: Tensor,  # [B, G, 6]
        heads: Tensor,  # [B, 4, 3]
        points: Tensor,
        max_distance: float,
    ) -> Closest:
        if max_distance > self.max_distance:
            raise DeformationError(
                f"these tables were made for distances up to {self.max_distance} m, not {max_distance} m; "
                "use deformation.search 'bvh'"
            )
        batch, count = points.shape[:2]
        device = points.device
        face = torch.empty((batch, count), dtype=torch.int32, device=device)
        distance = torch.empty((batch, count), dtype=torch.float32, device=device)
        if batch * count == 0:
            return Closest(face, distance)
        flat = points.detach().float().contiguous()
        triton_kernels.search_tables[(-(-count // BLOCK), batch)](
            flat, count, heads,
            *_arguments(self.static, device), *_arguments(self.head, device),
            1.0 / self.cell, self.slack,
            boxes, boxes.shape[1], self.blended.int().to(device), blended,
            corners, corners.shape[1], self.ties.to(device), float(max_distance),
            face, distance,
            ANY_FACE=self.any_face_will_do, GROUP=GROUP, BLOCK=BLOCK,
        )  # fmt: skip
        return Closest(face, distance)


def _arguments(table: NodeTable, device: torch.device) -> list[Any]:
    return [table.on(device), table.distances_on(device), *table.origin, *table.size]


def _fill(mesh: SkinnedMesh, chosen: Tensor, cell: float, max_distance: float) -> NodeTable:
    """The table of the chosen faces, filled exhaustively: seconds on a GPU, once per rig."""

    def nearest(nodes: Tensor, faces: Tensor, reach: float) -> Closest:
        search = BruteForce(faces, torch.float32)
        # Reported per listed face: the tie rule is applied later, to the posed mesh.
        search.ties = torch.arange(len(faces), device=nodes.device, dtype=torch.int32)[:, None].repeat(1, 7)
        return search.pose(mesh.vertices[None], mesh.vertices[None])(nodes[None], reach)

    return fill_table(mesh, chosen, cell, max_distance, nearest)
