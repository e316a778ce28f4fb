"""Generated tensors as images: colors, depth, mask and normals; contact sheets of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from phq_data.arrays import ImageArray
from portraitgan.images.files import ImageError
from portraitgan.networks.generator import Generated
from portraitgan.rendering.rays import camera_rays

PARTS = ("image", "raw", "mask", "depth", "normals")
NEAR, FAR = 2.4, 2.95
"""Depths in metres drawn white and black; fixed, so that images and frames compare."""


def parse_parts(text: str) -> list[str]:
    """`image,depth` as a list of parts. Raises `ImageError` for one that is not in `PARTS`."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part not in PARTS:
            raise ImageError(f"{part!r} cannot be shown; choose from {', '.join(PARTS)}")
    return parts


def draw(made: Generated, camera: Tensor, part: str, side: int) -> Tensor:
    """One part of portraits seen from `camera` [B, 25] as colors [B, 3, side, side] in 0..1."""
    if part == "image":
        colors = made.image / 2 + 0.5
    elif part == "raw":
        colors = made.image_raw / 2 + 0.5
    elif part == "mask":
        colors = made.mask.expand(-1, 3, -1, -1)
    elif part == "depth":
        nearness = ((FAR - made.depth) / (FAR - NEAR)).clamp(0, 1)
        colors = (nearness * made.mask.clamp(0, 1)).expand(-1, 3, -1, -1)
    elif part == "normals":
        colors = (normals(made.depth, camera) / 2 + 0.5) * made.mask.clamp(0, 1)
    else:
        raise ImageError(f"{part!r} cannot be shown; choose from {', '.join(PARTS)}")
    colors = colors.float().clamp(0, 1)
    if colors.shape[-1] != side:
        mode = "area" if colors.shape[-1] > side else "bilinear"
        colors = functional.interpolate(colors, (side, side), mode=mode)
    return colors


def normals(depth: Tensor, camera: Tensor) -> Tensor:
    """Unit surface normals [B, 3, R, R] in the viewer's frame (x right, y up, z to the viewer).

    From the points of a depth image [B, 1, R, R] (metres along the ray) and its camera [B, 25].
    """
    batch, _, side, _ = depth.shape
    origins, directions = camera_rays(camera, side)
    points = origins + directions * depth.reshape(batch, -1, 1)
    points = points.reshape(batch, side, side, 3).permute(0, 3, 1, 2)
    padded = functional.pad(points, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    world = functional.normalize(torch.linalg.cross(down, across, dim=1), dim=1)
    rotation = camera[:, :16].reshape(batch, 4, 4)[:, :3, :3]  # columns right, down, forward
    local = torch.einsum("bij,bihw->bjhw", rotation, world)
    return local * local.new_tensor([1.0, -1.0, -1.0])[:, None, None]


def to_pixels(colors: Tensor) -> ImageArray:
    """[B, 3, H, W] in 0..1 to bytes [B, H, W, 3]."""
    return (colors * 255 + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def from_pixels(pixels: ImageArray) -> Tensor:
    """Bytes [H, W, 3] to an image [1, 3, H, W] in -1..1, as training scales them."""
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


def sheet(rows: Sequence[Sequence[ImageArray]], gap: int = 2) -> ImageArray:
    """Equally large images [H, W, 3] in rows and columns with white gaps between them."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    canvas = np.full((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            canvas[top : top + height, left : left + width] = image
    return canvas


def arrange(rows: Sequence[Sequence[ImageArray]]) -> list[list[ImageArray]]:
    """The same rows of images [H, W, 3]; a single column is wrapped to about a square."""
    if any(len(row) != 1 for row in rows):
        return [list(row) for row in rows]
    flat = [row[0] for row in rows]
    columns = math.ceil(math.sqrt(len(flat)))
    return [flat[first : first + columns] for first in range(0, len(flat), columns)]


def resized(pixels: ImageArray, side: int) -> ImageArray:
    """[H, W, 3] as [side, side, 3], filtered."""
    if pixels.shape[:2] == (side, side):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))
