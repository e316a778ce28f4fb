"""The records of the live store, one a table, and the only place where its rows become records and back.

`LogEntry` and `Standing` mirror tables of the store, `Item` the columns of `items` made from a workspace.
Times are milliseconds since 1970 (UTC).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from phq_data.records import Correction, Decision

if TYPE_CHECKING:
    import sqlalchemy as sa

STORE_FILE = "review/review.sqlite"
"""The live store of a workspace that has no database of its own."""
DATABASE_VARIABLE = "PHQ_REVIEW_DATABASE"
"""Environment variable with the URL of the live store's database, if it is another one."""
REPAIR = "phq workspace verify --repair"
"""The command that mends a damaged store."""
KEPT, SCREENED_OUT, DUPLICATE, CAN_BE_SAVED, AGE_UNSURE = 0, 1, 2, 3, 4
"""Pools of items: what the screening kept, what it rejected, near-duplicates of what it kept, what it
rejected for the label alone (a corrected label saves it), and what it rejected only because the screen for
minors is not sure: a person decides."""
POOLS = ("kept", "screened_out", "duplicates", "can_be_saved", "age_unsure")
"""Their names, by number."""


@dataclass(frozen=True)
class LogEntry:
    """A decision in the live store; what the columns mean is said in `tables`."""

    decision_id: str
    portrait_id: str
    verdict: str
    reason: str
    note: str | None
    reviewer: str
    time: int
    client_time: int
    server_time: int
    seconds: float
    rules: str
    client: str
    queue: str
    seq: int = 0  # given by the database

    def to_row(self) -> dict[str, Any]:
        """The row to insert: without `seq`."""
        return {name: value for name, value in vars(self).items() if name != "seq"}

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> LogEntry:
        """An entry from a row that has at least these columns."""
        return cls(**{name: row[name] for name in _LOG_FIELDS})

    def told(self) -> str:
        """This entry in a message."""
        return f"{self.decision_id}: {self.verdict} of portrait {self.portrait_id!s:.12} by {self.reviewer}"

    def means(self, decision: Decision) -> bool:
        """Is it this decision? (The workspace's table keeps fewer digits of the seconds.)"""
        own = self.to_decision()
        close = abs(own.seconds - decision.seconds) <= 1e-3 * max(1.0, decision.seconds)
        return close and dataclasses.replace(own, seconds=decision.seconds) == decision

    def to_decision(self) -> Decision:
        """This entry for the workspace's table."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Decision)}
        return Decision(**{**values, "time": datetime.fromtimestamp(self.time / 1000, UTC)})

    @classmethod
    def from_decision(cls, decision: Decision) -> LogEntry:
        """An entry for a decision whose rules, queue and clocks are no longer known."""
        when = round(decision.time.timestamp() * 1000)
        clocks = {"time": when, "client_time": when, "server_time": when}
        return cls(**{**vars(decision), **clocks, "rules": "", "queue": ""})


_LOG_FIELDS = tuple(field.name for field in dataclasses.fields(LogEntry))


@dataclass(frozen=True)
class StoredLabel:
    """A label as the store and the service have it: the columns of `portraits`."""

    camera: tuple[float, ...]  # [25]
    pose: tuple[float, ...]  # [6]
    window: tuple[float, ...]  # [3]

    def to_json(self) -> str:
        """JSON text that `from_json` reads."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> StoredLabel:
        """The label in a JSON text."""
        return cls(**{name: tuple(map(float, values)) for name, values in json.loads(text).items()})


@dataclass(frozen=True)
class CorrectionEntry:
    """A correction in the live store; what the columns mean is said in `tables`."""

    correction_id: str
    kind: str
    portrait_id: str
    photo_id: str
    person_id: str
    from_label: str
    to_label: str | None
    undoes: str | None
    note: str | None
    reviewer: str
    time: int
    client_time: int
    server_time: int
    seconds: float
    client: str
    seq: int = 0  # given by the database

    def to_row(self) -> dict[str, Any]:
        """The row to insert: without `seq`."""
        return {name: value for name, value in vars(self).items() if name != "seq"}

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> CorrectionEntry:
        """The entry in a row of the table."""
        return cls(**{field.name: row[field.name] for field in dataclasses.fields(cls)})

    def to_correction(self) -> Correction:
        """This entry for the workspace's table."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(Correction)
            if hasattr(self, field.name)
        }
        labels: dict[str, Any] = {}
        for side, text in (("from", self.from_label), ("to", self.to_label)):
            if text is not None:
                found = vars(StoredLabel.from_json(text)).items()
                labels |= {f"{side}_{name}": np.array(numbers) for name, numbers in found}
        return Correction(**{**values, **labels, "time": datetime.fromtimestamp(self.time / 1000, UTC)})

    @classmethod
    def from_correction(cls, one: Correction) -> CorrectionEntry:
        """An entry for a correction whose clocks are no longer known."""
        when = round(one.time.timestamp() * 1000)
        before = StoredLabel(*(tuple(v.tolist()) for v in (one.from_camera, one.from_pose, one.from_window)))
        after = None
        if one.to_camera is not None and one.to_pose is not None and one.to_window is not None:
            after = StoredLabel(*(tuple(v.tolist()) for v in (one.to_camera, one.to_pose, one.to_window)))
        return cls(
            one.correction_id, one.kind, one.portrait_id, one.photo_id, one.person_id, before.to_json(),
            after.to_json() if after else None, one.undoes, one.note, one.reviewer, when, when, when,
            one.seconds, one.client,
        )  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """A reviewer's standing verdict on a portrait: a row of `standings`."""

    portrait_id: str
    reviewer: str
    verdict: str  # accept, reject, flag
    decision_id: str
    time: int
    client: str


@dataclass(frozen=True)
class PhotoFacts:
    """What the page shows of a photo."""

    key: str  # where its bytes lie
    width: int  # pixels, upright
    height: int
    provider: str
    title: str | None
    author: str | None
    author_url: str | None
    license: str | None
    license_url: str | None
    page_url: str | None
    exif_time: str | None
    rights: str = ""  # who allowed what with it; "" = the index is too old to know
    consent: str | None = None  # of the people shown: yes, no, unknown


@dataclass(frozen=True)
class ItemFacts:
    """What the page shows of a portrait; JSON in `items.facts`."""

    pitch: float  # radians
    roll: float
    window: tuple[float, float, float]  # x, y of the corner and side, pixels of the upright photo
    size: int  # side of the portrait in pixels
    crop_mode: str
    models: dict[str, str]
    kept: bool  # by the screening
    reasons: tuple[str, ...]  # of the screening, when it rejected
    numbers: dict[str, float | None]  # evidence by name; null = not measured
    photo: PhotoFacts
    corrected_from: str | None = None  # portrait whose label a person corrected to this one

    def to_json(self) -> str:
        """JSON text that `from_json` reads."""
        return json.dumps({**vars(self), "photo": vars(self.photo)})

    @classmethod
    def from_json(cls, text: str) -> ItemFacts:
        """The facts in a JSON text."""
        found = json.loads(text)
        lists = {name: tuple(found[name]) for name in ("window", "reasons")}
        return cls(**{**found, **lists, "photo": PhotoFacts(**found["photo"])})


@dataclass(frozen=True)
class Item:
    """A portrait of the index: the columns of `items` that come from the workspace."""

    portrait_id: str
    photo_id: str
    person_id: str
    part: int
    row: int
    active: bool
    pool: int
    source: str
    uri: str
    yaw_bin: int
    yaw: float  # radians
    error_probability: float
    overlap_draw: float
    facts: ItemFacts

    def to_row(self) -> dict[str, Any]:
        """The columns as the database takes them."""
        return {**vars(self), "active": int(self.active), "facts": self.facts.to_json()}

    @classmethod
    def from_row(cls, row: sa.Row[Any]) -> Item:
        """An item from a row that has at least these columns."""
        values = {field.name: getattr(row, field.name) for field in dataclasses.fields(cls)}
        return cls(**{**values, "active": bool(row.active), "facts": ItemFacts.from_json(row.facts)})
