"""Learn from labels whose truth is known: what `phq calibrate` does for a user's own people and cameras.

Three things, each with a pull towards the shipped values, each measured on people who were held out: where
keypoints lie on the body and how necks are carried (five numbers), the last layer of the orientation prior
(where there are `ENOUGH_FOR_PRIOR` labels), and the scale of the error probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from phq_data.arrays import FloatArray
from phq_data.errors import PhqError
from phq_data.models.calibration import Calibration, Held
from phq_data.models.orientation.image_prior import ImageOrientationPrior
from phq_data.models.protocols import FitRequest
from phq_data.models.smplify import Smplify2Config, SmplifyFitter
from phq_data.models.smplify.fitter import Prepared
from phq_data.rig import rotation_matrix
from phq_data.stages.align import camera_on_sphere
from phq_data.stages.uncertainty import WRONG

FEWEST = 30
"""Labels below which nothing is learned."""
ENOUGH_FOR_PRIOR = 300
MOST = 600
"""Labels that are used: more make it slow, not better."""
FOLDS = 3
_STEPS = np.array([0.006, 0.006, 0.012, 0.012, 4.0])
_SPREAD = np.array([0.015, 0.015, 0.030, 0.030, 8.0])
"""How far people and detectors differ from the shipped values: shoulders up and forward, hips, neck's nod."""
_SIGMA, _FADE = 0.12, 0.35
"""Error of a label's direction (chord, about radians), and where an error begins to count as a blunder."""
_RIDGES = (1.0, 10.0, 100.0, 1000.0)


class TooFewError(PhqError, ValueError):
    """Not enough labels to learn from."""


@dataclass(frozen=True, eq=False)
class Known:
    """A labelled person whose truth is known."""

    group: str  # photo, or instant of calibrated cameras: held out together
    request: FitRequest  # without its image
    prior: FloatArray  # [8] as in `records.Fit`: directions of chest and head, their deviations
    truth: FloatArray  # [3] unit vector to the camera in the chest's frame
    probability: float  # of a wrong label, as the screening said
    expected: float  # yaw error that the screening expected, radians
    hidden: FloatArray | None = None  # [2, H] what the prior's last layer sees, straight and mirrored


@dataclass(frozen=True, eq=False)
class Learned:
    """The result, and held-out errors behind it for the page; degrees."""

    calibration: Calibration
    truth: FloatArray  # [N, 3]
    before: FloatArray  # [N, 3] directions as labelled with the shipped constants
    after: FloatArray  # [N, 3] with those learned from the other people
    labels_helped: bool
    probability_helped: bool


@dataclass(frozen=True, eq=False)
class _Constants:
    offsets: FloatArray  # [5] added to the shipped values
    prior: FloatArray  # [H, 3] added to the last layer; H = 0: nothing
    odds: tuple[float, float]
    error: float


_SHIPPED = _Constants(np.zeros(5), np.zeros((0, 3)), (1.0, 0.0), 1.0)


def learn(
    people: Sequence[Known],
    prior_digest: str = "",
    on_step: Callable[[], object] = lambda: None,
    *,
    representative: bool = True,
) -> Learned:
    """Learn from `people`; raises `TooFewError`. `on_step` is called `FOLDS` + 1 times.

    `representative`: whether as many of their labels are wrong as of others. Where not (people correct what
    looks wrong), nothing is learned about the error probability.
    """
    if len(people) < FEWEST:
        raise TooFewError(
            f"{len(people)} labels with a known truth are too few: {FEWEST} are needed to learn offsets, "
            f"{ENOUGH_FOR_PRIOR} to correct the orientation prior"
        )
    rng = np.random.default_rng(0)
    if len(people) > MOST:
        people = [people[i] for i in sorted(rng.choice(len(people), MOST, replace=False))]
    groups = sorted({one.group for one in people})
    order = dict(zip(groups, rng.permutation(len(groups)) % FOLDS, strict=True))
    fold = np.array([order[one.group] for one in people])
    truth = np.stack([one.truth for one in people])
    said = np.array([one.probability for one in people])
    before, after = _labels(people, _SHIPPED), np.zeros((len(people), 3))
    plain, better = np.zeros(len(people)), np.zeros(len(people))
    for k in range(FOLDS):
        held, others = ([int(i) for i in np.flatnonzero(rows)] for rows in (fold == k, fold != k))
        found = _fit([people[i] for i in others], representative)
        after[held] = _labels([people[i] for i in held], found)
        better[held] = _rescaled(said[held], found.odds)
        scales = _scales([people[i] for i in others], before[others], representative)
        plain[held] = _rescaled(said[held], scales[0])
        on_step()
    was = _score(truth, before, said)
    labels_helped = _helped(_apart(truth, before), _apart(truth, after))
    # Labels stay as they are where learning did not better those of others; their probabilities may gain.
    if labels_helped:
        chosen, now = _fit(people, representative), _score(truth, after, better)
    else:
        odds, error = _scales(people, before, representative)
        chosen = replace(_SHIPPED, odds=odds, error=error)
        after, now = before, _score(truth, before, plain)
    on_step()
    usual = Smplify2Config()
    made = Calibration(
        labels=len(people),
        groups=len(groups),
        before=was,
        after=now,
        shoulder_offset=_moved(usual.shoulder_offset, chosen.offsets[0:2]),
        hip_offset=_moved(usual.hip_offset, chosen.offsets[2:4]),
        neck_forward=round(float(usual.neck_forward + chosen.offsets[4]), 2),
        odds_scale=round(chosen.odds[0], 4),
        odds_offset=round(chosen.odds[1], 4),
        error_scale=round(chosen.error, 4),
        prior=tuple((float(a), float(b), float(c)) for a, b, c in chosen.prior.round(6)),
        prior_digest=prior_digest if len(chosen.prior) else "",
    )
    probability_helped = representative and now.brier < 0.97 * was.brier
    return Learned(made, truth, before, after, labels_helped, probability_helped)


def hidden_of(prior: ImageOrientationPrior, keypoints: FloatArray, maps: NDArray[np.float32]) -> FloatArray:
    """What the prior's last layer sees of one person [2, H]; keypoints [17, 3], maps [2, C, 8, 8]."""
    found: FloatArray = prior.hidden(keypoints[None], maps[None])[0]
    return found


def _fit(people: Sequence[Known], representative: bool) -> _Constants:
    weights = _prior_weights(people)
    offsets = _offsets(people, weights)
    labels = _labels(people, _Constants(offsets, weights, (1.0, 0.0), 1.0))
    odds, error = _scales(people, labels, representative)
    return _Constants(offsets, weights, odds, error)


def _scales(
    people: Sequence[Known], labels: FloatArray, representative: bool
) -> tuple[tuple[float, float], float]:
    """Scale and offset of the log odds of the error probability, and the scale of the expected error."""
    if not representative:
        return _SHIPPED.odds, _SHIPPED.error
    yaw = np.abs(_yaw_error(np.stack([one.truth for one in people]), labels))
    odds = _odds(np.array([one.probability for one in people]), yaw > np.radians(WRONG))
    expected = np.maximum([one.expected for one in people], 1e-3)
    ratio = float(np.median(np.log(np.maximum(yaw, np.radians(0.3)) / expected)))
    return odds, float(np.exp(ratio * len(people) / (len(people) + 50)))


def _offsets(people: Sequence[Known], weights: FloatArray) -> FloatArray:
    """Gauss-Newton with finite differences; a label that is a blunder counts little."""
    truth = np.stack([one.truth for one in people])

    def off(offsets: FloatArray) -> FloatArray:
        return _labels(people, _Constants(offsets, weights, (1.0, 0.0), 1.0)) - truth

    def cost(residual: FloatArray, offsets: FloatArray) -> float:
        square = np.sum(residual**2, axis=1)
        return float(
            np.sum(_FADE**2 * square / (_FADE**2 + square)) / _SIGMA**2 + np.sum((offsets / _SPREAD) ** 2)
        )

    offsets = np.zeros(5)
    residual = off(offsets)
    for _ in range(2):
        jacobian = np.stack([(off(offsets + d) - residual) / d.sum() for d in np.diag(_STEPS)], axis=-1)
        # Steps must not follow a label that jumped to another explanation.
        jacobian[np.abs(jacobian * _STEPS).max(axis=(1, 2)) > 0.3] = 0.0
        weight = (_FADE**2 / (_FADE**2 + np.sum(residual**2, axis=1))) ** 2 / _SIGMA**2
        matrix = np.einsum("nip,n,niq->pq", jacobian, weight, jacobian) + np.diag(_SPREAD**-2)
        slope = np.einsum("nip,n,ni->p", jacobian, weight, residual) + offsets / _SPREAD**2
        step = -np.linalg.solve(matrix, slope)
        for share in (1.0, 0.5, 0.25):
            tried = off(offsets + share * step)
            if cost(tried, offsets + share * step) < cost(residual, offsets):
                offsets, residual = offsets + share * step, tried
                break
        else:
            break
    return offsets


def _prior_weights(people: Sequence[Known]) -> FloatArray:
    """[H, 3] to add to the prior's last layer: ridge regression, its strength by people held out.

    Nothing [0, 3] with too few people, or where it does not help those.
    """
    if len(people) < ENOUGH_FOR_PRIOR * (FOLDS - 1) / FOLDS or any(one.hidden is None for one in people):
        return np.zeros((0, 3))
    hidden = np.stack([one.hidden for one in people if one.hidden is not None])  # [N, 2, H]
    missing = np.stack([one.truth - one.prior[:3] for one in people])
    # The mirror image's x is turned back: x hangs on the difference of both sides, y and z on the sum.
    odd, even = (hidden[:, 0] - hidden[:, 1]) / 2, (hidden[:, 0] + hidden[:, 1]) / 2

    def solved(rows: NDArray[np.bool_], ridge: float) -> FloatArray:
        columns = [_ridge(seen[rows], missing[rows, i], ridge) for i, seen in enumerate((odd, even, even))]
        return np.stack(columns, axis=-1)

    def mean(weights: FloatArray, rows: NDArray[np.bool_]) -> FloatArray:
        return np.stack([seen[rows] @ weights[:, i] for i, seen in enumerate((odd, even, even))], axis=-1)

    third = np.arange(len(people)) % FOLDS
    everybody = np.ones(len(people), bool)
    plain = float(np.median(np.linalg.norm(missing, axis=1)))
    tried = []
    for ridge in _RIDGES:
        left = np.empty_like(missing)
        for k in range(FOLDS):
            left[third == k] = missing[third == k] - mean(solved(third != k, ridge), third == k)
        tried.append((float(np.median(np.linalg.norm(left, axis=1))), ridge))
    best, ridge = min(tried)
    return solved(everybody, ridge) if best < 0.97 * plain else np.zeros((0, 3))


def _ridge(seen: FloatArray, target: FloatArray, ridge: float) -> FloatArray:
    return np.asarray(np.linalg.solve(seen.T @ seen + ridge * np.eye(seen.shape[1]), seen.T @ target))


def _labels(people: Sequence[Known], constants: _Constants) -> FloatArray:
    """Directions to the camera [N, 3] in the chest's frame, as the fit labels them with these constants."""
    usual = Smplify2Config()
    settings = replace(
        usual,
        shoulder_offset=_moved(usual.shoulder_offset, constants.offsets[0:2]),
        hip_offset=_moved(usual.hip_offset, constants.offsets[2:4]),
        neck_forward=usual.neck_forward + float(constants.offsets[4]),
    )
    fits = SmplifyFitter(settings).fit_prepared([_prepared(one, constants.prior) for one in people])
    found = [
        camera_on_sphere(rotation_matrix(one.root_orient), one.translation)[:3, 3] if one.translation[2] > 0
        else np.array([0.0, 0.0, 1.0])
        for one in fits
    ]  # fmt: skip
    return np.stack([direction / np.linalg.norm(direction) for direction in found])


def _prepared(one: Known, weights: FloatArray) -> Prepared:
    directions = one.prior[:6].reshape(2, 3).copy()
    if len(weights) and one.hidden is not None:
        added = (one.hidden[0] @ weights + one.hidden[1] @ weights * (-1, 1, 1)) / 2
        directions[0] += added
    return Prepared(one.request, directions, one.prior[6:])


def _moved(offset: tuple[float, float, float], by: FloatArray) -> tuple[float, float, float]:
    return (offset[0], round(float(offset[1] + by[0]), 5), round(float(offset[2] + by[1]), 5))


def _helped(before: FloatArray, after: FloatArray) -> bool:
    """Did the angles fall, more than chance would have it, and by enough to matter?"""
    gain = np.clip(before - after, -0.5, 0.5)
    beyond_chance = float(np.mean(gain)) > 2 * float(np.std(gain)) / len(gain) ** 0.5
    return bool(beyond_chance and np.median(after) < 0.97 * np.median(before))


def _apart(truth: FloatArray, label: FloatArray) -> FloatArray:
    return np.asarray(np.arccos(np.clip(np.sum(truth * label, axis=1), -1, 1)))


def _yaw_error(truth: FloatArray, label: FloatArray) -> FloatArray:
    return np.asarray(np.angle(np.exp(1j * (_yaw(label) - _yaw(truth)))))


def _yaw(direction: FloatArray) -> FloatArray:
    return np.arctan2(direction[:, 0], direction[:, 2])


def _odds(probability: FloatArray, wrong: NDArray[np.bool_]) -> tuple[float, float]:
    """Scale and offset of the log odds (Platt), drawn towards 1 and 0."""
    odds = _log_odds(probability)

    def cost(at: FloatArray) -> float:
        scaled = at[0] * odds + at[1]
        return float(
            np.sum(np.logaddexp(0, scaled) - wrong * scaled) + 8 * (at[0] - 1) ** 2 + 0.5 * at[1] ** 2
        )

    found = minimize(cost, [1.0, 0.0], method="L-BFGS-B", bounds=[(0.1, 4.0), (-4.0, 4.0)]).x
    return float(found[0]), float(found[1])


def _rescaled(probability: FloatArray, odds: tuple[float, float]) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-(odds[0] * _log_odds(probability) + odds[1]))))


def _log_odds(probability: FloatArray) -> FloatArray:
    inside = np.clip(probability, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(inside / (1 - inside)))


def _score(truth: FloatArray, label: FloatArray, probability: FloatArray) -> Held:
    yaw = np.degrees(np.abs(_yaw_error(truth, label)))
    pitch = np.degrees(
        np.abs(np.arcsin(np.clip(label[:, 1], -1, 1)) - np.arcsin(np.clip(truth[:, 1], -1, 1)))
    )
    wrong = yaw > WRONG
    return Held(
        yaw=round(float(np.median(yaw)), 2),
        yaw_p95=round(float(np.percentile(yaw, 95)), 2),
        pitch=round(float(np.median(pitch)), 2),
        brier=round(float(np.mean((probability - wrong) ** 2)), 4),
    )
