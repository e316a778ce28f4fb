"""The portraits of a workspace as items of the review, read from its tables and ledger, a part at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.pipeline.engine import RIGHTS
from phq_data.records import (
    Corner,
    Duplicate,
    Keypoints,
    Measurements,
    Photo,
    R,
    Record,
    columns,
    from_table,
)
from phq_data.review import rules
from phq_data.review.records import (
    AGE_UNSURE,
    CAN_BE_SAVED,
    DUPLICATE,
    KEPT,
    SCREENED_OUT,
    Item,
    ItemFacts,
    PhotoFacts,
)
from phq_data.schema import make_id
from phq_data.sources.terms import said_of
from phq_data.stages.age import UNDECIDED
from phq_data.stages.screen import LABEL_REASONS
from phq_data.workspace import Workspace

_SHOULDERS = (COCO_KEYPOINTS.index("left_shoulder"), COCO_KEYPOINTS.index("right_shoulder"))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Portrait(Record):
    """What is read of a portrait: not its image and mask."""

    table = "portraits"
    portrait_id: str
    photo_id: str
    person_id: str
    yaw: float
    pitch: float
    roll: float
    window: Corner
    size: int
    keypoints: Keypoints
    crop_mode: str
    models: str  # JSON
    corrected_from: str | None = None
    correction: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class _Verdict(Record, Measurements):
    """A verdict of the screening: not its overlay."""

    table = "screened"
    portrait_id: str
    kept: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Evidence(Record):
    """What the ledger holds of a verdict."""

    table = "ledger"
    item: str
    evidence: str  # JSON


class PartItems(NamedTuple):
    """The items of a part, and the correction that each portrait was made with, or None."""

    items: list[Item]
    made_with: dict[str, str | None]


def read(workspace: Workspace, part: int, duplicates: frozenset[str]) -> PartItems:
    """The items of a part, in the order of its portraits; those that are not screened yet are left out.

    Raises `WorkspaceError` for a part that is damaged.
    """
    photos = {one.photo_id: one for one in _records(workspace, "tables/photos", part, Photo)}
    screened = {one.portrait_id: one for one in _records(workspace, "tables/screened", part, _Verdict)}
    evidence = {one.item: one.evidence for one in _records(workspace, "ledger/screen", part, _Evidence)}
    # Not by `_records`: a part that is damaged must not look like one without portraits.
    portraits = from_table(_Portrait, workspace.read_part("tables/portraits", part, columns(_Portrait)))
    found = []
    for number, portrait in enumerate(portraits):
        verdict, photo = screened.get(portrait.portrait_id), photos.get(portrait.photo_id)
        if verdict is None or photo is None:
            continue  # the build has not got so far
        pool = KEPT if verdict.kept else pool_of(verdict.reasons)
        if pool == KEPT and portrait.portrait_id in duplicates:
            pool = DUPLICATE
        numbers = verdict.numbers() | _measured(evidence.get(portrait.portrait_id))
        found.append(_item(part, number, pool, portrait, photo, verdict, numbers))
    return PartItems(found, {portrait.portrait_id: portrait.correction for portrait in portraits})


def pool_of(reasons: Iterable[str]) -> int:
    """The pool of a portrait that the screening rejected for these reasons."""
    listed = set(reasons)
    if listed and listed <= UNDECIDED:
        return AGE_UNSURE
    return CAN_BE_SAVED if listed and listed <= set(LABEL_REASONS) else SCREENED_OUT


def duplicates(workspace: Workspace) -> frozenset[str]:
    """Near-duplicates that another portrait stands for."""
    return frozenset(one.portrait_id for one in workspace.records(Duplicate) if not one.representative)


def content(workspace: Workspace, part: int) -> str:
    """A text that changes when the items of a part may have changed, but for their near-duplicates.

    (What was recorded before near-duplicates were followed apart has more behind it.)
    """
    found = [workspace.part_info(f"tables/{name}", part) for name in ("portraits", "screened", "photos")]
    rights = [info.extra[RIGHTS] for info in found if info and RIGHTS in info.extra]
    return "".join(f"{one}/" for one in [*(info.content if info else "-" for info in found), *rights])


def duplicates_content(workspace: Workspace) -> str:
    """A text that changes when the near-duplicates may have changed."""
    info = workspace.part_info("tables/duplicates", 0)
    return info.content if info else "-"


def overlap_draw(portrait_id: str) -> float:
    """0..1, the same for a portrait everywhere: whether it belongs to the overlap share."""
    return int(_digest([portrait_id])[:12], 16) / 2**48


def _item(
    part: int,
    number: int,
    pool: int,
    portrait: _Portrait,
    photo: Photo,
    verdict: _Verdict,
    numbers: dict[str, float],
) -> Item:
    x, y, side = portrait.window.tolist()
    scores = portrait.keypoints[:, 2]
    numbers["keypoint_score"] = round(float(scores.mean()), 4)
    numbers["shoulder_score"] = round(float(scores[list(_SHOULDERS)].min()), 4)
    facts = ItemFacts(
        pitch=portrait.pitch, roll=portrait.roll, window=(x, y, side), size=portrait.size,
        crop_mode=portrait.crop_mode, models=json.loads(portrait.models), kept=verdict.kept,
        reasons=verdict.reasons, numbers={name: _finite(value) for name, value in numbers.items()},
        photo=PhotoFacts(
            photo.key, photo.width, photo.height, photo.provider, photo.title, photo.author, photo.author_url,
            photo.license, photo.license_url, photo.page_url, photo.exif_time, said_of(vars(photo)),
            photo.consent,
        ),
        corrected_from=portrait.corrected_from,
    )  # fmt: skip
    probability = verdict.error_probability
    return Item(
        portrait_id=portrait.portrait_id, photo_id=portrait.photo_id, person_id=portrait.person_id, part=part,
        row=number, active=True, pool=pool, source=f"{photo.provider}: {photo.source}", uri=photo.uri,
        yaw_bin=rules.yaw_bin(portrait.yaw), yaw=portrait.yaw,
        error_probability=probability if math.isfinite(probability) else 1.0,
        overlap_draw=overlap_draw(portrait.portrait_id), facts=facts,
    )  # fmt: skip


def _records(workspace: Workspace, folder: str, part: int, kind: type[R]) -> list[R]:
    if workspace.part_info(folder, part) is None:
        return []
    return from_table(kind, workspace.read_part(folder, part, columns(kind)))


def _measured(evidence: str | None) -> dict[str, float]:
    found: dict[str, Any] = json.loads(evidence or "{}")
    return {k: v for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _digest(ids: Iterable[str]) -> str:
    return make_id(*sorted(ids))
