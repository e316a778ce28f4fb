"""One labelled portrait, as the reference formats have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data import camera
from phq_data.errors import PhqError


class ExchangeError(PhqError, ValueError):
    """Files of another tool that cannot be read; the message says which and why."""


LABEL_NUMBERS = 31


@dataclass(frozen=True, eq=False)
class ReferencePortrait:
    """An image, its mask and its label. Images stay in the bytes that they came in."""

    name: str  # as the other tool calls it: a path inside a zip, a file name
    image: bytes
    mask: bytes
    camera: NDArray[np.float32]  # [25] camera-to-world and normalised intrinsics
    pose: NDArray[np.float32]  # [6] axis-angles of neck and head, radians
    photo: Path | None = None  # the raw photo, where it is still there
    window: tuple[float, float, float] | None = None  # x, y, side in the raw photo's pixels
    keypoints: NDArray[np.float64] | None = None  # [17, 3] in the raw photo's pixels


def to_numbers(label: ArrayLike, pose: ArrayLike) -> list[float]:
    """The 31 numbers of a training label: `label` [25], then `pose` [6] of neck and head, radians (data
    specification, section 12)."""
    numbers = np.concatenate([np.asarray(label, np.float32), np.asarray(pose, np.float32)])
    return [float(value) for value in numbers]


def from_numbers(values: Any, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(camera [25], pose [6]) of a training label; `ExchangeError` names the portrait it is of."""
    try:
        numbers = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        numbers = np.zeros(0, np.float32)
    if numbers.shape != (LABEL_NUMBERS,):
        raise ExchangeError(f"the label of {name} is no list of {LABEL_NUMBERS} numbers")
    check(numbers[:25], numbers[25:], name)
    return numbers[:25], numbers[25:]


def check(label: ArrayLike, pose: ArrayLike, name: str) -> None:
    """`ExchangeError` unless `label` [25] is of our camera sphere and `pose` [6] is finite."""
    try:
        camera.check_label(label)
    except camera.CameraError as error:
        raise ExchangeError(f"the label of {name}: {error}") from error
    if not np.isfinite(np.asarray(pose, np.float64)).all():
        raise ExchangeError(f"the pose of {name} holds numbers that are not finite")


def labels_of(document: Any, where: str) -> Mapping[str, Any]:
    """Path to label of a `dataset.json`; `ExchangeError` when it has none."""
    rows = document.get("labels") if isinstance(document, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise ExchangeError(f"{where} has no labels: images without cameras are of no use here")
    try:
        return {str(path): numbers for path, numbers in rows}
    except (TypeError, ValueError) as error:
        raise ExchangeError(f"{where}: its labels are not pairs of a path and numbers") from error
