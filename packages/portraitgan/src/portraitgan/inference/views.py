"""Cameras and body poses from what people say (degrees) to what the generator takes (labels, radians)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phq_data import camera as cameras
from phq_data.files import read_written_text
from phq_data.foreign import parse_json
from portraitgan.inference.errors import InferenceError


def camera(yaw: float, pitch: float = 0.0, roll: float = 0.0, zoom: float = 1.0) -> Tensor:
    """A camera label [1, 25] for angles in degrees: yaw +90 looks from the subject's left, 180 from behind.

    `zoom` multiplies the focal length; 1 is what the generator was trained with.
    """
    return orbit(np.array([yaw]), np.array([pitch]), np.array([roll]), zoom)


def orbit(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray | float = 0.0, zoom: float = 1.0) -> Tensor:
    """Camera labels [N, 25] for N angles in degrees."""
    pose = cameras.from_angles(np.radians(yaw), np.radians(pitch), np.radians(roll))
    if zoom <= 0:
        raise InferenceError(f"zoom must be positive, not {zoom}")
    intrinsics = cameras.INTRINSICS * np.array([[zoom], [zoom], [1.0]])
    intrinsics[:2, 2] = 0.5
    return torch.from_numpy(cameras.to_label(pose, intrinsics))


def camera_from_text(text: str) -> Tensor:
    """A camera label [1, 25] from a JSON file (25 numbers, or an object with `camera`) or 25 numbers.

    Raises `InferenceError` for anything else, `CameraError` for numbers that are no camera of the sphere.
    """
    path = Path(text)
    try:
        if path.suffix == ".json":
            found = parse_json(read_written_text(path))
            numbers = found.get("camera") if isinstance(found, dict) else found
        else:
            numbers = [float(one) for one in text.replace(",", " ").split()]
        label = np.asarray(numbers, np.float32)
    except (OSError, ValueError, TypeError) as error:
        raise InferenceError(f"cannot read a camera label from {text!r}: {error}") from None
    if label.shape != (cameras.LABEL_SIZE,):
        raise InferenceError(f"a camera label has {cameras.LABEL_SIZE} numbers; {text!r} gives {label.shape}")
    cameras.check_label(label)
    return torch.from_numpy(label)[None]


def body_pose(neck: Sequence[float], head: Sequence[float]) -> Tensor:
    """A body pose [1, 6] in radians from axis-angles of neck and head in degrees.

    About x: nodding (positive looks down); about y: turning (positive to the subject's left); about z:
    tilting (positive towards the subject's right shoulder).
    """
    degrees = np.array([*neck, *head], np.float64)
    if degrees.shape != (6,) or not np.isfinite(degrees).all():
        raise InferenceError(
            f"a body pose is three numbers for the neck and three for the head, not {degrees}"
        )
    return torch.from_numpy(np.radians(degrees).astype(np.float32))[None]


def describe(label: Tensor) -> str:
    """Yaw, pitch and roll of a camera label [1, 25] in degrees, in words."""
    matrix, _ = cameras.from_label(label[0].cpu().numpy())
    yaw, pitch, roll = (float(np.degrees(a)) for a in cameras.angles(matrix))
    yaw, pitch, roll = (round(angle, 1) + 0.0 for angle in (yaw, pitch, roll))  # no -0.0
    return f"yaw {yaw:.1f}°, pitch {pitch:.1f}°, roll {roll:.1f}°"
