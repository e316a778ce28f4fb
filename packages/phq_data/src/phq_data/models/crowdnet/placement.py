"""From the network's three camera numbers to metres in front of the photo's camera."""

from __future__ import annotations

import torch
from torch import Tensor

from phq_data.models.crowdnet.layout import CAMERA_SIZE, FOCAL, INPUT_SIZE

DEPTH = FOCAL * CAMERA_SIZE / INPUT_SIZE
"""Metres: where a body of `CAMERA_SIZE` metres fills the patch; 48.828125."""


def crop_translation(camera: Tensor) -> Tensor:
    """Translation [B, 3] in metres in front of the patch's camera, from the network's numbers [B, 3]."""
    depth = DEPTH * torch.sigmoid(camera[:, 2:])
    return torch.cat([camera[:, :2], depth], dim=1)


def photo_translation(camera: Tensor, boxes: Tensor) -> Tensor:
    """Translation [B, 3] in metres in front of the photo's virtual camera.

    That camera has the same focal length and looks along the centre of the box [B, 4] (x, y, width, height in
    photo pixels), so a smaller box means a farther body: t_z 256 / sqrt(width height).
    """
    translation = crop_translation(camera)
    side = torch.sqrt(boxes[:, 2:3] * boxes[:, 3:4])
    return torch.cat([translation[:, :2], translation[:, 2:] * INPUT_SIZE / side], dim=1)


def box_centre(boxes: Tensor) -> Tensor:
    """Principal points [B, 2] in photo pixels."""
    return boxes[:, :2] + boxes[:, 2:] / 2
