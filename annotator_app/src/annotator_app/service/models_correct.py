"""What the service takes and gives about corrected labels, as types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from annotator_app.service.models import DecisionId, Model, PortraitId


class Label(Model):
    """Where the rig lies in the photo.

    `camera`: 4x4 camera-to-world, then 3x3 intrinsics in widths of the window, row-major; `pose`: axis-angle
    of neck, then head, radians; `window`: x, y of the corner and side, pixels of the upright photo.
    """

    camera: Annotated[list[float], Field(min_length=25, max_length=25)]
    pose: Annotated[list[float], Field(min_length=6, max_length=6)]
    window: Annotated[list[float], Field(min_length=3, max_length=3)]


class SeenLabel(Model):
    """The label of a portrait."""

    label: Label


class Hypothesis(Model):
    """Another explanation of what is seen."""

    label: Label
    yaw: float  # of the camera, radians
    cost: float


class CorrectionRow(Model):
    """A correction in the log."""

    correction_id: str
    kind: Literal["correct", "undo"]
    portrait_id: str
    reviewer: str
    own: bool  # by whoever asks
    time: datetime
    label: Label | None
    undoes: str | None
    note: str | None


class PortraitLabel(Model):
    """The label of a portrait and what is known around it."""

    portrait_id: str
    label: Label | None  # null: the workspace no longer has the portrait
    hypotheses: list[Hypothesis]  # best first, without the one chosen
    keypoints: list[float]  # 17 times x, y in portrait pixels, score
    corrections: list[CorrectionRow]  # of this person's label: one's own; leads see everybody's
    state: Literal["none", "holds", "disputed"]  # what they come to
    settles: bool  # a lead asks, whose correction settles a dispute: its client begins with `adjudication/`
    waits: bool  # the next build changes the portrait
    correctable: bool
    why: str  # why not, or ""


class SnapRequest(Model):
    """Where to fit from."""

    label: Label


class SnapAnswer(Model):
    """A fit from a person's start."""

    label: Label
    residual: float  # reprojection error, shoulder breadths
    yaw_moved: float  # radians, 0 or more


class Correction(Model):
    """A corrected label; `correction_id` is a ULID that the client makes: sent twice, it is saved once."""

    correction_id: DecisionId
    kind: Literal["correct", "undo"]
    portrait_id: PortraitId
    label: Label | None = None
    undoes: str | None = Field(None, max_length=64)  # own correction; null = the last
    note: str = Field("", max_length=4000)
    seconds: float = Field(0.0, ge=0, le=86_400, allow_inf_nan=False)
    client_time: int = Field(0, ge=0, le=2**53)  # milliseconds since 1970; 0 = now
    client: str = Field("", max_length=120)
    over: str | None = Field(None, max_length=64)  # own correction that it replaces; "" = none


class CorrectionsRequest(Model):
    """Corrections in the order they were made."""

    corrections: list[Correction] = Field(max_length=200)


class RefusedCorrection(Model):
    """A correction that is not saved."""

    correction_id: str
    why: str
    elsewhere: bool = False  # another client of the reviewer corrected it meanwhile


class CorrectionsAnswer(Model):
    """What became of corrections: saved now, saved before, refused."""

    saved: list[str]
    known: list[str]
    refused: list[RefusedCorrection]
