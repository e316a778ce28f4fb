"""From the store's records to the service's types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from annotator_app.service import models
from phq_data.review.evidence import Evidence


def images(portrait_id: str, rig_version: str) -> models.Images:
    """Where the pictures of a portrait are."""
    base = f"/img/{portrait_id}"
    return models.Images(
        crop=f"{base}/crop",
        overlay=f"{base}/overlay?v={rig_version}",
        mask=f"{base}/mask",
        photo=f"{base}/photo",
        thumb=f"{base}/thumb",
    )


def item(found: Evidence, rig_version: str) -> models.Item:
    """A portrait for the page."""
    values = asdict(found)
    return models.Item.model_validate({**values, "images": images(found.portrait_id, rig_version)})


def log_row(row: Mapping[str, Any]) -> models.LogRow:
    """A decision for the history."""
    return models.LogRow(
        seq=row["seq"],
        decision_id=row["decision_id"],
        portrait_id=row["portrait_id"],
        verdict=row["verdict"],
        reason=row["reason"],
        note=row["note"],
        reviewer=row["reviewer"],
        time=moment(row["time"]),
        server_time=moment(row["server_time"]),
        seconds=row["seconds"],
        rules=row["rules"],
        client=row["client"],
        order=row["queue"],
        stands=row["stands"],
        thumb=f"/img/{row['portrait_id']}/thumb",
    )


def moment(milliseconds: int) -> datetime:
    """Milliseconds since 1970 as a time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def milliseconds(time: datetime) -> int:
    """A time as milliseconds since 1970; one without a zone is taken for UTC."""
    known = time if time.tzinfo else time.replace(tzinfo=UTC)
    return max(0, int(known.timestamp() * 1000))
