"""Heads that MultiPose saw but gave to nobody.

MultiPose finds a person by the centre of the body. In a crowd, bodies hide each other and centres vanish,
while noses, eyes and ears still stand in the heat maps. Those points, grouped to heads, are further
proposals: each is only a place and a rough size, enough for a crop.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import Float32Array, FloatArray
from phq_data.models.movenet.decode import STRIDE, maximum_filter

# Usual distance between two points of a head seen from the front, as a share of the shoulder breadth
# (about 0.39 m), in the order of COCO-17: nose, left eye, right eye, left ear, right ear.
_EYES, _EARS, _NOSE_EYE, _NOSE_EAR, _EYE_EAR, _EYE_FAR_EAR = 0.165, 0.39, 0.125, 0.245, 0.16, 0.29
_SPANS = np.array(
    [
        [0.0, _NOSE_EYE, _NOSE_EYE, _NOSE_EAR, _NOSE_EAR],
        [_NOSE_EYE, 0.0, _EYES, _EYE_EAR, _EYE_FAR_EAR],
        [_NOSE_EYE, _EYES, 0.0, _EYE_FAR_EAR, _EYE_EAR],
        [_NOSE_EAR, _EYE_EAR, _EYE_FAR_EAR, 0.0, _EARS],
        [_NOSE_EAR, _EYE_FAR_EAR, _EYE_EAR, _EARS, 0.0],
    ]
)


def loose_heads(
    heads: Mapping[str, Float32Array],  # MultiPose's outputs for one image
    minimum_score: float,
    reach: float,
) -> FloatArray:
    """Heads [K, 4] in network pixels: x, y, breadth of the shoulders that would go with it, score; best
    first.

    A head is a group of at least two different points of which the best scores `minimum_score`; `reach` is
    the largest distance in network pixels between its points and the best one.
    """
    points = _peaks(heads["heatmap"][0, :5], heads["offset"][0, :10], 0.6 * minimum_score)
    free = np.ones(len(points), bool)
    found = []
    for index in np.argsort(-points[:, 3], kind="stable"):
        if not free[index] or points[index, 3] < minimum_score:
            continue
        distance = np.hypot(*(points[:, 1:3] - points[index, 1:3]).T)
        group = [index]
        for joint in range(5):
            candidates = np.flatnonzero(free & (points[:, 0] == joint) & (distance <= reach))
            if joint != points[index, 0] and len(candidates):
                # The nearest good one: in a crowd, the best within reach is often the neighbour's.
                worth = points[candidates, 3] / (distance[candidates] + STRIDE)
                group.append(candidates[np.argmax(worth)])
        if len(group) < 2:
            free[index] = False
            continue
        members = points[group]
        size = _breadth(members)
        centre = np.average(members[:, 1:3], axis=0, weights=members[:, 3])
        free &= np.hypot(*(points[:, 1:3] - centre).T) > 0.3 * size
        free[group] = False
        found.append([*centre, size, members[:2, 3].mean()])
    return np.array(found, np.float64).reshape(-1, 4)


def _peaks(heat: Float32Array, offset: Float32Array, minimum: float) -> FloatArray:
    """Local maxima [K, 4] of the head's heat maps [5, h, w]: joint, x, y in network pixels, score."""
    rows: list[NDArray[np.float64]] = []
    for joint, layer in enumerate(heat):
        row, column = np.nonzero((layer >= maximum_filter(layer, 1)) & (layer >= minimum))
        x = (column + offset[2 * joint + 1, row, column]) * STRIDE
        y = (row + offset[2 * joint, row, column]) * STRIDE
        rows.append(np.stack([np.full(len(row), joint), x, y, layer[row, column]], axis=1))
    return np.concatenate(rows).astype(np.float64)


def _breadth(members: FloatArray) -> float:
    """Shoulder breadth in network pixels: what most of the spans between a head's points stand for."""
    joints = members[:, 0].astype(int)
    spans = np.linalg.norm(members[:, None, 1:3] - members[None, :, 1:3], axis=2)
    usual = _SPANS[np.ix_(joints, joints)]
    upper = np.triu_indices(len(joints), 1)
    return float(np.median(spans[upper] / usual[upper]))
