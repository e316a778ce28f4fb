"""Faces cut out of portraits and recognised: for the identity metric.

A portrait's camera says where the face is: the rig's eyes and nose, projected, are laid on the places where
face recognition networks expect them in their 112x112 images. No face detector is needed, and none can
fail.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phq_data import camera as cameras
from phq_data.foreign import first_line
from phq_data.rig import PortraitRig
from portraitgan.metrics.errors import MetricError

SIDE = 112
PLACES = {"right_eye": (38.2946, 51.6963), "left_eye": (73.5318, 51.5014), "nose": (56.0252, 71.7366)}
"""Pixels (x, y) where ArcFace and its relatives expect the person's own right and left eye and the nose."""
DEFAULT_POINTS = {
    "right_eye": (-0.030, 0.163, 0.117),
    "left_eye": (0.030, 0.163, 0.117),
    "nose": (0, 0.124, 0.144),
}
"""Metres, neutral pose: of the free body, for models without a rig."""
MOST_BYTES = 1 << 30
"""Of an ONNX file; ArcFace's largest network has 260 MB."""
EMBEDDED = Path(__file__).parent / "files" / "mobileface.onnx"
EMBEDDED_NAME = "mobileface (embedded)"


@dataclass(frozen=True, eq=False)
class FaceNetwork:
    """A face recognition network in ONNX."""

    name: str
    sha256: str
    channels_first: bool
    offset: float  # taken from pixels
    scale: float  # which are then divided by this
    session: Any  # onnxruntime.InferenceSession

    def embed(self, faces: Tensor) -> NDArray[np.float32]:
        """Unit vectors [N, D] of aligned faces [N, 3, 112, 112], RGB 0..255. Raises `MetricError`."""
        images = ((faces.float() - self.offset) / self.scale).cpu().numpy()
        if not self.channels_first:
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        name = self.session.get_inputs()[0].name
        try:
            found = self.session.run(None, {name: images})[0]
            vectors: NDArray[np.float32] = np.array(found, np.float32).reshape(len(faces), -1)
        except Exception as error:  # onnxruntime's errors have no common class
            raise MetricError(f"{self.name} recognises no faces: {first_line(error)}") from error
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def open_face_network(path: str | Path | None = None) -> FaceNetwork:
    """ArcFace or the like from an ONNX file, else the embedded MobileFace.

    A file must take RGB images of 112x112 pixels, (x - 127.5) / 127.5, as insightface's recognition
    networks do. Tensors that lie in files of their own are refused: the file's digest would not hold for
    them. Raises `MetricError` for a file that does not, or without onnxruntime.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MetricError(
            "the identity metric needs the package 'onnxruntime': install portraitgan[metrics]"
        ) from None
    chosen = EMBEDDED if path is None else Path(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it says is in the errors
    try:
        size = chosen.stat().st_size
        data = chosen.read_bytes() if size <= MOST_BYTES else b""
    except OSError as error:
        raise MetricError(f"cannot read the face network {chosen}: {error.strerror or error}") from error
    if size > MOST_BYTES:
        raise MetricError(f"{chosen} has {size >> 20:,} MiB: no face network is so large")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where it prints some errors, too
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise MetricError(f"{chosen} is no ONNX network: {first_line(error)}") from error
    shape = session.get_inputs()[0].shape
    if len(session.get_inputs()) != 1 or list(shape[1:]) not in ([3, SIDE, SIDE], [SIDE, SIDE, 3]):
        raise MetricError(f"{chosen} takes {shape}, not one batch of RGB images of {SIDE}x{SIDE} pixels")
    digest = hashlib.sha256(data).hexdigest()
    if path is None:  # it scales by itself
        return FaceNetwork(EMBEDDED_NAME, digest, False, 0.0, 1.0, session)
    return FaceNetwork(chosen.name, digest, shape[1] == 3, 127.5, 127.5, session)


def face_points(rig: PortraitRig | None) -> NDArray[np.float64]:
    """Eyes and nose in the neutral pose in the order of `PLACES`, [3, 3] metres."""
    if rig is None or not set(PLACES) <= set(rig.landmark_names):
        return np.array([DEFAULT_POINTS[name] for name in PLACES], np.float64)
    return np.stack([rig.landmarks[rig.landmark(name)] for name in PLACES]).astype(np.float64)


def aligned(
    images: Tensor,  # [N, 3, H, W], 0..255
    labels: NDArray[np.float32],  # [N, 25] camera labels
    points: NDArray[np.float64],  # [3, 3] metres, world: `face_points`
) -> Tensor:
    """Faces [N, 3, 112, 112] turned, moved and scaled to `PLACES`, 0..255; black beyond the image."""
    cam2world, intrinsics = cameras.from_label(labels)
    seen, _ = cameras.project(points, cam2world, intrinsics)  # [N, 3, 2] image widths
    target = np.array(list(PLACES.values()))
    side = images.shape[-1]
    grids = []
    for one in seen:
        # output pixel -> input position in image widths -> grid_sample's -1..1
        matrix, shift = similarity(target, one)
        centres = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1) + 0.5
        grids.append((centres @ matrix.T + shift) * 2 - 1)
    scale = np.sqrt(np.abs(np.linalg.det([similarity(target, one)[0] for one in seen]))).mean() * side
    # One output pixel covers `scale` input pixels: average them before they are picked.
    factor = max(1, int(scale))
    images = images.float()
    if factor > 1 and side % factor == 0:
        images = functional.avg_pool2d(images, factor)
    grid = torch.from_numpy(np.stack(grids)).to(images)
    return functional.grid_sample(images, grid, mode="bilinear", align_corners=False)


def similarity(
    source: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(matrix [2, 2], shift [2]) that turns, scales and moves points [K, 2] onto `target`, least squares."""
    from_centre, to_centre = source.mean(axis=0), target.mean(axis=0)
    a, b = source - from_centre, target - to_centre
    norm = (a**2).sum()
    along = (a * b).sum() / norm
    across = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / norm
    matrix = np.array([[along, -across], [across, along]])
    return matrix, to_centre - matrix @ from_centre
