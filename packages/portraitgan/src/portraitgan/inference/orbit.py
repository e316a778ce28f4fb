"""Cameras of the look-at sphere as a differentiable function of yaw, pitch and roll."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from phq_data import camera as cameras


def angles_of(label: Tensor) -> Tensor:
    """(yaw, pitch, roll) [B, 3] in radians of camera labels [B, 25]."""
    matrix, _ = cameras.from_label(label.detach().cpu().numpy())
    return torch.from_numpy(np.stack(cameras.angles(matrix), axis=-1).astype(np.float32)).to(label.device)


def camera_at(angles: Tensor, label: Tensor) -> Tensor:
    """Camera labels [B, 25] at `angles` [B, 3] with the intrinsics of `label` [B, 25].

    The same formulas as `phq_data.camera.from_angles`, with gradient.
    """
    yaw, pitch, roll = angles.unbind(dim=-1)
    direction = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], dim=-1)
    centre = cameras.RADIUS * direction
    aim = torch.as_tensor(cameras.LOOK_AT, dtype=centre.dtype, device=centre.device)
    forward = functional.normalize(aim - centre, dim=-1)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=centre.dtype, device=centre.device).expand_as(forward)
    level = functional.normalize(torch.linalg.cross(forward, up, dim=-1), dim=-1)
    down = -torch.linalg.cross(level, forward, dim=-1)
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    columns = [cos * level - sin * down, sin * level + cos * down, forward, centre]
    top = torch.stack(columns, dim=-1).reshape(-1, 12)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype, device=top.device).expand(len(top), -1)
    return torch.cat([top, bottom, label[:, 16:]], dim=1)
