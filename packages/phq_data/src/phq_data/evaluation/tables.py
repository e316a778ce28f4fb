"""The reports of accuracy and of consistency as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from phq_data.arrays import FloatArray
from phq_data.evaluation import calibration
from phq_data.evaluation.accuracy import PersonError, by_octant
from phq_data.evaluation.equivariance import ANGLES, KINDS
from phq_data.records import TruePerson, from_table

SHOWN = 10
"""Unread files that the table names."""


def accuracy_table(errors: Sequence[PersonError]) -> str:
    """What a person reads: shares and errors by octant, before and after the screening."""
    head = (
        f"{'yaw':>6} {'people':>6} {'found':>6} {'label':>6} {'kept':>6} | {'yaw':>5} {'p95':>5} "
        f"{'pitch':>5} {'p95':>5} {'roll':>5} {'neck':>5} {'head':>5} {'gaze':>5} {'should':>6} {'head':>6} "
        f"{'IoU':>5} {'f/b':>5}"
    )
    lines = [head, "-" * len(head)]
    groups: list[tuple[str, list[PersonError]]] = [
        (f"{middle:d}", group) for middle, group in by_octant(errors).items()
    ]
    for name, group in [*groups, ("all", list(errors))]:
        lines.append(f"{name:>6} {_counts(group)} | {_errors([e for e in group if e.kept])}")
    everybody = [e for e in errors if e.portrait_id]
    lines.append(f"before screening {'':>17} | {_errors(everybody)}")
    if errors:
        floor = [np.median([getattr(e, name) for e in errors]) for name in ("shoulder_floor", "head_floor")]
        lines.append(f"{'with the true labels':<34} | {'':>47} {floor[0]:>6.3f} {floor[1]:>6.3f}")
    lines += [
        "Medians in degrees (p95 = 95th percentile), of kept portraits; shares of the image's side.",
        "gaze: neck and head together. should, head: distance of shoulders and head from the true ones. "
        "f/b: front and back confused.",
    ]
    lines += ["", "Not kept, by the first reason:"]
    reasons = [
        "not detected"
        if not e.person_id
        else "no portrait"
        if not e.portrait_id
        else e.reasons.split(", ")[0] or "not screened"
        for e in errors
        if not e.kept
    ]
    for reason in sorted(set(reasons), key=reasons.count, reverse=True):
        lines.append(f"{reasons.count(reason):>6}  {reason}")
    lines += ["", calibration.text(errors)]
    return "\n".join(lines)


def conditions(errors: Sequence[PersonError], truth: pa.Table, least: int = 8) -> str:
    """What makes labels worse: shares and errors before the screening, by what is in the image, as text."""
    people = {(person.photo_id, person.order): person for person in from_table(TruePerson, truth)}
    up = {"raised", "waving", "behind_head", "sideways", "phone", "chin"}
    tests: tuple[tuple[str, Callable[[TruePerson], str]], ...] = (
        ("head height, pixels", lambda p: _bin(p.head_pixels, (48, 96, 192))),
        ("true pitch, degrees", lambda p: _bin(float(np.degrees(p.pitch)), (-25, -10, 10, 25))),
        ("head turned, degrees", lambda p: _bin(_turned(p.pose), (15, 30, 50))),
        ("arms up", lambda p: str(sum(arm in up for arm in p.arms.split()))),
        ("people in the photo", lambda p: str(p.people)),
        ("partly covered", lambda p: "yes" if p.visible < 0.9 else "no"),
        ("hair", lambda p: p.hair),
        ("hat", lambda p: p.hat or "none"),
        ("neckline", lambda p: p.clothes.split()[0]),
        ("collar", lambda p: p.clothes.split()[1]),
    )
    lines = [
        f"{'condition':<32} {'people':>6} {'found':>6} {'kept':>6} {'yaw':>6} {'>15':>6} "
        f"{'pitch':>6} {'IoU':>5}"
    ]
    for name, value in tests:
        groups: dict[str, list[PersonError]] = {}
        for error in errors:
            groups.setdefault(value(people[(error.photo_id, error.order)]), []).append(error)
        for key in sorted(groups, key=_in_order):
            group = groups[key]
            labelled = [e for e in group if e.portrait_id]
            if len(group) < least or not labelled:
                continue
            found, kept = np.mean([bool(e.person_id) for e in group]), np.mean([e.kept for e in group])
            yaw = np.array([e.yaw_deg for e in labelled])
            pitch = np.median([e.pitch_deg for e in labelled])
            iou = np.nanmedian([e.mask_iou for e in labelled])
            lines.append(
                f"{name + ': ' + key:<32} {len(group):>6} {found:>6.1%} {kept:>6.1%} {np.median(yaw):>6.1f} "
                f"{np.mean(yaw > 15):>6.1%} {pitch:>6.1f} {iou:>5.2f}"
            )
    return "\n".join(lines)


def equivariance_table(numbers: dict[str, Any]) -> str:
    """`summary` for people: medians and 95th percentiles in degrees."""
    head = f"{'':<11}" + "".join(f" {name[:-4]:>13}" for name in ANGLES) + f" {'flipped':>8} {'lost':>7}"
    lines = [
        f"{numbers['photos']} photos, {numbers['photos_without_people']} of them without people large enough "
        f"for a portrait; {numbers['unread_files']} other files"
    ]
    unread = numbers["unread"]
    lines += [f"  {one['file']}: {one['reason']}" for one in unread[:SHOWN]]
    if len(unread) > SHOWN:
        lines.append(f"  and {len(unread) - SHOWN} more")
    blocks = (("large enough for a portrait", numbers), ("kept by the screening", numbers["kept"]))
    for title, block in blocks:
        lines += ["", f"{block['count']} people {title}", head, "-" * len(head)]
        for kind in KINDS:
            row = block[kind]
            shares = [row["flipped_share"], row["lost_share"]]
            text = ["-" if share is None else f"{share:.1%}" for share in shares]
            cells = "".join(f" {_cell(row.get(name)):>13}" for name in ANGLES)
            lines.append(f"{kind:<11}{cells} {text[0]:>8} {text[1]:>7}")
    lines.append("Change of the label in degrees, median / 95th percentile, of people found again.")
    if numbers["worst"]:
        lines += ["", "The worst:"]
        lines += [
            f"  {c['kind']:<9} yaw {c['yaw']:6.1f} changed by {c['yaw_deg']:5.1f}, pitch by "
            f"{c['pitch_deg']:4.1f}; {'kept' if c['kept'] else 'not kept'}; "
            f"person {c['order']} of {c['photo']}"
            for c in numbers["worst"]
        ]
    return "\n".join(lines)


def _bin(value: float, edges: Sequence[float]) -> str:
    index = int(np.digitize(value, edges))
    if index == 0:
        return f"below {edges[0]:g}"
    if index == len(edges):
        return f"{edges[-1]:g} and more"
    return f"{edges[index - 1]:g}..{edges[index]:g}"


def _in_order(key: str) -> tuple[int, float, str]:
    """`below 15`, `15..30`, `30 and more`; words by the alphabet."""
    start = key.split("..")[0]
    rank = 0 if key.startswith("below") else 2 if key.endswith("and more") else 1
    return rank, float(start) if start.lstrip("-").replace(".", "").isdigit() else 0.0, key


def _turned(pose: FloatArray) -> float:
    """Degrees that neck and head turn to a side together."""
    return float(np.degrees(abs(pose[1] + pose[4])))


def _counts(group: Sequence[PersonError]) -> str:
    n = max(len(group), 1)
    shares = (
        sum(bool(e.person_id) for e in group),
        sum(bool(e.portrait_id) for e in group),
        sum(e.kept for e in group),
    )
    return f"{len(group):>6} " + " ".join(f"{share / n:>6.1%}" for share in shares)


def _errors(group: Sequence[PersonError]) -> str:
    def middle(name: str, percentile: float = 50) -> float:
        values = np.array([getattr(e, name) for e in group], float)
        values = values[np.isfinite(values)]
        return float(np.percentile(values, percentile)) if len(values) else float("nan")

    degrees = [middle("yaw_deg"), middle("yaw_deg", 95), middle("pitch_deg"), middle("pitch_deg", 95)]
    degrees += [middle(name) for name in ("roll_deg", "neck_deg", "head_deg", "gaze_deg")]
    confused = float(np.mean([e.confused for e in group])) if group else float("nan")
    cells = [f"{value:>5.1f}" for value in degrees]
    cells += [f"{middle('shoulder_share'):>6.3f}", f"{middle('head_share'):>6.3f}"]
    cells += [f"{middle('mask_iou'):>5.2f}", f"{confused:>5.1%}"]
    return " ".join("-".rjust(len(cell)) if "nan" in cell else cell for cell in cells)


def _cell(spread: dict[str, float | None] | None) -> str:
    if spread is None or spread["median"] is None:
        return "-"
    return f"{spread['median']:.1f} / {spread['p95']:.1f}"
