"""A person's body: the free body model, bent beyond what the fit's shape basis can express, and posed.

Everything that a person wears is modelled around the neutral body (`Part.rest`), bound to the vertices of the
body nearest to it, and follows them through shape, warp and pose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from phq_data.arrays import FloatArray
from phq_data.bodies.anny import AnnyBody, load_body
from phq_data.rig import rotation_matrix

ARM_POSES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "hanging": ((0.20, -0.97, 0.02), (0.08, -0.96, 0.25)),
    "close": ((0.12, -0.99, -0.05), (0.10, -0.98, 0.15)),
    "behind": ((0.25, -0.94, -0.25), (-0.45, -0.75, -0.45)),
    "on_hip": ((0.62, -0.74, -0.20), (-0.72, -0.60, 0.30)),
    "crossed": ((0.22, -0.92, 0.30), (-0.88, 0.12, 0.45)),
    "folded": ((0.18, -0.95, 0.22), (-0.55, -0.45, 0.70)),
    "reaching": ((0.15, -0.35, 0.92), (-0.10, 0.05, 0.99)),
    "chin": ((0.12, -0.78, 0.60), (-0.35, 0.88, 0.25)),
    "phone": ((0.42, -0.78, 0.42), (-0.25, 0.95, -0.05)),
    "raised": ((0.50, 0.82, 0.10), (0.05, 0.99, 0.10)),
    "waving": ((0.88, -0.15, 0.25), (0.15, 0.97, 0.20)),
    "behind_head": ((0.82, 0.55, -0.05), (-0.90, 0.30, -0.30)),
    "sideways": ((0.98, -0.10, 0.05), (0.95, 0.05, 0.25)),
    "typing": ((0.20, -0.95, 0.15), (-0.10, -0.15, 0.98)),
}
"""Directions of the left upper arm and forearm in the chest's frame; mirrored for the right."""


@dataclass(frozen=True, eq=False)
class Part:
    """A surface around the neutral body."""

    rest: NDArray[np.float32]  # [V, 3] metres, neutral body's frame; also the coordinates that paint uses
    faces: NDArray[np.int32]  # [F, 3]
    paint: str  # which painter colors it: see `paint`
    weights: NDArray[np.float32] | None = None  # [V, J]; None = those of the nearest vertices
    uv: NDArray[np.float32] | None = None  # [V, 2] coordinates for patterns, metres
    offset: NDArray[np.float32] | None = None  # [V, 3] metres that the surface lies away from `rest`


@dataclass(frozen=True)
class Build:
    """How a body differs from the neutral one."""

    shape: tuple[float, ...] = ()  # standard deviations of the body's own basis
    head_scale: float = 1.0  # head against body, beyond the basis
    neck_stretch: float = 0.0  # metres that the head is lifted
    head_forward: float = 0.0  # metres that the head is carried before the shoulders
    trunk_stretch: float = 0.0  # metres that the hips are lower below the chest
    shoulder_width: float = 1.0
    head_axes: tuple[float, float, float] = (1.0, 1.0, 1.0)  # wider, taller, deeper head
    girth: float = 1.0  # depth and width of the torso
    bumps: tuple[tuple[float, ...], ...] = ()  # centre (3), radius, push (3): smooth local pushes, metres


@dataclass(frozen=True)
class Stance:
    """How a person holds the body. Radians."""

    pose: tuple[float, ...] = (0.0,) * 6  # neck and head axis-angles, exactly the label
    left_arm: tuple[FloatArray, FloatArray] = field(
        default_factory=lambda: arm_directions("hanging", 1, None)
    )
    right_arm: tuple[FloatArray, FloatArray] = field(
        default_factory=lambda: arm_directions("hanging", -1, None)
    )
    shrug: tuple[float, float] = (0.0, 0.0)  # left, right; positive lifts the shoulder
    protraction: tuple[float, float] = (0.0, 0.0)  # left, right; positive brings the shoulder forward
    waist: tuple[float, float, float] = (0.0, 0.0, 0.0)  # axis-angle
    hips: tuple[float, float] = (0.0, 0.0)  # flexion left, right
    knees: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Posed:
    """A posed person in the chest's frame (the frame of the label), metres."""

    vertices: list[FloatArray]  # one array a part
    landmarks: FloatArray  # [L, 3] in the order of the body's `landmark_names`


def arm_directions(
    name: str, side: int, rng: np.random.Generator | None, spread: float = 0.12
) -> tuple[FloatArray, FloatArray]:
    """Unit directions [3] of upper arm and forearm for one of `ARM_POSES`; `side`: 1 is left, -1 right."""
    upper, fore = (np.array(direction) * (side, 1, 1) for direction in ARM_POSES[name])
    if rng is not None:
        upper, fore = upper + rng.normal(0, spread, 3), fore + rng.normal(0, spread, 3)
    return upper / np.linalg.norm(upper), fore / np.linalg.norm(fore)


def body() -> AnnyBody:
    """The free body that all synthetic people are built from."""
    return load_body()


@lru_cache(maxsize=1)
def _tree() -> cKDTree:
    return cKDTree(body().vertices)


def arm_parameter() -> NDArray[np.float32]:
    """Where each vertex lies along its arm [V]: 0 shoulder, 1 elbow, 2 wrist; negative on the torso."""
    return _arm_parameter()


@lru_cache(maxsize=1)
def _arm_parameter() -> NDArray[np.float32]:
    model = body()
    points = model.vertices.astype(np.float64)
    result = np.full(len(points), -1.0)
    for side in ("left", "right"):
        shoulder, elbow, wrist = (
            model.joints[model.joint(f"{side}_{name}")] for name in ("shoulder", "elbow", "wrist")
        )
        upper = ((points - shoulder) @ (elbow - shoulder)) / ((elbow - shoulder) ** 2).sum()
        lower = ((points - elbow) @ (wrist - elbow)) / ((wrist - elbow) ** 2).sum()
        along = np.where(lower > 0, 1 + np.maximum(lower, 0), np.minimum(upper, 1))
        inside = np.sign(points[:, 0]) == np.sign(shoulder[0])
        names = [f"{side}_{name}" for name in ("shoulder", "elbow", "wrist")]
        share = sum(model.weights[:, model.joint(name)] for name in names)
        part = np.clip((np.asarray(share) - 0.3) / 0.4, 0, 1)
        trunk = (np.abs(points[:, 0]) - np.abs(shoulder[0])) / 0.27
        trunk = np.minimum(trunk, 0) - 0.3 - 3 * np.clip(shoulder[1] - 0.08 - points[:, 1], 0, 0.3)
        result = np.where(inside, part * along + (1 - part) * trunk, result)
    return result.astype(np.float32)


def warp(points: FloatArray, build: Build) -> FloatArray:
    """Move points [N, 3] of the shaped body by everything that the basis cannot do. Smooth in space."""
    moved: FloatArray = points.copy()
    y = points[:, 1]
    head = _step((y - 0.02) / 0.10)[:, None]
    pivot = np.array([0.0, 0.065, 0.03])
    scaled = pivot + (moved - pivot) * build.head_scale * np.array(build.head_axes)
    moved = head * scaled + (1 - head) * moved
    moved[:, 1] += build.neck_stretch * _step((y + 0.03) / 0.11)
    moved[:, 2] += build.head_forward * _step((y + 0.06) / 0.16)
    moved[:, 1] -= build.trunk_stretch * _step((-0.15 - y) / 0.30)
    torso = _step((0.02 - y) / 0.08)
    wide = 1 + (build.shoulder_width - 1) * torso * _step((y + 0.45) / 0.3)
    moved[:, 0] *= wide
    trunk = torso * _step((0.22 - np.abs(points[:, 0])) / 0.08)
    moved[:, 2] *= 1 + (build.girth - 1) * trunk
    moved[:, 0] *= 1 + 0.6 * (build.girth - 1) * trunk * _step((-0.15 - y) / 0.15)
    for bump in build.bumps:
        distance = np.linalg.norm(points - np.array(bump[:3]), axis=1) / bump[3]
        moved += np.exp(-2 * distance**2)[:, None] * np.array(bump[4:7])
    return np.asarray(moved)


def pose_person(parts: list[Part], build: Build, stance: Stance) -> Posed:
    """Shape, warp and pose the parts and the landmarks of one person.

    The neck joint stays the origin, as the label wants.
    """
    model = body()
    count = len(build.shape)
    shape = np.array(build.shape)
    offset = (shape @ model.shape_vertices[:count].reshape(count, -1)).reshape(-1, 3) if count else 0.0
    joints = model.joints + (np.einsum("k,kjc->jc", shape, model.shape_joints[:count]) if count else 0.0)
    points = model.landmarks + (
        np.einsum("k,klc->lc", shape, model.shape_landmarks[:count]) if count else 0.0
    )
    neck = joints[model.joint("neck")][None]
    origin = warp(neck, build)[0]
    joints, points = warp(joints, build) - origin, warp(points, build) - origin
    turn, move = _chain(model, joints, stance)

    placed = []
    for part in parts:
        near, share = _binding(part)
        rest = part.rest.astype(np.float64)
        if part.offset is not None:
            rest = rest + part.offset
        if count:
            rest = rest + np.einsum("vk,vkc->vc", share, np.asarray(offset)[near])
        rest = warp(rest, build) - origin
        weights = part.weights
        if weights is None:
            weights = np.einsum("vk,vkj->vj", share, model.weights[near])
        mixed = weights @ turn.reshape(-1, 9)
        placed.append(np.einsum("vij,vj->vi", mixed.reshape(-1, 3, 3), rest, optimize=False) + weights @ move)
    by = model.landmark_parents
    landmarks = np.einsum("lij,lj->li", turn[by], points) + move[by]
    return Posed(placed, landmarks)


def _binding(part: Part) -> tuple[NDArray[np.intp], FloatArray]:
    """The body vertices [V, k] that carry each vertex of a part, and their shares."""
    if len(part.rest) == len(body().vertices):
        return np.arange(len(part.rest))[:, None], np.ones((len(part.rest), 1))
    distance, near = _tree().query(part.rest, k=6)
    share = 1 / (distance + 0.01) ** 2
    return near, share / share.sum(axis=1, keepdims=True)


def _chain(model: AnnyBody, joints: FloatArray, stance: Stance) -> tuple[FloatArray, FloatArray]:
    """(A [J, 3, 3], b [J, 3]) that carry rest points of each joint to their posed place."""
    local = np.broadcast_to(np.eye(3), (len(joints), 3, 3)).copy()
    pose = np.asarray(stance.pose, np.float64)
    local[model.joint("neck")] = rotation_matrix(pose[:3])
    local[model.joint("head")] = rotation_matrix(pose[3:])
    local[model.joint("waist")] = rotation_matrix(np.array(stance.waist))
    for index, side in enumerate(("left", "right")):
        sign = 1 - 2 * index
        upper, fore = stance.left_arm if side == "left" else stance.right_arm
        shoulder, elbow, wrist = (
            joints[model.joint(f"{side}_{name}")] for name in ("shoulder", "elbow", "wrist")
        )
        # Raising an arm lifts the shoulder blade with it: a third of what goes above the horizontal.
        lift = stance.shrug[index] + 0.45 * max(0.0, upper[1] + 0.2)
        swing = 0.25 * upper[2] if upper[2] > 0 else 0.1 * upper[2]
        swing += stance.protraction[index]
        clavicle = rotation_matrix(np.array([0.0, -sign * swing, sign * lift]))
        local[model.joint(f"{side}_clavicle")] = clavicle
        to_upper = between(clavicle @ (elbow - shoulder), upper)
        local[model.joint(f"{side}_shoulder")] = clavicle.T @ to_upper @ clavicle
        carried = to_upper @ clavicle
        to_fore = between(carried @ (wrist - elbow), fore)
        local[model.joint(f"{side}_elbow")] = carried.T @ to_fore @ carried
        local[model.joint(f"{side}_hip")] = rotation_matrix(np.array([-stance.hips[index], 0, 0.1 * sign]))
        local[model.joint(f"{side}_knee")] = rotation_matrix(np.array([stance.knees[index], 0, 0]))
    turn, move = np.empty((len(joints), 3, 3)), np.empty((len(joints), 3))
    for j, parent in enumerate(model.joint_parents):
        pivot = joints[j] - local[j] @ joints[j]
        if parent < 0:
            turn[j], move[j] = local[j], pivot
        else:
            turn[j], move[j] = turn[parent] @ local[j], turn[parent] @ pivot + move[parent]
    return turn, move


def between(source: FloatArray, target: FloatArray) -> FloatArray:
    """The smallest rotation [3, 3] that turns direction `source` into direction `target`."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis = np.cross(a, b)
    sine, cosine = np.linalg.norm(axis), float(a @ b)
    if sine < 1e-9:
        return np.eye(3) if cosine > 0 else np.diag([1.0, -1.0, -1.0])
    return rotation_matrix(axis / sine * np.arctan2(sine, cosine))


def _step(t: FloatArray) -> FloatArray:
    """Smooth step from 0 at t = 0 to 1 at t = 1."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)
