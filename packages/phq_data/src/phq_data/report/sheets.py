"""Which portraits a report shows, their images, and the contact sheets as PNG files.

Sampling is by portrait id. Ids are digests, so the smallest ids are a fair sample that depends on nothing but
the dataset: two reports of one workspace show the same portraits, and a grown workspace keeps most of them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from phq_data import parquet, parquet_limits
from phq_data.arrays import ImageArray
from phq_data.images.codecs import decode_struct
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace, WorkspaceError, part_key

SIDE = 256
"""Pixels a side of the images in the page."""
_SMALL = 112  # ... of the members of a cluster of near-duplicates
_QUALITY = 80
_CHECKER = ((236, 236, 232), (206, 206, 202))
_EDGE = (227, 26, 100)
_SHEET_BACKGROUND, _SHEET_INK = (250, 250, 248), (40, 42, 46)


@dataclass
class Budget:
    """Bytes that the images of a page may take, as base64."""

    left: int

    def take(self, uris: Iterable[str]) -> bool:
        """Pay for images; False, and nothing is paid, when they cost too much."""
        cost = sum(len(uri) for uri in uris)
        if cost > self.left:
            return False
        self.left -= cost
        return True


@dataclass(frozen=True, eq=False)
class Card:
    """A portrait that is shown."""

    portrait_id: str
    portrait: str = ""  # data URIs; "" = there is no such image
    overlay: str = ""
    mask: str = ""
    tiles: Mapping[str, ImageArray] = field(default_factory=dict)  # the same images, for the PNG sheets

    @property
    def uris(self) -> tuple[str, ...]:
        """All images."""
        return self.portrait, self.overlay, self.mask


def sample(ids: Iterable[str], count: int) -> list[str]:
    """`count` of the ids, the smallest ones: fair, as ids are digests, and always the same."""
    return sorted(ids)[:count]


def sample_by_reason(rejected: pd.DataFrame, count: int) -> list[str]:
    """`count` rejected portraits, the first reason of each taken in turns so that rare reasons show."""
    groups: dict[str, list[str]] = {}
    for portrait_id, reasons in sorted(rejected["reasons"].items()):
        groups.setdefault(reasons[0] if reasons else "", []).append(str(portrait_id))
    turns = zip_longest(*(groups[reason] for reason in sorted(groups, key=lambda r: (len(groups[r]), r))))
    return [portrait_id for turn in turns for portrait_id in turn if portrait_id is not None][:count]


def kept_cards(
    workspace: Workspace, portraits: pd.DataFrame, ids: Sequence[str], rig: PortraitRig | None, budget: Budget
) -> list[Card]:
    """Portrait, mesh overlay and mask of each of `ids`, in that order, as long as the budget lasts."""
    from phq_data.rendering import renderer

    cards = {}
    columns = ["portrait_id", "camera", "pose", "image", "mask"]
    for row in rows_of(workspace, "portraits", portraits, ids, columns):
        image = shrink(decode_struct(row["image"]), SIDE)
        alpha = shrink(decode_struct(row["mask"]), SIDE)
        tiles = {"portrait": image, "mask": cut_out(image, alpha)}
        if rig is not None:
            tiles["overlay"] = renderer.overlay(image, rig, row["camera"], row["pose"])
        uris = {name: data_uri(tile) for name, tile in tiles.items()}
        card = Card(row["portrait_id"], **uris, tiles=tiles)
        if not budget.take(card.uris):
            break
        cards[card.portrait_id] = card
    return [cards[i] for i in ids if i in cards]


def rejected_cards(
    workspace: Workspace, portraits: pd.DataFrame, ids: Sequence[str], budget: Budget
) -> list[Card]:
    """The overlay images that the screen left of rejected portraits, in the order of `ids`."""
    cards = {}
    for row in rows_of(workspace, "screened", portraits, ids, ["portrait_id", "overlay"]):
        if not (row["overlay"] or {}).get("bytes"):
            cards[row["portrait_id"]] = Card(row["portrait_id"])
            continue
        tile = shrink(decode_struct(row["overlay"]), SIDE)
        card = Card(row["portrait_id"], overlay=data_uri(tile), tiles={"overlay": tile})
        if not budget.take(card.uris):
            break
        cards[card.portrait_id] = card
    return [cards[i] for i in ids if i in cards]


def small_images(
    workspace: Workspace, portraits: pd.DataFrame, ids: Sequence[str], budget: Budget
) -> dict[str, str]:
    """Small images of portraits, by id."""
    found = {}
    for row in rows_of(workspace, "portraits", portraits, ids, ["portrait_id", "image"]):
        uri = data_uri(shrink(decode_struct(row["image"]), _SMALL))
        if not budget.take([uri]):
            break
        found[row["portrait_id"]] = uri
    return found


def evidence(
    workspace: Workspace, portraits: pd.DataFrame, ids: Collection[str]
) -> dict[str, dict[str, Any]]:
    """The numbers behind the screen's verdicts, by portrait, from the ledger."""
    found = {}
    for part in sorted(set(portraits.loc[list(ids), "part"])):
        if workspace.part_info("ledger/screen", part) is None:
            continue
        rows = workspace.read_part("ledger/screen", part, ["item", "evidence"]).to_pylist()
        found.update({row["item"]: json.loads(row["evidence"] or "{}") for row in rows if row["item"] in ids})
    return found


def rows_of(
    workspace: Workspace, table: str, portraits: pd.DataFrame, ids: Iterable[str], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Rows of `table` for portraits `ids`, part by part, reading only the row groups they lie in.

    A part with images is large; a report of 50,000 portraits wants a hundred of them.
    """
    wanted = portraits.loc[[i for i in ids if i in portraits.index], "part"]
    for part, group in wanted.groupby(wanted):
        key = part_key(f"tables/{table}", int(part))
        left = set(group.index)
        try:
            with workspace.reading_file(key) as stream:
                file = parquet.opened(stream)
                for index in range(file.num_row_groups):
                    found = parquet_limits.read(file, ["portrait_id"], group=index)
                    keys = found["portrait_id"].to_pylist()
                    take = [i for i, key in enumerate(keys) if key in left]
                    if take:
                        left -= {keys[i] for i in take}
                        rows = parquet_limits.read(file, columns, group=index).take(take)
                        yield from rows.to_pylist()
        except FileNotFoundError:
            continue
        except (*parquet.DAMAGE, ValueError, TypeError) as error:
            raise WorkspaceError(
                f"cannot read {workspace.path(key)}: {error}; run `phq build` again to make it anew"
            ) from error


# ---- images --------------------------------------------------------------------------------------------


def shrink(pixels: ImageArray, side: int) -> ImageArray:
    """A square image [S, S, 3] reduced to `side` pixels (never enlarged)."""
    if pixels.shape[0] <= side and pixels.shape[1] <= side:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def checkerboard(size: int, cell: int = 12) -> ImageArray:
    """The pattern [S, S, 3] that stands for nothing."""
    at = np.arange(size) // cell
    return np.asarray(np.array(_CHECKER, np.uint8)[(at[:, None] + at[None, :]) % 2])


def cut_out(image: ImageArray, alpha: ImageArray) -> ImageArray:
    """A portrait [S, S, 3] over a checkerboard by its mask [S, S], the mask's border drawn."""
    share = alpha[..., None].astype(np.float32) / 255
    mixed = image * share + checkerboard(image.shape[0]) * (1 - share)
    inside = alpha >= 128
    border = np.zeros_like(inside)
    border[1:] |= inside[1:] != inside[:-1]
    border[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    mixed[border] = _EDGE
    return np.round(mixed).astype(np.uint8)


def data_uri(pixels: ImageArray) -> str:
    """An image [H, W, 3] as a JPEG in a `data:` address."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def contact_sheet(
    tiles: Sequence[tuple[str, ImageArray]],  # caption, image [S, S, 3]
    title: str,
    *,
    columns: int = 8,
    side: int = 200,
) -> bytes:
    """A PNG of all tiles in rows, each with its caption."""
    gap, line, head = 10, 20, 44
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    sheet = Image.new(
        "RGB", (max(640, gap + columns * (side + gap)), head + rows * (side + line + gap)), _SHEET_BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, 12), title, font=_font(17), fill=_SHEET_INK)
    small = _font(13)
    for index, (caption, tile) in enumerate(tiles):
        x, y = gap + index % columns * (side + gap), head + index // columns * (side + line + gap)
        sheet.paste(Image.fromarray(tile).resize((side, side), Image.Resampling.LANCZOS), (x, y))
        text = caption
        while text and draw.textlength(text, font=small) > side:
            text = text[:-2].rstrip(" ….") + "…" if len(text) > 2 else ""
        draw.text((x, y + side + 2), text, font=small, fill=_SHEET_INK)
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
