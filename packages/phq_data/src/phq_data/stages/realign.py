"""Crop B of the reference: the window moved and scaled so that the head lies where the label's rig has it.

Where the head is in the image of crop A is told by a DensePose vertex map, which names an SMPL vertex for
every pixel (data specification, sections 9 and 10). Only with such maps, which users bring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.rig import PortraitRig
from phq_data.stages.crop import CANVAS_FOCAL, TIGHTER, Window

CANVAS = 1024  # pixels a side of crop A and of its vertex maps
HEAD_HEIGHT = 0.0649  # metres above the neck joint; higher vertices are the head
LEAST, MOST = 0.85, 2.0  # limits of the scale
NOBODY = -1


@dataclass(frozen=True)
class Realignment:
    """Crop A's image is scaled by `scale` and moved by `shift` pixels: u -> scale u + shift."""

    scale: float
    shift: FloatArray  # [2]
    distance: float  # from the head in the map to the rig's, in heads, before anything is moved

    def window(self, first: Window, *, published_center_formula: bool = False) -> Window:
        """The final window for crop A's window `first`.

        `published_center_formula` leaves out the division of the shift by the scale, as the authors' code
        does; their
        window is off by (1 - 1/scale) of the shift.
        """
        middle = np.full(2, CANVAS / 2)
        off = self.scale * middle + self.shift - middle
        if not published_center_formula:
            off = off / self.scale
        side = TIGHTER * first.side / self.scale
        centre = np.array([first.x, first.y]) + first.side / 2 - off * first.side / CANVAS
        return Window(float(centre[0] - side / 2), float(centre[1] - side / 2), side)


def decode_vertex_map(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Vertex numbers [H, W] of a map [H, W, 3] (RGB): 255 blue + green, `NOBODY` where red is 255."""
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    return np.where(red == 255, NOBODY, 255 * blue + green)


def realign(
    vertex_map: ArrayLike,  # [1024, 1024] of `decode_vertex_map`, on crop A's image
    rig: PortraitRig,  # SMPL's, with all of its vertices in order
    cam2world: ArrayLike,  # [4, 4] of the label
    pose: ArrayLike,  # [6] neck and head axis-angle
) -> Realignment | None:
    """How crop A's image has to move; None when the map shows no vertex of the head."""
    head = np.flatnonzero(rig.vertices[:, 1] > HEAD_HEIGHT)
    seen, q = _positions(np.asarray(vertex_map), head, len(rig.vertices))
    if not len(seen):
        return None
    K = np.array([[CANVAS_FOCAL, 0, 0.5], [0, CANVAS_FOCAL, 0.5], [0, 0, 1]])
    p = camera.project(rig.posed(pose)[seen], cam2world, K)[0] * CANVAS
    size_p, size_q = np.ptp(p, axis=0), np.ptp(q, axis=0)
    scale = float(np.clip(np.max(size_p / np.maximum(size_q, 1e-6)), LEAST, MOST))
    apart = float(np.linalg.norm(p.mean(axis=0) - q.mean(axis=0)))
    return Realignment(scale, p.mean(axis=0) - scale * q.mean(axis=0), apart / max(float(size_p.max()), 1e-6))


def nearest(found: Sequence[Realignment | None], limit: float = 1.0) -> Realignment | None:
    """The one whose head lies nearest to the rig's, at most `limit` heads away; None when there is none.

    The authors' code took every person in the image for the target.
    """
    near = [one for one in found if one is not None and one.distance <= limit]
    return min(near, key=lambda one: one.distance) if near else None


def _positions(
    vertex_map: NDArray[np.integer], wanted: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], FloatArray]:
    """(wanted vertices that the map shows [N], the mean pixel x, y [N, 2] of each)."""
    rows, columns = np.nonzero((vertex_map >= 0) & (vertex_map < count))
    ids = vertex_map[rows, columns]
    pixels = np.bincount(ids, minlength=count)
    x = np.bincount(ids, weights=columns, minlength=count)
    y = np.bincount(ids, weights=rows, minlength=count)
    seen = wanted[pixels[wanted] > 0]
    return seen, np.stack([x[seen], y[seen]], axis=1) / pixels[seen, None]
