"""What comparisons of labels share: who is who, angles on the circle and between rotations, percentiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from phq_data.arrays import FloatArray

MATCH_DISTANCE = 0.8
"""Head heights between true and detected head and shoulders, above which it is somebody else."""
_FACE, _SHOULDERS = slice(0, 5), slice(5, 7)


def match_people(
    truth: Sequence[FloatArray],  # [17, 3] each: x, y in pixels, visibility
    heads: Sequence[float],  # heights of their heads, pixels
    detected: Sequence[FloatArray],  # [17, 3] each: x, y in pixels, score
) -> list[int | None]:
    """Who of `detected` each true person of one photo is; None where nobody was detected.

    Optimal one-to-one assignment of middles of shoulders and faces, so that swapped sides still match.
    """
    true = [middles(keypoints[:, :2]) for keypoints in truth]
    return match(true, [middles(keypoints) for keypoints in detected], heads, MATCH_DISTANCE)


def match(
    people: Sequence[FloatArray],  # [2, 2] each, from `middles`, pixels
    others: Sequence[FloatArray],
    sizes: Sequence[float],  # of `people`, pixels
    most: float,  # distance in a person's size above which it is somebody else
) -> list[int | None]:
    """For each of `people`, which of `others` it is: the best one-to-one assignment."""
    from scipy.optimize import linear_sum_assignment

    found: list[int | None] = [None] * len(people)
    if not people or not others:
        return found
    apart = np.linalg.norm(np.stack(people)[:, None] - np.stack(others)[None], axis=-1).mean(axis=-1)
    cost = apart / np.asarray(sizes, np.float64)[:, None]
    for i, j in zip(*linear_sum_assignment(np.minimum(cost, 10.0)), strict=True):
        if cost[i, j] <= most:
            found[i] = int(j)
    return found


def middles(keypoints: ArrayLike) -> FloatArray:
    """Middles [2, 2] of the shoulders and of the face of COCO keypoints [17, 2 or 3], pixels.

    A third column is scores, which weigh the points of the face.
    """
    points = np.asarray(keypoints, np.float64)
    weights = points[_FACE, 2] + 1e-3 if points.shape[1] == 3 else np.ones(5)
    return np.stack([points[_SHOULDERS, :2].mean(axis=0), weights @ points[_FACE, :2] / weights.sum()])


def wrapped(angle: float, turn: float = 2 * np.pi) -> float:
    """An angle as the one in [-turn/2, turn/2) that points the same way; `turn` = 360 for degrees."""
    return float((angle + turn / 2) % turn - turn / 2)


def angle_between(one: FloatArray, other: FloatArray) -> float:
    """Radians between two rotations [3, 3]; exactly 0 for equal ones, unlike the arc cosine of the trace."""
    return float(2 * np.arcsin(min(1.0, float(np.linalg.norm(one - other)) / np.sqrt(8.0))))


def spread(values: Sequence[float], *, low: bool = False) -> dict[str, float | None]:
    """Median and 95th (if `low`: 5th) percentile of the finite `values`, 4 decimals; None without any."""
    finite = np.array(values, np.float64)
    finite = finite[np.isfinite(finite)]
    name, percentile = ("p05", 5) if low else ("p95", 95)
    if len(finite) == 0:
        return {"median": None, name: None}
    return {
        "median": round(float(np.median(finite)), 4),
        name: round(float(np.percentile(finite, percentile)), 4),
    }


def share(values: Sequence[bool]) -> float | None:
    """Share of true `values`, 4 decimals; None without any."""
    return round(float(np.mean(values)), 4) if values else None
