"""Corrected labels as a truth: real photos whose people somebody looked at and turned the rig for."""

from __future__ import annotations

import numpy as np

from phq_data import camera
from phq_data.config import AlignConfig
from phq_data.evaluation.accuracy import PersonError
from phq_data.pipeline.corrections import settled
from phq_data.pipeline.engine import load_config
from phq_data.pipeline.model_set import models_for
from phq_data.records import Correction, Fit, Person
from phq_data.stages.align import AlignError, align
from phq_data.stages.base import ModelSet
from phq_data.stages.crop import CropError, LabelledCrop, choose_window, landmark_errors
from phq_data.stages.relabel import AppliedCorrection
from phq_data.stages.uncertainty import LabelUncertainty, evidence, load_model
from phq_data.workspace import Workspace, WorkspaceError


def corrected_people(workspace: Workspace) -> list[PersonError]:
    """Everybody whose corrected label holds, as people of known truth; only what `known_people` reads is set.

    The error probability is that of the fit's own label, without what needs pixels. Raises `WorkspaceError`
    where no correction holds.
    """
    config = load_config(workspace)
    models = models_for(config)
    holding = {
        person: AppliedCorrection.of(one.correction)
        for person, one in settled(workspace.records(Correction)).items()
        if one.correction is not None
    }
    if not holding:
        raise WorkspaceError(
            f"no corrected label holds in {workspace.url}: correct some in `phq review`, or see `phq review "
            "status`"
        )
    people = {one.person_id: one for one in workspace.records(Person) if one.person_id in holding}
    fits = {one.person_id: one for one in workspace.records(Fit) if one.person_id in people}
    model = load_model(config.fit.model, config.fit.calibration)
    found = []
    for name in sorted(fits):
        yaw, pitch, _ = camera.angles(holding[name].label.on_sphere)
        try:
            said = model.assess(_evidence(people[name], fits[name], config.align, models))
        except (AlignError, CropError):
            continue  # the fit has no label to learn from
        found.append(_error(people[name], holding[name].portrait_id, float(yaw), float(pitch), said))
    return found


def _evidence(person: Person, fit: Fit, config: AlignConfig, models: ModelSet) -> dict[str, float]:
    """What is known of the fit's own label without looking at pixels."""
    aligned = align(fit, config, models.template)
    window = choose_window("fit", aligned, models.rig, models.template, person.keypoints, fit)
    crop = LabelledCrop(aligned.camera, aligned.pose, window, 1)
    error, _ = landmark_errors(crop, models.rig, person.keypoints, fit)
    points = crop.keypoints(person.keypoints)
    padding = window.outside_share(person.photo_width, person.photo_height)
    return evidence(points, error, float("nan"), crop, fit, padding)


def _error(person: Person, portrait: str, yaw: float, pitch: float, said: LabelUncertainty) -> PersonError:
    return PersonError(
        photo_id=person.photo_id,
        index=0,
        order=person.order,
        true_yaw=float(np.degrees(yaw)),
        true_pitch=float(np.degrees(pitch)),
        head_pixels=float("nan"),
        person_id=person.person_id,
        portrait_id=portrait,
        error_probability=said.wrong,
        expected_yaw_error_deg=float(np.degrees(said.expected_yaw_error)),
    )
