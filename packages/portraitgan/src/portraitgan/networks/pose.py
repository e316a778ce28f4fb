"""Both pose predictors and the mirror operators that make them symmetric (equations 2 and 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitgan.config import CAMERA_SIZE
from portraitgan.networks.constants import constant
from portraitgan.networks.layers import FullyConnected

_LABEL_SIGNS = tuple(-1.0 if entry in (1, 2, 3, 4, 8) else 1.0 for entry in range(CAMERA_SIZE))
_POSE_SIGNS = (1.0, -1.0, -1.0, 1.0, -1.0, -1.0)


def mirror_camera(camera: Tensor) -> Tensor:
    """Camera labels [B, 25] of the mirrored scene."""
    return camera * constant(_LABEL_SIGNS, camera)


def mirror_pose(pose: Tensor) -> Tensor:
    """Poses [B, 6] of the mirrored subject: (a, b, c) to (a, -b, -c) for neck and head."""
    return pose * constant(_POSE_SIGNS, pose)


def needs_mirror(camera: Tensor) -> Tensor:
    """Which cameras [B, 25] stand on the subject's left (x >= 0; the paper's theta in -90..90 degrees)."""
    return camera[:, 3] >= 0


def mirrored_rows(camera: Tensor) -> Tensor:
    """Numbers [M] of the cameras [B, 25] that `needs_mirror` names.

    How many there are is known on the host only: on a GPU this waits for it, so training asks where labels
    are drawn, on the CPU.
    """
    return needs_mirror(camera).nonzero()[:, 0]


def padded_rows(rows: Tensor, batch: int) -> Tensor | None:
    """`mirrored_rows` [M] of `batch` cameras, filled up with `batch` to a length that depends on that alone.

    Half of the cameras need mirroring on average; there is room for three standard deviations more. None
    where that does not suffice, for one batch in a thousand.
    """
    room = min(batch, math.ceil(batch / 2 + 1.5 * math.sqrt(batch)))
    return None if len(rows) > room else functional.pad(rows, (0, room - len(rows)), value=batch)


class PoseMLP(nn.Module):
    """Fully connected layers to the six pose numbers, radians, unbounded."""

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        layers = [FullyConnected(a, b, "lrelu") for a, b in pairwise(sizes)]
        self.net = nn.Sequential(*layers, FullyConnected(sizes[-1], 6))

    def forward(self, values: Tensor) -> Tensor:
        """[B, inputs] to [B, 6]."""
        output: Tensor = self.net(values)
        return output


class GeneratorPosePredictor(PoseMLP):
    """Gamma_g: latent and camera to the pose of the portrait that G will make (equation 6)."""

    def __init__(self, z_dim: int, camera: int, hidden: Sequence[int]) -> None:
        super().__init__(z_dim + camera, hidden)

    def forward(self, z: Tensor, camera: Tensor) -> Tensor:  # type: ignore[override]
        """Poses [B, 6] for z [B, z_dim], camera [B, 25]; mirroring the camera mirrors the pose exactly."""
        mirrored = needs_mirror(camera)[:, None]
        pose = super().forward(torch.cat([z, torch.where(mirrored, mirror_camera(camera), camera)], dim=1))
        return torch.where(mirrored, mirror_pose(pose), pose)


class DiscriminatorPosePredictor(PoseMLP):
    """Gamma_d: trunk features of the (possibly mirrored) images and camera to a pose (equation 2)."""

    def __init__(
        self, features: int, camera: int, hidden: Sequence[int], camera_unmirrored: bool = False
    ) -> None:
        super().__init__(features + camera, hidden)
        self.camera_unmirrored = camera_unmirrored  # quirk Q1, see CompatibilityConfig

    def forward(self, features: Tensor, camera: Tensor) -> Tensor:  # type: ignore[override]
        """Poses [B, 6]; `features` [B, N] come from images mirrored where `needs_mirror(camera)`."""
        mirrored = needs_mirror(camera)[:, None]
        seen = camera if self.camera_unmirrored else torch.where(mirrored, mirror_camera(camera), camera)
        pose = super().forward(torch.cat([features, seen], dim=1))
        return torch.where(mirrored, mirror_pose(pose), pose)
