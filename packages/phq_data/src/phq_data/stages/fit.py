"""Fit: a body for every person whose head and shoulders can be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phq_data.config import FitConfig
from phq_data.images.codecs import PhotoError
from phq_data.models.protocols import COCO_KEYPOINTS, BodyFit, BodyFitter, FitRequest, PreparingFitter
from phq_data.records import Fit, Person, Photo
from phq_data.schema import make_id
from phq_data.stages.base import Inputs, OpenPhoto, Outcome, Stage, StageContext, StageResult, Tick, no_tick
from phq_data.stages.ingest import may_pass

_HEAD = [COCO_KEYPOINTS.index(n) for n in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]
_SHOULDERS = [COCO_KEYPOINTS.index(n) for n in ("left_shoulder", "right_shoulder")]


def fit(
    people: Sequence[Person],
    fitter: BodyFitter,
    config: FitConfig,
    *,
    photos: Sequence[Photo] = (),
    open_photo: OpenPhoto | None = None,
    tick: Tick = no_tick,
) -> StageResult[Fit]:
    """Fits, and one outcome a person, in the order of `people`.

    All people are fitted in one batch. Only image-based fitters (`needs_image`) make this stage
    open photos, one at a time; `photos` and `open_photo` are for them. Those that cut people out first
    (`PreparingFitter`) still fit all people in one batch. Rejected: no_head, no_shoulders
    (before the fit), bad_fit, no_fit (after it).
    """
    gated = {index: _gate(person, config) for index, person in enumerate(people)}
    worthy = {index: people[index] for index, verdict in gated.items() if verdict is None}
    results: Mapping[int, BodyFit | Outcome] = {}
    if fitter.needs_image:
        if open_photo is None:
            raise ValueError(f"fitter {fitter.fingerprint} is image-based: it needs `open_photo`")
        results = _fit_on_photos(worthy, fitter, photos, open_photo)
    elif worthy:
        fitted = fitter.fit([_request(person) for person in worthy.values()])
        results = dict(zip(worthy, fitted, strict=True))

    fits: list[Fit] = []
    outcomes: list[Outcome] = []
    for index, person in enumerate(people):
        outcome = gated[index] or results[index]
        if isinstance(outcome, BodyFit):
            made, outcome = fit_record(person, fitter, outcome), _judge(person, fitter, outcome, config)
            if outcome.outcome == "kept":
                fits.append(made)
        outcomes.append(outcome)
        tick()
    return StageResult(fits, outcomes)


def _fit_on_photos(
    people: Mapping[int, Person], fitter: BodyFitter, photos: Sequence[Photo], open_photo: OpenPhoto
) -> dict[int, BodyFit | Outcome]:
    """A fit for every person by index, or why the photo could not be opened; every photo is opened once."""
    photo_of = {photo.photo_id: photo for photo in photos}
    by_photo: dict[str, list[int]] = {}
    for index, person in people.items():
        by_photo.setdefault(person.photo_id, []).append(index)
    results: dict[int, BodyFit | Outcome] = {}
    prepared: dict[int, Any] = {}
    for photo_id, indices in by_photo.items():
        photo = photo_of[photo_id]
        try:
            pixels = open_photo(photo)
        except (PhotoError, OSError) as error:
            retryable = may_pass(error)
            for index in indices:
                item = people[index].person_id
                results[index] = Outcome.failure(item, error, retryable=retryable, uri=photo.uri)
            continue
        requests = [_request(people[index], pixels) for index in indices]
        if isinstance(fitter, PreparingFitter):
            prepared.update(zip(indices, fitter.prepare(requests), strict=True))
        else:
            results.update(zip(indices, fitter.fit(requests), strict=True))
    if prepared and isinstance(fitter, PreparingFitter):
        results.update(zip(prepared, fitter.fit_prepared(list(prepared.values())), strict=True))
    return results


def _gate(person: Person, config: FitConfig) -> Outcome | None:
    scores = person.keypoints[:, 2]
    head, shoulder = float(scores[_HEAD].max()), float(scores[_SHOULDERS].max())
    evidence = {"head_score": head, "shoulder_score": shoulder}
    if head < config.min_head_score:
        message = "no face or ear of this person was found"
        return Outcome(person.person_id, "rejected", "no_head", message, evidence=evidence)
    if shoulder < config.min_shoulder_score:
        message = "no shoulder of this person was found"
        return Outcome(person.person_id, "rejected", "no_shoulders", message, evidence=evidence)
    return None


def _judge(person: Person, fitter: BodyFitter, result: BodyFit, config: FitConfig) -> Outcome:
    numbers = [result.focal, *result.principal, *result.joints.ravel(), *result.neck_head_pose]
    numbers += [*result.root_orient, *result.translation, result.residual]
    if not np.isfinite(numbers).all():
        message = "the fit has numbers that are not finite"
        return Outcome(person.person_id, "rejected", "no_fit", message)
    evidence: dict[str, object] = {"residual": result.residual, "converged": result.converged}
    if result.residual > config.max_residual:
        message = f"the fitted body misses the keypoints by {result.residual:.2f} shoulder breadths"
        evidence |= {"max_residual": config.max_residual, "residuals": result.residuals}
        return Outcome(person.person_id, "rejected", "bad_fit", message, evidence=evidence)
    outputs = (_fit_id(person, fitter),)
    return Outcome(person.person_id, "kept", evidence=evidence, outputs=outputs)


def _request(person: Person, image: NDArray[np.uint8] | None = None) -> FitRequest:
    return FitRequest(person.keypoints, person.box, (person.photo_width, person.photo_height), image)


def _fit_id(person: Person, fitter: BodyFitter) -> str:
    return make_id(person.person_id, fitter.fingerprint)


def fit_record(person: Person, fitter: BodyFitter, result: BodyFit) -> Fit:
    """What the table keeps of a person's fit."""
    prior = result.orientation_prior
    return Fit(
        fit_id=_fit_id(person, fitter),
        person_id=person.person_id,
        photo_id=person.photo_id,
        fitter=fitter.fingerprint,
        body=fitter.body,
        focal=float(result.focal),
        principal=np.asarray(result.principal, np.float64),
        root_orient=np.asarray(result.root_orient, np.float64),
        translation=np.asarray(result.translation, np.float64),
        pose=np.asarray(result.neck_head_pose, np.float64),
        shape=np.asarray(result.shape, np.float64),
        joints=np.asarray(result.joints, np.float64),
        residual=float(result.residual),
        residuals=np.asarray(result.residuals, np.float64),
        hypotheses=np.asarray(result.hypotheses, np.float64),
        converged=bool(result.converged),
        yaw_std=float(result.yaw_std) if np.isfinite(result.yaw_std) else None,
        orientation_prior=None if prior is None else np.asarray(prior, np.float64),
    )


def _run(inputs: Inputs, context: StageContext) -> StageResult[Fit]:
    return fit(
        inputs.of(Person),
        context.models.fitter,
        context.config.fit,
        photos=inputs.of(Photo),
        open_photo=context.open_photo,
        tick=context.tick,
    )


STAGE = Stage(
    name="fit",
    title="fit bodies",
    version=2,
    makes=Fit,
    reads=(Person, Photo),
    item="person_id",
    # A calibration is what is in the file, which the fitter's fingerprint knows, not where it lies.
    made_with=lambda config, models: [replace(config.fit, calibration=""), models.fitter.fingerprint],
    run=_run,
)
