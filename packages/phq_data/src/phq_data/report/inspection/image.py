"""The image of an inspection: the photo with people, key points and windows, and its portraits below.

Each portrait is a row of three: as cut (with the key points), with the posed rig, and cut out by its mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from phq_data.images.codecs import PhotoError, decode_struct
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.pipeline.engine import load_config
from phq_data.pipeline.model_set import load_rig
from phq_data.pipeline.photos import read_photo
from phq_data.records import Row
from phq_data.report.inspection.find import Inspection
from phq_data.report.sheets import cut_out, shrink
from phq_data.text import shown_name
from phq_data.workspace import Workspace, WorkspaceError

FOLDER = "inspect"
SEEN = 0.2
"""Key points with a lower score are drawn hollow, without bones."""
MAX_PORTRAITS = 8
_GUESSED = 0.05  # below this a key point is nowhere

_TILE, _GAP, _LINE, _MARGIN = 288, 12, 24, 16
_WIDTH = 3 * _TILE + 2 * _GAP
_MAX_HEIGHT = 760
_BACKGROUND, _INK, _FAINT = (250, 250, 248), (34, 36, 40), (120, 124, 130)
_WINDOW, _OTHER = (255, 190, 60), (170, 174, 180)
_LEFT, _RIGHT, _MIDDLE = (240, 90, 70), (60, 160, 245), (245, 235, 90)
_BONES = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12),
    (11, 13), (13, 15), (12, 14), (14, 16),
)  # fmt: skip


def write_image(workspace: Workspace, inspection: Inspection) -> str:
    """Write the image to `inspect/<id>.png` in the workspace; returns its full path.

    Raises `WorkspaceError` when it cannot be written.
    """
    key = f"{FOLDER}/{inspection.id[:16]}.png"
    workspace.write_bytes(key, draw(workspace, inspection))
    return workspace.shown(key)


def draw(workspace: Workspace, inspection: Inspection) -> bytes:
    """The image as a PNG. What cannot be read is said in its place."""
    blocks: list[Image.Image] = [_heading(inspection)]
    if inspection.photo is not None:
        blocks.append(_photo(workspace, inspection))
    shown = inspection.portraits[:MAX_PORTRAITS]
    blocks += _portraits(workspace, inspection, shown)
    if len(inspection.portraits) > len(shown):
        blocks.append(_words(f"and {len(inspection.portraits) - len(shown)} more portraits"))
    height = sum(block.height + _GAP for block in blocks) - _GAP + 2 * _MARGIN
    sheet = Image.new("RGB", (_WIDTH + 2 * _MARGIN, height), _BACKGROUND)
    y = _MARGIN
    for block in blocks:
        sheet.paste(block, (_MARGIN, y))
        y += block.height + _GAP
    buffer = BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _heading(inspection: Inspection) -> Image.Image:
    name = shown_name(inspection.uri)
    if inspection.photo is None:
        why = next((row["reason"] for row in inspection.ledger if row["reason"]), "was never read")
        return _words(
            f"{inspection.kind} {inspection.id[:12]}   {name}", f"no photo came of this file: {why}"
        )
    return _words(f"{inspection.kind} {inspection.id[:12]}   {name}")


def _photo(workspace: Workspace, inspection: Inspection) -> Image.Image:
    """The photo with everybody in it; those this is about in color, with their windows."""
    from phq_data.stages.ingest import open_photo

    photo = inspection.photo
    assert photo is not None
    limit = load_config(workspace).ingest.max_pixels
    try:
        pixels = open_photo(photo["photo_id"], read_photo(workspace, photo["key"]), limit)
    except (PhotoError, WorkspaceError, OSError) as error:
        return _words("the photo cannot be shown", str(error))
    height, width = pixels.shape[:2]
    about = [row["person_id"] for row in inspection.about(inspection.people)]
    # A person in a crowd, or a window that reaches out of the photo, must still be seen.
    low, high = _view(inspection, width, height)
    scale = min(_WIDTH / (high[0] - low[0]), _MAX_HEIGHT / (high[1] - low[1]))
    size = (max(1, round((high[0] - low[0]) * scale)), max(1, round((high[1] - low[1]) * scale)))
    canvas = Image.new("RGB", size, (222, 222, 218))
    resized = Image.fromarray(pixels).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
    )
    canvas.paste(resized, (round(-low[0] * scale), round(-low[1] * scale)))
    pen = ImageDraw.Draw(canvas)
    for person in sorted(inspection.people, key=lambda row: row["person_id"] in about):
        mine = person["person_id"] in about
        box = (np.reshape(person["box"], (2, 2)) - low) * scale
        pen.rectangle([*box[0], *box[1]], outline=_MIDDLE if mine else _OTHER, width=2 if mine else 1)
        _label(pen, box[0], f"{person['order']}  {person['score']:.2f}")
        points = np.reshape(np.asarray(person["keypoints"], np.float64), (17, 3)).copy()
        points[:, :2] = (points[:, :2] - low) * scale
        _skeleton(pen, points, mine)
    for portrait in inspection.portraits:
        x, y, side = portrait["window"]
        corner = (np.array([x, y]) - low) * scale
        pen.rectangle([*corner, *(corner + side * scale)], outline=_WINDOW, width=3)
    block = Image.new("RGB", (_WIDTH, canvas.height), _BACKGROUND)
    block.paste(canvas, ((_WIDTH - canvas.width) // 2, 0))
    return block


def _view(inspection: Inspection, width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of what is shown of a photo: all of it, and windows beyond its border."""
    low, high = np.zeros(2), np.array([width, height], np.float64)
    for portrait in inspection.portraits:
        x, y, side = portrait["window"]
        low = np.minimum(low, [x, y])
        high = np.maximum(high, [x + side, y + side])
    return low, high


def _portraits(workspace: Workspace, inspection: Inspection, portraits: Sequence[Row]) -> list[Image.Image]:
    from phq_data.rendering.renderer import overlay

    if not portraits:
        return []
    wanted = {row["portrait_id"] for row in portraits}
    table = workspace.read_part("tables/portraits", inspection.part, ["portrait_id", "image", "mask"])
    images = {row["portrait_id"]: row for row in _matching(table, wanted)}
    verdicts = {row["portrait_id"]: row for row in inspection.verdicts}
    rig = load_rig(workspace)
    blocks = []
    for row in portraits:
        found = images[row["portrait_id"]]
        try:
            image, mask = decode_struct(found["image"]), decode_struct(found["mask"])
        except PhotoError as error:
            blocks.append(_words(f"portrait {row['portrait_id'][:12]} cannot be shown", str(error)))
            continue
        block = Image.new("RGB", (_WIDTH, _LINE + _TILE), _BACKGROUND)
        pen = ImageDraw.Draw(block)
        pen.text((0, 2), _caption(row, verdicts.get(row["portrait_id"])), font=_font(14), fill=_INK)
        marked = Image.fromarray(image).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
        points = np.reshape(np.asarray(row["keypoints"], np.float64), (17, 3)).copy()
        points[:, :2] *= _TILE / row["size"]
        _skeleton(ImageDraw.Draw(marked), points, True)
        tiles = [marked]
        if rig is not None:
            tiles.append(Image.fromarray(shrink(overlay(image, rig, row["camera"], row["pose"]), _TILE)))
        tiles.append(Image.fromarray(cut_out(shrink(image, _TILE), shrink(mask, _TILE))))
        for index, tile in enumerate(tiles):
            tile = tile.resize((_TILE, _TILE), Image.Resampling.LANCZOS)
            block.paste(tile, (index * (_TILE + _GAP), _LINE))
        blocks.append(block)
    return blocks


def _matching(table: Any, wanted: set[str]) -> list[Row]:
    positions = [i for i, key in enumerate(table["portrait_id"].to_pylist()) if key in wanted]
    return list(table.take(positions).to_pylist())


def _caption(portrait: Row, verdict: Row | None) -> str:
    yaw, pitch, roll = (round(float(np.degrees(portrait[name]))) for name in ("yaw", "pitch", "roll"))
    state = "not screened yet"
    if verdict is not None:
        state = "kept" if verdict["kept"] else "rejected: " + ", ".join(verdict["reasons"])
    return f"portrait {portrait['portrait_id'][:12]}   yaw {yaw}°, pitch {pitch}°, roll {roll}°   {state}"


def _skeleton(pen: ImageDraw.ImageDraw, points: NDArray[np.float64], colored: bool) -> None:
    """Key points [17, 3] and their bones: the person's left in red, right in blue."""
    for first, second in _BONES:
        if min(points[first, 2], points[second, 2]) >= SEEN:
            line = [tuple(points[first, :2]), tuple(points[second, :2])]
            pen.line(line, fill=_OTHER if not colored else (255, 255, 255), width=3 if colored else 1)
            if colored:
                pen.line(line, fill=(40, 40, 44), width=1)
    for index, (x, y, score) in enumerate(points):
        name = COCO_KEYPOINTS[index]
        color = _LEFT if name.startswith("left") else _RIGHT if name.startswith("right") else _MIDDLE
        radius = 4 if colored else 2
        spot = [x - radius, y - radius, x + radius, y + radius]
        if score >= SEEN:
            pen.ellipse(spot, fill=color if colored else _OTHER, outline=(20, 20, 20))
        elif colored and score >= _GUESSED:
            pen.ellipse(spot, outline=color)


def _label(pen: ImageDraw.ImageDraw, corner: NDArray[np.float64], text: str) -> None:
    x, y = float(corner[0]) + 2, max(0.0, float(corner[1]) - 15)
    font = _font(12)
    pen.rectangle(pen.textbbox((x, y), text, font=font), fill=(30, 30, 34))
    pen.text((x, y), text, font=font, fill=(255, 255, 255))


def _words(title: str, note: str = "") -> Image.Image:
    """A block with one or two lines of text, cut to the width."""
    block = Image.new("RGB", (_WIDTH, _LINE * (2 if note else 1)), _BACKGROUND)
    pen = ImageDraw.Draw(block)
    pen.text((0, 2), _cut(pen, title, 15), font=_font(15), fill=_INK)
    if note:
        pen.text((0, _LINE), _cut(pen, note, 13), font=_font(13), fill=_FAINT)
    return block


def _cut(pen: ImageDraw.ImageDraw, text: str, size: int) -> str:
    line = " ".join(text.split())
    while line and pen.textlength(line, font=_font(size)) > _WIDTH:
        line = line[:-2].rstrip("…") + "…" if len(line) > 2 else ""
    return line


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
