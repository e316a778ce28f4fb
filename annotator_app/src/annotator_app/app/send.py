"""Decisions that are made in the app: adjudication, batches, undo."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from annotator_app.app.client import Service, ServiceError
from phq_data.review import rules
from phq_data.review.decisions import ulid


def decide(service: Service, portrait_id: str, verdict: str, *, client: str, reason: str = "") -> None:
    """Save one decision. Raises `ServiceError` when it is refused."""
    decision = {
        "decision_id": ulid(), "portrait_id": portrait_id, "verdict": verdict, "reason": reason,
        "note": None, "time": _now(), "seconds": 0.0, "rules": rules.VERSION, "client": client, "order": "",
    }  # fmt: skip
    answer = service.post("/api/decisions", {"decisions": [decision]})
    if answer["refused"]:
        raise ServiceError(answer["refused"][0]["why"])


def decide_batch(
    service: Service, portrait_ids: list[str], verdict: str, *, seconds: float
) -> dict[str, Any]:
    """Take a batch of the triage; returns the service's answer."""
    body = {
        "verdict": verdict,
        "decisions": [{"decision_id": ulid(), "portrait_id": one} for one in portrait_ids],
        "time": _now(),
        "seconds": seconds,
        "reason": "shoulders" if verdict == "reject" else "",
    }
    found: dict[str, Any] = service.post("/api/triage/accept", body)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat()
