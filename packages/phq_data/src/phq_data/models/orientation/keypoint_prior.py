"""The keypoint orientation prior: where the camera stands, from keypoints and their scores alone.

Reprojection leaves the turn of a torso open by some ten degrees, and detectors exchange shoulders in views
from behind. But scores tell what was hidden, and elbows and hips take part. A small network, trained by
`tools/train_keypoint_prior.py` on rendered people seen by the embedded detector, turns all of that into two
directions to the camera, in the frames of chest and head, each with a standard deviation. The fit takes them
as a prior.

The prediction for a mirrored person is the mirrored one, exactly: both are made and averaged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from phq_data.arrays import FloatArray

DATA_FILE = Path(__file__).parents[2] / "data" / "keypoint_orientation_prior.safetensors"
USED = 13
"""COCO keypoints down to the hips."""
CORE = 7
"""Of these, face and shoulders say where the person is and how large."""
MIRROR = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11])
OUTPUTS = 8
"""Directions of chest (3) and head (3), logarithms of their standard deviations (2)."""


@dataclass(frozen=True)
class KeypointOrientationPrior:
    """An ensemble of E small perceptrons with one hidden width H and L layers."""

    mean: FloatArray  # [D] of the features
    deviation: FloatArray  # [D]
    weights: tuple[FloatArray, ...]  # L arrays [E, in, out]
    biases: tuple[FloatArray, ...]  # L arrays [E, out]

    @property
    def digest(self) -> str:
        """Hex digest of all numbers: equal priors have equal digests."""
        state = hashlib.sha256()
        for array in (self.mean, self.deviation, *self.weights, *self.biases):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    @classmethod
    def load(cls, path: Path = DATA_FILE) -> KeypointOrientationPrior:
        """The network of a file written by `tools/train_keypoint_prior.py`."""
        arrays = {key: value.astype(np.float64) for key, value in load_file(path).items()}
        count = sum(key.startswith("weight") for key in arrays)
        return cls(
            mean=arrays["mean"],
            deviation=arrays["deviation"],
            weights=tuple(arrays[f"weight{i}"] for i in range(count)),
            biases=tuple(arrays[f"bias{i}"] for i in range(count)),
        )

    def predict(self, keypoints: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(directions [N, 2, 3] of chest and head to the camera, standard deviations [N, 2] per coordinate).

        `keypoints` [N, 17, 3] are COCO-17 with scores. A direction shorter than one is undecided.
        """
        straight, spread = self._ensemble(keypoints)
        mirrored, other = self._ensemble(mirror(keypoints))
        mirrored = mirrored * (-1, 1, 1)
        # Where the two predictions disagree they are uncertain, as between members of the ensemble.
        apart = np.sum((straight - mirrored) ** 2, axis=-1) / 12
        return (straight + mirrored) / 2, np.sqrt((spread + other) / 2 + apart)

    def _ensemble(self, keypoints: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(mean directions [N, 2, 3], variances [N, 2])."""
        values = (features(keypoints) - self.mean) / self.deviation
        layer = np.broadcast_to(values, (len(self.weights[0]), *values.shape))
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            layer = layer @ weight + bias[:, None]
            if index + 1 < len(self.weights):
                layer = layer / (1.0 + np.exp(-np.clip(layer, -40, 40)))  # SiLU
        directions = layer[..., :6].reshape(*layer.shape[:2], 2, 3)  # [E, N, 2, 3]
        mean = directions.mean(0)
        between = np.mean(np.sum((directions - mean) ** 2, axis=-1), axis=0) / 3
        return mean, np.mean(np.exp(2 * np.clip(layer[..., 6:], -5, 1)), axis=0) + between


def features(keypoints: FloatArray) -> FloatArray:
    """[N, 39]: the used keypoints around the person's middle in units of their size, and their scores."""
    score = np.clip(np.nan_to_num(keypoints[:, :USED, 2]), 0, 1)
    place = np.nan_to_num(keypoints[:, :USED, :2])
    weight = score[:, :CORE, None] ** 2 + 1e-6
    total = weight.sum(1, keepdims=True)
    middle = (weight * place[:, :CORE]).sum(1, keepdims=True) / total
    offset = place - middle
    size = np.sqrt((weight * offset[:, :CORE] ** 2).sum((1, 2), keepdims=True) / total)
    offset = np.clip(offset / np.maximum(size, 1e-6), -6, 6) * (score[..., None] > 0.02)
    return np.concatenate([offset.reshape(len(score), -1), score], axis=1)


def mirror(keypoints: FloatArray) -> FloatArray:
    """[N, 13, 3]: the used keypoints of the mirrored photo (x is only negated: features are relative)."""
    return keypoints[:, MIRROR] * (-1, 1, 1)


@lru_cache(maxsize=1)
def load_keypoint_prior() -> KeypointOrientationPrior:
    """The shipped network, read once a process."""
    return KeypointOrientationPrior.load()
