"""`SmplifyFitter`: keypoints of many people to bodies in front of their photos' cameras."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.bodies.anny import AnnyBody, load_body
from phq_data.models.fingerprints import fingerprint
from phq_data.models.orientation.image_prior import ImageOrientationPrior, image_features, load_image_prior
from phq_data.models.orientation.keypoint_prior import KeypointOrientationPrior, load_keypoint_prior
from phq_data.models.protocols import COCO_KEYPOINTS, BodyFit, FitRequest
from phq_data.models.smplify.initializations import image_tilt, initial_states, pixels_per_metre
from phq_data.models.smplify.objective import Objective, Observations, State, camera_direction, observe
from phq_data.models.smplify.settings import Smplify2Config, SmplifyConfig
from phq_data.models.smplify.skeleton import ANGLES, COCO_ROWS, EXCHANGE, Skeleton
from phq_data.models.smplify.solver import minimise
from phq_data.rig import rotation_matrix

CODE_VERSION = 2  # raise it when the same config would give other fits
CHUNK = 256  # people solved together: bounds memory, not the result
LOOSE = 0.35
"""Standard deviations per coordinate of the directions that a start of `refit` has."""
UNSEEN = 1.0
"""Residual of a person of whom no keypoint is usable."""


@dataclass(frozen=True)
class Prepared:
    """A person to fit, and from where they seem to be seen."""

    request: FitRequest  # without its image
    directions: FloatArray  # [2, 3] predicted directions to the camera in the frames of chest and head
    deviation: FloatArray  # [2] their standard deviations per coordinate; inf = no prediction


@dataclass(frozen=True)
class BodyStart:
    """A body before the photo's camera to fit on from."""

    root: FloatArray  # [3, 3] body to camera
    neck: FloatArray  # [3] neck joint in the camera frame, metres
    pose: FloatArray  # [6] axis-angle of neck and head, radians
    prior: FloatArray | None = None  # [8] as `orientation_prior` of a fit; None = the start's own directions


class SmplifyFitter:
    """A `PreparingFitter` on the free body. Deterministic; a person's fit does not depend on the batch.

    Where a request has an image, the image orientation prior is used; where not, the keypoint prior.
    """

    body = "anny"

    def __init__(
        self,
        config: SmplifyConfig | None = None,
        body: AnnyBody | None = None,
        image_prior: ImageOrientationPrior | None = None,
        *,
        device: str = "cpu",
    ) -> None:
        """Settings for photos, the shipped body and the config's own prior unless others are given."""
        self.config, self._device = config or Smplify2Config(), device
        self._body = body or load_body()
        offsets = {
            "nose": self.config.nose_offset,
            "left_shoulder": self.config.shoulder_offset,
            "left_hip": self.config.hip_offset,
        }
        self._skeleton = Skeleton.of(self._body, self.config.shape_directions, offsets)
        uses_prior = self.config.orientation_prior_weight > 0
        self.needs_image = uses_prior and self.config.orientation_prior_image
        self._keypoint_prior: KeypointOrientationPrior | None = load_keypoint_prior() if uses_prior else None
        prior = image_prior or (load_image_prior(self.config.PRIOR) if self.needs_image else None)
        self._image_prior: ImageOrientationPrior | None = prior if self.needs_image else None
        skeleton = b"".join(array.tobytes() for array in vars(self._skeleton).values())
        self.fingerprint = fingerprint(
            self.config.NAME, CODE_VERSION, self.config, skeleton=hashlib.sha256(skeleton).hexdigest(),
            views=self._keypoint_prior.digest if self._keypoint_prior else "",  # names of version 1
            looks=self._image_prior.digest if self._image_prior else "",
        )  # fmt: skip
        rows = [self._body.landmark(name) for name in JOINT_NAMES]
        self._breadth = float(
            np.linalg.norm(
                self._body.landmarks[self._body.landmark("left_shoulder")]
                - self._body.landmarks[self._body.landmark("right_shoulder")]
            )
        )
        self._joint_rows = rows

    def fit(self, people: Sequence[FitRequest]) -> list[BodyFit]:
        """One fit a request, in order. Never raises for a hopeless person: the residual tells."""
        return self.fit_prepared(self.prepare(people))

    def prepare(self, people: Sequence[FitRequest]) -> list[Prepared]:
        """Each person with the orientation prior; images may be let go afterwards."""
        return [self._prepared(person) for person in people]

    def fit_prepared(self, people: Sequence[Prepared]) -> list[BodyFit]:
        """One fit for each prepared person, in order."""
        fits: list[BodyFit] = []
        for start in range(0, len(people), CHUNK):
            fits.extend(self._fit_chunk(people[start : start + CHUNK]))
        return fits

    def refit(self, person: FitRequest, starts: Sequence[BodyStart]) -> list[BodyFit]:
        """A fit from each start, for somebody who looked: no other place is tried.

        A start without a prior is its own: the directions to the camera that it has, loosely (`LOOSE`).
        """
        count = len(starts)
        keypoints = np.repeat(found_keypoints(person.keypoints)[None], count, axis=0)
        sizes = np.repeat(np.array([person.photo_size], np.float64), count, axis=0)
        observed, _ = self._observed(keypoints, sizes)
        state = self._started(starts)
        towards, _, _ = camera_direction(state)
        turns = [rotation_matrix(state.angles[:, 3 * i : 3 * i + 3]) for i in range(2)]
        face = np.einsum("mji,mkj,mk->mi", turns[1], turns[0], towards)
        own = np.concatenate([towards, face, np.full((count, 2), LOOSE)], axis=1)
        prior = np.stack([own[i] if s.prior is None else s.prior for i, s in enumerate(starts)])
        trust = 1.0 / np.hypot(prior[:, 6:], self.config.orientation_prior_floor)
        observed = replace(observed, directions=prior[:, :6].reshape(-1, 2, 3), direction_trust=trust)
        both = np.repeat(np.arange(count), 2)
        objective = Objective.of(
            self._skeleton, self.config, observed.take(both).exchanged(np.tile([False, True], count))
        )
        state, cost, converged = minimise(objective, state.take(both), self.config.iterations)
        cost = (cost + np.tile([0.0, self.config.exchange_cost], count)).reshape(count, 2)
        best = np.argmin(cost, axis=1)
        rows = best + 2 * np.arange(count)
        chosen, picked = state.take(rows), objective.take(rows)
        return self._records(keypoints, sizes, picked, chosen, state, cost, converged[rows], best == 1)

    def _started(self, starts: Sequence[BodyStart]) -> State:
        values = np.zeros((len(starts), 3 + ANGLES + self._skeleton.directions))
        for row, start in zip(values, starts, strict=True):
            row[:3] = start.neck[0] / start.neck[2], start.neck[1] / start.neck[2], np.log(start.neck[2])
            row[3:9] = start.pose
        return State(np.stack([start.root for start in starts]), values)

    def _observed(self, keypoints: FloatArray, sizes: FloatArray) -> tuple[Observations, FloatArray]:
        """What is known of people [N, 17, 3] in photos [N, 2], and how sure their keypoints are [N, 9]."""
        focal = self.config.focal_long_sides * sizes.max(1)
        raw = observe(keypoints, sizes, focal, np.ones(len(keypoints)), self.config)
        sure = raw.weights / (1.0 + (raw.deviation / 0.03) ** 2)
        scale = pixels_per_metre(self._skeleton, raw.pixels, sure, fallback=sizes.max(1) / 2.0)
        return replace(raw, scale=np.maximum(scale, 1.0)), sure

    def _prepared(self, person: FitRequest) -> Prepared:
        points = found_keypoints(person.keypoints)
        directions, deviation = np.zeros((1, 2, 3)), np.full((1, 2), np.inf)
        if self._image_prior is not None and person.image is not None and (points[:7, 2] > 0).any():
            directions, deviation = self._image_prior.predict(
                points[None], image_features(person.image, [points], device=self._device)
            )
        elif self._keypoint_prior is not None:
            directions, deviation = self._keypoint_prior.predict(points[None])
        return Prepared(replace(person, image=None), directions[0], deviation[0])

    def _fit_chunk(self, prepared: Sequence[Prepared]) -> list[BodyFit]:
        people = [one.request for one in prepared]
        config, count = self.config, len(people)
        keypoints = np.stack([found_keypoints(p.keypoints) for p in people])
        sizes = np.array([p.photo_size for p in people], np.float64)
        observed, sure = self._observed(keypoints, sizes)
        observed = self._with_prior(observed, prepared, sure)

        # Every person is tried as detected and with left and right of the torso exchanged.
        yaws = 2 * np.pi * np.arange(config.initializations) / config.initializations
        both = observed.take(np.repeat(np.arange(count), 2))
        both = both.exchanged(np.tile([False, True], count))
        state = initial_states(self._skeleton, both, yaws)
        tried = 2 * config.initializations
        objective = Objective.of(
            self._skeleton, config, both.take(np.repeat(np.arange(2 * count), config.initializations))
        )
        surcharge = np.tile(np.repeat([0.0, config.exchange_cost], config.initializations), count)
        state, _, _ = minimise(objective.blunted(4.0), state, config.first_iterations)
        cost = objective.cost(state) + surcharge

        finalists = max(1, min(config.finalists, tried))
        table = np.argsort(cost.reshape(count, -1), axis=1, kind="stable")[:, :finalists]
        rows = (table + tried * np.arange(count)[:, None]).reshape(-1)
        best_state, best_cost, converged = minimise(objective.take(rows), state.take(rows), config.iterations)
        state = state.updated(rows, best_state)
        cost[rows] = best_cost + surcharge[rows]
        finished = np.zeros(len(cost), bool)
        finished[rows] = converged
        cost = cost.reshape(count, -1)
        best = np.argmin(cost, axis=1)
        winner = best + tried * np.arange(count)
        chosen, picked = state.take(winner), objective.take(winner)
        exchanged = best >= config.initializations
        fits = self._records(keypoints, sizes, picked, chosen, state, cost, finished[winner], exchanged)
        spread = picked.yaw_std(chosen)
        return [
            replace(
                fit,
                yaw_std=float(spread[i]),
                orientation_prior=np.concatenate([one.directions.ravel(), one.deviation])
                if np.isfinite(one.deviation).all()
                else None,
            )
            for i, (fit, one) in enumerate(zip(fits, prepared, strict=True))
        ]

    def _with_prior(
        self, observed: Observations, prepared: Sequence[Prepared], sure: FloatArray
    ) -> Observations:
        """With the predicted directions as a prior for the upright; of others it knows nothing."""
        directions, deviation = (
            np.stack([p.directions for p in prepared]),
            np.stack([p.deviation for p in prepared]),
        )
        upright = (image_tilt(observed.pixels, sure) == 0) & (sure.sum(1) > 0)
        floor, share = self.config.orientation_prior_floor, np.sqrt(self.config.orientation_prior_weight)
        trust = np.where(upright[:, None], share / np.hypot(deviation, floor), 0.0)
        return replace(observed, directions=directions, direction_trust=trust)

    def _records(
        self,
        keypoints: FloatArray,
        sizes: FloatArray,
        objective: Objective,
        chosen: State,
        every: State,
        cost: FloatArray,
        finished: NDArray[np.bool_],
        exchanged: NDArray[np.bool_],
    ) -> list[BodyFit]:
        count, initializations = cost.shape
        neck, head, waist = (chosen.angles[:, 3 * i : 3 * i + 3] for i in range(3))
        pose = self._body.pose(np.concatenate([neck, head], axis=1), {"waist": waist}) + self._body.relaxed
        root_orient = axis_angles(chosen.root)
        joints = self._body.posed_landmarks(chosen.shape, pose, root_orient, chosen.translation)
        joints = joints[:, self._joint_rows]
        unit = objective.observed.focal / chosen.translation[:, 2] * self._breadth
        error = np.linalg.norm(objective.project(chosen) - objective.observed.pixels, axis=-1) / unit[:, None]
        weights = objective.observed.weights / objective.observed.deviation
        seen = weights.sum(1) > 0
        mean = np.sum(weights * np.minimum(error, 1.0), axis=1) / np.maximum(weights.sum(1), 1e-9)
        residuals = np.full((count, len(COCO_KEYPOINTS)), np.nan)
        # Residuals belong to the detector's keypoints, also when the fit calls the left shoulder the right.
        row = np.where(exchanged[:, None], COCO_ROWS[EXCHANGE], COCO_ROWS)
        np.put_along_axis(residuals, row, np.where(weights > 0, error, np.nan), axis=1)
        towards = -np.einsum("mji,mj->mi", every.root, every.translation)
        yaw = np.arctan2(towards[:, 0], towards[:, 2]).reshape(count, initializations)
        order = np.argsort(cost, axis=1, kind="stable")
        alternatives = np.stack(
            [np.take_along_axis(yaw, order, 1), np.take_along_axis(cost, order, 1)], axis=-1
        )
        return [
            BodyFit(
                focal=float(objective.observed.focal[i]),
                principal=sizes[i] / 2,
                root_orient=root_orient[i],
                translation=chosen.translation[i],
                neck_head_pose=np.concatenate([neck[i], head[i]]),
                shape=chosen.shape[i].copy(),
                joints=joints[i],
                residuals=residuals[i],
                residual=float(mean[i]) if seen[i] else UNSEEN,
                hypotheses=alternatives[i],
                converged=bool(finished[i] and seen[i]),
            )
            for i in range(count)
        ]


def found_keypoints(keypoints: FloatArray) -> FloatArray:
    """Keypoints [17, 3] with a detector's nan, which is a keypoint it did not find, as zeros."""
    points = np.array(keypoints, np.float64)
    points[~np.isfinite(points).all(-1)] = 0.0
    return points


def axis_angles(rotations: FloatArray) -> FloatArray:
    """Axis-angles [M, 3] in radians, at most pi long, of rotation matrices [M, 3, 3]."""
    from scipy.spatial.transform import Rotation  # takes long to import, and the review starts without

    return np.asarray(Rotation.from_matrix(rotations).as_rotvec())
