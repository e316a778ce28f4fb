"""What a scripted curator makes of what it sees: how well the rig lies on the person, which keys would help.

Pixels in, numbers of key presses out. No camera, no rig and no label is known here: what a key does is what
was seen to change when it was pressed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from phq_data.arrays import FloatArray

SIDE = 96
"""Pixels to which the image is reduced before it is compared."""
_LIGHT = 0.03  # what a standard deviation of light counts against a pixel that one alone covers
_NEIGHBOURHOOD = 6.0  # pixels of SIDE: light is compared with that around it, so that colors do not matter
_FAINT = 3.0  # of 255: contrast that is noise
_MOST_LIGHT = 2.0  # standard deviations: a pattern on the clothes is not the body's light


@dataclass(frozen=True)
class Sight:
    """A body as it is seen: the person, or the rig."""

    cover: FloatArray  # [SIDE, SIDE] share of the pixel
    light: FloatArray  # [SIDE, SIDE] brightness, 0..255


def agreement(person: Sight, rig: Sight) -> float:
    """How much of what either covers both do, 0..1."""
    both = np.minimum(person.cover, rig.cover).sum()
    return float(both / max(np.maximum(person.cover, rig.cover).sum(), 1e-9))


def mismatch(person: Sight, rig: Sight, blur: float) -> FloatArray:
    """Residuals of shape and shading; with more `blur` (pixels of SIDE) edges attract from farther away."""
    shape = gaussian_filter(rig.cover - person.cover, blur, mode="nearest")
    both = ((rig.cover > 0.9) & (person.cover > 0.9)).astype(np.float64)
    both *= gaussian_filter(both, 1.0)
    shading = gaussian_filter(_relief(rig.light, both) - _relief(person.light, both), blur / 2)
    limited = np.clip(shading, -_MOST_LIGHT, _MOST_LIGHT)
    return np.concatenate([shape.ravel(), _LIGHT * limited.ravel()])


def _relief(light: FloatArray, weight: FloatArray) -> FloatArray:
    """Brightness against that of the neighbourhood, in its standard deviations."""
    share = gaussian_filter(weight, _NEIGHBOURHOOD) + 1e-3
    mean = gaussian_filter(light * weight, _NEIGHBOURHOOD) / share
    spread = gaussian_filter((light - mean) ** 2 * weight, _NEIGHBOURHOOD) / share
    return np.asarray((light - mean) / np.sqrt(spread + _FAINT**2) * weight)


class Habit:
    """What the keys were seen to change, [residuals, keys] a coarse step; it learns from every attempt."""

    def __init__(self, effect: FloatArray, stiff: FloatArray, most: float) -> None:
        self._effect, self._stiff, self._most = effect, stiff, most
        self._caution = 1.0

    def presses(self, residuals: FloatArray) -> FloatArray:
        """Coarse steps of every key, in quarters, that should help most (Levenberg-Marquardt)."""
        effect = self._effect
        stiff = (self._caution * self._stiff * SIDE) ** 2 + 1e-9
        normal = effect.T @ effect + np.diag(stiff)
        wanted = -np.linalg.solve(normal, effect.T @ residuals)
        return np.asarray(np.round(4 * np.clip(wanted, -self._most, self._most)) / 4)

    def learn(self, presses: FloatArray, before: FloatArray, after: FloatArray, *, better: bool) -> None:
        """Remember what these presses did (Broyden's update)."""
        surprise = after - before - self._effect @ presses
        self._effect = self._effect + np.outer(surprise, presses) / (presses @ presses)
        self._caution = max(0.25, self._caution / 2) if better else 3 * self._caution


def covered(bare: NDArray[np.uint8], seen: NDArray[np.uint8], least: int) -> NDArray[np.bool_]:
    """Pixels [h, w] of two images [h, w, 3] that differ by more than `least` of 255."""
    apart = np.abs(bare.astype(np.int16) - seen.astype(np.int16))
    return np.asarray(apart.max(axis=-1) > least)


def sight(cover: NDArray[np.bool_], pixels: NDArray[np.uint8]) -> Sight:
    """What [h, w] covers and the image [h, w, 3], reduced to SIDE; h and w are multiples of SIDE."""
    return Sight(_reduced(cover.astype(np.float64)), _reduced(pixels.mean(axis=-1)))


def _reduced(values: FloatArray) -> FloatArray:
    across, down = values.shape[1] // SIDE, values.shape[0] // SIDE
    return np.asarray(values.reshape(SIDE, down, SIDE, across).mean(axis=(1, 3)))
