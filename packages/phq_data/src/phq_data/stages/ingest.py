"""Stage 1: the files of a plan to photos. Every file is decoded here once, whole: later stages trust it.

What a file may come to:

* kept: a row of `photos`;
* rejected: a fine file that the settings or the plan do not want (too small, too many pixels or bytes, an
  animation, the same bytes as an earlier file);
* failed: it could not be read (another try may help) or is no photo that can be decoded (it will not).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from phq_data import schema
from phq_data.config import IngestConfig
from phq_data.images.codecs import PhotoError, decode, perceptual_hash
from phq_data.sources.licenses import REASONS
from phq_data.stages.base import Outcome, Row, StageResult, Tick, no_tick

_RIGHTS = frozenset({*REASONS, "terms", "robots", "opt_out"})
"""Reasons of photos from the web that may not be taken (`sources.licenses`, `sources.web`)."""
_VERDICTS = _RIGHTS | {"too_small", "too_many_pixels", "too_many_bytes", "animated", "same_file"}
"""Reasons that are a choice of ours, not a defect of the file: such files are rejected, not failed."""
_MENDABLE = frozenset({"heic_unsupported", "avif_unsupported", "changed"})
"""Reasons that may be gone at the next try."""
_COPIED = [column.name for column in schema.PHOTOS if column.name in schema.PLAN.names]


def ingest(
    plan: Sequence[Row],  # rows of schema.PLAN
    read: Callable[[Row], bytes],
    config: IngestConfig,
    tick: Tick = no_tick,
) -> StageResult:
    """Rows of `schema.PHOTOS` and one outcome for every row of `plan`, in its order.

    `read` gives the bytes of a plan row and may raise `OSError`. Outcomes carry the plan row's `item`.
    """
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    for planned in plan:
        row, outcome = _one(planned, read, config)
        if row is not None:
            rows.append(row)
        outcomes.append(outcome)
        tick()
    return StageResult(rows, outcomes)


def open_photo(photo: Row, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The upright sRGB picture [H, W, 3] of a `photos` row from its file's bytes.

    Raises `PhotoError`; reason "changed" when the bytes are no longer those that were ingested.
    """
    _check_bytes(data, photo["photo_id"])
    return decode(data, max_pixels=max_pixels).pixels


def _one(planned: Row, read: Callable[[Row], bytes], config: IngestConfig) -> tuple[Row | None, Outcome]:
    """The photo row of one file, if it becomes one, and its outcome. Never raises for the file's sake."""
    item, uri = planned["item"], planned["uri"]
    if planned["error"]:
        return None, _unreadable(planned, config)
    if planned["same_as"] is not None:
        message = f"has the same bytes as {planned['same_as']}"
        evidence = {"same_as": planned["same_as"]}
        return None, Outcome(item, "rejected", "same_file", message, evidence=evidence, uri=uri)
    try:
        row = _photo(planned, read(planned), config)
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
    return row, Outcome(item, "kept", outputs=(row["photo_id"],), uri=uri)


def _photo(planned: Row, data: bytes, config: IngestConfig) -> Row:
    _check_bytes(data, planned["sha256"])
    photo = decode(data, max_pixels=config.max_pixels)
    if min(photo.width, photo.height) < config.min_side:
        raise PhotoError(
            "too_small",
            f"{photo.width} x {photo.height} pixels; no side may be shorter than {config.min_side} "
            "(ingest.min_side)",
            {"width": photo.width, "height": photo.height, "min_side": config.min_side},
        )
    return {
        **{name: planned.get(name) for name in _COPIED},
        "photo_id": planned["sha256"],
        "width": photo.width,
        "height": photo.height,
        "format": photo.format,
        "bytes": len(data),
        "orientation": photo.orientation,
        "color": photo.color,
        "phash": perceptual_hash(photo.pixels),
        "exif_time": photo.exif_time,
    }


def _unreadable(planned: Row, config: IngestConfig) -> Outcome:
    """The outcome of a file that the plan could not read. `error` is a class (PermissionError), and then
    another try may help, or the word of a verdict on the file (not_an_image), and then none will.
    """
    reason, message = planned["error"], planned["message"] or planned["error"]
    if reason in _VERDICTS:
        if reason in _RIGHTS:
            names = ("provider", "page_url", "file_url", "license", "rights_evidence")
            evidence = {name: planned.get(name) for name in names}
        else:
            evidence = {"bytes": planned["size"], "max_bytes": config.max_bytes}
        return Outcome(planned["item"], "rejected", reason, message, evidence=evidence, uri=planned["uri"])
    retryable = reason[0].isupper()
    return Outcome(planned["item"], "failed", reason, message, retryable=retryable, uri=planned["uri"])


def _check_bytes(data: bytes, sha256: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PhotoError("changed", "the file is no longer the one that was planned: run the build again")
