"""What the reviewers decided, from the append-only log of decisions.

A reviewer's standing verdict on a portrait is the last decision that an `undo` of the same reviewer has not
taken back: every undo takes back one. The consensus of a portrait counts standing verdicts, one a reviewer;
a lead's adjudication of a dispute (a decision whose client is `ADJUDICATION`) settles it whatever the count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from phq_data.errors import PhqError
from phq_data.pipeline.corrections import ADJUDICATION as ADJUDICATION
from phq_data.records import Decision
from phq_data.review.records import LogEntry, Standing

State = Literal["accepted", "rejected", "disputed", "undecided"]

VERDICTS: tuple[str, ...] = ("accept", "reject", "flag", "undo")


class ReviewError(PhqError, ValueError):
    """Decisions that cannot be used; the message names the one."""


Vote = Decision | LogEntry | Standing
AnyVote = TypeVar("AnyVote", Decision, LogEntry, Standing)


@dataclass(frozen=True)
class ConsensusRule:
    """When reviewers agree enough."""

    min_votes: int = 1  # reviewers that must have accepted or rejected
    min_share: float = 0.5  # the winning side must have more than this share of the votes

    def __post_init__(self) -> None:
        if self.min_votes < 1:
            raise ReviewError(f"a consensus needs at least 1 vote, not {self.min_votes}")
        if not 0.5 <= self.min_share < 1:
            raise ReviewError(f"the share to win must lie in 0.5..1, not {self.min_share}")


@dataclass(frozen=True)
class Consensus:
    """What became of one portrait."""

    state: State
    accepts: int
    rejects: int
    flags: int


def consensus(decisions: Iterable[AnyVote], rule: ConsensusRule = ConsensusRule()) -> dict[str, Consensus]:
    """The consensus of every portrait that has a standing verdict, from its log in any order.

    Raises `ReviewError` for a verdict that does not exist.
    """
    return {portrait: settle(votes.values(), rule) for portrait, votes in standing(decisions).items()}


def standing(decisions: Iterable[AnyVote]) -> dict[str, dict[str, AnyVote]]:
    """portrait_id -> reviewer -> the decision that stands, from a log in any order.

    The same decision given twice (an import, a retry) counts once. Raises `ReviewError` for a verdict that
    does not exist.
    """
    unique = {one.decision_id: one for one in decisions}
    stacks: dict[tuple[str, str], list[AnyVote]] = {}
    for one in sorted(unique.values(), key=_order):
        if one.verdict not in VERDICTS:
            raise ReviewError(
                f"decision {one.decision_id} says {one.verdict!r}; known are {', '.join(VERDICTS)}"
            )
        stack = stacks.setdefault((one.portrait_id, one.reviewer), [])
        if one.verdict != "undo":
            stack.append(one)
        elif stack:
            stack.pop()
    found: dict[str, dict[str, AnyVote]] = {}
    for (portrait, reviewer), stack in stacks.items():
        if stack:
            found.setdefault(portrait, {})[reviewer] = stack[-1]
    return found


def settle(votes: Iterable[Vote], rule: ConsensusRule) -> Consensus:
    """The consensus of one portrait from its standing decisions, one a reviewer.

    `disputed`: somebody flagged it for discussion, or no side has more than `rule.min_share` of the votes.
    `undecided`: fewer than `rule.min_votes` reviewers accepted or rejected it. The last adjudication
    goes before both.
    """
    listed = sorted(votes, key=_order)
    accepts, rejects, flags = (
        sum(one.verdict == kind for one in listed) for kind in ("accept", "reject", "flag")
    )
    count = accepts + rejects
    adjudicated = [
        one.verdict for one in listed if one.client.startswith(ADJUDICATION) and one.verdict != "flag"
    ]
    state: State
    if adjudicated:
        state = "accepted" if adjudicated[-1] == "accept" else "rejected"
    elif flags:
        state = "disputed"
    elif count < rule.min_votes:
        state = "undecided"
    elif accepts > rule.min_share * count:
        state = "accepted"
    elif rejects > rule.min_share * count:
        state = "rejected"
    else:
        state = "disputed"
    return Consensus(state, accepts, rejects, flags)


def _order(vote: Vote) -> tuple[Any, str]:
    return vote.time, vote.decision_id
