"""What a release made now would hold, what reviewers have said, and what the photos may be used for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from phq_data.report.data import ReportData
from phq_data.sources.rights import how_to_state
from phq_data.sources.terms import refusal

MENDED = 5
"""Commands that the page names at most."""
STATED, SILENT, BARRED = "may be used", "nobody has said", "may not be used"
TAGS = {STATED: "stated", SILENT: "nobody", BARRED: "barred"}


@dataclass(frozen=True)
class Outlook:
    """What a release would hold."""

    reviewed: bool  # of what reviewers accepted; else of what the screening kept
    portraits: int = 0
    photos: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)  # reason -> portraits
    problem: str = ""  # why none can be made


@dataclass(frozen=True)
class Standing:
    """What is known beside the workspace's tables of photos and portraits."""

    verdicts: Mapping[str, str] = field(default_factory=dict)  # portrait_id -> accepted, rejected, ...
    outlooks: tuple[Outlook, ...] = ()
    problem: str = ""  # why reviews cannot be read


@dataclass(frozen=True)
class Rights:
    """What the photos may be used for, in counts of photos."""

    states: Mapping[str, int]  # STATED, SILENT, BARRED
    reasons: Mapping[str, int]  # why photos may not be used
    consent: Mapping[str, int]  # yes, no, unknown
    commands: tuple[str, ...]  # what states the rights of folders nobody has spoken for
    by_photo: Mapping[str, str]  # photo_id -> state


def rights(data: ReportData) -> Rights:
    """Whether each photo may be trained on, as a release would ask."""
    by_photo: dict[str, str] = {}
    reasons: Counter[str] = Counter()
    consent: Counter[str] = Counter()
    folders: dict[str, None] = {}
    for row in _rows(data):
        reason = refusal(row, "train")
        silent = reason and not (row["license"] or row["permission"]) and row["consent"] != "no"
        by_photo[row["photo_id"]] = SILENT if silent else BARRED if reason else STATED
        consent[_consent(row)] += 1
        if reason:
            reasons[reason] += 1
        if silent and row["provider"] == "folder":
            folders.setdefault(how_to_state(str(row["source"])))
    counted = Counter(by_photo.values())
    states = {state: counted[state] for state in (STATED, SILENT, BARRED) if counted[state]}
    return Rights(
        states, dict(reasons.most_common()), dict(consent.most_common()), tuple(folders)[:MENDED], by_photo
    )


def ages(data: ReportData) -> dict[str, int]:
    """Screened portraits by outcome of the screen for minors; empty where none was run."""
    counted = data.portraits["age_screen"].dropna().value_counts()
    found = {name: int(counted.get(name, 0)) for name in ("adult", "unsure", "minor")}
    silent = int((data.portraits["state"] != "waiting").sum()) - sum(found.values())
    return {**found, **({"not screened": silent} if silent else {})} if len(counted) else {}


def reviews(data: ReportData, standing: Standing) -> dict[str, int]:
    """Portraits of the workspace by what reviewers came to, all of them."""
    counted = Counter(standing.verdicts.get(str(one), "undecided") for one in data.portraits.index)
    return {
        name: counted[name] for name in ("accepted", "rejected", "disputed", "undecided") if counted[name]
    }


def _consent(row: Mapping[str, Any]) -> str:
    return "renders" if row["provider"] == "synthetic" else row["consent"] or "unknown"


def _rows(data: ReportData) -> list[dict[str, Any]]:
    frame = data.photos.reset_index()
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
