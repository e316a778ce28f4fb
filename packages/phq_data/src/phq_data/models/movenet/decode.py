"""From MoveNet's heads to people: what follows the convolutions in Google's two networks, for any batch.

Both networks mark a person's centre, regress rough key points from it and then look for each key point in its
heat map near the rough place. The constants are those of the networks' own graphs. Maps have a quarter of the
image's resolution; `heads` are the ONNX outputs by name (`tools/convert_tfjs.py`), channels first.

Source: the frozen graphs of MoveNet SinglePose Thunder and MultiPose Lightning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import Float32Array

STRIDE = 4  # image pixels per map cell
CENTRE_SOFTENING = 1.8  # cells added to every distance, so that a near miss costs little
AIM_SPREAD = 0.07  # of the crop's side: about half a head in the crops that the detector makes
MULTIPOSE_SPREAD = (
    0.3  # how far a key point may lie from its rough place: squared cells per cell of the short side
)
MULTIPOSE_SEEN = 0.126953125  # key points below this do not count in a person's score
PEAK_RADIUS = 2  # a centre is a peak of its 5 x 5 neighbourhood


@dataclass(frozen=True)
class Proposals:
    """People that MultiPose sees in one image, best first. Coordinates are fractions of the image's sides."""

    keypoints: NDArray[np.float32]  # [P, 17, 3] y, x, score
    boxes: NDArray[np.float32]  # [P, 4] ymin, xmin, ymax, xmax
    scores: NDArray[np.float32]  # [P] centre score times the mean score of the key points that it saw
    centres: NDArray[np.float32]  # [P] the centre score alone


def decode_thunder(
    heads: Mapping[str, Float32Array],
    aims: NDArray[np.float64] | None = None,  # [N, 2] y, x in fractions of the crop; nan: no aim
) -> NDArray[np.float32]:
    """Key points [N, 17, 3] (y, x, score; fractions of the crop) of one person a crop.

    It is the person whose centre is nearest to the middle of the crop, as in the original graph. An aim adds
    what a crowd needs: that person's head should be where the aim is.
    """
    heat, offset = heads["heatmap"], heads["offset"]
    count, joints, height, width = heat.shape
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    middle = np.array([height / 2, width / 2], np.float32)
    weighted = heads["center"][:, 0] / (_distance(rows, columns, middle[0], middle[1]) + CENTRE_SOFTENING)
    if aims is not None:
        weighted = weighted * _aimed(heads["regress"], aims)
    row, column = np.divmod(weighted.reshape(count, -1).argmax(axis=1), width)

    people = np.arange(count)
    rough = heads["regress"][people, :, row, column].reshape(count, joints, 2)
    rough = rough + np.stack([row, column], axis=-1)[:, None].astype(np.float32)
    near = _distance(rows, columns, rough[..., 0], rough[..., 1]) + CENTRE_SOFTENING
    best = (heat / near).reshape(count, joints, -1).argmax(axis=2)
    return _refine(best, heat, offset, people)


def decode_multipose(
    heads: Mapping[str, Float32Array],
    max_people: int = 6,
    minimum_centre: float = 0.0,
) -> Proposals:
    """People of one image (batch of one), at most `max_people` of those with a centre score above the
    minimum.
    """
    centre, heat, offset = heads["center"][0, 0], heads["heatmap"], heads["offset"]
    joints, (height, width) = heat.shape[1], centre.shape
    is_peak = centre >= maximum_filter(centre, PEAK_RADIUS) - 1e-6
    scores = np.where(is_peak & (centre > minimum_centre), centre, 0).reshape(-1)
    order = np.argsort(-scores, kind="stable")[:max_people]
    order = order[scores[order] > 0]
    row, column = np.divmod(order, width)

    at = np.stack([row, column], axis=-1).astype(np.float32)  # [P, 2]
    limit = np.array([height, width], np.float32)
    middle = at + heads["box_offset"][0][:, row, column].T
    half = np.maximum(heads["box_scale"][0][:, row, column].T, 0) / 2
    low, high = np.clip(middle - half, 0, limit), np.clip(middle + half, 0, limit)

    rough = heads["regress"][0][:, row, column].T.reshape(-1, joints, 2) + at[:, None]
    # The search window is a Gaussian around the rough place, cut off at the box: a product of rows and
    # columns.
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    spread = np.float32(MULTIPOSE_SPREAD * min(height, width))
    in_rows = _window(rows, rough[..., 0], spread, low[:, 0], high[:, 0])  # [P, 17, h]
    in_columns = _window(columns, rough[..., 1], spread, low[:, 1], high[:, 1])  # [P, 17, w]
    windowed = heat * in_rows[..., :, None] * in_columns[..., None, :]
    flat = windowed.reshape(len(order), joints, height * width)
    best = flat.argmax(axis=2)
    keypoints = _refine(best, heat, offset, np.zeros(len(order), np.int64))
    # The score of a key point is the heat under the windows of all people, as in the original graph.
    joint = np.arange(joints)
    under_any = flat.max(axis=0, initial=0)  # [17, h * w]
    keypoints[..., 2] = under_any[joint[None], best]

    seen = keypoints[..., 2] > MULTIPOSE_SEEN
    mean = (keypoints[..., 2] * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    people = (scores[order] * mean).astype(np.float32)
    boxes = np.concatenate([low / limit, high / limit], axis=1).astype(np.float32)
    rank = np.argsort(-people, kind="stable")
    return Proposals(keypoints[rank], boxes[rank], people[rank], scores[order][rank])


def _aimed(regress: Float32Array, aims: NDArray[np.float64]) -> Float32Array:
    """How well the head that each cell regresses agrees with the aim, [N, h, w] in 0..1; 1 without an aim."""
    count, _, height, width = regress.shape
    head = regress[:, :10].reshape(count, 5, 2, height, width).mean(axis=1)  # relative to the cell
    y = head[:, 0] + np.arange(height)[:, None] - (aims[:, 0] * height)[:, None, None]
    x = head[:, 1] + np.arange(width) - (aims[:, 1] * width)[:, None, None]
    agreement = np.exp(-(y**2 + x**2) / (2 * (AIM_SPREAD * width) ** 2))
    return np.where(np.isnan(agreement), 1.0, agreement + 1e-6).astype(np.float32)


def _refine(
    best: NDArray[np.int64],  # [P, 17] flat cell of every key point
    heat: Float32Array,  # [N, 17, h, w]
    offset: Float32Array,  # [N, 34, h, w] sub-cell offsets, y and x of every key point
    image: NDArray[np.int64],  # [P] which of the N maps
) -> NDArray[np.float32]:
    """Key points [P, 17, 3] as fractions of the image: the cell plus its offset, and the cell's heat."""
    joints, height, width = heat.shape[1:]
    row, column = np.divmod(best, width)
    joint = np.arange(joints)[None]
    y = row + offset[image[:, None], 2 * joint, row, column]
    x = column + offset[image[:, None], 2 * joint + 1, row, column]
    score = heat[image[:, None], joint, row, column]
    return np.stack([y / height, x / width, score], axis=-1).astype(np.float32)


def _distance(
    rows: NDArray[np.float32],  # [h]
    columns: NDArray[np.float32],  # [w]
    y: NDArray[np.float32] | np.float32,  # [...]
    x: NDArray[np.float32] | np.float32,  # [...]
) -> NDArray[np.float32]:
    """Distance in cells of every cell from the points: [..., h, w]."""
    vertical, horizontal = (rows - np.asarray(y)[..., None]) ** 2, (columns - np.asarray(x)[..., None]) ** 2
    return np.sqrt(vertical[..., :, None] + horizontal[..., None, :])


def _window(
    cells: NDArray[np.float32],  # [h]
    centre: NDArray[np.float32],  # [P, 17]
    spread: np.float32,
    low: NDArray[np.float32],  # [P]
    high: NDArray[np.float32],  # [P]
) -> NDArray[np.float32]:
    """One axis of the search window, [P, 17, h]."""
    inside = (cells >= low[:, None, None]) & (cells < high[:, None, None])
    return np.asarray((np.exp(-((cells - centre[..., None]) ** 2) / spread) * inside).astype(np.float32))


def maximum_filter(values: Float32Array, radius: int) -> Float32Array:
    """Maximum over a square neighbourhood, [h, w]."""
    size = 2 * radius + 1
    padded = np.pad(values, radius, constant_values=-np.inf)
    rows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=0).max(axis=-1)
    result: Float32Array = np.lib.stride_tricks.sliding_window_view(rows, size, axis=1).max(axis=-1)
    return result
