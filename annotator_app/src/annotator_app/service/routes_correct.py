"""Correcting labels: the rig, the label of a portrait, a fit from a start, and the log of corrections."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request, Response

from annotator_app.service import models, models_correct
from annotator_app.service.items import moment
from annotator_app.service.security import AnyReviewer
from annotator_app.service.state import State
from phq_data.review.correcting import CorrectingError
from phq_data.review.corrections import NewCorrection
from phq_data.review.images import NoImageError
from phq_data.review.records import CorrectionEntry, StoredLabel
from phq_data.review.reviewers import Reviewer
from phq_data.stages.relabel import RelabelError

router = APIRouter()
_FOR_EVER = "private, max-age=31536000, immutable"
_ID = r"^[0-9a-f]{32}$"
_PROBLEM = {"model": models.Problem}


@router.get("/api/rig/{rig_version}", tags=["correct"], responses={404: _PROBLEM})
def rig(
    request: Request, reviewer: AnyReviewer, rig_version: Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$")]
) -> Response:
    """The rig as a safetensors file: `vertices`, `faces`, `weights` (neck, head), joints, landmarks.

    How a pose moves it: docs/architecture.md. `rig_version` is that of an item; another one is 404.
    """
    state = State.of(request)
    data = state.images.rig_file
    if not data or rig_version != state.images.rig_version:
        state.follow(at_once=True)
        raise HTTPException(404, "this workspace has another rig now: reload the page")
    headers = {"etag": f'"{rig_version}"', "cache-control": _FOR_EVER, "vary": "cookie"}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get("/api/portraits/{portrait_id}/camera", tags=["correct"], responses={404: _PROBLEM})
def seen_label(
    request: Request,
    response: Response,
    reviewer: AnyReviewer,
    portrait_id: Annotated[str, Path(pattern=_ID)],
) -> models_correct.SeenLabel:
    """The label of a portrait alone, for clients that draw the mesh. It holds for ever, as the images do."""
    try:
        found = State.of(request).images.label(portrait_id)
    except NoImageError as error:
        raise HTTPException(404, str(error)) from error
    response.headers.update({"cache-control": _FOR_EVER, "vary": "cookie"})
    return models_correct.SeenLabel(label=_known(found))


@router.get("/api/portraits/{portrait_id}/label", tags=["correct"], responses={404: _PROBLEM})
def label(
    request: Request, reviewer: AnyReviewer, portrait_id: Annotated[str, Path(pattern=_ID)]
) -> models_correct.PortraitLabel:
    """The label of a portrait, the fit's other explanations, and the corrections that one may see."""
    try:
        found = State.of(request).corrector.describe(portrait_id)
    except CorrectingError as error:
        raise HTTPException(404, str(error)) from error
    seen = [one for one in found.corrections if reviewer.lead or one.reviewer == reviewer.name]
    return models_correct.PortraitLabel(
        portrait_id=portrait_id,
        label=_label(found.label),
        hypotheses=[
            models_correct.Hypothesis(label=_known(one.label), yaw=one.yaw, cost=one.cost)
            for one in found.hypotheses
        ],
        keypoints=list(found.keypoints),
        corrections=[_row(one, reviewer) for one in seen],
        state=found.state,
        settles=reviewer.lead and (found.state == "disputed" or found.ruled),
        waits=found.waits,
        correctable=not found.why_not,
        why=found.why_not,
    )


@router.post("/api/portraits/{portrait_id}/snap", tags=["correct"], responses={409: _PROBLEM, 422: _PROBLEM})
def snap(
    request: Request,
    reviewer: AnyReviewer,
    portrait_id: Annotated[str, Path(pattern=_ID)],
    given: models_correct.SnapRequest,
) -> models_correct.SnapAnswer:
    """Fit the person's keypoints from this label; the answer has its window and the normal intrinsics."""
    try:
        found = State.of(request).corrector.snap(portrait_id, _stored(given.label))
    except RelabelError as error:
        raise HTTPException(422, str(error)) from error
    except CorrectingError as error:
        raise HTTPException(409, str(error)) from error
    return models_correct.SnapAnswer(
        label=_known(found.label), residual=found.residual, yaw_moved=found.yaw_moved
    )


@router.post("/api/corrections", tags=["correct"])
def correct(
    request: Request, reviewer: AnyReviewer, given: models_correct.CorrectionsRequest
) -> models_correct.CorrectionsAnswer:
    """Save corrections, in order. Sending one again does no harm. An answer means: it is on the disk."""
    done = State.of(request).correct(
        [
            NewCorrection(
                one.correction_id, one.kind, one.portrait_id,
                None if one.label is None else _stored(one.label), one.undoes, one.note, one.client_time,
                one.seconds, one.client, one.over,
            )
            for one in given.corrections
        ],
        reviewer,
    )  # fmt: skip
    return models_correct.CorrectionsAnswer(
        saved=list(done.saved),
        known=list(done.known),
        refused=[
            models_correct.RefusedCorrection(correction_id=no.decision_id, why=no.why, elsewhere=no.elsewhere)
            for no in done.refused
        ],
    )


def _stored(given: models_correct.Label) -> StoredLabel:
    return StoredLabel(tuple(given.camera), tuple(given.pose), tuple(given.window))


def _known(found: StoredLabel) -> models_correct.Label:
    return models_correct.Label(camera=list(found.camera), pose=list(found.pose), window=list(found.window))


def _label(found: StoredLabel | None) -> models_correct.Label | None:
    return None if found is None else _known(found)


def _row(one: CorrectionEntry, asking: Reviewer) -> models_correct.CorrectionRow:
    label = None if one.to_label is None else _known(StoredLabel.from_json(one.to_label))
    return models_correct.CorrectionRow(
        correction_id=one.correction_id,
        kind="undo" if one.kind == "undo" else "correct",
        portrait_id=one.portrait_id,
        reviewer=one.reviewer,
        own=one.reviewer == asking.name,
        time=moment(one.time),
        label=label,
        undoes=one.undoes,
        note=one.note,
    )
