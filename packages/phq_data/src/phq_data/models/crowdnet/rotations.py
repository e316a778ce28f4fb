"""Rotations as the network writes them, as matrices and as axis-angles."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor


def from_6d(numbers: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of six numbers [..., 6], a 3 x 2 matrix row by row.

    Its columns, orthonormalised in order, are the first two columns of the rotation (Zhou et al. 2019).
    """
    pair = numbers.reshape(*numbers.shape[:-1], 3, 2)
    first = F.normalize(pair[..., 0], dim=-1)
    second = pair[..., 1]
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], dim=-1)


def to_axis_angle(matrices: Tensor) -> Tensor:
    """Axis-angles [..., 3] in radians, at most pi long, of rotation matrices [..., 3, 3].

    By way of the quaternion whose largest component comes from the diagonal, which is exact to rounding for
    every angle.
    """
    m = matrices
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Four times the products of each quaternion component (w, x, y, z) with all four.
    w = torch.stack([1 + xx + yy + zz, m[..., 2, 1] - m[..., 1, 2],
                     m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], dim=-1)  # fmt: skip
    x = torch.stack([w[..., 1], 1 + xx - yy - zz,
                     m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0]], dim=-1)  # fmt: skip
    y = torch.stack([w[..., 2], x[..., 2], 1 - xx + yy - zz, m[..., 1, 2] + m[..., 2, 1]], dim=-1)
    z = torch.stack([w[..., 3], x[..., 3], y[..., 3], 1 - xx - yy + zz], dim=-1)
    products = torch.stack([w, x, y, z], dim=-2)  # [..., 4, 4], symmetric
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    rows = largest[..., None, None].expand(*largest.shape, 1, 4)
    quaternion = F.normalize(products.gather(-2, rows)[..., 0, :], dim=-1)
    # q and -q turn alike; the one with w >= 0 turns by at most pi.
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = quaternion[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    scale = torch.where(sine > 1e-12, angle / sine.clamp_min(1e-12), torch.full_like(sine, 2.0))
    return quaternion[..., 1:] * scale


def from_axis_angle(vectors: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of axis-angles [..., 3] in radians (Rodrigues' formula)."""
    angle = vectors.norm(dim=-1)[..., None, None]
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*vectors.shape[:-1], 3, 3)
    first = torch.sinc(angle / torch.pi)
    second = 0.5 * torch.sinc(angle / (2 * torch.pi)) ** 2
    eye = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return eye + first * cross + second * (cross @ cross)


def body_pose(root_6d: Tensor, vposer_numbers: Tensor) -> Tensor:
    """SMPL's 72 axis-angle numbers [B, 72] from the root's six [B, 6] and VPoser's 126 [B, 126].

    The hands, which VPoser does not know, are straight. A root that is no rotation counts as none.
    """
    root = torch.nan_to_num(to_axis_angle(from_6d(root_6d)))
    body = to_axis_angle(from_6d(vposer_numbers.reshape(len(root_6d), 21, 6))).flatten(1)
    return torch.cat([root, body, torch.zeros_like(body[:, :6])], dim=1)
