"""Where to begin, and which of several ends to believe."""

from __future__ import annotations

import numpy as np

from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.models.smplify.objective import Observations, State
from phq_data.models.smplify.skeleton import ANGLES, CHEST, HEAD, Skeleton


def pixels_per_metre(
    skeleton: Skeleton,
    pixels: FloatArray,  # [N, 9, 2]
    weights: FloatArray,  # [N, 9]
    fallback: FloatArray,  # [N] used where fewer than two points are seen
) -> FloatArray:
    """The person's scale [N] from how far keypoints are apart.

    A projection only shortens: the distance of two keypoints over the distance of the body's points is a
    lower bound of the scale, whatever the pose. The largest of them would be the scale but for noise, so it
    is their upper weighted quantile.
    """
    first, second = np.triu_indices(HEAD.stop + 2, 1)
    length = np.linalg.norm(skeleton.points[first] - skeleton.points[second], axis=-1)
    # Neighbours in the face say little about scale: noise is as large as they are.
    keep = length > 0.09
    first, second, length = first[keep], second[keep], length[keep]
    ratio = np.linalg.norm(pixels[:, first] - pixels[:, second], axis=-1) / length
    weight = weights[:, first] * weights[:, second] * length
    order = np.argsort(ratio, axis=1)
    ratio, weight = np.take_along_axis(ratio, order, 1), np.take_along_axis(weight, order, 1)
    total = weight.sum(1)
    above = np.cumsum(weight[:, ::-1], axis=1)[:, ::-1]
    index = np.maximum((above >= 0.15 * total[:, None]).sum(1) - 1, 0)
    found = np.take_along_axis(ratio, index[:, None], 1)[:, 0]
    usable = (total > 1e-6) & (found > 1e-6)
    return np.where(usable, found, fallback)


def image_tilt(pixels: FloatArray, weights: FloatArray) -> FloatArray:
    """Angle [N] by which the person is turned clockwise in the image: from shoulders to head, radians."""

    def centre(rows: slice) -> tuple[FloatArray, FloatArray]:
        weight = weights[:, rows]
        total = weight.sum(1)
        mean = (weight[..., None] * pixels[:, rows]).sum(1) / np.maximum(total, 1e-9)[:, None]
        return mean, total

    (head, head_weight), (chest, chest_weight) = centre(HEAD), centre(CHEST)
    x, y = (head - chest).T
    seen = (head_weight > 0.3) & (chest_weight > 0.5)
    tilt = np.where(seen, np.arctan2(x, -y), 0.0)
    # Small tilts are the head's own or a sideways view's: begin upright there.
    return np.where(np.abs(tilt) > np.radians(35), tilt, 0.0)


def initial_states(skeleton: Skeleton, observed: Observations, yaws: FloatArray) -> State:
    """N people times yaws [S] (radians), people first: neutral bodies over the keypoints."""
    count, initializations = len(observed.pixels), len(yaws)
    sure = observed.weights / (1.0 + (observed.deviation / 0.03) ** 2)
    tilt = image_tilt(observed.pixels, sure)
    about_view = np.zeros((count, 3, 3))
    about_view[:, 2, 2] = 1.0
    about_view[:, 0, 0] = about_view[:, 1, 1] = np.cos(tilt)
    about_view[:, 1, 0], about_view[:, 0, 1] = np.sin(tilt), -np.sin(tilt)
    turned = np.swapaxes(camera.from_angles(yaws, 0.0)[..., :3, :3], -1, -2)
    root = about_view[:, None] @ turned[None]  # [N, S, 3, 3]
    weight = sure / np.maximum(sure.sum(1, keepdims=True), 1e-9)
    model = np.einsum("nsij,kj,nk->nsi", root, skeleton.points, weight)[..., :2]
    middle = np.einsum("nkc,nk->nc", observed.pixels, weight)
    values = np.zeros((count, initializations, 3 + ANGLES + skeleton.directions))
    values[..., :2] = (middle[:, None] - observed.scale[:, None, None] * model) / observed.focal[
        :, None, None
    ]
    values[..., 2] = np.log(observed.focal / observed.scale)[:, None]
    return State(root.reshape(-1, 3, 3), values.reshape(count * initializations, -1))
