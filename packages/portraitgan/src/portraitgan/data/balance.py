"""Which portraits are dealt more than once, so that rare sides are seen as often as common ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phq_data import camera

Balance = Literal["none", "yaw"]
OCTANTS = tuple(range(-180, 180, 45))
"""Degrees of yaw in the middle of each octant: -180 is the view from behind, 0 the frontal one."""
MOST_OFTEN = 8.0
"""A portrait is dealt at most so often: few portraits of a side would otherwise be learned by heart."""
BACK = 90.0
"""Degrees of yaw from which on PanoHead repeats portraits."""


def octant_of(cameras: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which of `OCTANTS` the camera labels [N, 25] look from, [N]."""
    return ((_yaw(cameras) + 202.5) // 45).astype(np.int64) % len(OCTANTS)


def dealt(
    cameras: NDArray[np.float32],  # [N, 25]
    mirror: bool,
    balance: Balance = "none",
    back_repeat: int = 1,
) -> NDArray[np.int64]:
    """Numbers 0..N-1 of portraits in the order of an epoch before it is shuffled, each at least once, [M].

    `yaw`: every octant as often as the most frequent one, up to `MOST_OFTEN` times each portrait; with
    `mirror` an octant also has the portraits of the opposite one. `back_repeat`: so often what is seen from
    `BACK` degrees of yaw on.
    """
    often = np.ones(len(cameras))
    if balance == "yaw":
        octants = octant_of(cameras)
        counts = np.bincount(octants, minlength=len(OCTANTS))
        if mirror:
            counts = counts + counts[-np.arange(len(OCTANTS))]
        often = np.minimum(counts.max() / counts[octants], MOST_OFTEN)
    often[np.abs(_yaw(cameras)) >= BACK] *= back_repeat
    # A portrait that is due 2.3 times is there twice, and once more in 3 of 10 cases.
    chance = np.random.default_rng(0).random(len(cameras))
    return np.repeat(np.arange(len(cameras)), np.floor(often + chance).astype(np.int64))


def _yaw(cameras: NDArray[np.float32]) -> NDArray[np.float64]:
    """Degrees [N]."""
    yaw: NDArray[np.float64] = np.degrees(camera.angles(camera.from_label(cameras)[0])[0])
    return yaw
