"""What was true of a synthetic photo: one row a person, in `truth.parquet`.

The camera label is what a perfect pipeline would write: from the rotation and the neck of the person's chest,
by the same normalisation as `stages.align`. The window is the similarity that lays the rig, seen with that
label and posed like the person, on the person's true joints.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from phq_data import camera as cameras
from phq_data import parquet, parquet_limits
from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.bodies.anny import default_rig
from phq_data.files import writing
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.records import EncodedImage, TruePerson
from phq_data.schema import TRUTH, SchemaError
from phq_data.synthesis.figure import body
from phq_data.synthesis.photograph import HEAD, Photo, Subject, label_of

FORMAT = "phq-truth/1"
VISIBLE, HIDDEN, OUTSIDE = 2, 1, 0
"""Third number of a true keypoint."""

FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
"""The first points of COCO; they lie on the skin."""

_WINDOW_WEIGHTS = {
    "left_shoulder": 1.0, "right_shoulder": 1.0, "neck": 0.5, "left_ear": 0.3, "right_ear": 0.3,
    "left_eye": 0.2, "right_eye": 0.2, "nose": 0.2, "head_top": 0.3,
}  # fmt: skip


def true_people(photo: Photo, seed: int, index: int, uri: str) -> list[TruePerson]:
    """What is true of the people of a photo, left to right."""
    return [_person(photo, order, seed, index, uri) for order in range(len(photo.subjects))]


def _person(photo: Photo, order: int, seed: int, index: int, uri: str) -> TruePerson:
    subject, lens = photo.subjects[order], photo.lens
    label = label_of(subject.place)
    yaw, pitch, roll = cameras.angles(label)
    model = body()
    placed = subject.posed.landmarks @ subject.place.rotation.T + subject.place.translation
    pixels = lens.project(placed)
    joints = [model.landmark(name) for name in JOINT_NAMES]
    coco = [model.landmark(name) for name in COCO_KEYPOINTS]
    pose = np.array(subject.person.stance.pose)
    seen = visibility(pixels[coco], placed[coco, 2], subject)
    unit = lens.focal / subject.place.translation[2]
    head = head_share(pixels[model.landmark("head")], pixels[model.landmark("head_top")], unit, subject)
    alone = float(subject.alone.sum())
    shoulders = seen[[COCO_KEYPOINTS.index("left_shoulder"), COCO_KEYPOINTS.index("right_shoulder")]]
    covered = [_covered(pixels[model.landmark(f"{side}_shoulder")], subject) for side in ("left", "right")]
    usable = sum(int(s != OUTSIDE) and not c for s, c in zip(shoulders, covered, strict=True))
    person = subject.person
    return TruePerson(
        photo_id=hashlib.sha256(photo.jpeg).hexdigest(),
        uri=uri,
        seed=seed,
        index=index,
        order=order,
        people=len(photo.subjects),
        scored=bool(head >= 0.6 and usable >= 1 and unit * HEAD >= 24),
        photo_width=lens.width,
        photo_height=lens.height,
        camera=cameras.to_label(label).astype(np.float64),
        pose=pose,
        yaw=float(yaw),
        pitch=float(pitch),
        roll=float(roll),
        window=true_window(label, pose, pixels[joints]),
        keypoints=np.column_stack([pixels[coco], seen]),
        joints=pixels[joints],
        joints_camera=placed[joints],
        focal=lens.focal,
        head_pixels=unit * HEAD,
        head_visible=head,
        visible=float((subject.mask >= 128).sum()) / max(alone, 1.0),
        hair=person.hair.style,
        hat=person.hat,
        clothes=f"{person.outfit.neckline} {person.outfit.collar}",
        arms=" ".join(person.arms),
        mask=EncodedImage(_png(subject.mask)),
    )


def true_window(label: FloatArray, pose: FloatArray, joints: FloatArray) -> FloatArray:
    """x, y, side [3] of the window that lays the posed rig on true joints [13, 2] (pixels), least squares."""
    rig = default_rig()
    names = list(_WINDOW_WEIGHTS)
    rig_points, _ = cameras.project(rig.posed_landmarks(pose), label)
    source = rig_points[[rig.landmark(name) for name in names]]
    target = joints[[JOINT_NAMES.index(name) for name in names]]
    weight = np.array(list(_WINDOW_WEIGHTS.values()))
    weight = weight / weight.sum()
    p, q = weight @ source, weight @ target
    side = (weight @ ((source - p) * (target - q)).sum(axis=1)) / (weight @ ((source - p) ** 2).sum(axis=1))
    return np.array([*(q - side * p), side])


def visibility(pixels: FloatArray, depth: FloatArray, subject: Subject) -> FloatArray:
    """`VISIBLE`, `HIDDEN` or `OUTSIDE` for COCO points at pixels [17, 2] and depths [17] of a person."""
    height, width = subject.mask.shape
    column, row = np.floor(pixels).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    result = np.full(len(pixels), float(OUTSIDE))
    for i in np.flatnonzero(inside):
        # Joints lie inside the body: half a limb in front of them is still the joint's own flesh.
        flesh = 0.025 if i < len(FACE) else 0.11
        surface = subject.depth[row[i], column[i]]
        own = surface > depth[i] - flesh and subject.mask[row[i], column[i]] >= 128
        result[i] = VISIBLE if own else HIDDEN
    return result


def head_share(centre: FloatArray, top: FloatArray, unit: float, subject: Subject) -> float:
    """Share 0..1 of the head (centre and top [2], pixels; pixels a metre) in the photo and not covered."""
    height, width = subject.mask.shape
    middle, radius = (centre + top) / 2, 0.13 * unit
    y, x = np.ogrid[0:height, 0:width]
    disc = (x + 0.5 - middle[0]) ** 2 + (y + 0.5 - middle[1]) ** 2 < radius**2
    inside = float(disc.sum()) / (np.pi * radius**2)
    own = float((disc & subject.alone).sum())
    if own == 0:
        return 0.0
    return min(inside, 1.0) * float((disc & (subject.mask >= 128)).sum()) / own


def _covered(pixel: FloatArray, subject: Subject) -> bool:
    """Does something else hide the person at this pixel?"""
    height, width = subject.mask.shape
    column, row = int(pixel[0]), int(pixel[1])
    if not (0 <= column < width and 0 <= row < height):
        return False
    return bool(subject.alone[row, column] and subject.mask[row, column] < 128)


def write_truth(path: Path, people: pa.Table) -> int:
    """Write `truth.parquet`, whole or not at all, from a table of `schema.TRUTH`; the number of people."""
    with writing(path) as temporary:
        parquet.write(people.replace_schema_metadata({"format": FORMAT}), temporary)
    return int(people.num_rows)


def read_truth(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a truth file. Raises `SchemaError` naming the file when it is missing or something else."""
    try:
        found = parquet.schema_of(path)
        if (found.metadata or {}).get(b"format", b"").decode() != FORMAT:
            raise SchemaError(f"{path} is no truth file ({FORMAT}); `phq synthesize` makes one")
        missing = sorted(set(TRUTH.names) - set(found.names))
        if missing:
            raise SchemaError(f"{path} lacks {', '.join(missing)}: make it again with `phq synthesize`")
        if parquet.opened(path).metadata.num_rows == 0:
            raise SchemaError(f"{path} holds no people: make it again with `phq synthesize`")
        people = parquet_limits.read_all(path, ["photo_id", "order"])
        if people.group_by(["photo_id", "order"]).aggregate([]).num_rows < people.num_rows:
            raise SchemaError(f"{path} holds people twice: make it again with `phq synthesize`")
        known = parquet_limits.read_all(path, columns or TRUTH.names)
        for name in known.column_names:
            if not _sound(known[name], TRUTH.field(name).type):
                raise SchemaError(f"column {name} of {path} is damaged: make it again with `phq synthesize`")
        return known
    except FileNotFoundError:
        raise SchemaError(f"there is no truth file {path}; `phq synthesize` makes one") from None
    except parquet.DAMAGE as error:
        raise SchemaError(f"{path} cannot be read ({error}): make it again with `phq synthesize`") from error


def _sound(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    """Is it of this type, without holes, and finite?"""
    if column.type != kind or column.null_count:
        return False
    for values in column.chunks:
        if pa.types.is_fixed_size_list(values.type):
            values = values.flatten()
        if pa.types.is_floating(values.type) and not np.isfinite(values.to_numpy(zero_copy_only=False)).all():
            return False
    return True


def _png(mask: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG", compress_level=4)
    return out.getvalue()
