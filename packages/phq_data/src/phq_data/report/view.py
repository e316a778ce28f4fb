"""What the page says, in the words and units of people: headline numbers, cards, troubles, plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from phq_data.report import data as numbers
from phq_data.report import plots, sheets
from phq_data.report.data import ReportData
from phq_data.report.judged import Judged, judged
from phq_data.report.standing import SILENT, TAGS, Rights, Standing
from phq_data.text import counted, duration, printable, shown_name

MAX_TROUBLES = 200
STAGE_TITLES = {
    "ingest": "read photos",
    "detect": "find people",
    "fit": "fit bodies",
    "align_crop": "align, crop, mask",
    "screen": "screen portraits",
    "dedup": "drop near-duplicates",
}
STAGE_ITEMS = {
    "ingest": "files",
    "detect": "photos",
    "fit": "people",
    "align_crop": "fits",
    "screen": "portraits",
    "dedup": "kept portraits",
}


@dataclass(frozen=True)
class Fact:
    """A headline number."""

    value: str
    title: str
    note: str = ""


@dataclass(frozen=True)
class Trouble:
    """A file, photo, person or fit that went no further."""

    item: str
    stage: str
    outcome: str
    reason: str
    message: str
    name: str
    uri: str
    retryable: bool


@dataclass(frozen=True)
class ShownCard:
    """A card with what is written under it."""

    card: sheets.Card
    name: str  # of the photo's file
    uri: str
    yaw: int  # degrees
    pitch: int
    roll: int
    reasons: tuple[str, ...]
    numbers: tuple[Judged, ...]
    duplicate_of: str
    tooltip: str
    tags: str  # what the page filters by: view, verdict, rights, reasons


def facts(data: ReportData) -> list[Fact]:
    """The headline numbers."""
    kept, portraits = len(data.kept), len(data.portraits)
    seen_from = numbers.view_of(data.kept["yaw"])
    judged = kept + len(data.rejected)
    share = f"{100 * kept / judged:.0f} % of {count(judged)}" if judged else ""
    found = [
        Fact(count(len(data.photos)), "photos", f"of {count(data.planned_files)} files"),
        Fact(count(data.people), "people found"),
        Fact(count(portraits), "portraits made"),
        Fact(count(kept), "portraits kept", share),
        Fact(count(data.distinct), "distinct", "without near-duplicates"),
    ]
    if kept:
        side, rear = 100 * (seen_from == "side").mean(), 100 * (seen_from == "rear").mean()
        found.append(
            Fact(f"{side + rear:.0f} %", "seen from the side or behind", f"{rear:.0f} % from behind")
        )
    if data.seconds > 0:
        each = f"{duration(data.seconds / portraits)} of work a portrait" if portraits else ""
        shown = data.wall if np.isfinite(data.wall) else data.seconds
        found.append(Fact(duration(shown), "to build" if np.isfinite(data.wall) else "of work", each))
    return found


def people_a_photo(data: ReportData) -> list[tuple[str, int]]:
    """Photos by how many portraits were kept of them."""
    kept = data.kept["photo_id"].value_counts()
    counted = kept.clip(upper=4).value_counts().to_dict()
    none = len(data.photos) - len(kept)
    names = {1: "one", 2: "two", 3: "three", 4: "four or more"}
    return [("none", none), *((name, int(counted[n])) for n, name in names.items() if n in counted)]


def lead(data: ReportData) -> str:
    """One sentence on what this is, or on what is missing."""
    if not data.planned_files:
        return "This workspace is empty: no file was planned yet. phq build --workspace DIR SOURCE fills it."
    if not len(data.portraits):
        return (
            "No portrait was made of these files. The funnel below says where they stopped, "
            "and the table of files says why."
        )
    if not len(data.kept) and len(data.rejected):
        return "Portraits were made, but the screen kept none of them: see the reasons below."
    waiting = int((data.portraits["state"] == "waiting").sum())
    if waiting:
        are = "is" if waiting == 1 else "are"
        again = "run the same phq build again to finish"
        return f"{counted(waiting, 'portrait')} {are} not screened yet: {again}."
    copies = len(data.kept) - data.distinct
    return (
        f"{counted(len(data.photos), 'photo')} {'shows' if len(data.photos) == 1 else 'show'} "
        f"{counted(data.people, 'person', 'people')}; {counted(len(data.kept), 'aligned portrait')} of them "
        f"{'is' if len(data.kept) == 1 else 'are'} good enough"
        + (f", {count(data.distinct)} of these are different images." if copies else ".")
    )


def yaw(data: ReportData) -> plots.Histogram:
    """Yaw of kept and of rejected portraits."""
    return plots.histogram("yaw", [data.kept["yaw"], data.rejected["yaw"]], -180, 180, 10, 45)


def views(data: ReportData) -> list[tuple[str, int, float]]:
    """(title, kept portraits, percent of them) of front, side and rear views."""
    seen_from = numbers.view_of(data.kept["yaw"])
    named = (
        ("front", "front, up to 45° off"),
        ("side", "side, 45° to 135°"),
        ("rear", "behind, beyond 135°"),
    )
    counts = [(title, int((seen_from == key).sum())) for key, title in named]
    return [(title, number, 100 * number / max(1, len(seen_from))) for title, number in counts]


def angles(data: ReportData) -> list[plots.Histogram]:
    """Pitch and roll of the cameras."""
    kept = data.kept
    return [
        plots.histogram("camera pitch", [kept["pitch"]], -90, 90, 5, 30),
        plots.histogram("camera roll", [kept["roll"]], -60, 60, 4, 30),
    ]


def poses(data: ReportData) -> list[plots.Histogram]:
    """The six pose numbers: axis-angle components of neck and head."""
    names = ("nod (x)", "turn (y)", "tilt (z)")
    return [
        plots.histogram(f"{joint} {name}", [data.kept[f"pose_{3 * j + k}"]], -60, 60, 4, 30)
        for j, joint in enumerate(("neck", "head"))
        for k, name in enumerate(names)
    ]


def shown_card(
    data: ReportData, card: sheets.Card, evidence: Mapping[str, Any], standing: Standing, rights: Rights
) -> ShownCard:
    """A card with its file, angles, reasons and the numbers of its verdict."""
    row = cast("pd.Series[Any]", data.portraits.loc[card.portrait_id])
    yaw, pitch, roll = (round(float(np.degrees(row[name]))) for name in ("yaw", "pitch", "roll"))
    uri = str(row["uri"])
    tooltip = (
        f"{card.portrait_id}\n{uri}\nyaw {yaw}°, pitch {pitch}°, roll {roll}°\n"
        f"key points off by {100 * row['landmark_error']:.1f} % of the side, "
        f"{row['effective_resolution']:.2f} photo pixels a pixel, "
        f"{100 * row['padding']:.0f} % outside the photo"
    )
    return ShownCard(
        card=card,
        name=shown_name(uri),
        uri=uri,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        reasons=tuple(str(reason) for reason in row["reasons"]),
        numbers=judged(evidence, data.config.screen),
        duplicate_of=str(row["duplicate_of"]),
        tooltip=tooltip,
        tags=" ".join(
            (
                f"view-{numbers.view_of(pd.Series([row['yaw']]))[0]}",
                f"verdict-{standing.verdicts.get(card.portrait_id, 'undecided')}",
                f"rights-{TAGS[rights.by_photo.get(str(row['photo_id']), SILENT)]}",
                *(f"reason-{reason}" for reason in row["reasons"]),
            )
        ),
    )


def troubles(data: ReportData) -> tuple[list[Trouble], int]:
    """What went no further before the screen: failures first, rare reasons before common ones."""
    rows = data.troubles
    if not len(rows):
        return [], 0
    size = rows.groupby(["stage", "outcome", "reason"])["item"].transform("size")
    turn = rows.groupby(["stage", "outcome", "reason"]).cumcount()
    order = rows.assign(size=size, turn=turn, rank=(rows["outcome"] != "failed").astype(int))
    # Taking each reason in turns shows every reason even when one of them has thousands of files.
    chosen = order.sort_values(["turn", "rank", "size", "uri"], kind="stable").head(MAX_TROUBLES)
    chosen = chosen.sort_values(["rank", "stage", "reason", "uri"], kind="stable")
    shown = [
        Trouble(
            item=str(row.item),
            stage=str(row.stage),
            outcome=str(row.outcome),
            reason=str(row.reason),
            message=printable(str(row.message)),
            name=shown_name(str(row.uri)),
            uri=str(row.uri),
            retryable=bool(row.retryable),
        )
        for row in chosen.itertuples()
    ]
    return shown, len(rows)


def count(value: int) -> str:
    """A number with its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")
