"""How far labels of real photos contradict themselves, where no truth is known.

Every photo is labelled as it is, as its mirror image (whose labels are mirrored back) and as slightly changed
copies: a few percent cut off two sides, made smaller, stored again as JPEG. None of this changes what the
label should say, so every change of a label is an error of somebody; no change proves nothing, since a label
may be wrong every time. `torso` and `reference` alignment of the same fit are compared, too.

Counted are people of the unchanged photo who get a label and whom the screening would not call too small
(`screen.min_effective_resolution`): otherwise a few crowds would decide every number. The same is told of
those whom the whole screening keeps, since they are what a dataset would contain.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from phq_data import camera as cameras
from phq_data.arrays import FloatArray, ImageArray
from phq_data.config import AlignConfig, ConfigError, PipelineConfig
from phq_data.evaluation.matching import angle_between, match, middles, share, spread, wrapped
from phq_data.images.codecs import PhotoError, decode
from phq_data.models.protocols import NamedPhotoDetector
from phq_data.records import Fit, Person, Photo
from phq_data.rig import rotation_matrix
from phq_data.sources import Source
from phq_data.stages.align import AlignError, Alignment, Template, align
from phq_data.stages.align_crop import align_crop
from phq_data.stages.base import Labeller
from phq_data.stages.crop import CropError, choose_window
from phq_data.stages.detect import detect
from phq_data.stages.fit import fit
from phq_data.stages.screen import screen
from phq_data.stages.uncertainty import load_model
from phq_data.text import shown_name

CUT = 0.04
"""Share of width and height that is cut off two sides of a shifted copy."""
SMALLER = 0.8
QUALITY = 75
MATCH_DISTANCE = 0.35
"""Distance of head and shoulders, in spreads of the person's face and shoulders, above which it is somebody
else."""
FLIPPED = 90.0
"""Degrees of yaw from which on front and back, or the two sides, were taken for each other."""
KINDS = ("mirror", "shift", "rescale", "reencode", "alignments")
ANGLES = ("yaw_deg", "pitch_deg", "roll_deg", "neck_deg", "head_deg")

_BUST = slice(0, 7)
_NAN = float("nan")


@dataclass(frozen=True)
class Copy:
    """A changed copy of a photo, and where its points lie in the photo: scale * (x, y) + offset."""

    kind: str  # one of KINDS
    pixels: ImageArray  # [H, W, 3]
    scale: FloatArray  # [2]
    offset: FloatArray  # [2] pixels of the photo
    mirrored: bool = False


@dataclass(frozen=True)
class Change:
    """How one person's label changed from the photo to one copy. Degrees, never negative; nan when lost."""

    photo: str  # file name
    order: int  # of the person, as detected in the unchanged photo
    kind: str
    yaw: float  # of the unchanged photo's label, signed
    side: float  # of the person's window, photo pixels
    kept: bool  # does the screening keep the unchanged photo's portrait?
    lost: bool  # not found again, or found without a label
    yaw_deg: float = _NAN
    pitch_deg: float = _NAN
    roll_deg: float = _NAN
    neck_deg: float = _NAN
    head_deg: float = _NAN


@dataclass(frozen=True)
class Tally:
    """What became of the files."""

    photos: int  # read
    unread: tuple[tuple[str, str], ...]  # file and why: no photo, or damaged, or refused by ingest settings
    empty: int  # photos without a person who counts


@dataclass(frozen=True)
class _Labelled:
    person: Person
    fit: Fit | None = None
    aligned: Alignment | None = None


def copies(pixels: ImageArray) -> Iterator[Copy]:
    """The changed copies of a photo [H, W, 3], one at a time: mirror, shift (twice), rescale, reencode."""
    height, width = pixels.shape[:2]
    same, zero = np.ones(2), np.zeros(2)
    yield Copy("mirror", cameras.mirror_image(pixels), np.array([-1.0, 1.0]), np.array([width, 0.0]), True)
    x, y = max(1, round(CUT * width)), max(1, round(CUT * height))
    yield Copy("shift", np.ascontiguousarray(pixels[y:, x:]), same, np.array([x, y], np.float64))
    yield Copy("shift", np.ascontiguousarray(pixels[:-y, :-x]), same, zero)
    size = (max(1, round(SMALLER * width)), max(1, round(SMALLER * height)))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    yield Copy("rescale", np.array(small), np.array([width / size[0], height / size[1]]), zero)
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", quality=QUALITY)
    yield Copy("reencode", np.array(Image.open(stored).convert("RGB")), same, zero)


def measure(
    sources: Sequence[Source],
    models: Labeller,
    config: PipelineConfig,
    on_photo: Callable[[], object] = lambda: None,
) -> tuple[list[Change], Tally]:
    """Changes of every person who counts, in all photos of `sources`. One photo is held at a time.

    `on_photo` is called after every file. Raises `SourceError` for an unusable source, `ConfigError` for a
    detector that uses no image.
    """
    if isinstance(models.detector, NamedPhotoDetector):
        raise ConfigError(
            "the consistency report changes images and needs a detector that uses them, not keypoints "
            "from a file: set detect.model to another one"
        )
    changes: list[Change] = []
    photos = empty = 0
    unread: list[tuple[str, str]] = []
    for source in sources:
        for file in source.files():
            try:
                if file.size > config.ingest.max_bytes:
                    raise PhotoError("too_many_bytes", f"{file.size:,} bytes")
                with source.open(file) as stream:
                    pixels = decode(stream.read(), max_pixels=config.ingest.max_pixels).pixels
                if min(pixels.shape[:2]) < config.ingest.min_side:
                    raise PhotoError("too_small", "a side is shorter than ingest.min_side")
            except (PhotoError, OSError) as error:
                unread.append((shown_name(file.uri), str(error)))
                on_photo()
                continue
            found = changes_of(shown_name(file.uri), pixels, models, config)
            photos += 1
            empty += not found
            changes += found
            on_photo()
    return changes, Tally(photos, tuple(unread), empty)


def changes_of(name: str, pixels: ImageArray, models: Labeller, config: PipelineConfig) -> list[Change]:
    """Changes of every person who counts in one photo [H, W, 3]: one for each copy and one for alignments."""
    people = _label(pixels, models, config)
    sides = [_side(person, models, config) for person in people]
    counted = [
        i for i, side in enumerate(sides) if side / config.crop.size >= config.screen.min_effective_resolution
    ]
    if not counted:
        return []
    kept = _kept([people[i] for i in counted], people, pixels, models, config)
    changes: list[Change] = []

    def add(index: int, kind: str, other: Alignment | None) -> None:
        aligned = people[index].aligned
        assert aligned is not None
        yaw = float(np.degrees(cameras.angles(aligned.camera)[0]))
        off = label_change(aligned.camera, aligned.pose, other.camera, other.pose) if other else {}
        changes.append(Change(name, index, kind, yaw, sides[index], index in kept, other is None, **off))

    for copy in copies(pixels):
        again = _label(copy.pixels, models, config)
        matches = _match(people, [_keypoints_back(one.person.keypoints, copy) for one in again])
        for index in counted:
            match = matches[index]
            aligned = None if match is None else again[match].aligned
            add(index, copy.kind, _mirrored(aligned) if aligned and copy.mirrored else aligned)
    other = AlignConfig(joints="torso" if config.align.joints == "reference" else "reference")
    for index in counted:
        add(index, "alignments", _align(people[index].fit, other, models.template))
    return changes


def label_change(
    camera: ArrayLike,  # [4, 4] camera-to-world
    pose: ArrayLike,  # [6] neck and head axis-angle, radians
    other_camera: ArrayLike,
    other_pose: ArrayLike,
) -> dict[str, float]:
    """Differences of two labels in degrees by the names in `ANGLES`: angles on the circle, and the angles
    between the two rotations of the neck and of the head."""
    one, two = cameras.angles(camera), cameras.angles(other_camera)
    turned = [abs(wrapped(float(a) - float(b))) for a, b in zip(one, two, strict=True)]
    a, b = np.asarray(pose, np.float64), np.asarray(other_pose, np.float64)
    turned += [
        angle_between(rotation_matrix(a[part]), rotation_matrix(b[part])) for part in (slice(3), slice(3, 6))
    ]
    return {name: float(np.degrees(angle)) for name, angle in zip(ANGLES, turned, strict=True)}


def summary(changes: Sequence[Change], tally: Tally) -> dict[str, Any]:
    """The numbers of `phq consistency --json`; None where there is nothing to count.

    `count` is people; `kept` has the same numbers of those whom the screening keeps. Alignments have no
    `neck_deg` and `head_deg`: those do not depend on the alignment.
    """
    return {
        **_numbers(changes),
        "kept": _numbers([change for change in changes if change.kept]),
        "photos": tally.photos,
        "photos_without_people": tally.empty,
        "unread_files": len(tally.unread),
        "unread": [{"file": name, "reason": reason} for name, reason in tally.unread],
        "worst": [dataclasses.asdict(change) for change in worst(changes)],
    }


def _numbers(changes: Sequence[Change]) -> dict[str, Any]:
    result: dict[str, Any] = {"count": sum(c.kind == "alignments" for c in changes)}  # each person has one
    for kind in KINDS:
        group = [c for c in changes if c.kind == kind]
        found = [c for c in group if not c.lost]
        names = ANGLES[:3] if kind == "alignments" else ANGLES
        result[kind] = {
            **{name: spread([getattr(c, name) for c in found]) for name in names},
            "flipped_share": share([c.yaw_deg > FLIPPED for c in found]),
            "lost_share": share([c.lost for c in group]),
        }
    return result


def worst(changes: Sequence[Change], count: int = 10) -> list[Change]:
    """The people whose camera changed most, each with their worst copy; alignments are left out."""
    largest: dict[tuple[str, int], Change] = {}
    for change in changes:
        if change.lost or change.kind == "alignments":
            continue
        key = (change.photo, change.order)
        if key not in largest or _camera(change) > _camera(largest[key]):
            largest[key] = change
    return sorted(largest.values(), key=_camera, reverse=True)[:count]


def _label(pixels: ImageArray, models: Labeller, config: PipelineConfig) -> list[_Labelled]:
    """Detect, fit and align everybody in an image [H, W, 3], by the stages of the pipeline."""
    photo = _photo(pixels)
    people = detect([photo], lambda _: pixels, models.detector, config.detect).records
    fitted = fit(people, models.fitter, config.fit, photos=[photo], open_photo=lambda _: pixels).records
    fits = {one.person_id: one for one in fitted}
    labelled = []
    for person in people:
        found = fits.get(person.person_id)
        labelled.append(_Labelled(person, found, _align(found, config.align, models.template)))
    return labelled


def _photo(pixels: ImageArray) -> Photo:
    """What the stages want to know of an upright image [H, W, 3] that is no file."""
    height, width = pixels.shape[:2]
    return Photo(
        provider="", source="", uri="", key="", photo_id="photo", width=width, height=height, format="",
        bytes=0, orientation=1, color="sRGB", phash=0,
    )  # fmt: skip


def _kept(
    wanted: Sequence[_Labelled],
    everybody: Sequence[_Labelled],
    pixels: ImageArray,
    models: Labeller,
    config: PipelineConfig,
) -> set[int]:
    """Which of `wanted` the screening keeps, by their order, by the stages of the pipeline."""
    people = [one.person for one in everybody]
    fits = [one.fit for one in wanted if one.fit is not None]
    portraits = align_crop(
        fits, people, [_photo(pixels)], lambda _: pixels, models.segmenter, models.rig, models.template,
        config,
    ).records  # fmt: skip
    uncertainty = load_model(config.fit.model, config.fit.calibration)
    verdicts = screen(
        portraits, people, config.screen, models.rig, fits=fits, uncertainty=uncertainty
    ).records
    good = {verdict.portrait_id for verdict in verdicts if verdict.kept}
    names = {portrait.person_id for portrait in portraits if portrait.portrait_id in good}
    return {person.order for person in people if person.person_id in names}


def _align(found: Fit | None, config: AlignConfig, template: Template) -> Alignment | None:
    if found is None:
        return None
    try:
        return align(found, config, template)
    except AlignError:
        return None


def _side(person: _Labelled, models: Labeller, config: PipelineConfig) -> float:
    """Side of the person's window in photo pixels; 0 for people without a label."""
    if person.aligned is None or person.fit is None:
        return 0.0
    try:
        window = choose_window(
            config.crop.mode, person.aligned, models.rig, models.template, person.person.keypoints, person.fit
        )
    except CropError:
        return 0.0
    return window.side


def _mirrored(aligned: Alignment) -> Alignment:
    """The label that the unchanged photo should have; only camera and pose are meant."""
    camera, pose = cameras.mirror_camera(aligned.camera), cameras.mirror_pose(aligned.pose)
    return dataclasses.replace(aligned, camera=camera, pose=pose)


def _keypoints_back(keypoints: FloatArray, copy: Copy) -> FloatArray:
    points = keypoints.copy()
    points[:, :2] = points[:, :2] * copy.scale + copy.offset
    return points


def _match(people: Sequence[_Labelled], again: Sequence[FloatArray]) -> list[int | None]:
    """For each of `people`, who of `again` [17, 3] it is. Everybody takes part, also who does not count: a
    neighbour's keypoints belong to the neighbour."""
    ours, theirs = [middles(one.person.keypoints) for one in people], [middles(points) for points in again]
    return match(ours, theirs, [_bust(one.person.keypoints) for one in people], MATCH_DISTANCE)


def _bust(points: FloatArray) -> float:
    """Spread of face and shoulders, pixels."""
    bust = points[_BUST, :2]
    return max(float(np.linalg.norm(bust[:, None] - bust[None], axis=-1).max()), 1e-6)


def _camera(change: Change) -> float:
    return change.yaw_deg + change.pitch_deg
