"""Is doubt true? A doubt of x should be wrong x of the time; and what the screening buys with it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phq_data.evaluation.accuracy import PersonError
from phq_data.stages.uncertainty import WRONG

EDGES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.001)
LIMITS = (0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Level:
    """Labels of similar doubt. Errors in degrees."""

    low: float
    high: float
    count: int
    said: float  # mean doubt
    wrong: float  # share whose yaw is off by more than `WRONG`
    margin: float  # standard error of that share
    said_error: float  # median of the stated median errors
    error: float  # median error


@dataclass(frozen=True)
class Limit:
    """What a limit on doubt would keep of the labels that everything else lets pass. Errors in degrees."""

    limit: float
    kept: float  # share of all people
    yaw: float  # median error
    yaw_p95: float
    wrong: float  # share
    confused: float  # share of fronts and backs taken for each other


def levels(errors: Sequence[PersonError]) -> list[Level]:
    """Labels by doubt, before the screening; levels without labels are left out."""
    found = []
    labelled = [e for e in errors if e.portrait_id and np.isfinite(e.error_probability)]
    for low, high in itertools.pairwise(EDGES):
        group = [e for e in labelled if low <= e.error_probability < high]
        if not group:
            continue
        wrong = float(np.mean([e.yaw_deg > WRONG for e in group]))
        found.append(
            Level(
                low=low,
                high=min(high, 1.0),
                count=len(group),
                said=float(np.mean([e.error_probability for e in group])),
                wrong=wrong,
                margin=float(np.sqrt(max(wrong * (1 - wrong), 0.25 / len(group)) / len(group))),
                said_error=float(np.median([e.expected_yaw_error_deg for e in group])),
                error=float(np.median([e.yaw_deg for e in group])),
            )
        )
    return found


def limits(errors: Sequence[PersonError]) -> list[Limit]:
    """The trade-off: labels that only doubt could reject, under several limits."""
    passed = [
        e
        for e in errors
        if e.portrait_id and np.isfinite(e.error_probability) and e.reasons in ("", "doubtful")
    ]
    found = []
    for limit in LIMITS:
        group = [e for e in passed if e.error_probability <= limit]
        if group:
            yaw = [e.yaw_deg for e in group]
            found.append(
                Limit(
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
    """Both tables and two numbers, for people; "" when no label has a doubt."""
    found = levels(errors)
    if not found:
        return ""
    lines = [
        f"Doubt (probability that the yaw is off by more than {WRONG:g} degrees), before the screening:",
        f"  {'probability':>12} {'labels':>7} {'says':>6} {'is wrong':>14} {'says error':>11} {'error':>6}",
    ]
    for one in found:
        lines.append(
            f"  {one.low:5.2f}..{one.high:4.2f} {one.count:>7} {one.said:>6.2f} {one.wrong:>7.2f} ± "
            f"{one.margin:4.2f} {one.said_error:>11.1f} {one.error:>6.1f}"
        )
    labelled = [e for e in errors if e.portrait_id and np.isfinite(e.error_probability)]
    doubt = np.array([e.error_probability for e in labelled])
    wrong = np.array([e.yaw_deg > WRONG for e in labelled])
    brier, base = float(np.mean((doubt - wrong) ** 2)), float(wrong.mean())
    lines.append(f"  Brier score {brier:.3f}; {base * (1 - base):.3f} when everybody had the mean doubt")
    if 0 < base < 1:
        bad, good = doubt[wrong], doubt[~wrong]
        area = float(np.mean(bad[:, None] > good) + 0.5 * np.mean(bad[:, None] == good))
        lines.append(f"  a wrong label has more doubt than a right one {area:.0%} of the time")
    stated = [(e.yaw_deg, e.expected_yaw_error_deg) for e in labelled]
    stated = [pair for pair in stated if np.isfinite(pair[1])]
    if stated:
        below = float(np.mean([off < said for off, said in stated]))
        lines.append(f"  {below:.0%} of the errors are below the stated median error")
    lines += ["", "What a limit on doubt keeps of all people, and how good the labels then are:"]
    lines.append(f"  {'limit':>5} {'kept':>6} {'yaw':>5} {'p95':>6} {'wrong':>6} {'f/b':>5}")
    for at in limits(errors):
        lines.append(
            f"  {at.limit:>5.2f} {at.kept:>6.1%} {at.yaw:>5.1f} {at.yaw_p95:>6.1f} {at.wrong:>6.1%} "
            f"{at.confused:>5.1%}"
        )
    return "\n".join(lines)
