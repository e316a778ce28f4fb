"""How far cameras, poses, windows and masks of a workspace are off, where the truth is known.

A person of the truth counts (`scored`) when enough is seen to ask for a portrait: most of the head, and a
shoulder. Every such person is matched to the detected people, then followed to the portrait and the
verdict of the screening. Shares and angles of the summary are those of kept portraits, because they are what
a dataset would contain; `accuracy_table` shows them before the screening, too.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from phq_data import camera as cameras
from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.evaluation.matching import angle_between, match_people, share, spread, wrapped
from phq_data.records import (
    Corner,
    EncodedImage,
    Keypoints,
    Label,
    Pose,
    Record,
    TruePerson,
    columns,
    from_table,
)
from phq_data.rig import PortraitRig, rotation_matrix
from phq_data.schema import SchemaError
from phq_data.workspace import Workspace, WorkspaceError

CONFUSED = np.radians(45.0)
"""A front taken for a back: the facing is wrong and the yaw is off by more than this."""
OCTANTS = tuple(range(-180, 180, 45))
"""Degrees of yaw in the middle of each octant; -180 is the view from behind, 0 the frontal one."""

_HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")
_SHOULDERS = ("left_shoulder", "right_shoulder")
_ANGLES = ("yaw_deg", "pitch_deg", "roll_deg", "neck_deg", "head_deg")


@dataclass(frozen=True, eq=False, kw_only=True)
class Detected(Record):
    """What is read of a detected person."""

    table = "people"
    photo_id: str
    person_id: str
    keypoints: Keypoints


@dataclass(frozen=True, eq=False, kw_only=True)
class Labelled(Record):
    """What is read of a portrait."""

    table = "portraits"
    portrait_id: str
    person_id: str
    camera: Label
    pose: Pose
    window: Corner
    landmark_error: float
    corrected_from: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class _Mask(Record):
    table = "portraits"
    portrait_id: str
    mask: EncodedImage


@dataclass(frozen=True, eq=False, kw_only=True)
class Verdict(Record):
    """What is read of the screening."""

    table = "screened"
    portrait_id: str
    kept: bool
    reasons: tuple[str, ...]
    error_probability: float
    expected_yaw_error: float | None = None


@dataclass(frozen=True)
class PersonError:
    """One scored person of the truth and what became of them. Angles in degrees; nan where there is none."""

    photo_id: str
    index: int  # of the photo in its series
    order: int
    true_yaw: float
    true_pitch: float
    head_pixels: float
    person_id: str = ""  # "" = not detected
    portrait_id: str = ""  # "" = no portrait
    kept: bool = False
    reasons: str = ""  # why it was not kept
    yaw: float = float("nan")  # as labelled
    yaw_deg: float = float("nan")  # errors from here on
    pitch_deg: float = float("nan")
    roll_deg: float = float("nan")
    neck_deg: float = float("nan")
    head_deg: float = float("nan")
    gaze_deg: float = float("nan")  # of neck and head together
    confused: bool = False  # front and back taken for each other
    shoulder_share: float = float("nan")  # of the image's side
    head_share: float = float("nan")
    shoulder_floor: float = float("nan")  # the same with the true label: the rig is not the person
    head_floor: float = float("nan")
    mask_iou: float = float("nan")
    error_probability: float = float("nan")  # what the screening thought; nan: of a corrected label
    expected_yaw_error_deg: float = float("nan")  # that it expected at the median
    residual: float = float("nan")

    @property
    def octant(self) -> int:
        """Middle of the octant of the true yaw, one of `OCTANTS`."""
        return OCTANTS[int((self.true_yaw + 202.5) // 45) % 8]

    @property
    def caption(self) -> str:
        """What stands below their portrait."""
        return (
            f"photo {self.index} person {self.order}: yaw {self.yaw:.0f}, true {self.true_yaw:.0f}; "
            f"pitch off {self.pitch_deg:.0f}; shoulders {self.shoulder_share:.3f}"
        )


def measure(workspace: Workspace, truth: pa.Table, rig: PortraitRig) -> list[PersonError]:
    """Errors of every scored person of `truth` whose photo is in the workspace.

    Raises `WorkspaceError` when the workspace holds none of the photos or is not built to its end.
    """
    present = set(workspace.table("photos", ["photo_id"])["photo_id"].to_pylist())
    true = [person for person in from_table(TruePerson, truth) if person.photo_id in present]
    if not true:
        raise WorkspaceError(
            f"the workspace {workspace.url} holds none of the photos of this truth; build it from the folder "
            "`photos` beside the truth file"
        )
    if set(workspace.parts("ledger/ingest")) - set(workspace.parts("ledger/screen")):
        raise WorkspaceError(
            f"the workspace {workspace.url} is not built to its end, so people would count as not found: run "
            "the same `phq build` again"
        )
    detected: dict[str, list[Detected]] = {}
    for seen in workspace.records(Detected):
        detected.setdefault(seen.photo_id, []).append(seen)
    groups: dict[str, list[TruePerson]] = {}
    for person in true:
        groups.setdefault(person.photo_id, []).append(person)
    portraits = {one.person_id: one for one in workspace.records(Labelled)}
    verdicts = {one.portrait_id: one for one in workspace.records(Verdict)}
    found: list[PersonError] = []
    wanted: dict[str, tuple[int, TruePerson, Labelled]] = {}
    for photo_id, group in sorted(groups.items()):
        others = detected.get(photo_id, [])
        heads = [one.head_pixels for one in group]
        seen_points = [one.keypoints for one in others]
        matches = match_people([one.keypoints for one in group], heads, seen_points)
        for person, match in zip(group, matches, strict=True):
            if not person.scored:
                continue
            person_id = "" if match is None else others[match].person_id
            portrait = portraits.get(person_id)
            verdict = verdicts.get(portrait.portrait_id) if portrait else None
            found.append(_error(person, person_id, portrait, verdict, rig))
            if portrait:
                wanted[portrait.portrait_id] = (len(found) - 1, person, portrait)
    if not found:
        raise WorkspaceError(
            "nobody in these photos is seen well enough to count: `phq synthesize` more of them"
        )
    return _with_masks(workspace, found, wanted)


def summary(errors: Sequence[PersonError]) -> dict[str, Any]:
    """The numbers of `phq accuracy --json`: errors of kept portraits, None where there are none."""
    kept = [e for e in errors if e.kept]
    detected = [
        float(np.mean([bool(e.person_id) for e in group])) for group in by_octant(errors).values() if group
    ]
    result: dict[str, Any] = {
        "count": len(errors),
        "detected_share_min_octant": _round(min(detected) if detected else None),
    }
    for name in _ANGLES:
        result[name] = spread([getattr(e, name) for e in kept])
    for name in ("shoulder_share", "head_share"):
        result[name] = spread([getattr(e, name) for e in kept])
    result["front_back_confusion_share"] = share([e.confused for e in kept])
    result["mask_iou"] = spread([e.mask_iou for e in kept], low=True)
    result["kept_share"] = _round(len(kept) / len(errors) if errors else None)
    return result


def by_octant(errors: Sequence[PersonError]) -> dict[int, list[PersonError]]:
    """People by the octant of their true yaw."""
    groups: dict[int, list[PersonError]] = {middle: [] for middle in OCTANTS}
    for error in errors:
        groups[error.octant].append(error)
    return groups


def worst(errors: Sequence[PersonError], count: int = 20) -> list[PersonError]:
    """The labelled people whose cameras are most wrong, kept ones first."""
    labelled = [e for e in errors if e.portrait_id]
    return sorted(labelled, key=lambda e: (not e.kept, -e.yaw_deg - e.pitch_deg))[:count]


def _error(
    person: TruePerson,
    person_id: str,
    portrait: Labelled | None,
    verdict: Verdict | None,
    rig: PortraitRig,
) -> PersonError:
    shoulder_floor, head_floor = _off_joints(person, person.camera, person.pose, person.window, rig)
    lost = PersonError(
        photo_id=person.photo_id, index=person.index, order=person.order,
        true_yaw=float(np.degrees(person.yaw)), true_pitch=float(np.degrees(person.pitch)),
        head_pixels=person.head_pixels, person_id=person_id,
        shoulder_floor=shoulder_floor, head_floor=head_floor,
    )  # fmt: skip
    if portrait is None:
        return lost
    cam2world, _ = cameras.from_label(portrait.camera)
    yaw, pitch, roll = (float(a) for a in cameras.angles(cam2world))
    turned = wrapped(yaw - person.yaw)
    facing = np.cos(yaw) * np.cos(person.yaw) < 0
    neck, true_neck = rotation_matrix(portrait.pose[:3]), rotation_matrix(person.pose[:3])
    head, true_head = rotation_matrix(portrait.pose[3:]), rotation_matrix(person.pose[3:])
    shoulders, face = _off_joints(person, portrait.camera, portrait.pose, portrait.window, rig)
    return dataclasses.replace(
        lost,
        portrait_id=portrait.portrait_id,
        kept=verdict is not None and verdict.kept,
        reasons=", ".join(verdict.reasons if verdict else ())[:60],
        yaw=float(np.degrees(yaw)),
        yaw_deg=float(np.degrees(abs(turned))),
        pitch_deg=float(np.degrees(abs(pitch - person.pitch))),
        roll_deg=float(np.degrees(abs(wrapped(roll - person.roll)))),
        neck_deg=_degrees_between(neck, true_neck),
        head_deg=_degrees_between(head, true_head),
        gaze_deg=_degrees_between(neck @ head, true_neck @ true_head),
        confused=bool(facing and abs(turned) > CONFUSED),
        shoulder_share=shoulders,
        head_share=face,
        # Of a label that a person vouched for the screening thought nothing.
        error_probability=(
            verdict.error_probability if verdict and portrait.corrected_from is None else float("nan")
        ),
        expected_yaw_error_deg=float(np.degrees(_or_nan(verdict.expected_yaw_error if verdict else None))),
        residual=portrait.landmark_error,
    )


def _off_joints(
    person: TruePerson, label: FloatArray, pose: FloatArray, window: FloatArray, rig: PortraitRig
) -> tuple[float, float]:
    """Mean distance of the rig's shoulders and of its head from the true ones, as shares of the side."""
    seen, _ = cameras.project(rig.posed_landmarks(pose), *cameras.from_label(label))
    truth = (person.joints - window[:2]) / window[2]

    def apart(names: Sequence[str]) -> float:
        rows = [JOINT_NAMES.index(name) for name in names]
        ours = seen[[rig.landmark(name) for name in names]]
        return float(np.linalg.norm(ours - truth[rows], axis=1).mean())

    return apart(_SHOULDERS), apart(_HEAD)


def _with_masks(
    workspace: Workspace,
    errors: list[PersonError],
    wanted: dict[str, tuple[int, TruePerson, Labelled]],
) -> list[PersonError]:
    """The errors with `mask_iou`; masks are read part by part, since all at once would not fit."""
    result = list(errors)
    for part in workspace.parts("tables/portraits"):
        masks = workspace.read_part("tables/portraits", part, columns(_Mask))
        for one in from_table(_Mask, masks):
            if one.portrait_id not in wanted:
                continue
            position, person, portrait = wanted[one.portrait_id]
            alpha = np.asarray(Image.open(io.BytesIO(one.mask.bytes)).convert("L"))
            try:
                whole = Image.open(io.BytesIO(person.mask.bytes)).convert("L")
            except (OSError, TypeError) as error:
                raise SchemaError(
                    f"the truth's mask of photo {person.index} cannot be read: make the truth again with "
                    "`phq synthesize`"
                ) from error
            iou = mask_overlap(alpha, whole, portrait.window)
            result[position] = dataclasses.replace(result[position], mask_iou=iou)
    return result


def mask_overlap(alpha: NDArray[np.uint8], truth: Image.Image, window: FloatArray) -> float:
    """Intersection over union of a portrait's mask and the true one, inside the photo; 1 when both are empty.

    `alpha` [S, S] is the portrait's, `truth` the whole photo's, `window` (x, y, side) in photo pixels.
    """
    size = alpha.shape[0]
    x, y, side = window
    low = np.floor([x, y]).astype(int)
    high = np.ceil([x + side, y + side]).astype(int) + 1
    region = truth.crop((int(low[0]), int(low[1]), int(high[0]), int(high[1])))
    box = (x - low[0], y - low[1], x - low[0] + side, y - low[1] + side)
    true = np.asarray(region.resize((size, size), Image.Resampling.BILINEAR, box=box)) >= 128
    centres = (np.arange(size) + 0.5) * side / size
    inside = ((x + centres > 0) & (x + centres < truth.width))[None] & (
        (y + centres > 0) & (y + centres < truth.height)
    )[:, None]
    ours = (alpha >= 128) & inside
    true = true & inside
    union = int((ours | true).sum())
    return float((ours & true).sum() / union) if union else 1.0


def _round(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _degrees_between(one: FloatArray, other: FloatArray) -> float:
    return float(np.degrees(angle_between(one, other)))
