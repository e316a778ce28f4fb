"""Which undecided portraits are nearly sure: a logistic regression on the evidence, learned from decisions.

The model is a handful of weights on named numbers, so that anybody can see what it goes by. What it promises
is measured on decisions that it has not learned from: portraits are dealt to five folds by photo, each is
judged by a model of the other four, half of those judgements choose the threshold and the other half give the
reported precision. Nothing is proposed for a side whose threshold does not reach the target. A batch is
only a proposal; a person accepts it at a glance, and each portrait becomes an ordinary decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.review.agreement import SIDES, TRIAGE
from phq_data.review.records import KEPT, ItemFacts
from phq_data.review.store import Store
from phq_data.review.tables import ITEMS, STANDINGS

FEATURES: tuple[str, ...] = (
    "error_probability", "landmark_error", "shoulder_error", "blur", "padding", "effective_resolution",
    "mask_share", "overlap", "contrast", "coverage", "head_outside", "keypoint_score", "shoulder_score",
)  # fmt: skip
"""Numbers of the evidence that are features; `NAMES` adds two functions of the yaw."""
NAMES: tuple[str, ...] = (*FEATURES, "|yaw|", "sin² yaw")
TARGET = 0.97
MIN_DECISIONS = 100  # decisions, of which at least `MIN_PER_SIDE` of each side
MIN_PER_SIDE = 15
MIN_BEYOND = 10  # decisions that must lie beyond a threshold
FOLDS = 5
MAX_ROWS = 20_000
"""Decisions that are learned from (the last ones) and portraits that are considered for a batch (those whose
error probability alone makes them likely): more take seconds and say the same."""
_RIDGE = 1.0


_COLUMNS = (ITEMS.c.portrait_id, ITEMS.c.photo_id, ITEMS.c.yaw, ITEMS.c.facts)


class Row(NamedTuple):
    """What the model sees of a portrait."""

    portrait_id: str
    photo_id: str
    yaw: float  # radians
    numbers: dict[str, float | None]  # evidence by name
    verdict: str  # accept, reject; "" = undecided


@dataclass(frozen=True)
class Model:
    """A logistic regression: probability of an accept from standardised numbers."""

    mean: FloatArray  # [F]
    scale: FloatArray  # [F]
    weights: FloatArray  # [F]
    bias: float

    def probability(self, features: FloatArray) -> FloatArray:
        """Probability [N] that reviewers accept, from features [N, F]."""
        filled = np.where(np.isfinite(features), features, self.mean)
        return _logistic((filled - self.mean) / self.scale @ self.weights + self.bias)


@dataclass(frozen=True)
class Side:
    """What the model can say about one side, accept or reject, measured on held-out decisions."""

    side: str
    threshold: float | None  # on the probability of this side; None = not sure enough yet
    precision: float | None  # share of held-out decisions beyond the threshold that agree
    lower: float | None  # 95 % lower bound of it (Wilson)
    judged: int  # held-out decisions beyond the threshold
    covered: float  # share of held-out decisions that lie beyond the threshold
    best: float | None = None  # the highest precision that any threshold reaches, where `threshold` is None


@dataclass(frozen=True)
class Triage:
    """A learned model and what it is worth."""

    model: Model | None
    why: str  # why there is none
    decisions: int  # learned from
    accepts: int
    sides: tuple[Side, ...]
    target: float

    def side(self, name: str) -> Side | None:
        """The side of a name."""
        return next((one for one in self.sides if one.side == name), None)

    def weights(self) -> list[tuple[str, float]]:
        """(number, its weight towards accept), the weightiest first."""
        if self.model is None:
            return []
        pairs = zip(NAMES, self.model.weights.tolist(), strict=True)
        return sorted(pairs, key=lambda pair: -abs(pair[1]))


def learn(store: Store, target: float = TARGET) -> Triage:
    """Fit the model to the standing verdicts that people gave one by one."""
    rows = _decided(store)
    accepted = np.array([row.verdict == "accept" for row in rows], bool)
    return learn_from(features_of(rows), accepted, [row.photo_id for row in rows], target)


def learn_from(
    features: FloatArray,  # [N, F]
    accepted: NDArray[np.bool_],  # [N]
    photos: Sequence[str],  # [N]: portraits of one photo stay together
    target: float = TARGET,
) -> Triage:
    """Fit the model to features and verdicts."""
    count, accepts = len(accepted), int(accepted.sum())
    if count < MIN_DECISIONS or min(accepts, count - accepts) < MIN_PER_SIDE:
        why = (
            f"{count} decisions so far, {accepts} of them accepts; the triage needs {MIN_DECISIONS}, "
            f"at least {MIN_PER_SIDE} of them accepts and {MIN_PER_SIDE} rejects"
        )
        return Triage(None, why, count, accepts, (), target)
    fold, half = _dealt(photos)
    held_out = np.empty(count)
    for index in range(FOLDS):
        mine = fold == index
        if mine.any():
            held_out[mine] = fit(features[~mine], accepted[~mine]).probability(features[mine])
    sides = tuple(
        _side(
            name, held_out if name == "accept" else 1 - held_out, accepted == (name == "accept"), half, target
        )
        for name in SIDES
    )
    return Triage(fit(features, accepted), "", count, accepts, sides, target)


def propose(store: Store, triage: Triage, side: str, count: int, reviewer: str) -> list[tuple[str, float]]:
    """(portrait id, probability of `side`) of undecided portraits beyond the threshold, the surest first."""
    found = triage.side(side)
    if triage.model is None or found is None or found.threshold is None:
        return []
    mine = sa.exists().where(STANDINGS.c.portrait_id == ITEMS.c.portrait_id, STANDINGS.c.reviewer == reviewer)
    # Overlap and gold items are there to measure people: never in a batch.
    statement = sa.select(*_COLUMNS, sa.literal("")).where(
        ITEMS.c.open == 1, ITEMS.c.pool == KEPT, ITEMS.c.votes == 0, ITEMS.c.gold.is_(None),
        ITEMS.c.required == sa.select(sa.func.min(ITEMS.c.required)).scalar_subquery(), ~mine,
    )  # fmt: skip
    likely = ITEMS.c.error_probability if side == "accept" else ITEMS.c.error_probability.desc()
    with store.database.read() as connection:
        rows = [_row(*values) for values in connection.execute(statement.order_by(likely).limit(MAX_ROWS))]
    if not rows:
        return []
    probability = triage.model.probability(features_of(rows))
    probability = probability if side == "accept" else 1 - probability
    order = np.argsort(-probability, kind="stable")
    sure = [int(i) for i in order if probability[i] >= found.threshold]
    return [(rows[i].portrait_id, float(probability[i])) for i in sure[:count]]


def features_of(rows: Sequence[Row]) -> FloatArray:
    """[N, F], in the order of `NAMES`; a number that is missing becomes nan."""
    table = np.full((len(rows), len(NAMES)), np.nan)
    for index, row in enumerate(rows):
        for column, name in enumerate(FEATURES):
            value = row.numbers.get(name)
            if value is not None:
                table[index, column] = value
        table[index, -2] = abs(row.yaw) / np.pi
        table[index, -1] = np.sin(row.yaw) ** 2
    return table


def fit(features: FloatArray, accepted: NDArray[np.bool_], ridge: float = _RIDGE) -> Model:
    """The ridge logistic regression of `accepted` [N] on `features` [N, F], by Newton's method.

    Missing numbers count as their mean. The ridge keeps weights small where decisions are few.
    """
    mean = np.nan_to_num(_nanmean(features))
    filled = np.where(np.isfinite(features), features, mean)
    scale = filled.std(axis=0)
    scale[scale < 1e-9] = 1.0
    design = np.column_stack([(filled - mean) / scale, np.ones(len(filled))])
    penalty = np.diag([*[ridge] * features.shape[1], 1e-6])
    beta = np.zeros(design.shape[1])
    truth = accepted.astype(np.float64)
    for _ in range(50):
        probability = _logistic(design @ beta)
        gradient = design.T @ (truth - probability) - penalty @ beta
        hessian = (design * (probability * (1 - probability))[:, None]).T @ design + penalty
        step = np.linalg.solve(hessian, gradient)
        beta += step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-8:
            break
    return Model(mean, scale, beta[:-1], float(beta[-1]))


def wilson_lower(right: int, total: int, z: float = 1.645) -> float:
    """The one-sided 95 % lower bound of a share (Wilson 1927)."""
    if total == 0:
        return 0.0
    share = right / total
    centre = share + z * z / (2 * total)
    spread = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return float(max(0.0, (centre - spread) / (1 + z * z / total)))


def _side(
    name: str, probability: FloatArray, right: NDArray[np.bool_], half: NDArray[np.bool_], target: float
) -> Side:
    threshold = _threshold(probability[half], right[half], target)
    if threshold is None:
        return Side(name, None, None, None, 0, 0.0, _best(probability[half], right[half]))
    beyond = (probability >= threshold) & ~half
    judged, good = int(beyond.sum()), int((beyond & right).sum())
    covered = judged / max(1, int((~half).sum()))
    if judged == 0:
        return Side(name, None, None, None, 0, 0.0)
    precision = good / judged
    # The half that chose the threshold flatters it: the other half must bear it out.
    kept = threshold if precision >= target - 0.02 else None
    best = precision if kept is None else None
    return Side(name, kept, precision, wilson_lower(good, judged), judged, covered, best)


def _threshold(probability: FloatArray, right: NDArray[np.bool_], target: float) -> float | None:
    """The lowest threshold beyond which at least `target` of the verdicts agree; None if there is none."""
    order, shares = _shares(probability, right)
    good = np.flatnonzero(shares >= target)
    if not len(good) or good[-1] + 1 < MIN_BEYOND:
        return None
    return float(probability[order[good[-1]]])


def _best(probability: FloatArray, right: NDArray[np.bool_]) -> float | None:
    """The highest share of agreeing verdicts beyond any threshold that has enough of them."""
    shares = _shares(probability, right)[1][MIN_BEYOND - 1 :]
    return float(shares.max()) if len(shares) else None


def _shares(probability: FloatArray, right: NDArray[np.bool_]) -> tuple[NDArray[np.int64], FloatArray]:
    """(order, the surest first; share of agreeing verdicts among the first 1, 2, ...)."""
    order = np.argsort(-probability, kind="stable")
    return order, np.cumsum(right[order]) / np.arange(1, len(order) + 1)


def _dealt(photos: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(fold, half) of every row, by its photo's digest: always the same."""
    numbers = np.array([int(photo[:8], 16) for photo in photos], np.int64)
    return numbers % FOLDS, (numbers // FOLDS) % 2 == 0


def _decided(store: Store) -> list[Row]:
    statement = (
        sa.select(*_COLUMNS, STANDINGS.c.verdict)
        .join(STANDINGS, STANDINGS.c.portrait_id == ITEMS.c.portrait_id)
        .where(STANDINGS.c.verdict.in_(SIDES), ~STANDINGS.c.client.startswith(TRIAGE))
        .order_by(STANDINGS.c.time.desc(), STANDINGS.c.decision_id)
        .limit(MAX_ROWS)
    )
    with store.database.read() as connection:
        return [_row(*values) for values in connection.execute(statement)]


def _row(portrait_id: str, photo_id: str, yaw: float, facts: str, verdict: str) -> Row:
    return Row(portrait_id, photo_id, yaw, ItemFacts.from_json(facts).numbers, verdict)


def _logistic(value: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-np.clip(value, -40, 40)))


def _nanmean(table: FloatArray) -> FloatArray:
    there = np.isfinite(table)
    total = np.where(there, table, 0).sum(axis=0)
    return np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), np.nan)
