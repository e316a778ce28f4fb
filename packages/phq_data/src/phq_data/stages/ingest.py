"""Stage 1: the files of a plan to photos. Every file is decoded here once, whole: later stages trust it.

What a file may come to:

* kept: a row of `photos`;
* rejected: a fine file that the settings or the plan do not want (too small, too many pixels or bytes, an
  animation, the same bytes as an earlier file);
* failed: it could not be read (another try may help) or is no photo that can be decoded (it will not).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phq_data.config import IngestConfig
from phq_data.images.codecs import PhotoError, decode, perceptual_hash
from phq_data.images.self_stated import SelfStated
from phq_data.records import Photo, PlanItem
from phq_data.sources.licenses import REASONS
from phq_data.stages.base import Inputs, Outcome, ReadBytes, Stage, StageContext, StageResult, Tick, no_tick

_RIGHTS = frozenset({*REASONS, "terms", "robots", "opt_out"})
"""Reasons of photos from the web that may not be taken (`sources.licenses`, `sources.web`)."""
_VERDICTS = _RIGHTS | {"too_small", "too_many_pixels", "too_many_bytes", "animated", "same_file", "removed"}
"""Reasons that are a choice of ours, not a defect of the file: such files are rejected, not failed."""
CHANGED = "changed"
"""The reason of photos whose bytes are no longer those that were planned: the next build reads them again."""
_MENDABLE = frozenset({"heic_unsupported", "avif_unsupported", "codec_missing", CHANGED})
"""Reasons that may be gone at the next try."""


def ingest(
    plan: Sequence[PlanItem],
    read: ReadBytes,
    config: IngestConfig,
    tick: Tick = no_tick,
) -> StageResult[Photo]:
    """Photos, and one outcome for every item of `plan`, in its order."""
    photos: list[Photo] = []
    outcomes: list[Outcome] = []
    for planned in plan:
        photo, outcome = _one(planned, read, config)
        if photo is not None:
            photos.append(photo)
        outcomes.append(outcome)
        tick()
    return StageResult(photos, outcomes)


def open_photo(photo_id: str, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The upright sRGB pixels [H, W, 3] of an ingested photo from its file's bytes.

    Raises `PhotoError`; reason "changed" when the bytes are no longer those that were ingested.
    """
    _check_bytes(data, photo_id)
    return decode(data, max_pixels=max_pixels).pixels


def may_pass(error: Exception) -> bool:
    """May another try mend why a photo could not be opened?"""
    return isinstance(error, OSError) or (isinstance(error, PhotoError) and error.reason in _MENDABLE)


def _one(planned: PlanItem, read: ReadBytes, config: IngestConfig) -> tuple[Photo | None, Outcome]:
    """The photo of one file, if it becomes one, and its outcome. Never raises for the file's sake."""
    item, uri = planned.item, planned.uri
    if planned.error:
        return None, _unreadable(planned, config)
    if planned.same_as is not None:
        message = f"has the same bytes as {planned.same_as}"
        evidence = {"same_as": planned.same_as}
        return None, Outcome(item, "rejected", "same_file", message, evidence=evidence, uri=uri)
    stated = SelfStated.from_json(planned.self_stated)
    if stated.generated and config.generated == "reject":
        message = f"the photo says that a model or a program made it ({stated.generated}); ingest.generated"
        evidence = {"source_type": stated.generated}
        return None, Outcome(item, "rejected", "generated", message, evidence=evidence, uri=uri)
    try:
        photo, notes = _photo(planned, read(planned.key), config)
    except PhotoError as error:
        if error.reason in _VERDICTS:
            text = str(error)
            return None, Outcome(item, "rejected", error.reason, text, evidence=error.numbers, uri=uri)
        return None, Outcome.failure(item, error, retryable=error.reason in _MENDABLE, uri=uri)
    except OSError as error:
        return None, Outcome.failure(item, error, retryable=True, uri=uri)
    except MemoryError:
        problem = MemoryError("too little memory to decode it: use fewer workers or lower ingest.max_pixels")
        return None, Outcome.failure(item, problem, retryable=True, uri=uri)
    except Exception as error:  # one odd file must not take the others with it; the ledger names the class
        return None, Outcome.failure(item, error, uri=uri)
    said = f"the image library: {'; '.join(notes)}" if notes else ""
    return photo, Outcome(item, "kept", message=said, outputs=(photo.photo_id,), uri=uri)


def _photo(planned: PlanItem, data: bytes, config: IngestConfig) -> tuple[Photo, tuple[str, ...]]:
    """The photo, and what the library warned of while it was read."""
    _check_bytes(data, planned.sha256)
    photo = decode(data, max_pixels=config.max_pixels)
    if min(photo.width, photo.height) < config.min_side:
        raise PhotoError(
            "too_small",
            f"{photo.width} x {photo.height} pixels; no side may be shorter than {config.min_side} "
            "(ingest.min_side)",
            {"width": photo.width, "height": photo.height, "min_side": config.min_side},
        )
    made = Photo(
        **planned.provenance(),
        key=planned.key,
        photo_id=planned.sha256,
        width=photo.width,
        height=photo.height,
        format=photo.format,
        bytes=len(data),
        orientation=photo.orientation,
        color=photo.color,
        phash=perceptual_hash(photo.pixels),
        exif_time=photo.exif_time,
    )
    return made, photo.notes


def _unreadable(planned: PlanItem, config: IngestConfig) -> Outcome:
    """The outcome of a file that the plan could not read. `error` is a class (PermissionError), and then
    another try may help, or the word of a verdict on the file (not_an_image), and then none will.
    """
    reason, message = planned.error, planned.message or planned.error
    if reason in _VERDICTS:
        evidence: dict[str, object] = {"bytes": planned.size, "max_bytes": config.max_bytes}
        if reason in _RIGHTS:
            evidence = {
                "provider": planned.provider,
                "page_url": planned.page_url,
                "file_url": planned.file_url,
                "license": planned.license,
                "rights_evidence": planned.rights_evidence,
            }
        return Outcome(planned.item, "rejected", reason, message, evidence=evidence, uri=planned.uri)
    retryable = reason[0].isupper()
    return Outcome(planned.item, "failed", reason, message, retryable=retryable, uri=planned.uri)


def _check_bytes(data: bytes, sha256: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PhotoError(CHANGED, "the file is no longer the one that was planned: run the build again")


def _run(inputs: Inputs, context: StageContext) -> StageResult[Photo]:
    return ingest(inputs.of(PlanItem), context.read, context.config.ingest, context.tick)


STAGE = Stage(
    name="ingest",
    title="read photos",
    version=1,
    makes=Photo,
    reads=(PlanItem,),
    item="item",
    made_with=lambda config, models: [config.ingest],
    run=_run,
)
