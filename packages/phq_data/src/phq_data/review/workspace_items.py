"""The portraits of a workspace as items of the review, read from its tables and ledger, a part at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.review import rules
from phq_data.review.records import DUPLICATE, KEPT, SCREENED_OUT, Item, ItemFacts, PhotoFacts
from phq_data.schema import make_id
from phq_data.workspace import Workspace

_SHOULDERS = (COCO_KEYPOINTS.index("left_shoulder"), COCO_KEYPOINTS.index("right_shoulder"))


class _Photo(NamedTuple):
    photo_id: str
    uri: str
    provider: str
    source: str
    key: str
    width: int
    height: int
    title: str | None
    author: str | None
    author_url: str | None
    license: str | None
    license_url: str | None
    page_url: str | None
    exif_time: str | None


class _Portrait(NamedTuple):
    portrait_id: str
    photo_id: str
    person_id: str
    yaw: float
    pitch: float
    roll: float
    window: list[float]
    size: int
    keypoints: list[float]  # [17 * 3]: x, y, score
    crop_mode: str
    models: str  # JSON


class _Screened(NamedTuple):
    portrait_id: str
    kept: bool
    reasons: list[str]
    blur: float
    exposure_low: float
    exposure_high: float
    contrast: float
    effective_resolution: float
    padding: float
    landmark_error: float
    shoulder_error: float
    mask_share: float
    overlap: float
    error_probability: float

    def numbers(self) -> dict[str, float]:
        """What was measured, by name."""
        return dict(zip(self._fields[3:], self[3:], strict=True))


class _Evidence(NamedTuple):
    item: str
    evidence: str | None  # JSON


class _Duplicate(NamedTuple):
    portrait_id: str
    representative: bool


Row = TypeVar("Row", _Photo, _Portrait, _Screened, _Evidence, _Duplicate)


def read(workspace: Workspace, part: int, duplicates: frozenset[str]) -> list[Item]:
    """The items of a part, in the order of its portraits; those that are not screened yet are left out.

    Raises `WorkspaceError` for a part that is damaged.
    """
    photos = {row.photo_id: row for row in _rows(workspace, "tables/photos", part, _Photo)}
    screened = {row.portrait_id: row for row in _rows(workspace, "tables/screened", part, _Screened)}
    evidence = {row.item: row.evidence for row in _rows(workspace, "ledger/screen", part, _Evidence)}
    # Not by `_rows`: a part that is damaged must not look like one without portraits.
    portraits = _typed(workspace.read_part("tables/portraits", part, _Portrait._fields), _Portrait)
    found = []
    for number, portrait in enumerate(portraits):
        verdict, photo = screened.get(portrait.portrait_id), photos.get(portrait.photo_id)
        if verdict is None or photo is None:
            continue  # the build has not got so far
        pool = SCREENED_OUT if not verdict.kept else KEPT
        if pool == KEPT and portrait.portrait_id in duplicates:
            pool = DUPLICATE
        numbers = verdict.numbers() | _measured(evidence.get(portrait.portrait_id))
        found.append(_item(part, number, pool, portrait, photo, verdict, numbers))
    return found


def duplicates(workspace: Workspace) -> frozenset[str]:
    """Near-duplicates that another portrait stands for."""
    rows = _typed(workspace.table("duplicates", _Duplicate._fields), _Duplicate)
    return frozenset(row.portrait_id for row in rows if not row.representative)


def content(workspace: Workspace, part: int, duplicates: frozenset[str]) -> str:
    """A text that changes when the items of a part may have changed."""
    found = [workspace.part_info(f"tables/{name}", part) for name in ("portraits", "screened", "photos")]
    digest = _digest(duplicates) if duplicates else ""
    return "/".join([*(info.content if info else "-" for info in found), digest])


def overlap_draw(portrait_id: str) -> float:
    """0..1, the same for a portrait everywhere: whether it belongs to the overlap share."""
    return int(_digest([portrait_id])[:12], 16) / 2**48


def _item(
    part: int,
    number: int,
    pool: int,
    portrait: _Portrait,
    photo: _Photo,
    verdict: _Screened,
    numbers: dict[str, float],
) -> Item:
    x, y, side = portrait.window
    scores = np.reshape(np.asarray(portrait.keypoints, np.float64), (17, 3))[:, 2]
    numbers["keypoint_score"] = round(float(scores.mean()), 4)
    numbers["shoulder_score"] = round(float(scores[list(_SHOULDERS)].min()), 4)
    facts = ItemFacts(
        pitch=portrait.pitch, roll=portrait.roll, window=(x, y, side), size=portrait.size,
        crop_mode=portrait.crop_mode, models=json.loads(portrait.models), kept=verdict.kept,
        reasons=tuple(verdict.reasons), numbers={name: _finite(value) for name, value in numbers.items()},
        photo=PhotoFacts(
            photo.key, photo.width, photo.height, photo.provider, photo.title, photo.author, photo.author_url,
            photo.license, photo.license_url, photo.page_url, photo.exif_time,
        ),
    )  # fmt: skip
    probability = verdict.error_probability
    return Item(
        portrait_id=portrait.portrait_id, photo_id=portrait.photo_id, person_id=portrait.person_id, part=part,
        row=number, active=True, pool=pool, source=f"{photo.provider}: {photo.source}", uri=photo.uri,
        yaw_bin=rules.yaw_bin(portrait.yaw), yaw=portrait.yaw,
        error_probability=probability if np.isfinite(probability) else 1.0,
        overlap_draw=overlap_draw(portrait.portrait_id), facts=facts,
    )  # fmt: skip


def _rows(workspace: Workspace, folder: str, part: int, kind: type[Row]) -> list[Row]:
    if workspace.part_info(folder, part) is None:
        return []
    return _typed(workspace.read_part(folder, part, kind._fields), kind)


def _typed(table: pa.Table, kind: type[Row]) -> list[Row]:
    columns = [table[name].to_pylist() for name in kind._fields]
    return [kind(*values) for values in zip(*columns, strict=True)]


def _measured(evidence: str | None) -> dict[str, float]:
    found: dict[str, Any] = json.loads(evidence or "{}")
    return {k: v for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _finite(value: float | None) -> float | None:
    return value if value is None or np.isfinite(value) else None


def _digest(ids: Iterable[str]) -> str:
    return make_id(*sorted(ids))
