"""The objective: robust reprojection of nine keypoints plus priors, batched, with exact derivatives.

Unknowns of a problem, in this order (P = 15 + K): a rotation increment of the root (3), the neck's place as
(X/Z, Y/Z, log Z) (3), axis-angles of neck, head and waist (9), shape (K).

    cost = sum_k w_k rho(|e_k|^2) + |prior|^2,   rho(s) = c^2 s / (c^2 + s)   (Geman-McClure)

with e_k the reprojection error in standard deviations: pixels over (pixels a metre times metres).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.models.smplify.settings import SmplifyConfig
from phq_data.models.smplify.skeleton import (
    ANGLES,
    CHEST,
    COCO_ROWS,
    EXCHANGE,
    POINT_NAMES,
    Skeleton,
    cross_matrix,
    right_jacobian,
)
from phq_data.rig import rotation_matrix

ROOT, PLACE, POSE, SHAPE = slice(0, 3), slice(3, 6), slice(6, 6 + ANGLES), slice(6 + ANGLES, None)


SIDES = np.array([-1.0, 1.0])
"""Signs of the shoulder slide: left, right."""


@dataclass(frozen=True)
class Observations:
    """What is known of M people; rows follow `skeleton.POINT_NAMES`."""

    pixels: FloatArray  # [M, 9, 2] from the principal point
    deviation: FloatArray  # [M, 9] metres on the body
    weights: FloatArray  # [M, 9] 0 = not seen
    focal: FloatArray  # [M] pixels
    scale: FloatArray  # [M] pixels a metre at the person: sets what a pixel of error means
    directions: FloatArray  # [M, 2, 3] predicted directions to the camera in the frames of chest and head
    direction_trust: FloatArray  # [M, 2] one over the standard deviation of each direction; 0 = no prediction

    def take(self, index: NDArray[np.intp]) -> Observations:
        """The rows `index` [R]."""
        return Observations(*(getattr(self, field.name)[index] for field in fields(self)))

    def exchanged(self, where: NDArray[np.bool_]) -> Observations:
        """With left and right of shoulders and hips exchanged in the rows [M] that say so."""
        order = np.where(where[:, None], EXCHANGE, np.arange(len(EXCHANGE)))
        return replace(
            self,
            pixels=np.take_along_axis(self.pixels, order[..., None], 1),
            deviation=np.take_along_axis(self.deviation, order, 1),
            weights=np.take_along_axis(self.weights, order, 1),
        )


@dataclass(frozen=True)
class State:
    """A body for each of M people."""

    root: FloatArray  # [M, 3, 3] body to camera
    values: FloatArray  # [M, 12 + K] place, angles, shape

    @property
    def place(self) -> FloatArray:
        """[M, 3] X/Z, Y/Z, log Z of the neck joint in the camera frame."""
        return self.values[:, :3]

    @property
    def angles(self) -> FloatArray:
        """[M, 9] axis-angles of neck, head, waist."""
        return self.values[:, 3 : 3 + ANGLES]

    @property
    def shape(self) -> FloatArray:
        """[M, K]."""
        return self.values[:, 3 + ANGLES :]

    @property
    def translation(self) -> FloatArray:
        """[M, 3] neck joint in the camera frame, metres."""
        depth = np.exp(self.place[:, 2])
        return np.stack([self.place[:, 0] * depth, self.place[:, 1] * depth, depth], axis=-1)

    def take(self, index: NDArray[np.intp]) -> State:
        """The rows `index` [R]."""
        return State(self.root[index], self.values[index])

    def moved(self, step: FloatArray) -> State:
        """After a step [M, P]."""
        return State(self.root @ rotation_matrix(step[:, ROOT]), self.values + step[:, 3:])

    def updated(self, rows: NDArray[np.intp], other: State) -> State:
        """With `rows` [R] replaced by those of `other`."""
        root, values = self.root.copy(), self.values.copy()
        root[rows], values[rows] = other.root, other.values
        return State(root, values)


@dataclass(frozen=True)
class Objective:
    """The objective over M observations. `take` and `blunted` make related objectives."""

    skeleton: Skeleton
    config: SmplifyConfig
    observed: Observations
    outlier: float

    @classmethod
    def of(cls, skeleton: Skeleton, config: SmplifyConfig, observed: Observations) -> Objective:
        """The objective with the configured robustness."""
        return cls(skeleton, config, observed, config.outlier)

    def take(self, index: NDArray[np.intp]) -> Objective:
        """The same objective for the rows `index` [R]."""
        return replace(self, observed=self.observed.take(index))

    def blunted(self, factor: float) -> Objective:
        """With outliers fading `factor` times later: smoother, for the first steps."""
        return replace(self, outlier=self.config.outlier * factor)

    def cost(self, state: State) -> FloatArray:
        """[M]"""
        error, prior = self.residuals(state)[:2]
        return self._total(error, prior)

    def evaluate(self, state: State) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(cost [M], gradient [M, P], Gauss-Newton matrix [M, P, P]); gradient is of half the cost."""
        error, prior, d_error, d_prior = self.residuals(state)
        square, limit = np.sum(error**2, axis=-1), self.outlier**2
        weight = self.observed.weights * (limit / (limit + square)) ** 2
        count, parameters = d_prior.shape[0], d_prior.shape[-1]
        weighted = (np.sqrt(weight)[..., None, None] * d_error).reshape(count, -1, parameters)
        jacobian = np.concatenate([weighted, d_prior], axis=1)
        residual = np.concatenate([(np.sqrt(weight)[..., None] * error).reshape(count, -1), prior], axis=1)
        transposed = np.swapaxes(jacobian, -1, -2)
        return (
            self._total(error, prior),
            (transposed @ residual[..., None])[..., 0],
            transposed @ jacobian,
        )

    def yaw_std(self, state: State) -> FloatArray:
        """Standard deviation [M] of the camera's yaw around the body, radians: what this cost leaves open.

        Laplace's approximation: the inverse of the Gauss-Newton matrix is the covariance of the parameters.
        """
        _, _, matrix = self.evaluate(state)
        towards, d_root, d_place = camera_direction(state)
        flat = np.maximum(towards[:, 0] ** 2 + towards[:, 2] ** 2, 1e-9)
        by_direction = np.stack([towards[:, 2], np.zeros(len(flat)), -towards[:, 0]], axis=-1) / flat[:, None]
        gradient = np.zeros(matrix.shape[:2])
        gradient[:, ROOT] = np.einsum("mi,mij->mj", by_direction, d_root)
        gradient[:, 3:5] = np.einsum("mi,mij->mj", by_direction, d_place)
        spread = np.linalg.solve(matrix + 1e-9 * np.eye(matrix.shape[-1]), gradient[..., None])[..., 0]
        deviation: FloatArray = np.sqrt(np.maximum(np.sum(gradient * spread, axis=1), 0.0))
        return deviation

    def project(self, state: State) -> FloatArray:
        """Pixels [M, 9, 2] of the nine points, from the principal point."""
        points, _ = self.skeleton.place(state.angles, state.shape)
        points[:, CHEST, 2] += self._shoulder_slide(state)[0][:, None] * SIDES
        local = points @ np.swapaxes(state.root, -1, -2) + state.translation[:, None]
        return self.observed.focal[:, None, None] * local[..., :2] / np.maximum(local[..., 2:], 1e-3)

    def residuals(self, state: State) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """(error [M, 9, 2], prior [M, Q], d_error [M, 9, 2, P], d_prior [M, Q, P])."""
        points, d_points = self.skeleton.place(state.angles, state.shape)
        count, parameters = len(points), 6 + ANGLES + self.skeleton.directions
        translation = state.translation
        slide, d_root, d_place = self._shoulder_slide(state)
        points[:, CHEST, 2] += slide[:, None] * SIDES
        local = points @ np.swapaxes(state.root, -1, -2) + translation[:, None]
        d_local = np.empty((count, len(POINT_NAMES), 3, parameters))
        d_local[..., ROOT] = -(state.root[:, None] @ cross_matrix(points))
        d_local[..., PLACE] = 0.0
        depth = translation[:, 2, None]
        d_local[..., 0, 3] = d_local[..., 1, 4] = depth
        d_local[..., 5] = translation[:, None]
        d_local[..., 6:] = state.root[:, None] @ d_points
        slid = (
            state.root[:, None, :, 2] * SIDES[:, None]
        )  # [M, 2, 3] motion of the shoulders a metre of slide
        d_local[:, CHEST, :, ROOT] += slid[..., None] * d_root[:, None, None]
        d_local[:, CHEST, :, 3:5] += slid[..., None] * d_place[:, None, None]

        # A point that a wild step put behind the camera must not divide by zero; such steps are refused.
        z = np.maximum(local[..., 2], 1e-3)
        sigma = self.observed.deviation
        factor = (self.observed.focal / self.observed.scale)[:, None] / sigma
        image = local[..., :2] / z[..., None]
        seen = self.observed.focal[:, None, None] * image
        error = (seen - self.observed.pixels) / (self.observed.scale[:, None, None] * sigma[..., None])
        d_error = (factor / z)[..., None, None] * (
            d_local[..., :2, :] - image[..., None] * d_local[..., 2:, :]
        )
        prior, d_prior = self._priors(state, parameters)
        return error, prior, d_error, d_prior

    def _shoulder_slide(self, state: State) -> tuple[FloatArray, FloatArray, FloatArray]:
        """How far [M] detectors put the left shoulder behind and the right one before the joint, metres.

        In a view from the side, keypoints leave the joints' centres for the outline: the near shoulder goes
        to the back, the far one to the chest, which widens narrow shoulders. With derivatives by the root's
        rotation [M, 3] and by X/Z and Y/Z [M, 2].
        """
        towards, _, d_place = camera_direction(state)
        side, front = towards[:, 0], towards[:, 2]
        amount, centre, width = self.config.shoulder_slide
        offset = (front - centre) / width
        bump = amount * np.exp(-(offset**2))
        by_direction = np.stack([bump, np.zeros_like(bump), -2 * side * bump * offset / width], axis=-1)
        by_root = np.einsum("mi,mij->mj", by_direction, cross_matrix(towards))
        return side * bump, by_root, np.einsum("mi,mij->mj", by_direction, d_place)

    def _orientation_prior(self, state: State) -> tuple[FloatArray, FloatArray]:
        """Residuals [M, 6] of the directions and derivatives [M, 6, 12] by root, place, neck and head."""
        chest, d_root, d_place = camera_direction(state)
        neck, head = state.angles[:, 0:3], state.angles[:, 3:6]
        to_neck = np.swapaxes(rotation_matrix(neck), -1, -2)
        to_head = np.swapaxes(rotation_matrix(head), -1, -2)
        before = np.einsum("mij,mj->mi", to_neck, chest)
        face = np.einsum("mij,mj->mi", to_head, before)
        jacobian = np.zeros((len(chest), 2, 3, 12))
        jacobian[:, 0, :, 0:3], jacobian[:, 0, :, 3:5] = d_root, d_place
        jacobian[:, 1, :, 0:5] = (to_head @ to_neck) @ jacobian[:, 0, :, 0:5]
        jacobian[:, 1, :, 6:9] = to_head @ cross_matrix(before) @ right_jacobian(neck)
        jacobian[:, 1, :, 9:12] = cross_matrix(face) @ right_jacobian(head)
        trust = self.observed.direction_trust[..., None]
        residual = (np.stack([chest, face], axis=1) - self.observed.directions) * trust
        return residual.reshape(-1, 6), (jacobian * trust[..., None]).reshape(-1, 6, 12)

    def _total(self, error: FloatArray, prior: FloatArray) -> FloatArray:
        square, limit = np.sum(error**2, axis=-1), self.outlier**2
        robust = limit * square / (limit + square)
        return np.asarray(np.sum(self.observed.weights * robust, axis=-1) + np.sum(prior**2, axis=-1))

    def _priors(self, state: State, parameters: int) -> tuple[FloatArray, FloatArray]:
        config, count = self.config, len(state.values)
        rows: list[FloatArray] = []
        jacobian = np.zeros((count, 22 + self.skeleton.directions, parameters))
        neck, head, waist = (state.angles[:, 3 * i : 3 * i + 3] for i in range(3))
        total, limit = neck + head, np.radians(config.head_limit)
        spread = np.radians(config.head_turn)
        rest, difference = (np.radians(angles) for angles in config.neck_against_head())
        eye = np.eye(3)

        rows.append(total / spread)
        jacobian[:, 0:3, 6:9] = jacobian[:, 0:3, 9:12] = eye / spread
        rows.append((neck - head - rest) / difference)
        jacobian[:, 3:6, 6:9], jacobian[:, 3:6, 9:12] = eye / difference, -eye / difference
        beyond = np.abs(total) > limit
        stiff = np.radians(5.0)
        rows.append(np.where(beyond, total - np.sign(total) * limit, 0.0) / stiff)
        jacobian[:, 6:9, 6:9] = jacobian[:, 6:9, 9:12] = (beyond / stiff)[:, None] * eye
        rows.append(waist / np.radians(config.waist_bend))
        jacobian[:, 9:12, 12:15] = eye / np.radians(config.waist_bend)

        # The body's up in the camera frame is (0, -1, 0) for an upright person before a level camera.
        up = state.root[..., 1]
        upright = np.array([np.radians(config.upright_roll), 0.7, np.radians(config.upright_pitch)])
        lean = (up + np.array([0.0, 1.0, 0.0])) / upright
        # Cauchy: people lie, hang and do handstands too. d sqrt(log(1 + x^2)) is awkward at 0; this is not.
        strength = 1.0 / np.sqrt(1.0 + (np.sum(lean**2, axis=-1, keepdims=True) / LEAN_LIMIT))
        rows.append(lean * strength)
        d_up = -(state.root @ cross_matrix(np.array([0.0, 1.0, 0.0])))
        d_lean = d_up / upright[:, None]
        inner = np.sum(lean[..., None] * d_lean, axis=1)  # [M, 3]
        jacobian[:, 12:15, ROOT] = (
            strength[..., None] * d_lean
            - (strength**3)[..., None] * lean[..., None] * inner[:, None] / LEAN_LIMIT
        )
        orientation, d_orientation = self._orientation_prior(state)
        rows.append(orientation)
        jacobian[:, 15:21, :12] = d_orientation
        rows.append(state.shape)
        jacobian[:, 21:-1, SHAPE] = np.eye(self.skeleton.directions)
        # Keeps the depth defined for a person of whom nothing is seen.
        nearness = np.log(self.observed.focal / self.observed.scale)
        rows.append((state.place[:, 2:] - nearness[:, None]) / 2.0)
        jacobian[:, -1, 5] = 0.5
        return np.concatenate(rows, axis=1), jacobian


def camera_direction(state: State) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Unit vector [M, 3] from the neck to the camera in the body's frame, with its derivatives.

    [M, 3, 3] by the root's rotation and [M, 3, 2] by X/Z and Y/Z.
    """
    ray = np.concatenate([state.place[:, :2], np.ones((len(state.values), 1))], axis=1)
    length = np.linalg.norm(ray, axis=-1)[:, None, None]
    ray /= length[..., 0]
    back = np.swapaxes(state.root, -1, -2)
    towards = -np.einsum("mij,mj->mi", back, ray)
    d_ray = (np.eye(3) - ray[:, :, None] * ray[:, None, :]) / length
    return towards, cross_matrix(towards), -(back @ d_ray)[..., :2]


LEAN_LIMIT = 9.0
"""Squared deviations at which the pull towards upright begins to fade."""


def observe(
    keypoints: FloatArray,  # [N, 17, 3] pixels, score
    sizes: FloatArray,  # [N, 2] width, height of the photos
    focal: FloatArray,  # [N] pixels
    scale: FloatArray,  # [N] pixels a metre
    config: SmplifyConfig,
) -> Observations:
    """Weighted observations of N people, relative to the photo's centre."""
    rows = keypoints[:, COCO_ROWS]
    score = np.clip(rows[..., 2], 0, 1)
    law = np.array([getattr(config, name.split("_")[-1]) for name in POINT_NAMES])
    deviation = law[:, 0] * np.exp(-law[:, 1] * score)
    inside = ((rows[..., :2] >= 0) & (rows[..., :2] <= sizes[:, None])).all(-1)
    deviation = deviation * np.where(inside, 1.0, config.outside)
    weights = np.where(score >= config.score_floor, config.trust, 0.0)
    pixels = np.where(weights[..., None] > 0, rows[..., :2] - sizes[:, None] / 2, 0.0)
    none = np.zeros((len(rows), 2))
    return Observations(pixels, deviation, weights, focal, scale, np.zeros((len(rows), 2, 3)), none)
