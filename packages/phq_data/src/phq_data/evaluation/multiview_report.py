"""The report of labels against calibrated cameras: numbers, table, plots, and the views themselves."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from phq_data import parquet
from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.config import default
from phq_data.evaluation import calibration, plots
from phq_data.evaluation.accuracy import OCTANTS, worst
from phq_data.evaluation.matching import share, spread, wrapped
from phq_data.evaluation.multiview import RelativeError, ViewError, ViewResult
from phq_data.evaluation.true_poses import TruePose, true_label
from phq_data.images.codecs import PhotoError, decode
from phq_data.pipeline.photos import read_photo
from phq_data.records import Keypoints, Record, TruePerson
from phq_data.rig import PortraitRig
from phq_data.views import CalibratedCamera, Views
from phq_data.workspace import Workspace, WorkspaceError

_SHOWN, _TILE = 6, 240
"""People of the sheet of views, and the pixels of one tile."""
_AROUND = 1.5
"""Metres that a tile of the sheet shows."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Photo(Record):
    table = "photos"
    photo_id: str
    key: str


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Person(Record):
    table = "people"
    photo_id: str
    person_id: str
    keypoints: Keypoints


def summary(result: ViewResult) -> dict[str, Any]:
    """The numbers of `phq accuracy --views --json`. Label errors are against trusted truths; None without."""
    trusted = [e for e in result.errors if e.trusted]
    labelled = [e for e in trusted if e.portrait_id]
    found = [e for e in result.errors if e.person_id]
    return {
        "people": len(result.people),
        "trusted_people": sum(person.trusted for person in result.people),
        "detections_without_truth": result.unmatched,
        "photos_missing": len(result.lacking),
        "truth_std_deg": spread([person.sigma for person in result.people if person.trusted]),
        "count": len(trusted),
        "detected_share": share([bool(e.person_id) for e in trusted]),
        "labelled_share": share([bool(e.portrait_id) for e in trusted]),
        "kept_share": share([e.kept for e in trusted]),
        "shoulders_exchanged_share": share([e.swapped for e in found]),
        "kept": _numbers([e for e in labelled if e.kept]),
        "before_screening": _numbers(labelled),
        "relative_yaw_deg": _relative([e for e in result.relative if e.kept]),
        "relative_yaw_deg_before_screening": _relative(result.relative),
    }


def agreement(result: ViewResult, truth: Sequence[TruePerson]) -> dict[str, Any]:
    """How far the triangulated truth is from the exact one of rendered people (degrees)."""
    exact: dict[str, list[TruePerson]] = {}
    for person in truth:
        exact.setdefault(person.photo_id, []).append(person)
    off = []
    for error in result.errors:
        known = _nearest(error, exact.get(error.photo_id, []))
        if known is not None and error.trusted:
            pairs = (
                (error.true_yaw, known.yaw),
                (error.true_pitch, known.pitch),
                (error.true_roll, known.roll),
            )
            off.append(
                [wrapped(ours - float(np.degrees(theirs)), 360) for ours, theirs in pairs] + [error.sigma]
            )
    values = np.array(off).reshape(-1, 4)
    numbers: dict[str, Any] = {"count": len(off)}
    for column, name in enumerate(("yaw", "pitch", "roll")):
        numbers[f"{name}_deg"] = spread(np.abs(values[:, column]).tolist())
        numbers[f"{name}_bias_deg"] = _median(values[:, column])
    numbers["yaw_within_two_std_share"] = share((np.abs(values[:, 0]) <= 2 * values[:, 3]).tolist())
    return numbers


def table(result: ViewResult) -> str:
    """What a person reads: errors by octant and by camera, of labels whose truth is trusted."""
    trusted = [e for e in result.errors if e.trusted]
    head = (
        f"{'':<14} {'people':>6} {'found':>6} {'kept':>6} | {'yaw':>5} {'p95':>5} {'bias':>6} {'pitch':>5} "
        f"{'p95':>5} {'bias':>6} {'roll':>5} {'f/b':>6} {'swap':>6}"
    )
    lines = [head, "-" * len(head)]
    groups: list[tuple[str, Callable[[ViewError], bool]]] = [
        (f"yaw {middle:d}", lambda e, middle=middle: e.octant == middle)  # type: ignore[misc]
        for middle in OCTANTS
    ]
    groups += [
        (name[:14], lambda e, name=name: e.camera == name)  # type: ignore[misc]
        for name in dict.fromkeys(e.camera for e in result.errors)
    ]
    for name, test in groups:
        group = [e for e in trusted if test(e)]
        if group:
            lines.append(f"{name:<14} {_line(group)}")
    labelled = [e for e in trusted if e.portrait_id]
    sigma = _median([p.sigma for p in result.people if p.trusted])
    lines += [
        "-" * len(head),
        f"{'all':<14} {_line(trusted)}",
        f"{'kept':<14} {_line([e for e in labelled if e.kept])}",
        "Before the screening, in degrees: median, 95th percentile, bias (label minus truth) of labels whose "
        "truth is trusted:",
        "three views and more, standard error of its yaw up to 6. f/b: front and back confused. swap: the "
        "detector exchanged the shoulders.",
        "",
        f"{len(result.people)} people at {len({p.instant for p in result.people})} instants; "
        f"{sum(p.trusted for p in result.people)} of them trusted (median standard error {_shown(sigma)}); "
        f"{result.unmatched} detections without a truth",
        "",
        "Relative yaw between two views of one person, which needs no truth:",
    ]
    for name, pairs in (
        ("kept", [e for e in result.relative if e.kept]),
        ("before the screening", result.relative),
    ):
        numbers = _relative(pairs)
        lines.append(
            f"  {name:<22} {_shown(numbers['median'])} / {_shown(numbers['p95'])} of {len(pairs)} pairs"
        )
    return "\n".join([*lines, "", calibration.text(trusted)])


def write(
    workspace: Workspace,
    path: Path,
    views: Views,
    result: ViewResult,
    rig: PortraitRig,
    numbers: dict[str, Any],
) -> list[str]:
    """Write numbers, table, plots and sheets into the workspace's folder `accuracy`; their keys."""
    sink = io.BytesIO()
    rows = [{**dataclasses.asdict(e), "octant": e.octant} for e in result.errors]
    parquet.write(pa.Table.from_pylist(rows), sink)
    trusted = [e for e in result.errors if e.trusted]
    labels = _true_labels(result, views)
    written = {
        "accuracy/views.parquet": sink.getvalue(),
        "accuracy/views.json": json.dumps({"views": str(path), **numbers}, indent=2).encode(),
        "accuracy/views.txt": table(result).encode(),
        "accuracy/views.png": scatter(result),
        "accuracy/views-reliability.png": plots.reliability(trusted),
        "accuracy/views-worst.jpg": plots.worst_sheet(
            workspace, worst(trusted), plots.camera_truth(labels, rig), rig
        ),
        "accuracy/views-scenes.jpg": scenes(workspace, views, result),
    }
    for key, data in written.items():
        workspace.write_bytes(key, data)
    return list(written)


def scatter(result: ViewResult) -> bytes:
    """Errors over yaw and pitch with the truth's own uncertainty, and relative yaw, as PNG."""
    figure, (left, middle, right) = plots.subplots(1, 3)
    labelled = [e for e in result.errors if e.portrait_id]
    trusted = [e for e in labelled if e.trusted]
    for name, color, group in (
        ("kept", "#31688e", [e for e in trusted if e.kept]),
        ("not kept", "#c44e52", [e for e in trusted if not e.kept]),
        ("truth not trusted", "#bbbbbb", [e for e in labelled if not e.trusted]),
    ):
        style: dict[str, Any] = {"fmt": "o", "ms": 3, "elinewidth": 0.6, "color": color, "label": name}
        left.errorbar(
            [e.true_yaw for e in group], [e.yaw_signed for e in group], [e.sigma for e in group], **style
        )
        middle.plot([e.true_pitch for e in group], [e.pitch_signed for e in group], "o", ms=3, color=color)
    left.set_xticks(range(-180, 181, 45))
    left.set_ylim(-45, 45)
    left.legend(fontsize=7)
    plots.dress(left, "yaw: label minus truth over true yaw, degrees", None)
    plots.dress(middle, "pitch: label minus truth over true pitch, degrees", None)
    for name, color, pairs in (
        ("before the screening", "#bbbbbb", result.relative),
        ("kept", "#31688e", [e for e in result.relative if e.kept]),
    ):
        right.hist(
            [min(e.yaw_deg, 45.0) for e in pairs], bins=np.arange(0, 47.5, 2.5), color=color, label=name
        )
    right.legend(fontsize=7)
    plots.dress(right, "relative yaw error between two views, degrees (45 = 45 and more)", None)
    return plots.png(figure, "bars: standard error of the truth; yaw 0 from the front, 90 from the left")


def scenes(workspace: Workspace, views: Views, result: ViewResult) -> bytes:
    """Some people in all their views: what was detected, and where the triangulated points are, as JPEG.

    Circles are the detector's shoulders and hips (left blue, right orange), crosses the triangulated points,
    the green line points forward from the chest. Where cameras and photos do not belong together, crosses lie
    beside their circles.
    """
    chosen = _spread_out([person for person in result.people if len(person.members) >= 3] or result.people)
    keys = {one.photo_id: one.key for one in workspace.records(_Photo)}
    keypoints = {one.person_id: one.keypoints for one in workspace.records(_Person)}
    across = max(len(person.members) for person in chosen)
    tiles: list[Image.Image] = []
    for person in chosen:
        row = [
            _scene(
                workspace,
                keys[result.photos[name, person.instant]],
                views.camera(name),
                person,
                keypoints[one],
            )
            for name, one in person.members.items()
        ]
        tiles += row + [Image.new("RGB", (_TILE, _TILE), "white")] * (across - len(row))
    return plots.jpeg_sheet(tiles, across, (_TILE + 4, _TILE + 4))


def _scene(
    workspace: Workspace, key: str, camera: CalibratedCamera, person: TruePose, keypoints: FloatArray
) -> Image.Image:
    """One person in one view."""
    chest = person.chest
    corner = camera.project(chest.neck)
    pixels = camera.K[0][0] * _AROUND / float(camera.local(chest.neck)[2])
    low = corner - (pixels / 2, pixels / 3)
    limit = default().ingest.max_pixels
    try:
        photo = Image.fromarray(decode(read_photo(workspace, key), max_pixels=limit).pixels)
    except (PhotoError, WorkspaceError, OSError):
        photo = Image.new("RGB", (camera.width, camera.height), "grey")
    box = (*np.floor(low).astype(int).tolist(), *np.floor(low + pixels).astype(int).tolist())
    tile = photo.crop(box).resize((_TILE, _TILE))
    draw = ImageDraw.Draw(tile)

    def place(point: FloatArray) -> tuple[float, float]:
        x, y = (point - low) * _TILE / pixels
        return float(x), float(y)

    for rows, color in (((5, 11), "#4aa3ff"), ((6, 12), "#ff9a3c")):
        for row in rows:
            x, y = place(keypoints[row, :2])
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), outline=color, width=2)
    for name, point in chest.points.items():
        x, y = place(camera.project(point))
        color = "#4aa3ff" if name.startswith("left") else "#ff9a3c" if name.startswith("right") else "white"
        draw.line((x - 6, y - 6, x + 6, y + 6), fill=color, width=2)
        draw.line((x - 6, y + 6, x + 6, y - 6), fill=color, width=2)
    ahead = camera.project(chest.neck + 0.25 * chest.rotation[:, 2])
    draw.line((*place(corner), *place(ahead)), fill="#3ddc5a", width=3)
    exchanged = ", shoulders exchanged" if camera.name in person.swapped else ""
    text = f"{person.instant} {person.number} {camera.name} ± {person.sigma:.1f}{exchanged}"
    draw.rectangle((0, 0, _TILE, 13), fill="black")
    draw.text((3, 1), text, fill="white")
    return tile


def _true_labels(result: ViewResult, views: Views) -> dict[tuple[str, int], FloatArray]:
    return {
        (result.photos[name, person.instant], person.number): true_label(person.chest, views.camera(name))
        for person in result.people
        for name in person.members
    }


def _spread_out(people: Sequence[TruePose]) -> list[TruePose]:
    """A few people, from all over the instants."""
    return [people[i] for i in sorted({round(i) for i in np.linspace(0, len(people) - 1, _SHOWN)})]


def _nearest(error: ViewError, known: Sequence[TruePerson]) -> TruePerson | None:
    """Who of a photo's rendered people this is: whose neck is nearest, within a head's height."""
    row = JOINT_NAMES.index("neck")
    apart = [float(np.linalg.norm(person.joints[row] - error.neck)) for person in known]
    return known[int(np.argmin(apart))] if apart and min(apart) < error.head_pixels else None


def _numbers(group: Sequence[ViewError]) -> dict[str, Any]:
    """Errors of labels; `pitch_slope` is degrees of pitch error a degree of true pitch (Theil and Sen)."""
    from scipy.stats import theilslopes

    pitch = np.array([e.true_pitch for e in group])
    slope = theilslopes([e.pitch_signed for e in group], pitch)[0] if len(set(pitch)) > 2 else None
    return {
        "count": len(group),
        **{name: spread([getattr(e, name) for e in group]) for name in ("yaw_deg", "pitch_deg", "roll_deg")},
        "yaw_bias_deg": _median([e.yaw_signed for e in group]),
        "pitch_bias_deg": _median([e.pitch_signed for e in group]),
        "toward_front_deg": _median([e.toward_front for e in group]),
        "pitch_slope": None if slope is None else round(float(slope), 3),
        "front_back_confusion_share": share([e.confused for e in group]),
    }


def _relative(pairs: Sequence[RelativeError]) -> dict[str, Any]:
    return {"count": len(pairs), **spread([e.yaw_deg for e in pairs])}


def _line(group: Sequence[ViewError]) -> str:
    labelled = [e for e in group if e.portrait_id]
    numbers = _numbers(labelled)
    n = max(len(group), 1)
    shares = [sum(bool(e.person_id) for e in group) / n, sum(e.kept for e in group) / n]
    cells = [f"{len(group):>6}", *(f"{one:>6.1%}" for one in shares), "|"]
    for name in ("yaw", "pitch"):
        both = numbers[f"{name}_deg"]
        cells += [f"{_shown(both['median']):>5}", f"{_shown(both['p95']):>5}"]
        cells.append(f"{_shown(numbers[f'{name}_bias_deg'], '+'):>6}")
    cells.append(f"{_shown(numbers['roll_deg']['median']):>5}")
    confused, found = numbers["front_back_confusion_share"], [e.swapped for e in group if e.person_id]
    cells += ["-".rjust(6) if one is None else f"{one:>6.1%}" for one in (confused, share(found))]
    return " ".join(cells)


def _shown(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"


def _median(values: Sequence[float] | FloatArray) -> float | None:
    return round(float(np.median(values)), 4) if len(values) else None
