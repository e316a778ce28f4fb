"""One frozen dataclass a table of `schema`: what stages hand to each other, and what type checkers see.

Units and meanings of the fields are those of the columns, which `schema` explains. Lists of numbers are
float64 arrays in the shape noted here (the tables hold them flat, most of them as float32), lists of texts
are tuples, images are `EncodedImage`. Columns that may be null are `None`-able fields with `None` as default.

`from_table` reads whole tables, or only the columns that a smaller record class with the same field names
asks for; `to_table` writes them, checked by `schema.to_table`.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa

from phq_data import schema
from phq_data.arrays import FloatArray

Row = dict[str, Any]
"""A row as Arrow gives it, for callers that take columns by their names."""

Box = Annotated[FloatArray, (4,)]
Keypoints = Annotated[FloatArray, (17, 3)]
Label = Annotated[FloatArray, (25,)]
Pose = Annotated[FloatArray, (6,)]
Corner = Annotated[FloatArray, (3,)]
Vector = Annotated[FloatArray, (3,)]
Point = Annotated[FloatArray, (2,)]


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image and its file name: the struct of `schema.IMAGE`."""

    bytes: bytes
    path: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """A row of one table. Equal when all fields are, nan being equal to nan."""

    table: ClassVar[str]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(self)]
        return all(_equal(getattr(self, name), getattr(other, name)) for name in names)


R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who made a photo, where it is from and what one may do with it. None = unknown."""

    page_url: str | None = None
    file_url: str | None = None
    title: str | None = None
    author: str | None = None
    author_url: str | None = None
    license: str | None = None  # normalised name, e.g. CC0-1.0
    license_url: str | None = None
    rights_checked_at: str | None = None  # ISO 8601 date
    rights_evidence: str | None = None  # how the license is known
    permission: str | None = None  # JSON of a recorded permission
    consent: str | None = None  # of the people shown: yes, no, unknown


@dataclass(frozen=True, eq=False, kw_only=True)
class WithProvenance(Record, Provenance):
    """What plan items and photos both say of where a photo came from, and of the rights in it."""

    provider: str
    source: str
    uri: str
    self_stated: str | None = None  # JSON of `images.self_stated`

    def provenance(self) -> dict[str, Any]:
        """These fields by name, to hand them from a plan item to its photo."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(WithProvenance)}


@dataclass(frozen=True, eq=False, kw_only=True)
class PlanItem(WithProvenance):
    """A source file that a build decided to work on."""

    table = "plan"
    item: str
    size: int
    mtime_ns: int
    sha256: str
    key: str
    error: str
    message: str
    same_as: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Photo(WithProvenance):
    """A photo that was decoded whole."""

    table = "photos"
    photo_id: str
    key: str
    width: int
    height: int
    format: str
    bytes: int
    orientation: int
    color: str
    phash: int
    exif_time: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Person(Record):
    """A person in a photo."""

    table = "people"
    person_id: str
    photo_id: str
    detector: str
    order: int
    box: Box
    keypoints: Keypoints
    score: float
    photo_width: int
    photo_height: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit(Record):
    """A body fitted to a person."""

    table = "fits"
    fit_id: str
    person_id: str
    photo_id: str
    fitter: str
    body: str
    focal: float
    principal: Point
    root_orient: Vector
    translation: Vector
    pose: Pose
    shape: Annotated[FloatArray, (-1,)]
    joints: Annotated[FloatArray, (13, 3)]
    residual: float
    residuals: Annotated[FloatArray, (17,)]
    hypotheses: Annotated[FloatArray, (-1, 2)]
    converged: bool
    yaw_std: float | None = None
    orientation_prior: Annotated[FloatArray, (8,)] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Portrait(Record):
    """An aligned portrait."""

    table = "portraits"
    portrait_id: str
    person_id: str
    fit_id: str
    photo_id: str
    camera: Label
    pose: Pose
    yaw: float
    pitch: float
    roll: float
    window: Corner
    size: int
    effective_resolution: float
    padding: float
    crop_mode: str
    keypoints: Keypoints
    landmark_error: float
    shoulder_error: float
    codec: str
    models: str
    image: EncodedImage
    mask: EncodedImage
    corrected_from: str | None = None
    corrected_by: str | None = None
    correction: str | None = None


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """The numbers that a portrait is judged by."""

    blur: float  # sharpness: higher = sharper
    exposure_low: float
    exposure_high: float
    contrast: float
    effective_resolution: float
    padding: float
    landmark_error: float
    shoulder_error: float
    mask_share: float
    overlap: float
    error_probability: float

    def numbers(self) -> dict[str, float]:
        """These fields by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Measurements)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Screened(Record, Measurements):
    """The verdict on a portrait."""

    table = "screened"
    portrait_id: str
    photo_id: str
    kept: bool
    reasons: tuple[str, ...]
    expected_yaw_error: float | None = None
    phash: int
    overlay: EncodedImage | None = None
    age_screen: str | None = None
    age_years: float | None = None
    age_spread: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Duplicate(Record):
    """A member of a cluster of near-duplicate portraits."""

    table = "duplicates"
    portrait_id: str
    cluster: str
    representative: bool
    distance: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Decision(Record):
    """One decision by one reviewer."""

    table = "decisions"
    decision_id: str
    portrait_id: str
    verdict: str
    reason: str
    note: str | None = None
    reviewer: str
    time: datetime.datetime
    seconds: float
    client: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Correction(Record):
    """One corrected label by one person, or one undo of it."""

    table = "corrections"
    correction_id: str
    kind: str
    portrait_id: str
    photo_id: str
    person_id: str
    from_camera: Label
    from_pose: Pose
    from_window: Corner
    to_camera: Label | None = None
    to_pose: Pose | None = None
    to_window: Corner | None = None
    undoes: str | None = None
    note: str | None = None
    reviewer: str
    time: datetime.datetime
    seconds: float
    client: str


@dataclass(frozen=True, eq=False, kw_only=True)
class LedgerEntry(Record):
    """What became of one item in one stage."""

    table = "ledger"
    stage: str
    item: str
    outcome: str
    reason: str
    message: str
    retryable: bool
    evidence: str
    outputs: tuple[str, ...]
    uri: str


@dataclass(frozen=True, eq=False, kw_only=True)
class TruePerson(Record):
    """A rendered person and what is known to be true of them."""

    table = "truth"
    photo_id: str
    uri: str
    seed: int
    index: int
    order: int
    people: int
    scored: bool
    photo_width: int
    photo_height: int
    camera: Label
    pose: Pose
    yaw: float
    pitch: float
    roll: float
    window: Corner
    keypoints: Keypoints
    joints: Annotated[FloatArray, (13, 2)]
    joints_camera: Annotated[FloatArray, (13, 3)]
    focal: float
    head_pixels: float
    head_visible: float
    visible: float
    hair: str
    hat: str
    clothes: str
    arms: str
    mask: EncodedImage


TABLES: Mapping[str, type[Record]] = {
    kind.table: kind
    for kind in (
        PlanItem, Photo, Person, Fit, Portrait, Screened, Duplicate, Decision, Correction, LedgerEntry,
        TruePerson,
    )
}  # fmt: skip
"""The record class of every table of a workspace, and of the truth about rendered people."""


def columns(kind: type[Record]) -> tuple[str, ...]:
    """The columns that records of `kind` need."""
    return tuple(_shapes(kind))


def from_table(kind: type[R], table: pa.Table) -> list[R]:
    """The rows of a table that has the columns of `kind`, and maybe others, as records.

    Raises `SchemaError` naming a column that the table lacks; optional ones may.
    """
    values: dict[str, list[Any]] = {}
    for name, shape in _shapes(kind).items():
        if name in table.column_names:
            values[name] = _values(table[name], shape)
        elif not schema.SCHEMAS[kind.table].field(name).nullable:
            raise schema.SchemaError(f"table '{kind.table}' lacks column '{name}'")
    return [kind(**dict(zip(values, row, strict=True))) for row in zip(*values.values(), strict=True)]


def to_table(kind: type[R], records: Iterable[R]) -> pa.Table:
    """Records as a table of the schema of `kind`. Raises `SchemaError` naming a value that does not fit."""
    names = columns(kind)
    return schema.to_table(
        kind.table, [{name: _plain(getattr(record, name)) for name in names} for record in records]
    )


def _values(column: pa.ChunkedArray, shape: tuple[int, ...]) -> list[Any]:
    """The values of one column as records hold them."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind) and column.null_count == 0:
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return list(flat.astype(np.float64).reshape(len(column), *shape))
    values = column.to_pylist()
    if pa.types.is_struct(kind):
        return [None if value is None else EncodedImage(**value) for value in values]
    if shape:
        return [None if value is None else np.array(value, np.float64).reshape(shape) for value in values]
    if pa.types.is_list(kind):
        return [tuple(value) for value in values]
    return list(values)


def _plain(value: Any) -> Any:
    """A field's value as Arrow takes it."""
    if isinstance(value, np.ndarray):
        return value.reshape(-1).tolist()
    if isinstance(value, EncodedImage):
        return {"bytes": value.bytes, "path": value.path}
    return list(value) if isinstance(value, tuple) else value


def _shapes(kind: type[Record]) -> Mapping[str, tuple[int, ...]]:
    """The fields of a record class, and the shapes of those that are arrays (the others': ())."""
    chosen: Any = kind  # mypy takes a class for as unhashable as its instances
    return _shapes_of(chosen)


@functools.cache
def _shapes_of(kind: type[Record]) -> Mapping[str, tuple[int, ...]]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _shape(hints[field.name]) for field in dataclasses.fields(kind)}


def _shape(hint: Any) -> tuple[int, ...]:
    if get_origin(hint) is Annotated:
        shape: tuple[int, ...] = get_args(hint)[1]
        return shape
    inner = [_shape(part) for part in get_args(hint) if get_origin(part) is Annotated]
    return inner[0] if inner else ()


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray | float):
        return other is not None and np.array_equal(one, other, equal_nan=True)
    return other is None if one is None else bool(one == other)
