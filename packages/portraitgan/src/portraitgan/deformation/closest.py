"""The closest face of a posed mesh: the contract, the tie rules and the exhaustive search.

About three quarters of the sample points are closest to an edge or a vertex, where several faces tie, and
those faces may move differently; so which of them is chosen matters (docs/references.md, "Deformation"):

* `official`: the lowest index among all faces whose squared distance is within 1e-12 of the smallest. Needs
  float64; this is the oracle.
* `feature`: the found face is reduced to the vertex or edge that holds the closest point, and the lowest face
  at that feature is taken. Same choice up to rounding, and possible in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

TieRule = Literal["official", "feature"]
OFFICIAL_TIE = 1e-12
"""Faces whose squared distances (square metres) differ by no more than this are tied."""
FEATURE_TOLERANCE = 1e-6
"""A barycentric coordinate below this counts as zero."""
_PAIRS_AT_ONCE = {"cpu": 2**17, "cuda": 2**24}
"""Point-face pairs that the exhaustive search holds at a time; on a CPU they should fit its cache."""


@dataclass(frozen=True)
class Closest:
    """The closest face per point; -1 where every face is farther than the limit."""

    face: Tensor  # [B, N] int32
    distance: Tensor  # [B, N] metres; infinite where there is no face


class PosedSearch(Protocol):
    """A search over one batch of posed meshes."""

    def __call__(
        self,
        points: Tensor,  # [B, N, 3] metres
        max_distance: float,
    ) -> Closest:
        """Closest faces within `max_distance`; no gradient."""
        ...


class ClosestFaces(Protocol):
    """A search backend, made for one mesh topology."""

    def pose(
        self,
        posed: Tensor,  # [B, V, 3] metres
        head: Tensor,  # [B, 3, 4] the head joint's transform
    ) -> PosedSearch:
        """Get ready for a batch of posed vertices; the result serves any number of point sets."""
        ...


def on_triangles(points: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Closest points of triangles: (barycentric coordinates [..., 3], squared distances [...]).

    All arguments [..., 3], broadcast against each other. The plane is divided into the regions whose closest
    feature is a vertex, an edge or the inside (Ericson, Real-Time Collision Detection, section 5.1.5).
    """
    # Component by component: sums over a last axis of three are several times slower.
    ab, ac, ap = (tuple((end - a).unbind(dim=-1)) for end in (b, c, points))
    ab_ab, ab_ac, ac_ac = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac)
    d1, d2 = _dot(ab, ap), _dot(ac, ap)
    d3, d4, d5, d6 = d1 - ab_ab, d2 - ab_ac, d1 - ab_ac, d2 - ac_ac
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    total = va + vb + vc
    total = torch.where(total == 0, 1, total)
    v, w = vb / total, vc / total  # inside
    # From the weakest to the strongest claim; later lines win.
    along_bc = ((d4 - d3) / (d4 - d3 + d5 - d6).clamp(min=1e-30)).clamp(0, 1)
    on_bc = (va <= 0) & (d4 >= d3) & (d5 >= d6)
    v, w = torch.where(on_bc, 1 - along_bc, v), torch.where(on_bc, along_bc, w)
    along_ac = (d2 / ac_ac.clamp(min=1e-30)).clamp(0, 1)
    on_ac = (vb <= 0) & (d2 >= 0) & (d6 <= 0)
    v, w = torch.where(on_ac, 0, v), torch.where(on_ac, along_ac, w)
    along_ab = (d1 / ab_ab.clamp(min=1e-30)).clamp(0, 1)
    on_ab = (vc <= 0) & (d1 >= 0) & (d3 <= 0) & (ab_ab > 0)  # nothing lies along an edge without length
    v, w = torch.where(on_ab, along_ab, v), torch.where(on_ab, 0, w)
    at_c, at_b, at_a = (d6 >= 0) & (d5 <= d6), (d3 >= 0) & (d4 <= d3), (d1 <= 0) & (d2 <= 0)
    at_c = at_c & ~at_b  # both, where they coincide
    v = torch.where(at_a | at_c, 0, torch.where(at_b, 1, v))
    w = torch.where(at_a | at_b, 0, torch.where(at_c, 1, w))
    offset = tuple(p - v * e - w * f for p, e, f in zip(ap, ab, ac, strict=True))
    return torch.stack([1 - v - w, v, w], dim=-1), _dot(offset, offset)


def _dot(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Inner product of vectors given as components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def tie_table(faces: Tensor) -> Tensor:
    """[F, 7] int32: the lowest face at a face's inside, vertices 0-2 and the edges opposite to them.

    Column 0 is the face itself, columns 1-3 are its vertices, columns 4-6 its edges.
    """
    count = len(faces)
    device = faces.device
    numbers = torch.arange(count, device=device)
    first_at_vertex = torch.full((int(faces.max()) + 1,), count, device=device)
    first_at_vertex.scatter_reduce_(0, faces.reshape(-1), numbers.repeat_interleave(3), "amin")
    edges = faces[:, [[1, 2], [2, 0], [0, 1]]].sort(dim=-1).values.reshape(-1, 2)
    _, edge = edges.unique(dim=0, return_inverse=True)
    first_at_edge = torch.full((int(edge.max()) + 1,), count, device=device)
    first_at_edge.scatter_reduce_(0, edge, numbers.repeat_interleave(3), "amin")
    columns = [numbers[:, None], first_at_vertex[faces], first_at_edge[edge].reshape(-1, 3)]
    return torch.cat(columns, dim=1).int()


def feature_of(barycentric: Tensor) -> Tensor:
    """Column of `tie_table` [...] for barycentric coordinates [..., 3]."""
    near_zero = barycentric < FEATURE_TOLERANCE
    zeros = near_zero.sum(dim=-1)
    vertex = barycentric.argmax(dim=-1)
    edge = near_zero.int().argmax(dim=-1)
    return torch.where(zeros >= 2, 1 + vertex, torch.where(zeros == 1, 4 + edge, 0))


class BruteForce:
    """Every point against every face, in portions; the definition that the other backends must match.

    Works in `dtype`: float64 with the `official` rule is the oracle, float32 uses the `feature` rule.
    """

    def __init__(self, faces: Tensor, dtype: torch.dtype = torch.float64) -> None:
        """`faces` [F, 3] index the vertices that `pose` gets."""
        self.faces = faces
        self.dtype = dtype
        self.rule: TieRule = "official" if dtype == torch.float64 else "feature"
        self.ties = tie_table(faces)

    def pose(self, posed: Tensor, head: Tensor) -> PosedSearch:
        """See `ClosestFaces`: posed [B, V, 3] metres; `head` is not used."""
        return partial(self._search, posed.detach())

    @torch.no_grad()
    def _search(self, posed: Tensor, points: Tensor, max_distance: float) -> Closest:
        batch, count = points.shape[:2]
        face = torch.full((batch, count), -1, dtype=torch.int32, device=points.device)
        distance = torch.full((batch, count), torch.inf, dtype=points.dtype, device=points.device)
        portion = max(1, _PAIRS_AT_ONCE.get(points.device.type, 2**20) // len(self.faces))
        faces = self.faces.to(points.device)
        for sample in range(batch):
            a, b, c = posed[sample].to(self.dtype)[faces].unbind(dim=1)
            for first in range(0, count, portion):
                part = slice(first, first + portion)
                found, squared = self._portion(points[sample, part].to(self.dtype), a, b, c)
                near = squared < max_distance**2
                face[sample, part] = torch.where(near, found.int(), -1)
                distance[sample, part] = torch.where(near, squared.sqrt(), torch.inf).to(points.dtype)
        return Closest(face, distance)

    def _portion(self, points: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(face [P], squared distance [P]) of points [P, 3]."""
        if self.rule == "official":
            squared = _squared_of_near_faces(points, a, b, c)
            best = squared.amin(dim=1)
            # argmax returns the first of equal values: the lowest tied face.
            return (squared <= best[:, None] + OFFICIAL_TIE).int().argmax(dim=1), best
        best, found = on_triangles(points[:, None], a[None], b[None], c[None])[1].min(dim=1)
        barycentric, _ = on_triangles(points, a[found], b[found], c[found])
        return self.ties.to(found.device)[found, feature_of(barycentric)].long(), best


def _squared_of_near_faces(points: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Squared distances [P, F] of points [P, 3] to faces with corners [F, 3]; infinite where one is nearer.

    A face lies in a ball around its middle, so no face counts whose ball begins where another one ends.
    """
    middle = (a + b + c) / 3
    radius = torch.stack([(corner - middle).norm(dim=1) for corner in (a, b, c)]).amax(dim=0)
    apart = torch.cdist(points, middle, compute_mode="donot_use_mm_for_euclid_dist")
    farthest = (apart + radius).amin(dim=1, keepdim=True)
    slack = 2 * OFFICIAL_TIE**0.5  # for ties and rounding
    point, face = (apart - radius <= farthest + slack).nonzero(as_tuple=True)
    squared = torch.full_like(apart, torch.inf)
    squared[point, face] = on_triangles(points[point], a[face], b[face], c[face])[1]
    return squared
