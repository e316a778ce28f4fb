"""What the reviewers decided, from the append-only log of decisions.

A reviewer's standing verdict on a portrait is the last decision that an `undo` of the same reviewer has not
taken back: every undo takes back one. The consensus of a portrait counts standing verdicts, one a reviewer;
a lead's ruling on a dispute (a decision whose client is `ADJUDICATION`) settles it whatever the count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from phq_data.errors import PhqError

Standing = Literal["accept", "reject", "flag"]
State = Literal["accepted", "rejected", "disputed", "undecided"]

VERDICTS: tuple[str, ...] = ("accept", "reject", "flag", "undo")
ADJUDICATION = "adjudication"
"""How the client of a ruling begins. The service lets only leads write it."""


class ReviewError(PhqError, ValueError):
    """Decisions that cannot be used; the message names the one."""


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


def standing(decisions: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Standing]]:
    """portrait_id -> reviewer -> standing verdict, from rows of `schema.DECISIONS` in any order.

    The same decision given twice (an import, a retry) counts once. Raises `ReviewError` for a verdict that
    does not exist.
    """
    return {
        portrait: {reviewer: row["verdict"] for reviewer, row in rows.items()}
        for portrait, rows in standing_rows(decisions).items()
    }


def standing_rows(decisions: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """portrait_id -> reviewer -> the decision that stands; like `standing`."""
    unique = {row["decision_id"]: row for row in decisions}
    stacks: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(unique.values(), key=lambda row: (row["time"], row["decision_id"])):
        if row["verdict"] not in VERDICTS:
            raise ReviewError(
                f"decision {row['decision_id']} says {row['verdict']!r}; known are {', '.join(VERDICTS)}"
            )
        stack = stacks.setdefault((row["portrait_id"], row["reviewer"]), [])
        if row["verdict"] != "undo":
            stack.append(row)
        elif stack:
            stack.pop()
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for (portrait, reviewer), stack in stacks.items():
        if stack:
            found.setdefault(portrait, {})[reviewer] = stack[-1]
    return found


def consensus(
    decisions: Iterable[Mapping[str, Any]],
    rule: ConsensusRule = ConsensusRule(),
) -> dict[str, Consensus]:
    """The consensus of every portrait that has a standing verdict."""
    return {portrait: settle(rows.values(), rule) for portrait, rows in standing_rows(decisions).items()}


def settle(rows: Iterable[Mapping[str, Any]], rule: ConsensusRule) -> Consensus:
    """The consensus of one portrait from its standing decisions, one a reviewer.

    `disputed`: somebody flagged it for discussion, or no side has more than `rule.min_share` of the votes.
    `undecided`: fewer than `rule.min_votes` reviewers accepted or rejected it. The last ruling, if there is
    one, goes before both.
    """
    listed = sorted(rows, key=lambda row: (row["time"], row["decision_id"]))
    accepts, rejects, flags = (
        sum(row["verdict"] == kind for row in listed) for kind in ("accept", "reject", "flag")
    )
    votes = accepts + rejects
    rulings = [
        row["verdict"]
        for row in listed
        if str(row.get("client") or "").startswith(ADJUDICATION) and row["verdict"] != "flag"
    ]
    state: State
    if rulings:
        state = "accepted" if rulings[-1] == "accept" else "rejected"
    elif flags:
        state = "disputed"
    elif votes < rule.min_votes:
        state = "undecided"
    elif accepts > rule.min_share * votes:
        state = "accepted"
    elif rejects > rule.min_share * votes:
        state = "rejected"
    else:
        state = "disputed"
    return Consensus(state, accepts, rejects, flags)
