"""What the page shows of a portrait: the numbers behind the screening, where it is from, its neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from phq_data.config import ScreenConfig
from phq_data.report.judged import judged
from phq_data.review import rules
from phq_data.review.digests import is_sound
from phq_data.review.records import Item, PhotoFacts
from phq_data.review.store import Store, chunks
from phq_data.review.tables import ITEMS, REPLACED, STANDINGS
from phq_data.text import shown_name

SCORES: Mapping[str, str] = {
    "keypoint_score": "mean keypoint score",
    "shoulder_score": "lower shoulder keypoint score",
}


@dataclass(frozen=True)
class Measure:
    """A number of the evidence, for people."""

    name: str
    title: str
    value: str
    limit: str  # "at most 10 %", or "" when there is none
    broken: bool
    limit_share: float  # 1 = at the limit, above 1 = beyond it, 0 = there is none


@dataclass(frozen=True)
class Earlier:
    """The portrait of the same person that this one replaced, and what was decided about it."""

    portrait_id: str
    verdicts: tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """Where a photo is from; null = unknown."""

    title: str | None
    author: str | None
    author_url: str | None
    license: str | None
    license_url: str | None
    page_url: str | None
    taken: str | None  # EXIF time
    rights: str  # who allowed what with it; "" = not known to the review's index
    consent: str | None  # of the people shown: yes, no, unknown

    @classmethod
    def of(cls, photo: PhotoFacts) -> Provenance:
        """That of a photo."""
        return cls(
            photo.title, photo.author, photo.author_url, photo.license, photo.license_url, photo.page_url,
            photo.exif_time, photo.rights, photo.consent,
        )  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """One portrait as a reviewer sees it. Angles in degrees; the window in pixels of the upright photo."""

    portrait_id: str
    photo_id: str
    person_id: str
    source: str
    file: str
    provenance: Provenance
    yaw: float
    pitch: float
    roll: float
    yaw_bin: int
    yaw_bin_name: str
    error_probability: float
    kept: bool  # by the screening
    reasons: tuple[str, ...]  # of the screening, when it rejected
    measures: tuple[Measure, ...]
    window: tuple[float, float, float]  # x, y of the corner, side
    photo_width: int
    photo_height: int
    size: int  # of the portrait in pixels
    crop_mode: str
    models: Mapping[str, str]
    previous: str | None  # portrait before and after it in the same source
    next: str | None
    own_verdict: str | None
    own_decision_id: str | None
    earlier: Earlier | None
    corrected_from: str | None  # portrait whose label a person corrected to this one
    active: bool


def describe(
    store: Store, portrait_ids: Sequence[str], reviewer: str, screen: ScreenConfig
) -> list[Evidence]:
    """The evidence of portraits, in their order; those that the store does not have, or has damaged, are left
    out."""
    with store.database.read() as connection:
        items = {
            row.portrait_id: Item.from_row(row)
            for chunk in chunks(portrait_ids)
            for row in connection.execute(sa.select(ITEMS).where(ITEMS.c.portrait_id.in_(chunk)))
            if is_sound(ITEMS, row._mapping)
        }
        own = _own(connection, items, reviewer)
        earlier = _earlier(connection, items)
        near = _neighbours(connection, items)
        return [
            _evidence(items[key], near[key], own.get(key), earlier.get(key), screen)
            for key in portrait_ids
            if key in items
        ]


def _evidence(
    item: Item,
    neighbours: tuple[str | None, str | None],
    own: tuple[str, str] | None,
    earlier: Earlier | None,
    screen: ScreenConfig,
) -> Evidence:
    facts, photo = item.facts, item.facts.photo
    numbers = {name: value for name, value in facts.numbers.items() if value is not None}
    judged_ones = {name: value for name, value in numbers.items() if name not in SCORES}
    return Evidence(
        portrait_id=item.portrait_id,
        photo_id=item.photo_id,
        person_id=item.person_id,
        source=item.source,
        file=shown_name(item.uri),
        provenance=Provenance.of(photo),
        yaw=_degrees(item.yaw),
        pitch=_degrees(facts.pitch),
        roll=_degrees(facts.roll),
        yaw_bin=item.yaw_bin,
        yaw_bin_name=rules.bin_name(item.yaw_bin),
        error_probability=item.error_probability,
        kept=facts.kept,
        reasons=facts.reasons,
        measures=(*_measures(judged_ones, screen), *_scores(numbers)),
        window=facts.window,
        photo_width=photo.width,
        photo_height=photo.height,
        size=facts.size,
        crop_mode=facts.crop_mode,
        models=facts.models,
        previous=neighbours[0],
        next=neighbours[1],
        own_verdict=own[0] if own else None,
        own_decision_id=own[1] if own else None,
        earlier=earlier,
        corrected_from=facts.corrected_from,
        active=item.active,
    )


def _measures(numbers: Mapping[str, float], screen: ScreenConfig) -> list[Measure]:
    # `judged` takes the numbers in an order of its own: one at a time keeps their names.
    found = []
    for name, value in numbers.items():
        for one in judged({name: value}, screen):
            found.append(Measure(name, **vars(one)))
    return found


def _scores(numbers: Mapping[str, float]) -> list[Measure]:
    return [
        Measure(name, title, f"{numbers[name]:.2f}", "", False, 0.0)
        for name, title in SCORES.items()
        if name in numbers
    ]


def _degrees(radians: float) -> float:
    return round(float(np.degrees(radians)), 1)


def _own(connection: sa.Connection, rows: Iterable[str], reviewer: str) -> dict[str, tuple[str, str]]:
    columns = (STANDINGS.c.portrait_id, STANDINGS.c.verdict, STANDINGS.c.decision_id)
    return {
        row[0]: (row[1], row[2])
        for chunk in chunks(rows)
        for row in connection.execute(
            sa.select(*columns)
            .where(STANDINGS.c.reviewer == reviewer)
            .where(STANDINGS.c.portrait_id.in_(chunk))
        )
    }


def _earlier(connection: sa.Connection, rows: Iterable[str]) -> dict[str, Earlier]:
    statement = (
        sa.select(REPLACED.c.by_portrait_id, REPLACED.c.portrait_id, STANDINGS.c.verdict)
        .join(STANDINGS, STANDINGS.c.portrait_id == REPLACED.c.portrait_id, isouter=True)
        .order_by(REPLACED.c.seq, STANDINGS.c.time)
    )
    found: dict[str, Earlier] = {}
    for chunk in chunks(rows):
        for heir, portrait, verdict in connection.execute(
            statement.where(REPLACED.c.by_portrait_id.in_(chunk))
        ):
            before = found.get(heir)
            verdicts = before.verdicts if before and before.portrait_id == portrait else ()
            found[heir] = Earlier(portrait, (*verdicts, verdict) if verdict else verdicts)
    return found


def _neighbours(
    connection: sa.Connection, portraits: Iterable[str]
) -> dict[str, tuple[str | None, str | None]]:
    """The portraits before and after each in its source, by file name."""
    other = ITEMS.alias("other")
    here = sa.tuple_(ITEMS.c.uri, ITEMS.c.portrait_id)
    there = sa.tuple_(other.c.uri, other.c.portrait_id)
    base = (
        sa.select(other.c.portrait_id)
        .where(other.c.source == ITEMS.c.source, other.c.active + 0 == 1)
        .limit(1)
    )
    before = base.where(there < here).order_by(other.c.uri.desc(), other.c.portrait_id.desc())
    after = base.where(there > here).order_by(other.c.uri, other.c.portrait_id)
    statement = sa.select(ITEMS.c.portrait_id, before.scalar_subquery(), after.scalar_subquery())
    return {
        row[0]: (row[1], row[2])
        for chunk in chunks(portraits)
        for row in connection.execute(statement.where(ITEMS.c.portrait_id.in_(chunk)))
    }
