"""Draw a posed person with light, shade and color: visibility from `rasterise`, everything else a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import Float32Array, FloatArray
from phq_data.rendering.rasterizer import Visible, rasterise
from phq_data.rendering.renderer import vertex_normals
from phq_data.synthesis import paint
from phq_data.synthesis.figure import Part, Posed, arm_parameter, body
from phq_data.synthesis.people import Person
from phq_data.views import distorted

SHADOW_MAP = 256
"""Pixels a side of the image that the main lamp sees."""


@dataclass(frozen=True)
class Lens:
    """The photo's camera: a pinhole and a lens."""

    width: int
    height: int
    focal: float  # pixels; the principal point is the image's middle
    distortion: tuple[float, ...] = ()  # OpenCV's; straight edges of triangles stay straight

    def project(self, points: FloatArray) -> FloatArray:
        """Pixels [N, 2] of points [N, 3] of the camera frame (x right, y down, z forward)."""
        z = np.maximum(points[:, 2:], 1e-6)
        seen = distorted(points[:, :2] / z, self.distortion)
        return np.asarray(seen * self.focal + (self.width / 2, self.height / 2))


@dataclass(frozen=True)
class Place:
    """Where a person is: chest frame to camera frame, x_camera = rotation x + translation."""

    rotation: FloatArray  # [3, 3]
    translation: FloatArray  # [3] the neck joint, metres


@dataclass(frozen=True)
class Light:
    """Light in the camera frame."""

    towards: FloatArray  # [3] unit vector to the main lamp
    key: FloatArray  # [3] its color and strength
    sky: FloatArray  # [3] light from above
    ground: FloatArray  # [3] light from below
    shadows: bool = True


@dataclass(frozen=True, eq=False)
class Layer:
    """A person drawn alone, cut to what can be seen."""

    corner: tuple[int, int]  # x, y of the cut's first pixel in the photo
    color: Float32Array  # [h, w, 3] in 0..1
    cover: Float32Array  # [h, w] in 0..1
    depth: Float32Array  # [h, w] metres, inf where nothing is


def draw_person(
    person: Person, parts: list[Part], posed: Posed, place: Place, lens: Lens, light: Light
) -> Layer | None:
    """The person on the photo's pixel grid; None when nothing is inside the frame."""
    chest = np.concatenate(posed.vertices)
    points = chest @ place.rotation.T + place.translation
    faces, owner = _merge(parts)
    screen = lens.project(points)
    ahead = points[:, 2] > 0.05
    if not ahead.any():
        return None
    least, most = _extent(screen[ahead])
    low, high = np.floor(least).astype(int), np.ceil(most).astype(int)
    x0, y0 = np.clip(low, 0, (lens.width, lens.height))
    x1, y1 = np.clip(high, 0, (lens.width, lens.height))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    factor = 2 if (x1 - x0) * (y1 - y0) < 120_000 else 1
    shape = ((y1 - y0) * factor, (x1 - x0) * factor)
    normals = vertex_normals(points, faces)
    # The body is closed: what looks away is never seen, but for the skull, which nostrils and mouth (they
    # have no inside) would let the background through. Everything else has two sides.
    corner = points[faces[:, 0]]
    facing = np.cross(points[faces[:, 1]] - corner, points[faces[:, 2]] - corner)
    skull = np.zeros(len(points), bool)
    skull[: len(body().vertices)] = body().region("scalp", "neck")
    drawn = (owner > 0) | (_dot(facing, corner) < 0) | skull[faces[:, 0]]
    faces, owner = faces[drawn], owner[drawn]
    seen = rasterise((screen - (x0, y0)) * factor, points[:, 2], faces, shape)
    if len(seen.pixel) == 0:
        return None
    color = _shade(person, parts, points, normals, faces, owner, seen, light, lens, (x0, y0), factor)
    return Layer((int(x0), int(y0)), *_average(seen, color, factor))


def _merge(parts: list[Part]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Faces of all parts over their concatenated vertices, and the part of each face."""
    start = np.cumsum([0] + [len(part.rest) for part in parts])
    faces = np.concatenate([part.faces + start[i] for i, part in enumerate(parts)])
    owner = np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts])
    return faces.astype(np.int32), owner


def _attributes(parts: list[Part], normals: FloatArray) -> Float32Array:
    """What is interpolated over the surface [V, 9]: normal, rest position, extra."""
    model = body()
    extra = [np.zeros((len(part.rest), 3), np.float32) for part in parts]
    extra[0] = np.stack(
        [arm_parameter(), model.region("sclera", "iris"), model.region("scalp")], axis=1
    ).astype(np.float32)
    rest = np.concatenate([part.rest for part in parts])
    return np.concatenate([normals.astype(np.float32), rest, np.concatenate(extra)], axis=1)


def _shade(
    person: Person, parts: list[Part], points: FloatArray, normals: FloatArray, faces: np.ndarray,
    owner: np.ndarray, seen: Visible, light: Light, lens: Lens, corner: tuple[int, int], factor: int,
) -> Float32Array:  # fmt: skip
    values = seen.interpolate(_attributes(parts, normals), faces)
    part = owner[seen.face]
    albedo = np.empty((len(part), 3), np.float32)
    gloss = np.zeros(len(part), np.float32)
    for name in {p.paint for p in parts}:
        wanted = np.flatnonzero(np.isin(part, [i for i, p in enumerate(parts) if p.paint == name]))
        if len(wanted) == 0:
            continue
        albedo[wanted] = paint.paint(
            name, values[wanted, 3:6], values[wanted, 6:], person.appearance, person.outfit, person.hair
        )
        gloss[wanted] = {"body": 0.12, "hair": 0.18, "lens": 0.5, "hat": 0.05}.get(name, 0.05)
    normal = values[:, :3]
    normal /= np.maximum(np.sqrt(_dot(normal, normal)), 1e-6)[:, None]
    width = seen.shape[1]
    ray = np.ones((len(part), 3), np.float32)
    ray[:, 0] = ((seen.pixel % width + 0.5) / factor + corner[0] - lens.width / 2) / lens.focal
    ray[:, 1] = ((seen.pixel // width + 0.5) / factor + corner[1] - lens.height / 2) / lens.focal
    where: Float32Array = ray * seen.depth[:, None]
    view = ray / -np.sqrt(_dot(ray, ray))[:, None]
    normal[_dot(normal, view) < 0] *= -1

    towards = light.towards.astype(np.float32)
    cosine = np.clip((normal @ towards + 0.15) / 1.15, 0, 1)
    if light.shadows:
        off = (where + np.float32(0.012) * normal).astype(np.float32)
        cosine *= _lit(points, faces, off, light.towards)
    up = (0.5 - 0.5 * normal[:, 1])[:, None]
    ambient = light.ground.astype(np.float32) * (1 - up) + light.sky.astype(np.float32) * up
    half = view + towards
    shine = np.clip(_dot(normal, half) / np.maximum(np.sqrt(_dot(half, half)), 1e-6), 0, 1)
    for _ in range(4):  # to the 16th power
        shine *= shine
    shine *= gloss * (cosine > 0)
    key = light.key.astype(np.float32)
    linear = np.clip(albedo, 0, 1) ** 2 * (ambient + key * cosine[:, None]) + key * shine[:, None]
    return np.asarray(np.sqrt(np.clip(linear, 0, 1)), np.float32)


def _lit(points: FloatArray, faces: np.ndarray, where: Float32Array, towards: FloatArray) -> Float32Array:
    """Share of the main lamp [N] that reaches points [N, 3]: a shadow map with soft edges."""
    hint = np.array([0.0, 0, 1]) if abs(towards[1]) > 0.9 else np.array([0.0, 1, 0])
    side = np.cross(hint, towards)
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(towards, side), -towards], axis=1)  # the last is the way from the lamp
    local = points @ frame
    at = where @ frame.astype(np.float32)
    low, high = _extent(at[:, :2])
    scale = SHADOW_MAP / max(high[0] - low[0], high[1] - low[1], 1e-3)
    start = float(local[:, 2].min()) - 1.0
    view = rasterise((local[:, :2] - low) * scale, local[:, 2] - start, faces, (SHADOW_MAP, SHADOW_MAP))
    depth = view.image(view.depth, empty=np.inf)
    bias = 2.0 / scale + 0.006
    total = np.zeros(len(at), np.float32)
    for dx, dy in ((-0.7, -0.3), (0.7, 0.3), (-0.3, 0.7), (0.3, -0.7)):
        column = np.clip(((at[:, 0] - low[0]) * scale + dx).astype(np.intp), 0, SHADOW_MAP - 1)
        row = np.clip(((at[:, 1] - low[1]) * scale + dy).astype(np.intp), 0, SHADOW_MAP - 1)
        total += depth[row, column] > at[:, 2] - start - bias
    return total * np.float32(0.25)


def _extent(points: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Smallest and largest (x, y) of points [N, 2]."""
    x, y = points[:, 0], points[:, 1]
    return (float(x.min()), float(y.min())), (float(x.max()), float(y.max()))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])


def _average(
    seen: Visible, color: Float32Array, factor: int
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Pixels at `factor` times the photo's size to the photo's: color, cover, depth."""
    layer = seen.image(np.concatenate([color, np.ones((len(color), 1), np.float32)], axis=1))
    depth = seen.image(seen.depth, empty=np.inf)
    if factor == 1:
        return layer[..., :3], layer[..., 3], depth
    corners = [(row, column) for row in range(factor) for column in range(factor)]
    total = layer[0::factor, 0::factor].copy()
    for row, column in corners[1:]:
        total += layer[row::factor, column::factor]
    nearest = np.minimum.reduce([depth[row::factor, column::factor] for row, column in corners])
    cover = total[..., 3] * np.float32(1 / len(corners))
    return total[..., :3] / np.maximum(total[..., 3:], np.float32(1e-6)), cover, nearest
