"""What the service takes and gives, as types: the contract with its clients."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from phq_data.compatibility import REVIEW_ORDERS
from phq_data.review.evidence import Evidence
from phq_data.review.queue import Order
from phq_data.review.rules import Policy

PortraitId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
DecisionId = Annotated[str, StringConstraints(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]  # a ULID

Pool = Literal["kept", "screened_out", "duplicates", "can_be_saved", "age_unsure"]
"""What the screening made of a portrait."""


def current_order(given: object) -> object:
    """An order of the queue by its name today: clients of version 1 use its old name."""
    return REVIEW_ORDERS.get(given, given) if isinstance(given, str) else given


class Model(BaseModel):
    """Unknown fields are errors: a typo must not pass."""

    model_config = ConfigDict(extra="forbid")


class Me(Model):
    """Who is asking."""

    name: str
    role: Literal["reviewer", "lead"]
    login: bool  # whether this service asks people to log in
    workspace: str  # tells workspaces apart that one browser reviews


class Login(Model):
    """One of: a token of an invitation; a name with the team's password; on loopback, a name alone."""

    token: str | None = Field(None, max_length=200)
    name: str | None = Field(None, max_length=200)
    password: str | None = Field(None, max_length=200)


class Reason(Model):
    """Why a portrait is rejected."""

    name: str  # what is stored
    title: str
    key: str  # on the keyboard


class YawBin(Model):
    """A bin of yaw."""

    bin: int
    name: str
    centre: float  # degrees


class Settings(Model):
    """What a client needs to know before it begins."""

    workspace: str
    rules: str
    criterion: str
    reasons: list[Reason]
    yaw_bins: list[YawBin]
    sources: list[str]
    orders: list[str]
    policy: Policy
    portraits: int  # active items
    app: bool  # is there the app, at /app/
    screen_reasons: list[str]  # why the screening may reject


class Filter(Model):
    """What to be asked about.

    `reviewer`, `reason` and the days `since` and `until` (UTC, both included) are those of a verdict that
    stands: one's own; of anybody's for leads.
    """

    source: str | None = Field(None, max_length=2000)
    yaw_bin: int | None = Field(None, ge=0, le=11)
    pool: Pool | None = "kept"
    person: str | None = Field(None, max_length=64)
    text: str | None = Field(None, max_length=200)  # within source or file, or the beginning of an id
    min_error: float | None = Field(None, ge=0, le=1)
    max_error: float | None = Field(None, ge=0, le=1)
    screened: str | None = Field(None, pattern=r"^[a-z_]{1,40}$")  # why the screening rejected it
    reviewer: str | None = Field(None, max_length=80)
    reason: str | None = Field(None, max_length=64)
    since: date | None = None
    until: date | None = None


class GalleryQuery(Filter):
    """Which page of which portraits."""

    pool: Pool | None = None
    state: Literal["accepted", "rejected", "disputed", "undecided"] | None = None
    sort: Literal["error_probability", "certain", "yaw", "source", "latest"] = "error_probability"
    offset: int = Field(0, ge=0, le=10_000_000)
    limit: int = Field(60, ge=1, le=200)


class QueueRequest(Model):
    """What to be asked next."""

    count: int = Field(20, ge=1, le=100)
    order: Annotated[Order, BeforeValidator(current_order)] = "error_probability"
    filter: Filter = Field(default_factory=lambda: Filter.model_validate({}))
    exclude: list[PortraitId] = Field(default=[], max_length=1000)  # what the client has already
    seed: str = Field("", max_length=100)  # of the random order
    meshes: bool = True  # the client will ask for overlays


class Images(Model):
    """Addresses of images. They hold for ever: a changed image has another address."""

    crop: str
    overlay: str  # transparent; the whole frame of the crop
    mask: str  # grey: white where the person is
    photo: str  # the whole photo, no side above 1600 pixels
    original: str  # the window in the photo's own pixels (the whole ones that it touches), no side above 4096
    thumb: str


@dataclass(frozen=True)
class Item(Evidence):
    """A portrait with its evidence. Angles in degrees; the window in pixels of the upright photo."""

    images: Images
    rig_version: str  # of `/api/rig/{rig_version}`


class QueueAnswer(Model):
    """Leased portraits."""

    items: list[Item]
    remaining: int  # that one could still be asked about
    total: int  # of the queue, decided or not
    excluded: int  # portraits of `remaining` that `exclude` names
    lease_seconds: int


class ReleaseRequest(Model):
    """Leases to give back."""

    portrait_ids: list[PortraitId] = Field(max_length=1000)


class Count(Model):
    """How many."""

    count: int


class Decision(Model):
    """A decision; `decision_id` is a ULID that the client makes, so that sending it twice saves it once."""

    decision_id: DecisionId
    portrait_id: PortraitId
    verdict: Literal["accept", "reject", "flag", "undo"]
    reason: str = Field("", max_length=500)
    note: str | None = Field(None, max_length=4000)
    time: datetime  # of the client's clock, with its time zone
    seconds: float = Field(0.0, ge=0, le=86_400, allow_inf_nan=False)  # it was looked at
    rules: str = Field("", max_length=64)
    client: str = Field("", max_length=120)
    order: str = Field("", max_length=64)  # of the queue it came from
    over: str | None = Field(None, max_length=64)  # own decision that it replaces or takes back; "" = none


class DecisionsRequest(Model):
    """Decisions in the order they were made."""

    decisions: list[Decision] = Field(max_length=500)


class RefusedDecision(Model):
    """A decision that is not saved."""

    decision_id: str
    why: str
    elsewhere: bool = False  # another client of the reviewer decided the portrait meanwhile


class GoldAnswer(Model):
    """What is known of a gold item that was just judged."""

    decision_id: str
    portrait_id: str
    known: str  # accept, reject
    right: bool


class DecisionsAnswer(Model):
    """What became of decisions: saved now, saved before, refused."""

    saved: list[str]
    known: list[str]
    refused: list[RefusedDecision]
    gold: list[GoldAnswer] = []  # where the policy says that reviewers are told


class LogRow(Model):
    """A decision in the log."""

    seq: int
    decision_id: str
    portrait_id: str
    verdict: str
    reason: str
    note: str | None
    reviewer: str
    time: datetime
    server_time: datetime
    seconds: float
    rules: str
    client: str
    order: str
    stands: bool
    thumb: str


class History(Model):
    """Decisions, newest first; `before` asks for the next page."""

    decisions: list[LogRow]
    before: int | None


class Vote(Model):
    """A standing verdict of one reviewer."""

    reviewer: str
    verdict: str
    reason: str
    note: str | None
    time: datetime


class Tile(Model):
    """A portrait in a gallery."""

    portrait_id: str
    thumb: str
    overlay: str
    crop: str
    state: Literal["accepted", "rejected", "disputed", "undecided"]
    source: str
    yaw_bin: int
    error_probability: float
    pool: Pool
    votes: list[Vote]  # leads only; otherwise one's own


class Gallery(Model):
    """A page of portraits."""

    items: list[Tile]
    total: int


class Problem(Model):
    """Every error has this body."""

    detail: str
