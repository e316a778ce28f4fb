"""What the network is given: a patch of the photo, and the joints on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data.arrays import FloatArray
from phq_data.models.crowdnet.layout import HEATMAP_SIZE, INPUT_SIZE, INPUT_TO_SMPL, SMPL_JOINTS


@dataclass(frozen=True, eq=False)
class PersonInput:
    """One person, ready for the network: small enough to keep many of."""

    patch: NDArray[np.uint8]  # [256, 256, 3] RGB
    joints: NDArray[np.float32]  # [30, 3] x, y in heat-map pixels, score
    mask: NDArray[np.float32]  # [30, 1] 1 where the joint is known and inside the patch
    box: NDArray[np.float32]  # [4] x, y, width, height in photo pixels


def prepare(
    image: NDArray[np.uint8],  # [H, W, 3] RGB
    joints: ArrayLike,  # [19, 3] x, y in photo pixels, score (`boxes.with_pelvis_and_neck`)
    box: ArrayLike,  # [4] of `boxes.network_box`
    joint_score: float,
) -> PersonInput:
    """The network's view of one person. `joint_score`: joints count above it."""
    corner = np.asarray(box, np.float32)
    on_grid, mask = joint_tensors(joints, corner, joint_score)
    return PersonInput(cut_patch(image, corner), on_grid, mask, corner)


def patch_coordinates(points: ArrayLike, box: ArrayLike) -> FloatArray:
    """Photo pixels [..., 2] to pixels of the 256-pixel patch: u = (x - centre) 256 / side + 128."""
    x, y, width, height = (float(v) for v in np.asarray(box, np.float64))
    xy = np.asarray(points, np.float64)
    centre, side = np.array([x + width / 2, y + height / 2]), np.array([width, height])
    return np.asarray((xy - centre) * INPUT_SIZE / side + INPUT_SIZE / 2)


def cut_patch(image: NDArray[np.uint8], box: ArrayLike) -> NDArray[np.uint8]:
    """The patch [256, 256, 3] of `box`: bilinear, black outside the photo, pixel indices as coordinates."""
    x, y, width, height = (float(v) for v in np.asarray(box, np.float64))
    grid = np.arange(INPUT_SIZE, dtype=np.float64)
    columns, across = _taps(x + grid * width / INPUT_SIZE, image.shape[1])
    rows, down = _taps(y + grid * height / INPUT_SIZE, image.shape[0])
    # The two rows and two columns around every sample, weighted; weights are 0 outside the photo.
    picked = image[np.clip(rows, 0, image.shape[0] - 1)]  # [2, 256, W, 3]
    lines = np.einsum("kr,krwc->rwc", down.astype(np.float32), picked, dtype=np.float32)
    sides = lines[:, np.clip(columns, 0, image.shape[1] - 1)]  # [256, 2, 256, 3]
    patch = np.einsum("kc,rkcd->rcd", across.astype(np.float32), sides)
    return np.asarray(np.clip(np.rint(patch), 0, 255).astype(np.uint8))


def joint_tensors(
    joints: ArrayLike,  # [19, 3]
    box: ArrayLike,  # [4]
    joint_score: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(joints [30, 3] in heat-map pixels with scores, mask [30, 1]); absent joints are zero and masked."""
    rows = np.asarray(joints, np.float64)
    xy = patch_coordinates(rows[:, :2], box) * HEATMAP_SIZE / INPUT_SIZE
    known = (rows[:, 2] > joint_score) & ((xy >= 0) & (xy < HEATMAP_SIZE)).all(axis=1)
    placed = np.zeros((len(SMPL_JOINTS), 3), np.float32)
    mask = np.zeros((len(SMPL_JOINTS), 1), np.float32)
    placed[INPUT_TO_SMPL] = np.concatenate([xy, rows[:, 2:]], axis=1)
    mask[INPUT_TO_SMPL, 0] = known
    return placed, mask


def stack(
    people: Sequence[PersonInput],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """(images [B, 3, 256, 256] in 0..1, joints [B, 30, 3], masks [B, 30, 1], boxes [B, 4])."""
    images = np.stack([person.patch for person in people]).transpose(0, 3, 1, 2)
    return (
        np.ascontiguousarray(images, np.float32) / np.float32(255),
        np.stack([person.joints for person in people]),
        np.stack([person.mask for person in people]),
        np.stack([person.box for person in people]),
    )


def _taps(positions: FloatArray, length: int) -> tuple[NDArray[np.int64], FloatArray]:
    """The two pixels [2, N] beside each position and their weights [2, N]; 0 for pixels not there."""
    first = np.floor(positions).astype(np.int64)
    index = np.stack([first, first + 1])
    share = positions - first
    weights = np.stack([1.0 - share, share])
    return index, weights * ((index >= 0) & (index < length))
