"""Fit: a body for every person whose head and shoulders can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from phq_data.config import FitConfig
from phq_data.images.codecs import PhotoError
from phq_data.models.protocols import COCO_KEYPOINTS, BodyFit, BodyFitter, FitRequest, PreparingFitter
from phq_data.schema import make_id
from phq_data.stages.base import OpenPhoto, Outcome, Row, StageResult, Tick, no_tick

_HEAD = [COCO_KEYPOINTS.index(n) for n in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]
_SHOULDERS = [COCO_KEYPOINTS.index(n) for n in ("left_shoulder", "right_shoulder")]


def fit(
    people: Sequence[Row],
    fitter: BodyFitter,
    config: FitConfig,
    *,
    photos: Sequence[Row] = (),
    open_photo: OpenPhoto | None = None,
    tick: Tick = no_tick,
) -> StageResult:
    """Rows of `fits` and one outcome a person, in the order of `people`.

    All people are fitted in one batch. Only fitters that look at the picture (`needs_image`) make this stage
    open photos, one at a time; `photos` and `open_photo` are for them. Those that cut people out first
    (`PreparingFitter`) still fit all people in one batch. Rejected: no_head, no_shoulders
    (before the fit), bad_fit, no_fit (after it).
    """
    outcomes: dict[int, Outcome] = {}
    worthy: list[int] = []
    for index, person in enumerate(people):
        verdict = _gate(person, config)
        if verdict is None:
            worthy.append(index)
        else:
            outcomes[index] = verdict
            tick()
    results: dict[int, BodyFit] = {}
    if fitter.needs_image:
        if open_photo is None:
            raise ValueError(f"fitter {fitter.fingerprint} looks at pictures: it needs `open_photo`")
        prepared: dict[int, Any] = {}
        photo_of = {row["photo_id"]: row for row in photos}
        by_photo: dict[str, list[int]] = {}
        for index in worthy:
            by_photo.setdefault(people[index]["photo_id"], []).append(index)
        for photo_id, indices in by_photo.items():
            photo = photo_of[photo_id]
            try:
                pixels = open_photo(photo)
            except (PhotoError, OSError) as error:
                for index in indices:
                    outcomes[index] = Outcome.failure(
                        people[index]["person_id"],
                        error,
                        retryable=isinstance(error, OSError),
                        uri=photo.get("uri") or "",
                    )
                    tick()
                continue
            requests = [_request(people[index], pixels) for index in indices]
            if isinstance(fitter, PreparingFitter):
                prepared.update(zip(indices, fitter.prepare(requests), strict=True))
            else:
                results.update(zip(indices, fitter.fit(requests), strict=True))
        if prepared and isinstance(fitter, PreparingFitter):
            results.update(zip(prepared, fitter.fit_prepared(list(prepared.values())), strict=True))
    elif worthy:
        requests = [_request(people[index]) for index in worthy]
        results.update(zip(worthy, fitter.fit(requests), strict=True))

    rows: dict[int, Row] = {}
    for index, result in results.items():
        person = people[index]
        row = _row(person, fitter, result)
        verdict = _judge(person, result, config)
        if verdict is None:
            rows[index] = row
            verdict = Outcome(
                person["person_id"],
                "kept",
                evidence={"residual": result.residual, "converged": result.converged},
                outputs=(row["fit_id"],),
            )
        outcomes[index] = verdict
        tick()
    return StageResult(
        [rows[index] for index in sorted(rows)], [outcomes[index] for index in range(len(people))]
    )


def _gate(person: Row, config: FitConfig) -> Outcome | None:
    scores = np.asarray(person["keypoints"], np.float64).reshape(17, 3)[:, 2]
    head, shoulder = float(scores[_HEAD].max()), float(scores[_SHOULDERS].max())
    evidence = {"head_score": head, "shoulder_score": shoulder}
    if head < config.min_head_score:
        message = "no face or ear of this person was found"
        return Outcome(person["person_id"], "rejected", "no_head", message, evidence=evidence)
    if shoulder < config.min_shoulder_score:
        message = "no shoulder of this person was found"
        return Outcome(person["person_id"], "rejected", "no_shoulders", message, evidence=evidence)
    return None


def _judge(person: Row, result: BodyFit, config: FitConfig) -> Outcome | None:
    numbers = [result.focal, *result.principal, *result.joints.ravel(), *result.neck_head_pose]
    numbers += [*result.root_orient, *result.translation, result.residual]
    if not np.isfinite(numbers).all():
        message = "the fit has numbers that are not finite"
        return Outcome(person["person_id"], "rejected", "no_fit", message)
    if result.residual > config.max_residual:
        return Outcome(
            person["person_id"],
            "rejected",
            "bad_fit",
            f"the fitted body misses the keypoints by {result.residual:.2f} of the person's size",
            evidence={
                "residual": result.residual,
                "max_residual": config.max_residual,
                "residuals": result.residuals,
                "converged": result.converged,
            },
        )
    return None


def _request(person: Row, image: np.ndarray | None = None) -> FitRequest:
    return FitRequest(
        keypoints=np.asarray(person["keypoints"], np.float64).reshape(17, 3),
        box=np.asarray(person["box"], np.float64),
        photo_size=(int(person["photo_width"]), int(person["photo_height"])),
        image=image,
    )


def _row(person: Row, fitter: BodyFitter, result: BodyFit) -> Row:
    return {
        "fit_id": make_id(person["person_id"], fitter.fingerprint),
        "person_id": person["person_id"],
        "photo_id": person["photo_id"],
        "fitter": fitter.fingerprint,
        "body": fitter.body,
        "focal": float(result.focal),
        "principal": np.asarray(result.principal, np.float64).tolist(),
        "root_orient": np.asarray(result.root_orient, np.float64).tolist(),
        "translation": np.asarray(result.translation, np.float64).tolist(),
        "pose": np.asarray(result.neck_head_pose, np.float64).tolist(),
        "shape": np.asarray(result.shape, np.float64).tolist(),
        "joints": np.asarray(result.joints, np.float64).reshape(-1).tolist(),
        "residual": float(result.residual),
        "residuals": np.asarray(result.residuals, np.float64).tolist(),
        "hypotheses": np.asarray(result.hypotheses, np.float64).reshape(-1).tolist(),
        "converged": bool(result.converged),
        "yaw_std": float(result.yaw_std) if np.isfinite(result.yaw_std) else None,
        "orientation_prior": None
        if result.orientation_prior is None
        else np.asarray(result.orientation_prior).tolist(),
    }
