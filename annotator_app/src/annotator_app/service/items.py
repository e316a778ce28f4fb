"""From the store's records to the service's types."""

from __future__ import annotations

from datetime import UTC, datetime

from annotator_app.service import models
from phq_data.review.evidence import Evidence
from phq_data.review.store import HistoryEntry


def images(portrait_id: str, rig_version: str) -> models.Images:
    """Where the images of a portrait are."""
    base = f"/img/{portrait_id}"
    return models.Images(
        crop=f"{base}/crop",
        overlay=f"{base}/overlay?v={rig_version}",
        mask=f"{base}/mask",
        photo=f"{base}/photo",
        original=f"{base}/original",
        thumb=f"{base}/thumb",
    )


def item(found: Evidence, rig_version: str) -> models.Item:
    """A portrait for the page."""
    return models.Item(**vars(found), images=images(found.portrait_id, rig_version), rig_version=rig_version)


def log_row(entry: HistoryEntry) -> models.LogRow:
    """A decision for the history."""
    return models.LogRow(
        seq=entry.seq,
        decision_id=entry.decision_id,
        portrait_id=entry.portrait_id,
        verdict=entry.verdict,
        reason=entry.reason,
        note=entry.note,
        reviewer=entry.reviewer,
        time=moment(entry.time),
        server_time=moment(entry.server_time),
        seconds=entry.seconds,
        rules=entry.rules,
        client=entry.client,
        order=entry.queue,
        stands=entry.stands,
        thumb=f"/img/{entry.portrait_id}/thumb",
    )


def moment(milliseconds: int) -> datetime:
    """Milliseconds since 1970 as a time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def milliseconds(time: datetime) -> int:
    """A time as milliseconds since 1970; one without a zone is taken for UTC."""
    known = time if time.tzinfo else time.replace(tzinfo=UTC)
    return max(0, int(known.timestamp() * 1000))
