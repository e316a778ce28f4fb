"""A small synthetic body for the tests of the stages: a rig, its template, and people that it projects to."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from phq_data import camera
from phq_data.bodies import JOINT_NAMES
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.records import Fit, Person, Photo
from phq_data.rig import PortraitRig
from phq_data.stages import align

TEMPLATE: dict[str, list[float]] = {
    "pelvis": [0.0, -0.51, 0.04],
    "neck": [0.0, 0.0, 0.0],
    "head": [0.0, 0.065, 0.05],
    "left_shoulder": [0.173, -0.062, 0.0],
    "right_shoulder": [-0.173, -0.062, 0.0],
    "left_hip": [0.06, -0.6, 0.04],
    "right_hip": [-0.06, -0.6, 0.04],
    "nose": [0.0, 0.133, 0.154],
    "left_eye": [0.033, 0.163, 0.114],
    "right_eye": [-0.033, 0.163, 0.114],
    "left_ear": [0.076, 0.136, 0.02],
    "right_ear": [-0.076, 0.136, 0.02],
    "head_top": [0.0, 0.268, 0.021],
}
"""Left-right symmetric, so that mirroring a person gives another person of the same body."""

HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top", "head")
ONE = np.array([0.1, -0.2, 0.05, 0.05, 0.3, -0.1])
"""A neck and head pose."""


def make_rig() -> PortraitRig:
    """Two boxes, a head and a chest, with the landmarks of `TEMPLATE`."""
    names = tuple(name for name in JOINT_NAMES if name not in ("pelvis", "left_hip", "right_hip"))
    head, faces = _box([-0.08, 0.06, -0.08], [0.08, 0.27, 0.12])
    chest, _ = _box([-0.2, -0.35, -0.1], [0.2, -0.03, 0.1])
    weights = np.zeros((16, 2), np.float32)
    weights[:8, 1] = 1.0
    return PortraitRig(
        vertices=np.concatenate([head, chest]).astype(np.float32),
        faces=np.concatenate([faces, faces + 8]).astype(np.int32),
        weights=weights,
        head_joint=np.array(TEMPLATE["head"], np.float32),
        landmarks=np.array([TEMPLATE[name] for name in names], np.float32),
        landmark_weights=np.array([[0.0, float(name in HEAD)] for name in names], np.float32),
        landmark_names=names,
    )


def _box(low: list[float], high: list[float]) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[(low, high)[(i >> a) & 1][a] for a in range(3)] for i in range(8)])
    quads = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    return corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


def fit_record(
    root_orient: np.ndarray,
    neck: np.ndarray,
    pose: np.ndarray = ONE,
    *,
    focal: float = 900.0,
    principal: tuple[float, float] = (320.0, 240.0),
    body: str = "anny",
    residuals: np.ndarray | None = None,
    **more: Any,
) -> Fit:
    """The fit of the template itself, its head posed, its root turned and placed."""
    from phq_data.rig import rotation_matrix

    posed = align.posed_template(TEMPLATE, pose)
    joints = np.stack([posed[name] for name in JOINT_NAMES]) @ rotation_matrix(root_orient).T + neck
    known: dict[str, Any] = {
        "fit_id": "fit", "person_id": "person", "photo_id": "photo", "fitter": "test/1", "body": body,
        "focal": focal, "principal": np.array(principal), "root_orient": np.asarray(root_orient),
        "translation": neck, "pose": np.asarray(pose), "shape": np.zeros(0), "joints": joints,
        "residual": 0.02, "residuals": np.full(17, 0.02) if residuals is None else residuals,
        "hypotheses": np.array([[0.0, 0.1], [3.1, 0.5]]), "converged": True,
    }  # fmt: skip
    return Fit(**known | more)


def facing(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Axis-angle root orientation of somebody seen by a level camera from (yaw, pitch, roll)."""
    from scipy.spatial.transform import Rotation

    pose = camera.from_angles(yaw, pitch, roll)
    return np.asarray(Rotation.from_matrix(pose[:3, :3].T).as_rotvec())


def keypoints_of(fit: Fit, score: float = 0.9) -> np.ndarray:
    """COCO-17 keypoints [17, 3] of a fitted body; joints it lacks (arms, legs) have score 0."""
    pixels = fit.focal * fit.joints[:, :2] / fit.joints[:, 2:] + fit.principal
    points = np.zeros((17, 3))
    for row, name in enumerate(COCO_KEYPOINTS):
        if name in JOINT_NAMES:
            points[row] = [*pixels[JOINT_NAMES.index(name)], score]
    return points


def rig_keypoints(rig: PortraitRig, label: np.ndarray, pose: np.ndarray, window: Any) -> np.ndarray:
    """COCO-17 keypoints [17, 3] in photo pixels where the posed rig is seen through `window`."""
    places = camera.project(rig.posed_landmarks(pose), label)[0]
    points = np.zeros((17, 3))
    for row, name in enumerate(COCO_KEYPOINTS):
        if name in rig.landmark_names:
            points[row] = [*window.to_photo(places[rig.landmark(name)]), 1.0]
    return points


def mirror_keypoints(points: np.ndarray, width: float) -> np.ndarray:
    """Keypoints [17, 3] of the mirrored photo: x mirrored, left and right renamed."""
    swapped = [COCO_KEYPOINTS.index(_other(name)) for name in COCO_KEYPOINTS]
    mirrored = points[swapped].copy()
    mirrored[:, 0] = width - mirrored[:, 0]
    return mirrored


def mirror_fit(fit: Fit, width: float) -> Fit:
    """The fit of the mirrored photo."""
    order = [JOINT_NAMES.index(_other(name)) for name in JOINT_NAMES]
    return dataclasses.replace(
        fit,
        joints=fit.joints[order] * [-1, 1, 1],
        root_orient=fit.root_orient * [1, -1, -1],
        translation=fit.translation * [-1, 1, 1],
        pose=camera.mirror_pose(fit.pose),
        principal=np.array([width, 0.0]) + fit.principal * [-1, 1],
    )


def photo_record(photo_id: str = "photo", **more: Any) -> Photo:
    """A photo of 640 x 480 pixels that nobody reads."""
    known: dict[str, Any] = {
        "provider": "folder", "source": "", "uri": f"file:///{photo_id}", "key": "", "photo_id": photo_id,
        "width": 640, "height": 480, "format": "JPEG", "bytes": 1, "orientation": 1, "color": "sRGB",
        "phash": 0,
    }  # fmt: skip
    return Photo(**known | more)


def person_record(points: np.ndarray, **more: Any) -> Person:
    """The person with these keypoints [17, 3]."""
    seen = points[points[:, 2] > 0, :2]
    low, high = seen.min(axis=0) - 20, seen.max(axis=0) + 20
    known: dict[str, Any] = {
        "person_id": "person", "photo_id": "photo", "detector": "test/1", "order": 0,
        "box": np.array([*low, *high]), "keypoints": points, "score": 0.9,
        "photo_width": 640, "photo_height": 480,
    }  # fmt: skip
    return Person(**known | more)


def photo_of(width: int = 640, height: int = 480, seed: int = 0) -> np.ndarray:
    """A smooth, colorful, asymmetric picture [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(3):
        a, b, c, d = rng.uniform(0.01, 0.06, 4)
        layers.append(127 + 60 * np.sin(a * x + b * y + c * 50) + 50 * np.cos(c * x - d * y))
    return np.clip(np.stack(layers, -1), 0, 255).astype(np.uint8)


def _other(name: str) -> str:
    return name.replace("left", "#").replace("right", "left").replace("#", "right")
