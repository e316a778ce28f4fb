"""A posed body drawn over a portrait: whether a pose and a camera fit the picture, at a glance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from phq_data import camera as labels

_LIGHT = np.array([0.3, 0.5, -0.8])  # in the camera's frame: from above, behind the viewer
_STRENGTH = 0.55


def draw_mesh(
    picture: NDArray[np.uint8],  # [H, W, 3]
    vertices: NDArray[np.floating],  # [V, 3] metres, world
    faces: NDArray[np.integer],  # [F, 3] counter-clockwise seen from outside
    camera: NDArray[np.floating],  # [25]
    colour: tuple[int, int, int] = (90, 200, 255),
) -> NDArray[np.uint8]:
    """`picture` [H, W, 3] under the shaded, half transparent mesh as its camera sees it."""
    cam2world, intrinsics = labels.from_label(camera)
    height, width = picture.shape[:2]
    image, depth = labels.project(vertices, cam2world, intrinsics)
    corners = image[faces] * (width, height)  # [F, 3, 2]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # y runs down in a picture, so what faces the camera turns the other way round there.
    front = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    inside = ((corners > -width) & (corners < 2 * width)).all(axis=(1, 2))
    shown = np.flatnonzero(front & inside)
    shown = shown[np.argsort(-depth[faces[shown]].mean(axis=1), kind="stable")]
    shade = _shade(vertices, faces[shown], cam2world)
    layer = Image.new("L", (width, height), 0)
    cover = Image.new("L", (width, height), 0)
    brush, outline = ImageDraw.Draw(layer), ImageDraw.Draw(cover)
    for index, light in zip(shown, shade, strict=True):
        points = [tuple(point) for point in corners[index]]
        brush.polygon(points, fill=int(light))
        outline.polygon(points, fill=255)
    over = np.asarray(layer, np.float64)[..., None] / 255 * np.array(colour)
    weight = np.asarray(cover, np.float64)[..., None] / 255 * _STRENGTH
    return np.round(picture * (1 - weight) + over * weight).astype(np.uint8)


def _shade(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], cam2world: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Brightness 60..255 of faces [F]."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a) @ cam2world[:3, :3]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    light = _LIGHT * (1, -1, 1) / np.linalg.norm(_LIGHT)
    return 60 + 195 * np.clip(normal @ light, 0, 1)
