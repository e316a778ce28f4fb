"""What the service says of a whole team: progress, agreement, disputes, triage, settings."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from annotator_app.service.models import DecisionId, Model, PortraitId, Tile


class Progress(Model):
    """How far a group of portraits is."""

    name: str
    total: int
    accepted: int
    rejected: int
    disputed: int
    undecided: int


class ViewProgress(Progress):
    """How far a bin of yaw is."""

    yaw_bin: int
    centre: float  # degrees


class Pace(Model):
    """One reviewer's work."""

    reviewer: str
    decisions: int
    undone: int
    accepts: int
    rejects: int
    flags: int
    median_seconds: float | None
    p90_seconds: float | None
    per_minute: float | None
    last: datetime


class Stats(Model):
    """The dashboard. Reviewers see their own row, leads everybody's."""

    total: Progress
    remaining: int
    views: list[ViewProgress]
    sources: list[Progress]
    reviewers: list[Pace]
    reasons: dict[str, int]
    days: dict[str, int]
    pools: dict[str, int]


class Pair(Model):
    """Two reviewers on the portraits that both judged."""

    first: str
    second: str
    portraits: int
    agreed: float
    kappa: float | None


class Known(Model):
    """A reviewer on portraits with a known answer."""

    reviewer: str
    asked: int
    right: int
    wrong_accepts: int
    wrong_rejects: int


class Agreement(Model):
    """Agreement of the team: Fleiss' kappa over all, Cohen's by pairs."""

    portraits: int
    agreed: float | None
    kappa: float | None
    pairs: list[Pair]
    known: list[Known]


class Weight(Model):
    """What the triage goes by: the weight of a standardised number towards accept."""

    name: str
    weight: float


class Side(Model):
    """What the triage can say about accepts or rejects, measured on held-out decisions."""

    side: Literal["accept", "reject"]
    threshold: float | None
    precision: float | None
    lower: float | None  # 95 % lower bound of the precision
    judged: int
    covered: float


class Proposed(Tile):
    """A portrait of a batch."""

    probability: float


class Triage(Model):
    """The model, what it is worth, and a batch of nearly sure portraits, leased to who asks."""

    ready: bool
    why: str
    decisions: int
    accepts: int
    target: float
    sides: list[Side]
    weights: list[Weight]
    side: Literal["accept", "reject"]
    batch: list[Proposed]


class BatchDecision(Model):
    """One portrait of a batch that is taken; the id is made by the client."""

    decision_id: DecisionId
    portrait_id: PortraitId


class TriageAccept(Model):
    """A batch that a person agrees to; those he took out of it are not in here."""

    verdict: Literal["accept", "reject"]
    decisions: list[BatchDecision] = Field(max_length=500)
    time: datetime
    seconds: float = Field(0.0, ge=0, le=86_400, allow_inf_nan=False)  # for the whole batch
    reason: str = Field("", max_length=500)


class PolicyChange(Model):
    """Settings to change; the others stay."""

    overlap_share: float | None = None
    overlap_votes: int | None = None
    known_share: float | None = None
    lease_seconds: int | None = None
    min_votes: int | None = None
    min_share: float | None = None


class Person(Model):
    """A reviewer."""

    name: str
    role: Literal["reviewer", "lead"]
    created: datetime
    disabled: bool


class Invitation(Model):
    """Who is invited."""

    name: str = Field(max_length=200)
    role: Literal["reviewer", "lead"] = "reviewer"


class Invited(Model):
    """An invitation: the path is shown once, and is all that the person needs."""

    name: str
    role: Literal["reviewer", "lead"]
    token: str
    path: str  # after the service's address


class KnownAnswers(Model):
    """Known answers to give portraits, or to take away (null)."""

    answers: dict[PortraitId, Literal["accept", "reject"] | None] = Field(max_length=1000)
