"""Filters of the queue and the gallery, from what a client asks for to the store's conditions."""

from __future__ import annotations

from datetime import date, datetime

from fastapi import HTTPException

from annotator_app.service.items import milliseconds
from annotator_app.service.models import Filter
from phq_data.review.gallery import GalleryFilter
from phq_data.review.reviewers import Reviewer

_DAY = 86_400_000


def portrait_filter(given: Filter, reviewer: Reviewer) -> GalleryFilter:
    """All conditions but source, yaw bin and pool, which the queue has indexes for.

    Raises `HTTPException` 403 where somebody who is no lead asks for the verdicts of others.
    """
    who = given.reviewer
    if who is not None and who != reviewer.name and not reviewer.lead:
        raise HTTPException(403, "only a lead sees the decisions of others")
    if not reviewer.lead and (given.reason or given.since or given.until):
        who = reviewer.name
    return GalleryFilter(
        person=given.person, text=given.text, min_error=given.min_error, max_error=given.max_error,
        screened=given.screened, reviewer=who, reason=given.reason,
        since=_begin(given.since), until=_begin(given.until, 1),
    )  # fmt: skip


def _begin(day: date | None, later: int = 0) -> int | None:
    """Milliseconds since 1970 at which a day (UTC), or one `later`, begins."""
    return None if day is None else milliseconds(datetime(day.year, day.month, day.day)) + later * _DAY
