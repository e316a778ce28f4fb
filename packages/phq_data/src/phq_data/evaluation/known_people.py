"""Labelled people of a workspace whose truth is known, with all that `evaluation.calibrate` learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from phq_data.errors import PhqError
from phq_data.evaluation.accuracy import PersonError
from phq_data.evaluation.calibrate import ENOUGH_FOR_PRIOR, Known, hidden_of
from phq_data.evaluation.multiview import ViewError
from phq_data.models.orientation.image_prior import ImageOrientationPrior, image_features
from phq_data.models.protocols import FitRequest
from phq_data.models.smplify.fitter import found_keypoints
from phq_data.pipeline.engine import load_config
from phq_data.pipeline.photos import read_photo
from phq_data.records import Fit, Person, Photo
from phq_data.stages.ingest import open_photo
from phq_data.workspace import Workspace


class OtherFitError(PhqError, ValueError):
    """A workspace whose labels were not made by what is calibrated."""


def known_people(
    workspace: Workspace,
    errors: Sequence[PersonError],
    prior: ImageOrientationPrior,
    on_photo: Callable[[int, int], object] = lambda done, all_of_them: None,
) -> list[Known]:
    """Everybody of `errors` who has a label; photos are opened only for as many as the prior learns from.

    Raises `OtherFitError`, and `WorkspaceError` or `OSError` where a photo cannot be read.
    """
    config = load_config(workspace)
    if config.fit.model != "smplify2" or config.fit.calibration or config.fit.orientation_prior != "image":
        chosen = config.fit
        raise OtherFitError(
            f"the labels of {workspace.url} were made with fit.model={chosen.model}, "
            f"fit.orientation_prior={chosen.orientation_prior} and "
            f"fit.calibration={chosen.calibration or 'none'}: what can be calibrated is a workspace built "
            "with smplify2, image and none"
        )
    wanted = {one.person_id: one for one in errors if one.portrait_id and np.isfinite(one.error_probability)}
    people = {one.person_id: one for one in workspace.records(Person) if one.person_id in wanted}
    fits = {
        one.person_id: one
        for one in workspace.records(Fit)
        if one.person_id in people and one.orientation_prior is not None
    }
    seen: dict[str, np.ndarray] = {}
    if len(fits) >= ENOUGH_FOR_PRIOR:
        seen = _hidden(workspace, [people[name] for name in sorted(fits)], prior, on_photo)
    return [_known(wanted[name], people[name], fits[name], seen.get(name)) for name in sorted(fits)]


def _known(error: PersonError, person: Person, fit: Fit, hidden: np.ndarray | None) -> Known:
    yaw, pitch = np.radians(error.true_yaw), np.radians(error.true_pitch)
    assert fit.orientation_prior is not None
    size = (person.photo_width, person.photo_height)
    return Known(
        group=error.instant if isinstance(error, ViewError) else person.photo_id,
        request=FitRequest(person.keypoints, person.box, size),
        prior=np.asarray(fit.orientation_prior),
        truth=np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]),
        probability=error.error_probability,
        expected=float(np.radians(error.expected_yaw_error_deg)),
        hidden=hidden,
    )


def _hidden(
    workspace: Workspace,
    people: Sequence[Person],
    prior: ImageOrientationPrior,
    on_photo: Callable[[int, int], object],
) -> dict[str, np.ndarray]:
    """What the prior's last layer sees of everybody, photo by photo."""
    photos = {one.photo_id: one for one in workspace.records(Photo)}
    limit = load_config(workspace).ingest.max_pixels
    groups: dict[str, list[Person]] = {}
    for person in people:
        groups.setdefault(person.photo_id, []).append(person)
    found = {}
    for done, (photo_id, group) in enumerate(groups.items()):
        pixels = open_photo(photo_id, read_photo(workspace, photos[photo_id].key), limit)
        points = [found_keypoints(one.keypoints) for one in group]
        for one, keypoints, maps in zip(group, points, image_features(pixels, points), strict=True):
            found[one.person_id] = hidden_of(prior, keypoints, maps)
        on_photo(done + 1, len(groups))
    return found
