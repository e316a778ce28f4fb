"""An inspection as text for the terminal: the file, the photo, its people, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from phq_data.config import ScreenConfig
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.records import Row
from phq_data.report.inspection.find import Inspection
from phq_data.report.judged import judged
from phq_data.report.links import portrait_link
from phq_data.text import printable

_STYLES = {"kept": "green", "rejected": "yellow", "failed": "red"}


def show(
    inspection: Inspection, console: Console, screen: ScreenConfig, image: str = "", review: str = ""
) -> None:
    """Print everything, upstream first; `screen` gives the limits, `image` the file to look at, `review` the
    address of the review."""
    console.print(_line(f"{inspection.kind} {inspection.id}", "bold"))
    _file(inspection, console)
    _photo(inspection, console)
    for person in inspection.about(inspection.people):
        _person(inspection, person, console)
    for portrait in inspection.portraits:
        _portrait(inspection, portrait, console, screen)
        if review:
            console.print(_line(f"    {portrait_link(review, portrait['portrait_id'])}"), soft_wrap=True)
    _ledger(inspection, console)
    if image:
        console.print()
        console.print(_line(f"image  {image}"), soft_wrap=True)


def _file(inspection: Inspection, console: Console) -> None:
    facts: list[tuple[str, Any]] = []
    for number, row in enumerate(inspection.files):
        facts.append(("file" if number == 0 else "same bytes", row["uri"]))
    if inspection.files:
        row = inspection.files[0]
        facts += [
            ("source", f"{row['provider']}: {row['source']}"),
            ("size", f"{row['size']:,} bytes" if row["size"] >= 0 else None),
            ("title", row["title"]),
            ("author", row["author"]),
            ("page", row["page_url"]),
            ("license", row["license"] or "unknown"),
            ("consent", row["consent"]),
            ("it says", row["self_stated"]),
            ("checked", row["rights_evidence"] and f"{row['rights_checked_at']}: {row['rights_evidence']}"),
            ("error", row["error"] and f"{row['error']}: {row['message']}"),
        ]
    _facts(facts, console)


def _photo(inspection: Inspection, console: Console) -> None:
    photo = inspection.photo
    if photo is None:
        return
    _head("photo", photo["photo_id"], console)
    size = f"{photo['width']} x {photo['height']} pixels upright, {photo['format']}, {photo['color']}"
    people = f"{len(inspection.people)}" if inspection.people else "none found"
    _facts(
        [
            ("image", size),
            ("orientation", f"EXIF {photo['orientation']}" if photo["orientation"] != 1 else None),
            ("taken", photo["exif_time"]),
            ("bytes at", photo["key"]),
            ("perceptual hash", f"{photo['phash']:016x}"),
            ("people", people),
            ("part", f"{inspection.part:05d} of every table"),
        ],
        console,
    )


def _person(inspection: Inspection, person: Row, console: Console) -> None:
    _head(f"person {person['order']}", person["person_id"], console)
    x0, y0, x1, y1 = person["box"]
    box = f"x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f}"
    _facts([("box", box), ("score", f"{person['score']:.2f}"), ("by", person["detector"])], console)
    if inspection.person_id:
        points = np.reshape(person["keypoints"], (17, 3))
        fit = next(iter(inspection.fits), None)
        residuals = fit["residuals"] if fit else [float("nan")] * 17
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("key point", "x", "y", "score", "fit off by"):
            table.add_column(name, justify="left" if name == "key point" else "right")
        for name, (x, y, score), off in zip(COCO_KEYPOINTS, points, residuals, strict=True):
            shown = f"{100 * off:.1f} %" if np.isfinite(off) else "not used"
            style = "" if score >= 0.2 else "dim"
            table.add_row(name.replace("_", " "), f"{x:.0f}", f"{y:.0f}", f"{score:.2f}", shown, style=style)
        console.print(table)
    for fit in inspection.fits:
        if fit["person_id"] == person["person_id"]:
            _fit(fit, console)


def _fit(fit: Row, console: Console) -> None:
    _head("fit", fit["fit_id"], console)
    starts: dict[int, float] = {}  # many starts end at the same yaw: the best of each
    for yaw, cost in np.reshape(fit["hypotheses"], (-1, 2)):
        starts.setdefault(5 * round(float(np.degrees(yaw)) / 5), float(cost))
    ends = ", ".join(f"yaw {yaw}° costs {cost:.3g}" for yaw, cost in starts.items())
    pose = np.degrees(np.asarray(fit["pose"], np.float64))
    end = "converged" if fit["converged"] else "did not converge"
    open_yaw, seen = fit.get("yaw_std"), fit.get("orientation_prior")
    spread = None if open_yaw is None else f"{np.degrees(open_yaw):.1f}° as the fit sees it"
    prior = None
    if seen is not None:
        yaws = [np.degrees(np.arctan2(seen[3 * i], seen[3 * i + 2])) for i in (0, 1)]
        deviations = [np.degrees(np.arctan(seen[6 + i])) for i in (0, 1)]
        chest, head = (f"{yaw:.0f}° ± {std:.0f}°" for yaw, std in zip(yaws, deviations, strict=True))
        prior = f"chest yaw {chest}, head yaw {head}"
    _facts(
        [
            ("by", f"{fit['fitter']}, body {fit['body']}, {end}"),
            ("residual", f"{fit['residual']:.3f} shoulder breadths"),
            ("camera", f"focal {fit['focal']:.0f} pixels, neck {fit['translation'][2]:.2f} m away"),
            ("neck, head", " ".join(f"{angle:.0f}°" for angle in pose)),
            ("best fits near", ends),
            ("yaw known to", spread),
            ("orientation prior", prior),
        ],
        console,
    )


def _portrait(inspection: Inspection, row: Row, console: Console, screen: ScreenConfig) -> None:
    _head("portrait", row["portrait_id"], console)
    yaw, pitch, roll = np.degrees([row["yaw"], row["pitch"], row["roll"]])
    x, y, side = row["window"]
    models = json.loads(row["models"])
    _facts(
        [
            ("camera", f"yaw {yaw:.1f}°, pitch {pitch:.1f}°, roll {roll:.1f}°"),
            ("window", f"{side:.0f} photo pixels at ({x:.0f}, {y:.0f}), {row['crop_mode']} crop"),
            ("image", f"{row['size']} x {row['size']}, {row['codec']}"),
            ("made with", ", ".join(f"{role} {name}" for role, name in models.items())),
        ],
        console,
    )
    if row.get("corrected_from"):
        _facts([("label", f"corrected by {row['corrected_by']} from {row['corrected_from'][:12]}")], console)
    verdict = next((v for v in inspection.verdicts if v["portrait_id"] == row["portrait_id"]), None)
    if verdict is None:
        _facts([("verdict", "not screened yet")], console)
    else:
        of_screen = (
            r for r in inspection.ledger if r["stage"] == "screen" and r["item"] == row["portrait_id"]
        )
        numbers: dict[str, Any] = next((json.loads(r["evidence"] or "{}") for r in of_screen), {})
        _verdict(verdict, numbers, console, screen)
    _same(inspection, row["portrait_id"], console)
    for decision in inspection.decisions:
        if decision["portrait_id"] == row["portrait_id"]:
            words = f"{decision['verdict']} by {decision['reviewer']} on {decision['time']:%Y-%m-%d}"
            reason = f": {decision['reason']}" if decision["reason"] else ""
            _facts([("review", words + reason)], console)


def _verdict(verdict: Row, numbers: Mapping[str, Any], console: Console, screen: ScreenConfig) -> None:
    words = "kept" if verdict["kept"] else "rejected: " + ", ".join(verdict["reasons"])
    _facts([("verdict", words)], console, "green" if verdict["kept"] else "yellow")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for number in judged(numbers, screen):
        table.add_row(number.title, Text(number.value, "yellow" if number.broken else ""), number.limit)
    console.print(table)


def _same(inspection: Inspection, portrait_id: str, console: Console) -> None:
    mine = next((row for row in inspection.duplicates if row["portrait_id"] == portrait_id), None)
    if mine is None:
        return
    others = [
        f"{row['portrait_id'][:12]}{' (stays)' if row['representative'] else ''}"
        for row in inspection.duplicates
        if row["cluster"] == mine["cluster"] and row["portrait_id"] != portrait_id
    ]
    if others:
        role = "stays" if mine["representative"] else f"{mine['distance']} bits from the one that stays"
        _facts([("same image", f"{', '.join(others)}; this one {role}")], console)


def _ledger(inspection: Inspection, console: Console) -> None:
    if not inspection.ledger:
        return
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("ledger", "item", "outcome", "why"):
        table.add_column(name, overflow="fold")
    for row in inspection.ledger:
        why = ": ".join(part for part in (row["reason"], row["message"]) if part)
        again = " (may be tried again: --retry-failed)" if row["retryable"] else ""
        outcome = Text(row["outcome"], _STYLES.get(row["outcome"], ""))
        table.add_row(row["stage"], row["item"][:12], outcome, _line(why + again))
    console.print(table)


def _head(kind: str, name: str, console: Console) -> None:
    console.print()
    console.print(Text.assemble((kind, "bold"), "  ", (name, "cyan")))


def _facts(facts: Iterable[tuple[str, Any]], console: Console, style: str = "") -> None:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim", no_wrap=True, width=15)
    table.add_column(overflow="fold")
    for title, value in facts:
        if value:
            table.add_row(title, _line(str(value), style))
    if table.row_count:
        console.print(table)


def _line(text: str, style: str = "") -> Text:
    """Text from outside as plain text, without markup."""
    return Text(printable(text), style)
