"""Detect: who is in a photo, and where their joints are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from phq_data.config import DetectConfig
from phq_data.images.codecs import PhotoError
from phq_data.models.protocols import BatchDetector, DetectedPerson, NamedPhotoDetector, PersonDetector
from phq_data.records import Person, Photo
from phq_data.schema import make_id
from phq_data.stages.base import (
    Inputs,
    OpenPhoto,
    Outcome,
    Stage,
    StageContext,
    StageResult,
    Tick,
    no_tick,
)
from phq_data.stages.ingest import may_pass
from phq_data.text import file_name


def detect(
    photos: Sequence[Photo],
    open_photo: OpenPhoto,
    detector: PersonDetector,
    config: DetectConfig,
    tick: Tick = no_tick,
) -> StageResult[Person]:
    """People, and one outcome a photo: kept with its people, rejected (no_person), or failed."""
    people: list[Person] = []
    outcomes: list[Outcome] = []
    for photo, found in _found(photos, open_photo, detector):
        if isinstance(found, Exception):
            retryable = may_pass(found)
            outcomes.append(Outcome.failure(photo.photo_id, found, retryable=retryable, uri=photo.uri))
        else:
            there = [_person(photo, order, one, detector) for order, one in enumerate(found)]
            people += there
            outcomes.append(_outcome(photo, there))
        tick()
    return StageResult(people, outcomes)


def _person(photo: Photo, order: int, found: DetectedPerson, detector: PersonDetector) -> Person:
    return Person(
        person_id=make_id(photo.photo_id, detector.fingerprint, order),
        photo_id=photo.photo_id,
        detector=detector.fingerprint,
        order=order,
        box=np.asarray(found.box, np.float64),
        keypoints=np.asarray(found.keypoints, np.float64),
        score=float(found.score),
        photo_width=photo.width,
        photo_height=photo.height,
    )


def _outcome(photo: Photo, people: Sequence[Person]) -> Outcome:
    if not people:
        message = "no person was found in this photo"
        return Outcome(photo.photo_id, "rejected", "no_person", message, uri=photo.uri)
    evidence = {"people": len(people), "best_score": max(person.score for person in people)}
    outputs = tuple(person.person_id for person in people)
    return Outcome(photo.photo_id, "kept", evidence=evidence, outputs=outputs, uri=photo.uri)


def _found(
    photos: Sequence[Photo], open_photo: OpenPhoto, detector: PersonDetector
) -> Iterator[tuple[Photo, list[DetectedPerson] | PhotoError | OSError]]:
    """Every photo with its people, or with why it could not be opened, in order."""
    if isinstance(detector, NamedPhotoDetector):
        for photo in photos:
            size = (photo.width, photo.height)
            yield photo, detector.detect_named(file_name(photo.uri), size, photo.orientation)
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


def _run(inputs: Inputs, context: StageContext) -> StageResult[Person]:
    config, detector = context.config.detect, context.models.detector
    return detect(inputs.of(Photo), context.open_photo, detector, config, context.tick)


STAGE = Stage(
    name="detect",
    title="find people",
    version=2,
    makes=Person,
    reads=(Photo,),
    item="photo_id",
    made_with=lambda config, models: [config.detect, models.detector.fingerprint],
    run=_run,
)
