"""How well reviewers agree, with each other and on gold items, and their throughput.

Agreement counts standing accepts and rejects of portraits that at least two people judged by themselves:
flags, adjudications of a lead and accepted batches of the triage are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import sqlalchemy as sa

from phq_data.review.consensus import ADJUDICATION
from phq_data.review.store import Store
from phq_data.review.tables import DECISIONS, ITEMS, STANDINGS

TRIAGE = "triage"
"""How the client of a decision begins that was made by accepting a batch."""
SIDES = ("accept", "reject")


@dataclass(frozen=True)
class Pair:
    """Two reviewers, on the portraits that both judged."""

    first: str
    second: str
    portraits: int
    agreed: float  # share
    kappa: float | None  # Cohen's; None when chance alone would agree always


@dataclass(frozen=True)
class Agreement:
    """Agreement of a team."""

    portraits: int  # judged by at least two
    agreed: float | None  # mean share of agreeing pairs
    kappa: float | None  # Fleiss'
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class GoldScore:
    """A reviewer's verdicts on gold items."""

    reviewer: str
    judged: int
    correct: int
    false_accepts: int  # accepted what should be rejected
    false_rejects: int


@dataclass(frozen=True)
class Throughput:
    """One reviewer's work."""

    reviewer: str
    decisions: int  # verdicts, taken back or not
    undone: int
    accepts: int  # standing
    rejects: int
    flags: int
    median_seconds: float | None
    p90_seconds: float | None
    per_minute: float | None  # while at it: by the median
    last: int  # milliseconds since 1970


@dataclass(frozen=True)
class Progress:
    """How far a group of portraits is."""

    name: str
    total: int
    accepted: int
    rejected: int
    disputed: int
    undecided: int


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa of two raters' verdicts on the same items; None when it is not defined.

    kappa = (observed - expected) / (1 - expected), expected from each rater's own shares (Cohen 1960).
    """
    if len(first) != len(second):
        raise ValueError(f"two raters judged {len(first)} and {len(second)} items: they must be the same")
    if not first:
        return None
    a, b = Counter(first), Counter(second)
    count = len(first)
    observed = sum(x == y for x, y in zip(first, second, strict=True)) / count
    expected = sum(a[kind] * b[kind] for kind in a) / count**2
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> tuple[float | None, float | None]:
    """(Fleiss' kappa, mean observed agreement) from items x categories: how many raters said what.

    Items may have different numbers of raters, from 2 on; with equal ones this is Fleiss (1971).
    """
    if not counts:
        return None, None
    table = np.asarray(counts, np.float64).reshape(len(counts), -1)
    raters = table.sum(axis=1)
    table, raters = table[raters >= 2], raters[raters >= 2]
    if not len(table):
        return None, None
    observed = float((((table**2).sum(axis=1) - raters) / (raters * (raters - 1))).mean())
    shares = table.sum(axis=0) / table.sum()
    expected = float((shares**2).sum())
    return (None if expected >= 1 else (observed - expected) / (1 - expected)), observed


def agreement(store: Store) -> Agreement:
    """Agreement over all portraits that at least two people judged."""
    own = (
        sa.select(STANDINGS.c.portrait_id, STANDINGS.c.reviewer, STANDINGS.c.verdict)
        .where(STANDINGS.c.verdict.in_(SIDES))
        .where(~STANDINGS.c.client.startswith(ADJUDICATION), ~STANDINGS.c.client.startswith(TRIAGE))
    ).subquery()
    shared = sa.select(own.c.portrait_id).group_by(own.c.portrait_id).having(sa.func.count() >= 2)
    statement = sa.select(own).where(own.c.portrait_id.in_(shared)).order_by(own.c.reviewer)
    votes: dict[str, dict[str, str]] = {}
    with store.database.read() as connection:
        for portrait, reviewer, verdict in connection.execute(statement):
            votes.setdefault(portrait, {})[reviewer] = verdict
    return agreement_of(votes)


def agreement_of(votes: Mapping[str, Mapping[str, str]]) -> Agreement:
    """Agreement from portrait -> reviewer -> accept or reject."""
    shared = [given for given in votes.values() if len(given) >= 2]
    both: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for given in shared:
        for first, second in combinations(sorted(given), 2):
            left, right = both.setdefault((first, second), ([], []))
            left.append(given[first])
            right.append(given[second])
    pairs = [
        Pair(
            *names, len(left), sum(x == y for x, y in zip(left, right, strict=True)) / len(left),
            cohen_kappa(left, right),
        )
        for names, (left, right) in sorted(both.items())
    ]  # fmt: skip
    kappa, agreed = fleiss_kappa(
        [[sum(v == side for v in given.values()) for side in SIDES] for given in shared]
    )
    return Agreement(len(shared), agreed, kappa, tuple(pairs))


def gold_scores(store: Store) -> list[GoldScore]:
    """Every reviewer's standing verdicts on gold items."""
    statement = (
        sa.select(STANDINGS.c.reviewer, STANDINGS.c.verdict, ITEMS.c.gold, sa.func.count())
        .join(ITEMS, ITEMS.c.portrait_id == STANDINGS.c.portrait_id)
        .where(ITEMS.c.gold.in_(SIDES), STANDINGS.c.verdict.in_(SIDES))
        .group_by(STANDINGS.c.reviewer, STANDINGS.c.verdict, ITEMS.c.gold)
    )
    found: dict[str, Counter[tuple[str, str]]] = {}
    with store.database.read() as connection:
        for reviewer, verdict, gold, count in connection.execute(statement):
            found.setdefault(reviewer, Counter())[verdict, gold] = count
    return [
        GoldScore(
            reviewer, sum(counts.values()), counts["accept", "accept"] + counts["reject", "reject"],
            counts["accept", "reject"], counts["reject", "accept"],
        )
        for reviewer, counts in sorted(found.items())
    ]  # fmt: skip


def throughput(store: Store) -> list[Throughput]:
    """Every reviewer's count and speed. Batches of the triage count as decisions, not in the seconds."""
    log = sa.select(
        DECISIONS.c.reviewer, DECISIONS.c.verdict, DECISIONS.c.seconds, DECISIONS.c.time, DECISIONS.c.client
    )
    stands = sa.select(STANDINGS.c.reviewer, STANDINGS.c.verdict, sa.func.count()).group_by(
        STANDINGS.c.reviewer, STANDINGS.c.verdict
    )
    seconds: dict[str, list[float]] = {}
    counts: dict[str, Counter[str]] = {}
    last: dict[str, int] = {}
    standing: Counter[tuple[str, str]] = Counter()
    with store.database.read() as connection:
        for reviewer, verdict, took, time, client in connection.execute(log):
            counts.setdefault(reviewer, Counter())["undo" if verdict == "undo" else "verdict"] += 1
            last[reviewer] = max(last.get(reviewer, 0), time)
            if verdict != "undo" and took > 0 and not client.startswith(TRIAGE):
                seconds.setdefault(reviewer, []).append(took)
        for reviewer, verdict, count in connection.execute(stands):
            standing[reviewer, verdict] = count
    found = []
    for reviewer in sorted(counts):
        took = seconds.get(reviewer)
        middle = float(np.median(took)) if took else None
        found.append(
            Throughput(
                reviewer, counts[reviewer]["verdict"], counts[reviewer]["undo"],
                standing[reviewer, "accept"], standing[reviewer, "reject"], standing[reviewer, "flag"],
                middle, float(np.percentile(took, 90)) if took else None,
                60 / middle if middle else None, last[reviewer],
            )
        )  # fmt: skip
    return found


def reject_reasons(store: Store) -> dict[str, int]:
    """How often each reason is given by the standing rejects, most frequent first."""
    statement = (
        sa.select(DECISIONS.c.reason, sa.func.count().label("count"))
        .join(STANDINGS, STANDINGS.c.decision_id == DECISIONS.c.decision_id)
        .where(STANDINGS.c.verdict == "reject")
        .group_by(DECISIONS.c.reason)
        .order_by(sa.desc("count"), DECISIONS.c.reason)
    )
    with store.database.read() as connection:
        return {reason or "none given": count for reason, count in connection.execute(statement)}


def on_replaced(store: Store) -> int:
    """Standing verdicts on portraits that the workspace no longer has: kept, but they count for nothing."""
    statement = (
        sa.select(sa.func.count())
        .select_from(STANDINGS)
        .join(ITEMS, ITEMS.c.portrait_id == STANDINGS.c.portrait_id)
        .where(ITEMS.c.active == 0)
    )
    with store.database.read() as connection:
        return int(connection.execute(statement).scalar() or 0)


def progress(store: Store, by: str = "yaw_bin") -> dict[Any, Progress]:
    """How far the review is, by a column of the items: `yaw_bin`, `source` or `pool`."""
    column = {"yaw_bin": ITEMS.c.yaw_bin, "source": ITEMS.c.source, "pool": ITEMS.c.pool}[by]
    statement = (
        sa.select(column, ITEMS.c.state, sa.func.count())
        .where(ITEMS.c.active == 1)
        .where(sa.or_(ITEMS.c.pool == 0, ITEMS.c.votes > 0) if by != "pool" else sa.true())
        .group_by(column, ITEMS.c.state)
    )
    counts: dict[Any, Counter[str]] = {}
    with store.database.read() as connection:
        for key, state, count in connection.execute(statement):
            counts.setdefault(key, Counter())[state] = count
    return {
        key: Progress(
            str(key), sum(of.values()), of["accepted"], of["rejected"], of["disputed"], of["undecided"]
        )
        for key, of in sorted(counts.items())
    }


def days(store: Store, since: int) -> dict[str, int]:
    """Verdicts a day (UTC, ISO date) since a time in milliseconds."""
    day = 86_400_000
    start = (DECISIONS.c.time - DECISIONS.c.time % day).label("start")
    statement = (
        sa.select(start, sa.func.count())
        .where(DECISIONS.c.time >= since, DECISIONS.c.verdict != "undo")
        .group_by(start)
        .order_by(start)
    )
    with store.database.read() as connection:
        return {
            str(np.datetime64(int(moment), "ms").astype("datetime64[D]")): count
            for moment, count in connection.execute(statement)
        }
