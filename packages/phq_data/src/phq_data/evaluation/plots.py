"""The accuracy report's images: errors by yaw, and the worst labels with the truth beside them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from phq_data import camera as cameras
from phq_data.arrays import FloatArray, ImageArray
from phq_data.evaluation import calibration
from phq_data.evaluation.accuracy import OCTANTS, PersonError, by_octant
from phq_data.evaluation.calibrate import Learned
from phq_data.records import Corner, EncodedImage, Label, Pose, Record, TruePerson, columns, from_table
from phq_data.rendering.renderer import overlay, render_mesh
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace


@dataclass(frozen=True, eq=False, kw_only=True)
class PortraitImage(Record):
    """What is drawn of a portrait."""

    table = "portraits"
    portrait_id: str
    image: EncodedImage
    camera: Label
    pose: Pose
    window: Corner


_PANELS: tuple[tuple[str, str, float | None], ...] = (
    ("yaw_deg", "yaw error, degrees", 5.0),
    ("pitch_deg", "pitch error, degrees", 5.0),
    ("roll_deg", "roll error, degrees", None),
    ("gaze_deg", "neck and head error, degrees", None),
    ("shoulder_share", "shoulder distance, share of side", 0.02),
    ("mask_iou", "mask IoU", 0.9),
)
"""Field, title, and the aim for the median."""


def octants(errors: Sequence[PersonError]) -> bytes:
    """Box plots by octant of yaw, and the shares detected and kept, as PNG."""
    figure, axes = subplots(3, 3)
    groups = by_octant(errors)
    names = [f"{middle}" for middle in OCTANTS]
    for axis, (field, title, aim) in zip(axes.flat, _PANELS, strict=False):
        values = [_finite([getattr(e, field) for e in groups[middle] if e.kept]) for middle in OCTANTS]
        axis.boxplot([v if len(v) else np.array([np.nan]) for v in values], whis=(5, 95), showfliers=False)
        axis.set_xticks(range(1, 9), names)
        dress(axis, title, aim)
    shares: tuple[tuple[str, Callable[[PersonError], bool], float | None], ...] = (
        ("detected", lambda e: bool(e.person_id), 0.95),
        ("kept", lambda e: e.kept, None),
        ("front and back confused (before screening)", lambda e: e.confused, 0.02),
    )
    for axis, (title, test, aim) in zip(axes.flat[6:], shares, strict=True):
        counts = [[test(e) for e in groups[middle]] for middle in OCTANTS]
        axis.bar(range(1, 9), [np.mean(c) if c else 0 for c in counts], color="#5b8db8")
        axis.set_xticks(range(1, 9), names)
        dress(axis, f"share {title}", aim)
    return png(figure, "octant of the true yaw, degrees")


def curves(errors: Sequence[PersonError], width: float = 20.0) -> bytes:
    """Median and 95th percentile over the true yaw in a sliding window of `width` degrees, as PNG."""
    figure, axes = subplots(2, 3)
    yaw = np.array([e.true_yaw for e in errors])
    kept = np.array([e.kept for e in errors], bool)
    grid = np.arange(-180, 181, 5)
    for axis, (field, title, aim) in zip(axes.flat, _PANELS, strict=True):
        value = np.array([getattr(e, field) for e in errors], float)
        far = 5 if field == "mask_iou" else 95
        for percentile, style, name in ((50, "-", "median"), (far, ":", f"p{far:02d}")):
            line = []
            for at in grid:
                near = kept & (np.abs((yaw - at + 180) % 360 - 180) <= width / 2) & np.isfinite(value)
                line.append(np.percentile(value[near], percentile) if near.sum() >= 3 else np.nan)
            axis.plot(grid, line, style, color="#31688e", label=name)
        axis.scatter(yaw[kept], value[kept], s=3, color="#bbbbbb", zorder=0)
        shown = value[kept & np.isfinite(value)]
        if field == "mask_iou":
            axis.set_ylim(min([0.5, *shown]), 1.01)
        elif len(shown) and np.percentile(shown, 98) > 0:
            axis.set_ylim(0, 1.3 * np.percentile(shown, 98))
        axis.set_xticks(range(-180, 181, 45))
        axis.legend(fontsize=7, loc="upper right")
        dress(axis, title, aim)
    return png(figure, "true yaw, degrees: 0 from the front, 90 from the person's left, 180 from behind")


def reliability(errors: Sequence[PersonError]) -> bytes:
    """Reliability of the error probability, expected and true errors, what thresholds keep, as PNG."""
    figure, (left, middle, right) = subplots(1, 3)
    found = calibration.reliability(errors)
    said = [level.predicted for level in found]
    left.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    left.errorbar(said, [level.wrong for level in found], [level.margin for level in found], fmt="o-", ms=3)
    for number, level in enumerate(found):
        place = (4, 6 if number % 2 == 0 else -9)
        left.annotate(f"{level.count}", (said[number], level.wrong), fontsize=6, xytext=place,
                      textcoords="offset points")  # fmt: skip
    left.set(xlim=(0, 1), ylim=(0, 1))
    dress(left, "share wrong over error probability (labels)", None)
    middle.plot(said, [level.error for level in found], "o-", ms=3, label="true")
    middle.plot(said, [level.predicted_error for level in found], "s:", ms=3, label="expected")
    middle.legend(fontsize=7)
    dress(middle, "median yaw error over error probability, degrees", None)
    kept = calibration.thresholds(errors)
    right.plot([at.kept for at in kept], [at.yaw_p95 for at in kept], "o-", ms=3)
    middle.set_ylim(bottom=0)
    for number, at in enumerate(kept):
        above = number % 2 == 0
        right.annotate(f"{at.limit:g}", (at.kept, at.yaw_p95), fontsize=6, xytext=(-6, 6 if above else -10),
                       textcoords="offset points")  # fmt: skip
    right.set_ylim(bottom=0)
    dress(right, "95th percentile of yaw over the share kept (thresholds)", 15.0)
    return png(figure, "before the screening; right: what every other check lets pass")


Overlay = Callable[[PersonError, ImageArray, PortraitImage], ImageArray]
"""Draws what is true of a person over their portrait [S, S, 3]."""


def calibration_page(found: Learned) -> bytes:
    """Errors of people who were held out, before and after a calibration, as PNG."""
    figure, (left, middle, right) = subplots(1, 3)
    yaw = np.degrees(np.arctan2(found.truth[:, 0], found.truth[:, 2]))
    pitch = np.degrees(np.arcsin(np.clip(found.truth[:, 1], -1, 1)))
    for label, directions, color in (("before", found.before, "#b85b5b"), ("after", found.after, "#31688e")):
        said = np.degrees(np.arctan2(directions[:, 0], directions[:, 2]))
        off = (said - yaw + 180) % 360 - 180
        lift = np.degrees(np.arcsin(np.clip(directions[:, 1], -1, 1))) - pitch
        left.plot(yaw, off, ".", ms=3, color=color, label=label)
        middle.plot(pitch, lift, ".", ms=3, color=color)
        right.plot(np.sort(np.abs(off)), np.linspace(0, 1, len(off)), color=color)
    left.set(ylim=(-45, 45), xlim=(-180, 180))
    middle.set(ylim=(-45, 45))
    right.set(xlim=(0, 30))
    left.legend(fontsize=7)
    dress(left, "yaw error over true yaw, degrees", None)
    dress(middle, "pitch error over true pitch, degrees", None)
    dress(right, "share of people within a yaw error, degrees", None)
    return png(figure, f"{len(found.truth)} people, each labelled with what was learned from others")


def worst_sheet(
    workspace: Workspace, chosen: Sequence[PersonError], truth: Overlay, rig: PortraitRig, size: int = 224
) -> bytes:
    """A sheet of portraits, each beside its label and the truth drawn over it, as JPEG."""
    images = _images(workspace, {e.portrait_id for e in chosen})
    tiles = []
    for error in chosen:
        portrait = images.get(error.portrait_id)
        if portrait is not None:
            tiles.append(_tile(error, portrait, truth, rig, size))
    return jpeg_sheet(tiles, 3, (3 * size + 8, size + 34))


def jpeg_sheet(tiles: Sequence[Image.Image], across: int, cell: tuple[int, int]) -> bytes:
    """Images in rows of `across`, one a cell (width, height), as JPEG."""
    width, height = cell
    sheet = Image.new("RGB", (across * width, max(-(-len(tiles) // across), 1) * height), "white")
    for position, tile in enumerate(tiles):
        sheet.paste(tile, (position % across * width, position // across * height))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=88)
    return out.getvalue()


def rendered_truth(truth: pa.Table, rig: PortraitRig) -> Overlay:
    """Draws the rig as the truth of rendered people has it."""
    known = {(person.photo_id, person.order): person for person in from_table(TruePerson, truth)}

    def draw(error: PersonError, image: ImageArray, portrait: PortraitImage) -> ImageArray:
        person = known[(error.photo_id, error.order)]
        true, window = person.window, portrait.window
        inner = cameras.INTRINSICS.copy()
        inner[:2, :2] *= true[2] / window[2]
        inner[:2, 2] = (0.5 * true[2] + true[:2] - window[:2]) / window[2]
        cam2world, _ = cameras.from_label(person.camera)
        return _laid_over(image, rig, person.pose, cam2world, inner)

    return draw


def camera_truth(labels: Mapping[tuple[str, int], FloatArray], rig: PortraitRig) -> Overlay:
    """Draws the rig in the label's own pose, but seen by the true camera [4, 4] of (photo_id, order)."""

    def draw(error: PersonError, image: ImageArray, portrait: PortraitImage) -> ImageArray:
        cam2world = labels[error.photo_id, error.order]
        return _laid_over(image, rig, portrait.pose, cam2world, cameras.INTRINSICS)

    return draw


def _laid_over(
    image: ImageArray, rig: PortraitRig, pose: FloatArray, cam2world: FloatArray, inner: FloatArray
) -> ImageArray:
    drawn = render_mesh(rig.posed(pose), rig.faces, cam2world, inner, len(image), np.array([0.55, 0.8, 0.5]))
    alpha = drawn.rgba[..., 3:] * np.float32(0.6 / 255)
    return np.asarray(np.round(image * (1 - alpha) + drawn.rgba[..., :3] * alpha), np.uint8)


def _tile(
    error: PersonError, portrait: PortraitImage, truth: Overlay, rig: PortraitRig, size: int
) -> Image.Image:
    opened = Image.open(io.BytesIO(portrait.image.bytes)).convert("RGB").resize((size, size))
    image = np.asarray(opened)
    ours = overlay(image, rig, portrait.camera, portrait.pose)
    theirs = truth(error, image, portrait)
    tile = Image.new("RGB", (3 * size, size + 30), "white")
    tile.paste(Image.fromarray(np.concatenate([image, ours, theirs], axis=1)), (0, 0))
    draw = ImageDraw.Draw(tile)
    draw.text((3, size + 2), error.caption, fill="black")
    verdict = "kept" if error.kept else f"rejected: {error.reasons}"
    draw.text(
        (3, size + 15),
        f"{verdict}; error probability {error.error_probability:.2f}; {error.portrait_id[:10]}",
        fill="black",
    )
    return tile


def _images(workspace: Workspace, wanted: set[str]) -> dict[str, PortraitImage]:
    found: dict[str, PortraitImage] = {}
    for part in workspace.parts("tables/portraits"):
        ids = workspace.read_part("tables/portraits", part, ["portrait_id"])["portrait_id"].to_pylist()
        rows = [i for i, name in enumerate(ids) if name in wanted]
        if rows:
            table = workspace.read_part("tables/portraits", part, columns(PortraitImage)).take(rows)
            found |= {one.portrait_id: one for one in from_table(PortraitImage, table)}
    return found


def subplots(rows: int, columns: int) -> tuple[Any, Any]:
    """A figure and its axes, for files alone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=(4.6 * columns, 2.9 * rows), layout="constrained")


def dress(axis: Any, title: str, aim: float | None) -> None:
    """Title, small numbers, a grid, and the aim as a line."""
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    if aim is not None:
        axis.axhline(aim, color="#c44e52", linewidth=0.8, linestyle="--")


def png(figure: Any, below: str) -> bytes:
    """The finished figure as PNG."""
    from matplotlib import pyplot

    figure.supxlabel(below, fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    pyplot.close(figure)
    return out.getvalue()


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.array(values, float)
    return np.asarray(array[np.isfinite(array)])
