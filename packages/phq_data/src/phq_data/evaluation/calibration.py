"""Calibration of the error probability: a share p of the labels of probability p should be wrong. And what a
threshold on it buys."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phq_data.evaluation.accuracy import PersonError
from phq_data.stages.uncertainty import WRONG

EDGES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.001)
THRESHOLDS = (0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class ReliabilityBin:
    """Labels of similar error probability. Errors in degrees."""

    low: float
    high: float
    count: int
    predicted: float  # mean error probability
    wrong: float  # share whose yaw is off by more than `WRONG`
    margin: float  # standard error of that share
    predicted_error: float  # median of the expected errors
    error: float  # median error


@dataclass(frozen=True)
class Threshold:
    """What a threshold would keep of the labels that every other check lets pass. Errors in degrees."""

    limit: float
    kept: float  # share of all people
    yaw: float  # median error
    yaw_p95: float
    wrong: float  # share
    confused: float  # share of fronts and backs taken for each other


def reliability(errors: Sequence[PersonError]) -> list[ReliabilityBin]:
    """Labels by error probability, before the screening; bins without labels are left out."""
    found = []
    labelled = [e for e in errors if e.portrait_id and np.isfinite(e.error_probability)]
    for low, high in itertools.pairwise(EDGES):
        group = [e for e in labelled if low <= e.error_probability < high]
        if not group:
            continue
        wrong = float(np.mean([e.yaw_deg > WRONG for e in group]))
        found.append(
            ReliabilityBin(
                low=low,
                high=min(high, 1.0),
                count=len(group),
                predicted=float(np.mean([e.error_probability for e in group])),
                wrong=wrong,
                margin=float(np.sqrt(max(wrong * (1 - wrong), 0.25 / len(group)) / len(group))),
                predicted_error=float(np.median([e.expected_yaw_error_deg for e in group])),
                error=float(np.median([e.yaw_deg for e in group])),
            )
        )
    return found


def thresholds(errors: Sequence[PersonError]) -> list[Threshold]:
    """The trade-off: labels that only the error probability could reject, under several thresholds."""
    passed = [
        e
        for e in errors
        if e.portrait_id and np.isfinite(e.error_probability) and e.reasons in ("", "uncertain")
    ]
    found = []
    for limit in THRESHOLDS:
        group = [e for e in passed if e.error_probability <= limit]
        if group:
            yaw = [e.yaw_deg for e in group]
            found.append(
                Threshold(
                    limit=limit,
                    kept=len(group) / len(errors),
                    yaw=float(np.median(yaw)),
                    yaw_p95=float(np.percentile(yaw, 95)),
                    wrong=float(np.mean(np.array(yaw) > WRONG)),
                    confused=float(np.mean([e.confused for e in group])),
                )
            )
    return found


def text(errors: Sequence[PersonError]) -> str:
    """Both tables and two numbers, for people; "" when no label has an error probability."""
    found = reliability(errors)
    if not found:
        return ""
    lines = [
        f"Error probability (of a yaw off by more than {WRONG:g} degrees), before the screening:",
        f"  {'probability':>12} {'labels':>7} {'mean':>6} {'wrong':>14} {'expected':>11} {'error':>6}",
    ]
    for one in found:
        lines.append(
            f"  {one.low:5.2f}..{one.high:4.2f} {one.count:>7} {one.predicted:>6.2f} {one.wrong:>7.2f} ± "
            f"{one.margin:4.2f} {one.predicted_error:>11.1f} {one.error:>6.1f}"
        )
    labelled = [e for e in errors if e.portrait_id and np.isfinite(e.error_probability)]
    predicted = np.array([e.error_probability for e in labelled])
    wrong = np.array([e.yaw_deg > WRONG for e in labelled])
    brier, base = float(np.mean((predicted - wrong) ** 2)), float(wrong.mean())
    lines.append(f"  Brier score {brier:.3f}; {base * (1 - base):.3f} for the constant mean")
    if 0 < base < 1:
        bad, good = predicted[wrong], predicted[~wrong]
        area = float(np.mean(bad[:, None] > good) + 0.5 * np.mean(bad[:, None] == good))
        lines.append(f"  ROC AUC {area:.3f}: a wrong label has the higher probability {area:.0%} of the time")
    stated = [(e.yaw_deg, e.expected_yaw_error_deg) for e in labelled]
    stated = [pair for pair in stated if np.isfinite(pair[1])]
    if stated:
        below = float(np.mean([off < said for off, said in stated]))
        lines.append(f"  {below:.0%} of the errors are below the expected error")
    lines += [
        "",
        "What a threshold on the error probability keeps of all people, and how good the labels then are:",
    ]
    lines.append(f"  {'most':>5} {'kept':>6} {'yaw':>5} {'p95':>6} {'wrong':>6} {'f/b':>5}")
    for at in thresholds(errors):
        lines.append(
            f"  {at.limit:>5.2f} {at.kept:>6.1%} {at.yaw:>5.1f} {at.yaw_p95:>6.1f} {at.wrong:>6.1%} "
            f"{at.confused:>5.1%}"
        )
    return "\n".join(lines)
