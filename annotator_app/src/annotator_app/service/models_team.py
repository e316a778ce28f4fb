"""What the service says of a whole team: progress, agreement, disputes, triage, settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field

from annotator_app.service.models import DecisionId, Model, PortraitId, Tile
from phq_data.review.agreement import Agreement, GoldScore, Progress
from phq_data.review.triage import Side


@dataclass(frozen=True)
class YawBinProgress(Progress):
    """How far a bin of yaw is."""

    yaw_bin: int
    centre: float  # degrees


class Throughput(Model):
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
    yaw_bins: list[YawBinProgress]
    sources: list[Progress]
    reviewers: list[Throughput]
    reasons: dict[str, int]
    days: dict[str, int]
    pools: dict[str, int]


@dataclass(frozen=True)
class TeamAgreement(Agreement):
    """Agreement of the team: Fleiss' kappa over all, Cohen's by pairs, and verdicts on gold items."""

    gold: tuple[GoldScore, ...]


class Weight(Model):
    """A weight of the triage's model: of a standardised feature, positive towards accept."""

    name: str
    weight: float


class Proposed(Tile):
    """A portrait of a batch."""

    probability: float


class Triage(Model):
    """The model, its measured precision, and a batch of nearly sure portraits, leased to who asks."""

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
    gold_share: float | None = None
    gold_feedback: bool | None = None
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


class GoldItems(Model):
    """The verdicts that gold items should get; null makes an ordinary item of one."""

    verdicts: dict[PortraitId, Literal["accept", "reject"] | None] = Field(max_length=1000)
