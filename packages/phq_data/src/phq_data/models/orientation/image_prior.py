"""The image orientation prior: where the camera stands, from an image; sharper than from keypoints alone.

Nine points leave the turn of a torso open; an image shows a collar, a chin, the back of a head. Thunder, the
embedded keypoint network, has learned from photos to see all that before it asks for points. Its features of
a square around head and chest, and of the mirrored square, go with the keypoints and with what those tell
into small networks, trained by `tools/train_image_prior.py` on rendered people. Like the keypoint prior they
give two directions to the camera, in the frames of chest and head, each with its own standard deviation; the
prediction for the mirrored features is the mirrored prediction, exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from phq_data.arrays import Float32Array, FloatArray
from phq_data.models import onnx
from phq_data.models.keypoints import SHOULDERS, head_centre, upper_size
from phq_data.models.movenet.crops import CROP, crop_square
from phq_data.models.orientation.keypoint_prior import USED, features, load_keypoint_prior, mirror

DATA_FILE = Path(__file__).parents[2] / "data" / "image_orientation_prior.safetensors"
NETWORK = "movenet-thunder"
PADDING = 2.3
"""Side of the square over the breadth of the shoulders: head and chest, tighter than the detector's."""
CODE_VERSION = 1  # raise it when the same weights would give other predictions


@dataclass(frozen=True)
class ImageOrientationPrior:
    """An ensemble of E networks: maps to W channels cell by cell, then H hidden numbers twice."""

    mean: FloatArray  # [D] of what is `known` without the image
    deviation: FloatArray  # [D]
    squeeze: Float32Array  # [E, C, W]
    squeeze_bias: Float32Array  # [E, W]
    cells: Float32Array  # [E, W * 64, H]
    points: Float32Array  # [E, D, H]
    first_bias: Float32Array  # [E, H]
    second: Float32Array  # [E, H, H]
    second_bias: Float32Array  # [E, H]
    last: Float32Array  # [E, H, 8]
    last_bias: Float32Array  # [E, 8]

    @property
    def digest(self) -> str:
        """Hex digest of all numbers and of how the image is cropped."""
        state = hashlib.sha256(f"{CODE_VERSION} {PADDING} {onnx.embedded_model(NETWORK).sha256}".encode())
        for array in vars(self).values():
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    @classmethod
    def load(cls, path: Path = DATA_FILE) -> ImageOrientationPrior:
        """The networks of a file written by `tools/train_image_prior.py`."""
        arrays: dict[str, Any] = load_file(path)
        double = ("mean", "deviation")
        return cls(**{k: v.astype(np.float64 if k in double else np.float32) for k, v in arrays.items()})

    def predict(
        self,
        keypoints: FloatArray,  # [N, 17, 3] COCO-17 with scores
        maps: Float32Array,  # [N, 2, C, 8, 8] Thunder's features of the square and of its mirror image
    ) -> tuple[FloatArray, FloatArray]:
        """(directions [N, 2, 3] of chest and head to the camera, standard deviations [N, 2] per coordinate).

        A direction shorter than one is an undecided prediction.
        """
        turned = np.array(keypoints)
        turned[:, :USED] = mirror(keypoints)
        straight, spread = self._ensemble(known(keypoints), maps[:, 0])
        mirrored, other = self._ensemble(known(turned), maps[:, 1])
        mirrored = mirrored * (-1, 1, 1)
        # Where the two predictions disagree they are uncertain, as between members of the ensemble.
        apart = np.sum((straight - mirrored) ** 2, axis=-1) / 12
        return (straight + mirrored) / 2, np.sqrt((spread + other) / 2 + apart)

    def hidden(
        self,
        keypoints: FloatArray,  # [N, 17, 3]
        maps: Float32Array,  # [N, 2, C, 8, 8]
    ) -> FloatArray:
        """What the last layer of the first network sees of the square and of its mirror image [N, 2, H]."""
        turned = np.array(keypoints)
        turned[:, :USED] = mirror(keypoints)
        sides = [self._hidden(known(points), maps[:, i], 0) for i, points in enumerate((keypoints, turned))]
        return np.stack(sides, axis=1).astype(np.float64)

    def _hidden(self, points: FloatArray, maps: Float32Array, e: int) -> Float32Array:
        standard = ((points - self.mean) / self.deviation).astype(np.float32)
        cells = maps.reshape(*maps.shape[:2], -1)  # [N, C, 64]
        squeezed = _silu(self.squeeze[e].T @ cells + self.squeeze_bias[e][:, None])  # [N, W, 64]
        first = squeezed.reshape(len(maps), -1) @ self.cells[e] + standard @ self.points[e]
        return _silu(_silu(first + self.first_bias[e]) @ self.second[e] + self.second_bias[e])

    def _ensemble(self, points: FloatArray, maps: Float32Array) -> tuple[FloatArray, FloatArray]:
        """(mean directions [N, 2, 3], variances [N, 2])."""
        every = range(len(self.last))
        found = [self._hidden(points, maps, e) @ self.last[e] + self.last_bias[e] for e in every]
        layer = np.stack(found).astype(np.float64)  # [E, N, 8]
        directions = layer[..., :6].reshape(*layer.shape[:2], 2, 3)
        mean = directions.mean(0)
        between = np.mean(np.sum((directions - mean) ** 2, axis=-1), axis=0) / 3
        return mean, np.mean(np.exp(2 * np.clip(layer[..., 6:], -5, 1)), axis=0) + between


def known(keypoints: FloatArray) -> FloatArray:
    """[N, 47]: keypoints relative to the person and their scores, and the keypoint prior."""
    directions, deviation = load_keypoint_prior().predict(keypoints)
    return np.concatenate([features(keypoints), directions.reshape(-1, 6), np.log(deviation)], axis=1)


def image_features(
    image: NDArray[np.uint8],  # [H, W, 3]
    people: Sequence[FloatArray],  # keypoints [17, 3] in pixels of the image
    threads: int = 1,
    device: str = "cpu",
) -> Float32Array:
    """Thunder's features [N, 2, C, 8, 8] of the squares around people, straight and mirrored."""
    crops = np.empty((len(people), 2, CROP, CROP, 3), np.uint8)
    for crop, keypoints in zip(crops, people, strict=True):
        crop[0] = crop_square(image, *square_around(keypoints))
        crop[1] = crop[0][:, ::-1]
    # One person at a time: what is seen of one must not depend on who else is there.
    maps = [
        onnx.run(NETWORK, {"image": crop}, threads, device, outputs=["features"])["features"]
        for crop in crops
    ]
    return np.stack(maps)


def square_around(keypoints: FloatArray) -> tuple[float, float, float]:
    """(x, y, side) in pixels of the square of head and chest of a person with keypoints [17, 3]."""
    shoulders, head = keypoints[SHOULDERS, :2].mean(axis=0), head_centre(keypoints)
    side = PADDING * upper_size(keypoints)
    x, y = head + 0.72 * (PADDING - 1) * (shoulders - head) - side / 2
    return float(x), float(y), float(side)


def _silu(values: Float32Array) -> Float32Array:
    return (values / (1.0 + np.exp(-np.clip(values, -40, 40)))).astype(np.float32)


@lru_cache(maxsize=2)
def load_image_prior(name: str = DATA_FILE.name) -> ImageOrientationPrior:
    """Shipped networks by the name of their file, read once a process."""
    return ImageOrientationPrior.load(DATA_FILE.with_name(name))
