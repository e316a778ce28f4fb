"""Labels of a workspace against the truth of calibrated cameras, and against each other."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np

from phq_data import camera as cameras
from phq_data.evaluation.accuracy import CONFUSED, Detected, Labelled, PersonError, Verdict
from phq_data.evaluation.matching import wrapped
from phq_data.evaluation.triangulation import Chest, turn_between
from phq_data.evaluation.true_poses import (
    TRUSTED,
    TruePose,
    chest_rotation,
    true_label,
    true_poses,
)
from phq_data.records import Record
from phq_data.views import CalibratedCamera, Views, ViewsError
from phq_data.workspace import Workspace, WorkspaceError

_HEAD = 0.25


@dataclass(frozen=True, eq=False, kw_only=True)
class _Photo(Record):
    table = "photos"
    photo_id: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class ViewError(PersonError):
    """A `PersonError` against a triangulated truth. Angles in degrees; signed: label minus truth."""

    camera: str = ""
    instant: str = ""
    file: str = ""
    neck: tuple[float, float] = (float("nan"), float("nan"))  # pixels, of the truth
    views: int = 0  # that the truth is made of
    sigma: float = float("nan")  # standard error of the true yaw
    true_roll: float = float("nan")
    yaw_signed: float = float("nan")
    pitch_signed: float = float("nan")
    roll_signed: float = float("nan")
    swapped: bool = False  # the detector exchanged the shoulders in this view

    @property
    def trusted(self) -> bool:
        """Is the truth good enough to judge the label?"""
        return self.views >= 3 and self.sigma <= TRUSTED

    @property
    def caption(self) -> str:
        """What stands below their portrait."""
        return (
            f"{self.file} person {self.order}: yaw {self.yaw:.0f}, true {self.true_yaw:.0f} ± "
            f"{self.sigma:.0f}; pitch off {self.pitch_deg:.0f}"
        )

    @property
    def toward_front(self) -> float:
        """Degrees that the person is labelled more frontal than they are."""
        return abs(wrapped(self.true_yaw, 360)) - abs(wrapped(self.yaw, 360))


@dataclass(frozen=True)
class RelativeError:
    """Two labels of one person at one instant: how far the chests that they state are turned apart."""

    instant: str
    order: int
    cameras: tuple[str, str]
    yaw_deg: float
    kept: bool  # both portraits


@dataclass(frozen=True, eq=False)
class ViewResult:
    """What views tell about a workspace."""

    errors: list[ViewError]
    relative: list[RelativeError]
    people: list[TruePose]
    photos: Mapping[tuple[str, str], str]  # (camera, instant) -> photo_id
    lacking: list[str]  # files that are not in the workspace
    unmatched: int  # detections without a truth: seen by one view, without hips, or where views disagree


def measure(workspace: Workspace, views: Views) -> ViewResult:
    """Every label of the calibrated photos against the triangulated truth, and against each other.

    Raises `ViewsError` when photos are of another size than their cameras' or no instant has two of them,
    `WorkspaceError` when the workspace is not built to its end.
    """
    if set(workspace.parts("ledger/ingest")) - set(workspace.parts("ledger/screen")):
        raise WorkspaceError(
            f"the workspace {workspace.url} is not built to its end, so people would count as not found: run "
            "the same `phq build` again"
        )
    photos, lacking = _locate(workspace, views)
    seen: dict[str, list[Detected]] = {}
    for person in workspace.records(Detected):
        seen.setdefault(person.photo_id, []).append(person)
    files = {(photo.camera, photo.instant): photo.file for photo in views.photos}
    labels = _Labels(workspace)
    errors: list[ViewError] = []
    relative: list[RelativeError] = []
    people: list[TruePose] = []
    detected = 0
    by_instant: dict[str, dict[str, str]] = {}
    for (name, instant), photo_id in photos.items():
        by_instant.setdefault(instant, {})[name] = photo_id
    for index, (instant, here) in enumerate(by_instant.items()):
        own = [views.camera(name) for name in here]
        found = [[(one.person_id, one.keypoints) for one in seen.get(here[one.name], [])] for one in own]
        detected += sum(map(len, found))
        for truth in true_poses(instant, own, found):
            people.append(truth)
            group = []
            for camera in own:
                error = labels.error(truth, camera, here[camera.name], index)
                if error is not None:
                    group.append(dataclasses.replace(error, file=files[camera.name, instant]))
            errors += group
            relative += _relative(group, truth.chest, own, labels)
    if not people:
        raise ViewsError(
            "nobody's shoulders and hips are seen by two calibrated cameras at one instant: check that "
            "cameras, photos and instants belong together, and that R and t lead from the world to the "
            "camera, in metres"
        )
    return ViewResult(
        errors, relative, people, photos, lacking, detected - sum(len(one.members) for one in people)
    )


def _locate(workspace: Workspace, views: Views) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Photo ids by (camera, instant), and the files that the workspace lacks."""
    by_name: dict[str, list[_Photo]] = {}
    for photo in workspace.records(_Photo):
        by_name.setdefault(unquote(photo.uri).rpartition("/")[2], []).append(photo)
    found, lacking = {}, []
    for one in views.photos:
        file = one.file.replace("\\", "/")
        near = [
            photo
            for photo in by_name.get(file.rpartition("/")[2], [])
            if f"/{unquote(photo.uri)}".endswith(f"/{file.lstrip('/')}")
        ]
        if len(near) > 1:
            raise ViewsError(
                f"{len(near)} photos of the workspace are called '{one.file}': name them with their folders"
            )
        if not near:
            lacking.append(one.file)
            continue
        camera = views.camera(one.camera)
        if (near[0].width, near[0].height) != (camera.width, camera.height):
            raise ViewsError(
                f"photo '{one.file}' has {near[0].width}x{near[0].height} pixels, its camera '{camera.name}' "
                f"{camera.width}x{camera.height}: width, height and K hold for the photos as they are"
            )
        found[one.camera, one.instant] = near[0].photo_id
    instants = [instant for _, instant in found]
    if len(set(instants)) == len(instants):
        raise ViewsError(
            f"the workspace {workspace.url} holds {len(found)} of the {len(views.photos)} photos and no two "
            "of one instant: build it from the folder of these photos"
        )
    return found, lacking


class _Labels:
    """Portraits and verdicts of a workspace by person."""

    def __init__(self, workspace: Workspace) -> None:
        self.portraits = {one.person_id: one for one in workspace.records(Labelled)}
        self.verdicts = {one.portrait_id: one for one in workspace.records(Verdict)}

    def error(self, truth: TruePose, camera: CalibratedCamera, photo_id: str, index: int) -> ViewError | None:
        """What became of a person in one view; None where their neck is not in the image."""
        pose = truth.chest
        local = camera.local(pose.neck)
        person_id = truth.members.get(camera.name, "")
        pixel = camera.project(pose.neck)
        inside = local[2] > 0.2 and ((pixel >= 0) & (pixel <= (camera.width, camera.height))).all()
        if not inside and not person_id:
            return None
        yaw, pitch, roll = (float(angle) for angle in cameras.angles(true_label(pose, camera)))
        lost = ViewError(
            photo_id=photo_id, index=index, order=truth.number, true_yaw=float(np.degrees(yaw)),
            true_pitch=float(np.degrees(pitch)), true_roll=float(np.degrees(roll)),
            head_pixels=camera.K[0][0] * _HEAD / float(local[2]), person_id=person_id, camera=camera.name,
            instant=truth.instant, views=len(truth.members), sigma=truth.sigma,
            swapped=camera.name in truth.swapped, neck=(float(pixel[0]), float(pixel[1])),
        )  # fmt: skip
        portrait = self.portraits.get(person_id)
        if portrait is None:
            return lost
        verdict = self.verdicts.get(portrait.portrait_id)
        own = [float(angle) for angle in cameras.angles(cameras.from_label(portrait.camera)[0])]
        off = [wrapped(said - true) for said, true in zip(own, (yaw, pitch, roll), strict=True)]
        expected = verdict.expected_yaw_error if verdict else None
        signed = np.degrees(off)
        return dataclasses.replace(
            lost,
            portrait_id=portrait.portrait_id,
            kept=verdict is not None and verdict.kept,
            reasons=", ".join(verdict.reasons if verdict else ())[:60],
            yaw=float(np.degrees(own[0])),
            yaw_deg=float(abs(signed[0])), pitch_deg=float(abs(signed[1])), roll_deg=float(abs(signed[2])),
            yaw_signed=float(signed[0]), pitch_signed=float(signed[1]), roll_signed=float(signed[2]),
            confused=bool(np.cos(own[0]) * np.cos(yaw) < 0 and abs(off[0]) > CONFUSED),
            error_probability=verdict.error_probability if verdict else float("nan"),
            expected_yaw_error_deg=float("nan") if expected is None else float(np.degrees(expected)),
            residual=portrait.landmark_error,
        )  # fmt: skip


def _relative(
    group: Sequence[ViewError], pose: Chest, own: Sequence[CalibratedCamera], labels: _Labels
) -> list[RelativeError]:
    """All pairs of labels of one person; of the truth only where the neck is enters."""
    stated = []
    by_name = {camera.name: camera for camera in own}
    for error in group:
        if error.portrait_id:
            camera = by_name[error.camera]
            label = cameras.from_label(labels.portraits[error.person_id].camera)[0]
            rotation = np.array(camera.R).T @ chest_rotation(label, camera.local(pose.neck))
            stated.append((error, rotation))
    return [
        RelativeError(
            instant=a.instant,
            order=a.order,
            cameras=(a.camera, b.camera),
            yaw_deg=float(np.degrees(abs(turn_between(one, other)))),
            kept=a.kept and b.kept,
        )
        for (a, one), (b, other) in itertools.combinations(stated, 2)
    ]
