"""What the page needs to correct a portrait's label: the label, what else the fit found, and a fit anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import sqlalchemy as sa

from phq_data import camera
from phq_data.arrays import FloatArray
from phq_data.errors import ModelError, PhqError
from phq_data.models.protocols import BodyFit, FitRequest
from phq_data.models.smplify.fitter import BodyStart, SmplifyFitter
from phq_data.pipeline import corrections as applied_corrections
from phq_data.pipeline import whole
from phq_data.pipeline.engine import load_config
from phq_data.pipeline.model_set import Models, models_for
from phq_data.pipeline.photos import read_photo
from phq_data.records import Corner, Fit, Keypoints, Label, Person, Pose, R, Record, columns, from_table
from phq_data.review import corrections
from phq_data.review.corrections import SeenPortrait
from phq_data.review.records import CorrectionEntry, Item, StoredLabel
from phq_data.review.store import Store, chunks
from phq_data.review.tables import ITEMS, REPLACED
from phq_data.rig import rotation_matrix
from phq_data.stages.align import AlignError, align
from phq_data.stages.crop import CropError, Window, choose_window
from phq_data.stages.fit import fit_record
from phq_data.stages.relabel import PlacedLabel, RelabelError, through
from phq_data.workspace import Workspace, WorkspaceError

MOST_HYPOTHESES = 6
_APART = np.radians(25.0)  # hypotheses closer than this are one
_BELIEVED = np.cos(np.radians(45.0))  # the orientation prior is asked where it is nearer than this to a start


class CorrectingError(PhqError, LookupError):
    """The label cannot be had or fitted again; the message says why."""


@dataclass(frozen=True)
class Hypothesis:
    """Another explanation of what is seen. Labels are in the portrait's window, with its intrinsics."""

    label: StoredLabel
    yaw: float  # of the camera, radians
    cost: float  # -2 log likelihood; the fit's own has the least


@dataclass(frozen=True)
class LabelFacts:
    """A portrait's label and what is known around it."""

    label: StoredLabel | None  # None: the workspace no longer has the portrait
    hypotheses: tuple[Hypothesis, ...]
    keypoints: tuple[float, ...]  # [51] portrait pixels, score
    corrections: tuple[CorrectionEntry, ...]  # of this person's label, by anybody
    state: Literal["none", "holds", "disputed"]  # of these corrections
    ruled: bool  # by a lead: only another lead's correction that settles counts from then on
    waits: bool  # a correction holds, or one was taken back, that the last build did not know
    why_not: str  # why the label cannot be corrected, or ""


@dataclass(frozen=True)
class Snapped:
    """A fit from a person's start."""

    label: StoredLabel
    residual: float  # reprojection error, shoulder breadths
    yaw_moved: float  # radians, 0 or more


@dataclass(frozen=True, eq=False, kw_only=True)
class _Portrait(Record):
    """What is read of a portrait."""

    table = "portraits"
    portrait_id: str
    person_id: str
    fit_id: str
    photo_id: str
    camera: Label
    pose: Pose
    window: Corner
    keypoints: Keypoints


@dataclass(frozen=True)
class _Fitted:
    """A person as the fit knows them."""

    person: Person
    fit: Fit


class Corrector:
    """Labels of a workspace's portraits. Safe to use from many threads."""

    def __init__(self, workspace: Workspace, store: Store) -> None:
        self._workspace = workspace
        self._store = store

    def seen(self, portraits: Iterable[str]) -> dict[str, SeenPortrait]:
        """What a corrector has before them, by portrait; unknown ones are left out."""
        found: dict[str, SeenPortrait] = {}
        smallest = load_config(self._workspace).crop.min_window
        for item in self._items(portraits):
            portrait = self._portrait(item) if item.active else None
            label = None if portrait is None else _stored(_placed(portrait))
            photo = (item.facts.photo.width, item.facts.photo.height)
            found[item.portrait_id] = SeenPortrait(
                item.photo_id, item.person_id, label, photo, smallest, self._objection(item, portrait)
            )
        return found

    def describe(self, portrait_id: str) -> LabelFacts:
        """The label of a portrait. Raises `CorrectingError` for one that never was."""
        item = next(iter(self._items([portrait_id])), None)
        if item is None:
            raise CorrectingError("this workspace has no such portrait")
        log = corrections.of_person(self._store, item.person_id)
        settled = applied_corrections.settled(one.to_correction() for one in log).get(item.person_id)
        portrait = self._portrait(item) if item.active else None
        label = None if portrait is None else _placed(portrait)
        hypotheses: tuple[Hypothesis, ...] = ()
        fitted = None if portrait is None else self._fitted(item.part, portrait)
        if label is not None and fitted is not None:
            hypotheses = self._hypotheses(label, fitted)
        holds = settled.correction if settled else None
        taken = applied_corrections.applied(self._workspace).ids()
        return LabelFacts(
            label=None if label is None else _stored(label),
            hypotheses=hypotheses,
            keypoints=() if portrait is None else tuple(portrait.keypoints.ravel().tolist()),
            corrections=tuple(log),
            state=settled.state if settled else "none",
            ruled=holds is not None and holds.client.startswith(applied_corrections.ADJUDICATION),
            waits=taken.get(item.person_id) != (holds.correction_id if holds else None)
            or bool(whole.uncorrected(self._workspace, [one.to_correction() for one in log], item.part)),
            why_not=self._objection(item, portrait),
        )

    def snap(self, portrait_id: str, given: StoredLabel) -> Snapped:
        """A fit to the person's keypoints from a label. Raises `CorrectingError`, `RelabelError`."""
        start = PlacedLabel.of(given.camera, given.pose, given.window)
        item = next(iter(self._items([portrait_id])), None)
        portrait = self._portrait(item) if item is not None and item.active else None
        if item is None or portrait is None:
            raise CorrectingError("this workspace has no such portrait (any more): reload")
        fitted = self._fitted(item.part, portrait)
        models = self._models()
        if fitted is None or models is None:
            raise CorrectingError(
                "labels of this workspace cannot be fitted again here: that needs people and fits of smplify"
            )
        made = self._refit(models, fitted, [start], start.window, believe=True)[0]
        if made is None:
            raise CorrectingError("the fit from here found no camera: move the label nearer to the person")
        label, fit = made
        return Snapped(_stored(label), float(fit.residual), _apart(_yaw(label), _yaw(start)))

    # ---- fitting -----------------------------------------------------------------------------------------

    def _hypotheses(self, label: PlacedLabel, fitted: _Fitted) -> tuple[Hypothesis, ...]:
        chosen: list[tuple[float, float]] = []
        for yaw, cost in fitted.fit.hypotheses.tolist():
            known = [_yaw(label), *(one for one, _ in chosen)]
            if all(_apart(yaw, one) > _APART for one in known) and np.isfinite(cost):
                chosen.append((yaw, cost))
        chosen = chosen[:MOST_HYPOTHESES]
        starts = [_turned(label, yaw) for yaw, _ in chosen]
        models = self._models()
        if starts and models is not None:  # without, the starts themselves are shown
            made = self._refit(models, fitted, starts, label.window, believe=False)
            # One that falls back to the label is shown as it began.
            starts = [
                start if one is None or _apart(_yaw(one[0]), _yaw(label)) < _APART else one[0]
                for start, one in zip(starts, made, strict=True)
            ]
        return tuple(
            Hypothesis(_stored(start), _yaw(start), cost)
            for start, (_, cost) in zip(starts, chosen, strict=True)
        )

    def _refit(
        self,
        models: Models,
        fitted: _Fitted,
        starts: list[PlacedLabel],
        window: Window,
        *,
        believe: bool,  # the orientation prior, where a start does not contradict it
    ) -> list[tuple[PlacedLabel, BodyFit] | None]:
        """Fits from these labels, as labels in `window`; None where one found no camera."""
        person, fitter = fitted.person, models.fitter
        assert isinstance(fitter, SmplifyFitter)
        size = (person.photo_width, person.photo_height)
        focal = fitter.config.focal_long_sides * max(size)
        principal = np.array(size) / 2
        priors = [_believed(fitted.fit, one) if believe else None for one in starts]
        bodies = [
            BodyStart(*through(one, focal, principal), one.pose, prior)
            for one, prior in zip(starts, priors, strict=True)
        ]
        fits = fitter.refit(FitRequest(person.keypoints, person.box, size), bodies)
        found: list[tuple[PlacedLabel, BodyFit] | None] = []
        config = load_config(self._workspace)
        for one in fits:
            fit = fit_record(person, fitter, one)
            try:
                aligned = align(fit, config.align, models.template)
                place = choose_window("fit", aligned, models.rig, models.template, person.keypoints, fit)
                label = PlacedLabel(aligned.camera, camera.INTRINSICS, aligned.pose, place)
                found.append((label.seen_in(window), one))
            except (AlignError, CropError, camera.CameraError):
                found.append(None)
        return found

    def _models(self) -> Models | None:
        """The models of the workspace; None where its fitter cannot fit from a start, or is not there."""
        config = load_config(self._workspace)
        if config.fit.model not in ("smplify", "smplify2"):
            return None
        models = models_for(config)
        try:
            return models if isinstance(models.fitter, SmplifyFitter) else None
        except ModelError:
            return None

    # ---- rows --------------------------------------------------------------------------------------------

    def _items(self, portraits: Iterable[str]) -> list[Item]:
        with self._store.database.read() as connection:
            return [
                Item.from_row(row)
                for chunk in chunks(dict.fromkeys(portraits))
                for row in connection.execute(sa.select(ITEMS).where(ITEMS.c.portrait_id.in_(chunk)))
            ]

    def _portrait(self, item: Item) -> _Portrait | None:
        """Its row; None when the workspace was built anew and the index does not know it yet."""
        rows = self._rows(_Portrait, "tables/portraits", item.part)
        return next((one for one in rows if one.portrait_id == item.portrait_id), None)

    def _fitted(self, part: int, portrait: _Portrait) -> _Fitted | None:
        people = self._rows(Person, "tables/people", part)
        fits = self._rows(Fit, "tables/fits", part)
        person = next((one for one in people if one.person_id == portrait.person_id), None)
        fit = next((one for one in fits if one.fit_id == portrait.fit_id), None)
        return None if person is None or fit is None else _Fitted(person, fit)

    def _rows(self, kind: type[R], folder: str, part: int) -> list[R]:
        if self._workspace.part_info(folder, part) is None:
            return []
        return from_table(kind, self._workspace.read_part(folder, part, columns(kind)))

    def _objection(self, item: Item, portrait: _Portrait | None) -> str:
        """Why a portrait's label cannot be corrected, or ""."""
        if portrait is None:
            with self._store.database.read() as connection:
                statement = sa.select(REPLACED.c.by_portrait_id).where(
                    REPLACED.c.portrait_id == item.portrait_id
                )
                last = connection.execute(statement.order_by(REPLACED.c.seq.desc())).first()
            if not item.active and last is not None and last.by_portrait_id is None:
                return "this portrait was taken out of the workspace"
            return "this portrait was replaced by a newer build: correct the new one"
        key = item.facts.photo.key
        try:
            if hashlib.sha256(read_photo(self._workspace, key)).hexdigest() != item.photo_id:
                return f"the file of photo {item.photo_id[:12]} has changed since the build"
        except (WorkspaceError, OSError) as error:
            return f"the original photo cannot be read, and no portrait can be made of it: {error}"
        return ""


def _placed(portrait: _Portrait) -> PlacedLabel:
    try:
        return PlacedLabel.of(portrait.camera, portrait.pose, portrait.window.tolist())
    except RelabelError as error:
        raise WorkspaceError(f"portrait {portrait.portrait_id} has no label: {error}") from error


def _stored(label: PlacedLabel) -> StoredLabel:
    return StoredLabel(*(tuple(values) for values in label.columns()))


def _yaw(label: PlacedLabel) -> float:
    return float(camera.angles(label.on_sphere)[0])


def _apart(one: float, other: float) -> float:
    """The angle between two yaws, 0 to pi."""
    return float(abs(np.angle(np.exp(1j * (one - other)))))


def _believed(fit: Fit, start: PlacedLabel) -> FloatArray | None:
    """The fit's orientation prior where a person's start does not contradict it."""
    if fit.orientation_prior is None:
        return None
    towards = start.camera[:3, 3] / np.linalg.norm(start.camera[:3, 3])
    chest = fit.orientation_prior[:3] / max(float(np.linalg.norm(fit.orientation_prior[:3])), 1e-9)
    return fit.orientation_prior if float(towards @ chest) > _BELIEVED else None


def _turned(label: PlacedLabel, yaw: float) -> PlacedLabel:
    """The label with the person turned about their own vertical axis, so that the camera has this yaw."""
    turn = np.eye(4)
    turn[:3, :3] = _about_y(yaw - _yaw(label))
    return PlacedLabel(turn @ label.camera, label.intrinsics, label.pose, label.window)


def _about_y(angle: float) -> FloatArray:
    return rotation_matrix(np.array([0.0, angle, 0.0]))
