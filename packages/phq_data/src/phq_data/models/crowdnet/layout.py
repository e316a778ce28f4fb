"""Joint sets, skeleton and constants of 3DCrowdNet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INPUT_SIZE = 256  # pixels a side of the patch that the network sees
HEATMAP_SIZE = 64  # pixels a side of the joint maps that it is given
GRID = 8  # cells a side of its feature map and of its 3D joint maps
SIGMA = 2.5  # of the joint maps' Gaussians, heat-map pixels
FOCAL = 5000.0  # pixels, of the patch and of the photo
CAMERA_SIZE = 2.5  # metres that the patch spans where the camera number's sigmoid is 1

SMPL_JOINTS: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "torso", "left_knee", "right_knee", "spine", "left_ankle",
    "right_ankle", "chest", "left_toe", "right_toe", "neck", "left_thorax", "right_thorax", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hand", "right_hand", "nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top",
)  # fmt: skip
"""The 30 joints: SMPL's 24 and six points of the face and head."""

INPUT_TO_SMPL: NDArray[np.int64] = np.array(
    [24, 25, 26, 27, 28, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8, 0, 12]
)
"""Where each of the 19 input joints (COCO-17, pelvis, neck) goes among the 30."""

GRAPH_JOINTS: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "neck",
    "head_top", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
"""The 15 joints that the network finds and its graph connects."""

_BONES = (
    (0, 1), (1, 3), (3, 5), (0, 2), (2, 4), (4, 6), (0, 7), (7, 8), (7, 9), (9, 11), (11, 13), (7, 10),
    (10, 12), (12, 14),
)  # fmt: skip
_PAIRS = ((1, 2), (3, 4), (5, 6), (9, 10), (11, 12), (13, 14))


def graph_adjacency() -> NDArray[np.float32]:
    """D^-1/2 (E + I) D^-1/2 [15, 15] of the skeleton's bones and left-right pairs."""
    edges = np.eye(len(GRAPH_JOINTS))
    for i, j in (*_BONES, *_PAIRS):
        edges[i, j] = edges[j, i] = 1.0
    scale = 1.0 / np.sqrt(edges.sum(axis=1))
    return np.asarray((scale[:, None] * edges * scale[None, :]).astype(np.float32))
