"""From the outputs of a pose network to keypoints in the pixels of its input.

Both heads are trained on the numbers of pixels: a keypoint in the middle of the pixel `n` is at `n`. Here the
middle of the first pixel is at 0.5, as everywhere in PHQ, so half a pixel is added.

Sources: SimCC (Li et al. 2022, https://arxiv.org/abs/2107.03332), DARK (Zhang et al. 2020,
https://arxiv.org/abs/1910.06278, equations 4 to 9), UDP (Huang et al. 2020, https://arxiv.org/abs/1911.07524).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from phq_data.arrays import Float32Array, FloatArray

SMOOTHING = 1 / 32  # deviation of DARK's blur over a heatmap's height: 2 cells of 64


def decode_simcc(
    x: Float32Array,  # [N, K, W * r] a score for every r-th part of a column
    y: Float32Array,  # [N, K, H * r]
    width: int,
) -> FloatArray:
    """Keypoints [N, K, 3]: x, y in pixels of the input, and the lower of the two maxima as the score."""
    ratio = x.shape[2] / width
    places = np.stack([x.argmax(axis=2), y.argmax(axis=2)], axis=-1) / ratio + 0.5
    scores = np.minimum(x.max(axis=2), y.max(axis=2))
    return np.concatenate([places, scores[..., None]], axis=-1).astype(np.float64)


def decode_heatmap(
    maps: Float32Array,  # [N, K, h, w]
    size: tuple[int, int],  # width, height of the input
    *,
    udp: bool,
) -> FloatArray:
    """Keypoints [N, K, 3]: x, y in pixels of the input by DARK, and the maximum of the map as the score."""
    height, width = maps.shape[2:]
    cells = np.array([width, height], np.float64)
    stride = (np.array(size) - 1) / (cells - 1) if udp else np.array(size) / cells
    flat = maps.reshape(-1, height, width)
    best = flat.reshape(len(flat), -1).argmax(axis=1)
    peak = np.stack(np.divmod(best, width)[::-1], axis=-1)  # [N * K, 2] x, y
    places = (peak + _refinement(flat, peak)) * stride + 0.5
    scores = flat.reshape(len(flat), -1)[np.arange(len(flat)), best]
    return np.concatenate([places, scores[:, None]], axis=1).astype(np.float64).reshape(*maps.shape[:2], 3)


def _refinement(
    maps: Float32Array,  # [M, h, w]
    peak: NDArray[np.int64],  # [M, 2] x, y of the best cell
) -> FloatArray:
    """Offsets [M, 2] in cells from the best cell to the top of the Gaussian there, at most a cell.

    The logarithm of a Gaussian is a parabola: its first and second differences tell where its top is.
    """
    sigma = SMOOTHING * maps.shape[1]
    smooth = gaussian_filter(maps.astype(np.float64), (0, sigma, sigma), mode="constant")
    logs = np.log(np.maximum(np.pad(smooth, ((0, 0), (1, 1), (1, 1)), mode="edge"), 1e-10))
    m, x, y = np.arange(len(maps)), peak[:, 0] + 1, peak[:, 1] + 1
    right, left, below, above = logs[m, y, x + 1], logs[m, y, x - 1], logs[m, y + 1, x], logs[m, y - 1, x]
    slope = np.stack([right - left, below - above], axis=-1) / 2
    xx, yy = right + left - 2 * logs[m, y, x], below + above - 2 * logs[m, y, x]
    xy = (logs[m, y + 1, x + 1] + logs[m, y - 1, x - 1] - logs[m, y + 1, x - 1] - logs[m, y - 1, x + 1]) / 4
    curved = xx * yy - xy**2
    is_top = (xx < 0) & (curved > 1e-12)
    step = np.stack([xy * slope[:, 1] - yy * slope[:, 0], xy * slope[:, 0] - xx * slope[:, 1]], axis=-1)
    return np.where(is_top[:, None], np.clip(step / np.where(is_top, curved, 1.0)[:, None], -1, 1), 0.0)
