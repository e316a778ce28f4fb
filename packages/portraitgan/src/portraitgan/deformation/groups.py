"""Blended faces in groups of eight, side by side in memory, for the CPU's vector instructions.

A group holds neighbours; sixteen groups share a box of boxes. All of it is refitted per pose by a few torch
operations; `group_kernels` reads it. What a face needs for its distance is prepared here, in float64: the
kernel then neither divides nor branches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from portraitgan.deformation.tables import coherent_order

WIDTH = 8
"""Faces a group."""
BOXES = 16
"""Boxes that are tested together."""
ROWS = 22
"""Numbers a face: see `face_rows`."""
FLAT = 1e-7
"""Below this squared sine between its first two edges, a face counts as its edges only.

Of such a needle float32 cannot tell well where along it a point projects; its inside is hardly nearer anyway.
"""


@dataclass(frozen=True)
class PosedGroups:
    """Groups of one batch of poses; every tensor is contiguous and read as plain numbers."""

    rows: Tensor  # [B, G, ROWS, WIDTH]
    boxes: Tensor  # [B, T * BOXES, 6, BOXES]: lowest and highest corners of the groups
    tops: Tensor  # [B, T, 6, BOXES]: the same of every BOXES groups together

    @property
    def count(self) -> int:
        """G, the number of groups."""
        return self.rows.shape[1]


class FaceGroups:
    """Which faces share a group: settled by the neutral mesh, so results depend on the pose alone."""

    def __init__(
        self,
        vertices: Tensor,  # [V, 3] neutral
        faces: Tensor,  # [F, 3]
        chosen: Tensor,  # numbers of the faces to group
    ) -> None:
        order = coherent_order(vertices[faces[chosen]].mean(dim=1), WIDTH)
        # Whole groups: the last face fills them up, which changes no minimum.
        filled = torch.cat([order, order[-1:].repeat(-len(order) % WIDTH)])
        self.slots = chosen[filled]  # [G * WIDTH] face numbers
        self.numbers = self.slots.int()

    def pose(self, corners: Tensor) -> PosedGroups:
        """Groups of posed faces [B, F, 3, 3]."""
        chosen = corners[:, self.slots]
        batch, groups = chosen.shape[0], chosen.shape[1] // WIDTH
        rows = face_rows(chosen).reshape(batch, groups, WIDTH, ROWS).transpose(2, 3).contiguous()
        ends = chosen.reshape(batch, groups, WIDTH * 3, 3)
        boxes = torch.cat([ends.amin(dim=2), ends.amax(dim=2)], dim=-1)
        missing = -groups % (BOXES * BOXES)
        nowhere = boxes.new_tensor([torch.inf] * 3 + [-torch.inf] * 3).expand(batch, missing, 6)
        leaves = torch.cat([boxes, nowhere], dim=1).reshape(batch, (groups + missing) // BOXES, BOXES, 6)
        tops = torch.cat([leaves[..., :3].amin(dim=2), leaves[..., 3:].amax(dim=2)], dim=-1)
        tops = tops.reshape(batch, leaves.shape[1] // BOXES, BOXES, 6)
        return PosedGroups(rows, leaves.transpose(2, 3).contiguous(), tops.transpose(2, 3).contiguous())


def face_rows(corners: Tensor) -> Tensor:
    """[..., ROWS] float32 of faces [..., 3, 3], metres.

    With e = b - a and f = c - a: a, e, f, the unit normal, the two vectors whose products with (point - a)
    are the barycentric coordinates of b and c, one over the squared lengths of e, f and f - e, and the
    largest sum of those coordinates that counts as inside: 1, or -1 for a face without area, which has none.
    """
    a, b, c = corners.double().unbind(dim=-2)
    e, f = b - a, c - a
    ee, ff, ef, gg = _dot(e, e), _dot(f, f), _dot(e, f), _dot(f - e, f - e)
    normal = torch.linalg.cross(e, f, dim=-1)
    area = _dot(normal, normal)
    flat = area <= FLAT * ee * ff
    area = torch.where(flat, 1, area)
    to_b, to_c = (ff * e - ef * f) / area, (ee * f - ef * e) / area
    inverse = [1 / squared.clamp(min=1e-30) for squared in (ee, ff, gg)]
    largest = torch.where(flat, -1.0, 1.0)
    return torch.cat([a, e, f, normal / area.sqrt(), to_b, to_c, *inverse, largest], dim=-1).float()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=-1, keepdim=True)
