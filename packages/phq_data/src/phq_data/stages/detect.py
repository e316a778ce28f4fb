"""Detect: who is in a photo, and where their joints are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from phq_data.config import DetectConfig
from phq_data.images.codecs import PhotoError
from phq_data.models.protocols import BatchDetector, DetectedPerson, NamedPhotoDetector, PersonDetector
from phq_data.schema import make_id
from phq_data.stages.base import OpenPhoto, Outcome, Row, StageResult, Tick, no_tick
from phq_data.text import file_name


def detect(
    photos: Sequence[Row],
    open_photo: OpenPhoto,
    detector: PersonDetector,
    config: DetectConfig,
    tick: Tick = no_tick,
) -> StageResult:
    """Rows of `people` and one outcome a photo: kept with its people, rejected (no_person), or failed."""
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    for photo, found in _found(photos, open_photo, detector):
        photo_id, uri = photo["photo_id"], photo.get("uri") or ""
        if isinstance(found, Exception):
            retryable = isinstance(found, OSError)
            outcomes.append(Outcome.failure(photo_id, found, retryable=retryable, uri=uri))
            tick()
            continue
        ids = []
        for order, person in enumerate(found):
            ids.append(make_id(photo_id, detector.fingerprint, order))
            rows.append(
                {
                    "person_id": ids[-1],
                    "photo_id": photo_id,
                    "detector": detector.fingerprint,
                    "order": order,
                    "box": np.asarray(person.box, np.float64).tolist(),
                    "keypoints": np.asarray(person.keypoints, np.float64).reshape(-1).tolist(),
                    "score": float(person.score),
                    "photo_width": int(photo["width"]),
                    "photo_height": int(photo["height"]),
                }
            )
        if ids:
            evidence = {"people": len(ids), "best_score": max(person.score for person in found)}
            outcomes.append(Outcome(photo_id, "kept", evidence=evidence, outputs=tuple(ids), uri=uri))
        else:
            message = "no person was found in this photo"
            outcomes.append(Outcome(photo_id, "rejected", "no_person", message, uri=uri))
        tick()
    return StageResult(rows, outcomes)


def _found(
    photos: Sequence[Row], open_photo: OpenPhoto, detector: PersonDetector
) -> Iterator[tuple[Row, list[DetectedPerson] | PhotoError | OSError]]:
    """Every photo with its people, or with why it could not be opened, in order."""
    if isinstance(detector, NamedPhotoDetector):
        for photo in photos:
            size = (int(photo["width"]), int(photo["height"]))
            yield (
                photo,
                detector.detect_named(file_name(photo.get("uri") or ""), size, int(photo["orientation"])),
            )
        return
    count = detector.batch if isinstance(detector, BatchDetector) else 1
    for start in range(0, len(photos), count):
        chunk = photos[start : start + count]
        opened: list[NDArray[np.uint8] | PhotoError | OSError] = []
        for photo in chunk:
            try:
                opened.append(open_photo(photo))
            except (PhotoError, OSError) as error:
                opened.append(error)
        images = [pixels for pixels in opened if not isinstance(pixels, Exception)]
        if isinstance(detector, BatchDetector):
            people = iter(detector.detect_batch(images) if images else [])
        else:
            people = iter([detector.detect(image) for image in images])
        for photo, pixels in zip(chunk, opened, strict=True):
            yield photo, pixels if isinstance(pixels, Exception) else next(people)
