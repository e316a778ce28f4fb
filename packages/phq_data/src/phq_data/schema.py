"""The Arrow schema of every table, with its version. One place; everybody else asks for `SCHEMAS[name]`.

Pixel positions are pixels of the upright photo (EXIF orientation applied), x right, y down, with 0 at the
left/top edge of the first pixel. Angles are radians. Lengths are metres. Frames: see `camera`.

An `image` column is the struct that Hugging Face `datasets` reads as an image: encoded bytes and a file name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from phq_data.errors import PhqError

SCHEMA_VERSION = 2
"""Raised when a table changes so that older readers would misread it; `compatibility` reads older ones."""


class SchemaError(PhqError, ValueError):
    """Rows or a file that do not follow the schema."""


def _numbers(count: int) -> pa.DataType:
    return pa.list_(pa.float32(), count)


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXT_LIST = pa.list_(pa.string())


def _fields(**columns: pa.DataType) -> list[pa.Field]:
    """Columns are required unless their name is in `_OPTIONAL`."""
    return [pa.field(name, kind, nullable=name in _OPTIONAL) for name, kind in columns.items()]


_OPTIONAL = frozenset(
    {
        "author", "author_url", "page_url", "file_url", "license", "license_url", "title", "description",
        "rights_checked_at", "rights_evidence", "permission", "exif_time", "overlay", "note", "same_as",
        "yaw_std", "orientation_prior", "expected_yaw_error", "to_camera", "to_pose", "to_window", "undoes",
        "corrected_from", "corrected_by", "correction", "consent",
        "self_stated", "age_screen", "age_years", "age_spread",
    }
)  # fmt: skip

LATER = frozenset(
    {
        "corrected_from", "corrected_by", "correction", "consent", "self_stated",
        "age_screen", "age_years", "age_spread",
    }
)  # fmt: skip
"""Columns that came later in version 2. Where all of it is null, digests are what they were without them."""

_PROVENANCE: dict[str, pa.DataType] = {
    "provider": pa.string(),  # folder, samples, synthetic, wikimedia, ...
    "source": pa.string(),  # what the user named: a folder, a query
    "uri": pa.string(),  # where the bytes were read from
    "page_url": pa.string(),  # the page that shows the photo
    "file_url": pa.string(),  # the photo itself
    "title": pa.string(),  # as the page states it
    "author": pa.string(),  # who made the photo, as the page states it
    "author_url": pa.string(),  # a page about the author
    "license": pa.string(),  # normalised name, e.g. CC0-1.0, CC-BY-4.0; null = unknown
    "license_url": pa.string(),  # the text of the license
    "rights_checked_at": pa.string(),  # ISO 8601 date
    "rights_evidence": pa.string(),  # JSON: how the license is known, what robots.txt and opt-outs said
    "permission": pa.string(),  # JSON of a recorded permission
    # JSON: what the photo's own XMP, IPTC and C2PA say of rights, data mining and its source; null = nothing
    "self_stated": pa.string(),
    "consent": pa.string(),  # do the people shown agree: yes, no, unknown; null = nobody has said
}

PLAN = pa.schema(
    _fields(
        # what the ledger calls the file: `sha256`, or 32 digits made from the uri when it could not be read
        item=pa.string(),
        size=pa.int64(),  # bytes on disk; -1 when unknown
        mtime_ns=pa.int64(),  # time of the last change, ns since 1970; -1 when the source has none
        sha256=pa.string(),  # of the file's bytes; "" when it could not be read
        key=pa.string(),  # where the bytes lie: a path inside the workspace, or the uri; "" = nowhere
        error=pa.string(),  # class of the error while reading, or ""
        message=pa.string(),  # that error's text, or ""
        same_as=pa.string(),  # uri of the earlier file with the same bytes, or null
        **_PROVENANCE,
    )
)
"""What a build decided to work on: one row a source file, in fixed order; part i becomes `photos` part i."""

PHOTOS = pa.schema(
    _fields(
        photo_id=pa.string(),  # sha256 of the file's bytes
        key=pa.string(),  # where the bytes lie: a path inside the workspace, or the uri
        width=pa.int32(),  # pixels, upright
        height=pa.int32(),  # pixels, upright
        format=pa.string(),  # JPEG, PNG, ...
        bytes=pa.int64(),  # size of the file
        orientation=pa.int32(),  # EXIF orientation of the stored bytes, 1..8
        color=pa.string(),  # what it was converted from: sRGB, "ICC <name>", CMYK, grey, ...
        phash=pa.uint64(),  # 64-bit perceptual hash of the upright photo
        exif_time=pa.string(),  # ISO 8601 local time when the photo was taken
        **_PROVENANCE,
    )
)

PEOPLE = pa.schema(
    _fields(
        person_id=pa.string(),  # digest of photo, detector and `order`
        photo_id=pa.string(),  # sha256 of the photo's bytes
        detector=pa.string(),  # fingerprint of the detector: name, weights, settings
        order=pa.int32(),  # left to right in the photo, or as in a keypoint file, from 0
        box=_numbers(4),  # x0, y0, x1, y1 in photo pixels
        keypoints=_numbers(51),  # COCO-17: x, y in photo pixels, score 0 to 1
        score=pa.float32(),  # of the person, 0 to 1
        photo_width=pa.int32(),  # pixels, upright
        photo_height=pa.int32(),  # pixels, upright
    )
)

FITS = pa.schema(
    _fields(
        fit_id=pa.string(),  # digest of person and fitter
        person_id=pa.string(),
        photo_id=pa.string(),
        fitter=pa.string(),  # fingerprint of the body fitter: name, weights, settings
        body=pa.string(),  # body model: anny, smpl
        focal=pa.float32(),  # focal length in photo pixels
        principal=_numbers(2),  # principal point in photo pixels
        root_orient=_numbers(3),  # axis-angle, body to camera
        translation=_numbers(3),  # neck joint in the camera frame, metres
        pose=_numbers(6),  # axis-angle of neck, then head, each in the frame of its parent
        shape=pa.list_(pa.float32()),  # coefficients of the fitter's shape basis
        joints=_numbers(39),  # 13 joints of bodies.JOINT_NAMES, camera frame, metres
        residual=pa.float32(),  # score-weighted mean of `residuals`, each at most 1; shoulder breadths
        # reprojection error per keypoint in COCO-17 order; nan = not used. The unit is the shoulder breadth:
        # the width of the fitted body's shoulders in the photo, if it were seen from the front
        residuals=_numbers(17),
        # yaw and cost of every initialization, best first: yaw 1, cost 1, yaw 2, cost 2, ...
        hypotheses=pa.list_(pa.float32()),
        converged=pa.bool_(),  # whether the solver stopped before its last iteration
        yaw_std=pa.float32(),  # standard deviation of the yaw given the fit, radians; null = unknown
        # directions to the camera in the frames of chest and head (6 numbers) and their standard deviations
        # (2), as the orientation prior predicts them before the fit; null = no prior
        orientation_prior=_numbers(8),
    )
)

PORTRAITS = pa.schema(
    _fields(
        portrait_id=pa.string(),  # digest of photo, window, camera, pose, size and codec
        person_id=pa.string(),
        fit_id=pa.string(),
        photo_id=pa.string(),
        # the label: 4x4 camera-to-world, then 3x3 intrinsics, row-major. World: origin in the neck joint,
        # metres, y up, the subject faces +z. Camera: OpenCV, x right, y down, z forward. Intrinsics in image
        # widths: focal length 6.5104, principal point 0.5
        camera=_numbers(25),
        pose=_numbers(6),  # the label: axis-angle of neck, then head
        yaw=pa.float32(),  # of the camera: 0 in front of the subject, positive on the subject's left
        pitch=pa.float32(),  # of the camera: positive above the subject
        roll=pa.float32(),  # of the camera: positive counter-clockwise
        # x, y of the upper left corner, then the side, pixels of the upright photo; it may leave the photo
        window=pa.list_(pa.float64(), 3),
        size=pa.int32(),  # side of the portrait in pixels
        effective_resolution=pa.float32(),  # photo pixels per portrait pixel; below 1 the photo was enlarged
        padding=pa.float32(),  # share of the portrait that lies outside the photo
        crop_mode=pa.string(),  # which crop made the window: fit, reference
        keypoints=_numbers(51),  # COCO-17: x, y in portrait pixels, score
        # keypoint reprojection error: posed rig to fitted joints, and the fit's own error; share of the side
        landmark_error=pa.float32(),
        shoulder_error=pa.float32(),  # the same at the shoulders
        codec=pa.string(),  # of the image: png, webp-lossless, jpeg-95, ...
        models=pa.string(),  # JSON: which detector, fitter, segmenter, rig
        image=IMAGE,  # sRGB
        mask=IMAGE,  # 8-bit alpha of the person
        corrected_from=pa.string(),  # portrait whose label a reviewer corrected to this one; null = as fitted
        corrected_by=pa.string(),  # name of the reviewer
        correction=pa.string(),  # correction_id of `corrections`
    )
)

SCREENED = pa.schema(
    _fields(
        portrait_id=pa.string(),
        photo_id=pa.string(),
        kept=pa.bool_(),  # passed the screening
        reasons=TEXT_LIST,  # why it was rejected, one word each; empty when kept
        blur=pa.float32(),  # sharpness at the portrait's own resolution, 0..1: higher = sharper
        exposure_low=pa.float32(),  # share of the person's pixels near black
        exposure_high=pa.float32(),  # share of the person's pixels near white
        contrast=pa.float32(),  # 5th to 95th percentile of the person's luminance, 0..1
        effective_resolution=pa.float32(),
        padding=pa.float32(),
        landmark_error=pa.float32(),
        shoulder_error=pa.float32(),
        mask_share=pa.float32(),  # share of the portrait that the mask covers
        overlap=pa.float32(),  # share of the portrait that the largest other head takes
        # probability that the yaw is off by more than 15 degrees (`stages.uncertainty`)
        error_probability=pa.float32(),
        expected_yaw_error=pa.float32(),  # radians: median yaw error of labels with this evidence
        phash=pa.uint64(),  # 64-bit perceptual hash of the portrait
        overlay=IMAGE,  # the posed rig drawn over the portrait; rejected portraits only
        age_screen=pa.string(),  # the screen for minors: adult, minor, unsure; null = none was run
        age_years=pa.float32(),  # that an age network estimated, years; null = it saw no face
        age_spread=pa.float32(),  # standard deviation of `age_years`, years; null = the network does not say
    )
)

DUPLICATES = pa.schema(
    _fields(
        portrait_id=pa.string(),
        cluster=pa.string(),  # smallest portrait_id of the cluster
        representative=pa.bool_(),  # the member to keep
        distance=pa.int32(),  # Hamming distance to the representative
    )
)

DECISIONS = pa.schema(
    _fields(
        decision_id=pa.string(),  # ULID: sorts by time
        portrait_id=pa.string(),
        verdict=pa.string(),  # accept, reject, flag, undo
        reason=pa.string(),  # one word of the review's rules, or ""
        note=pa.string(),  # free text
        reviewer=pa.string(),  # name
        time=pa.timestamp("ms", tz="UTC"),  # when it was made
        seconds=pa.float32(),  # from the image being shown to the key
        client=pa.string(),  # program and version that sent it
    )
)

CORRECTIONS = pa.schema(
    _fields(
        correction_id=pa.string(),  # ULID: sorts by time
        kind=pa.string(),  # correct, undo
        portrait_id=pa.string(),  # what the corrector saw
        photo_id=pa.string(),
        person_id=pa.string(),  # whose label it is: a correction holds for all later portraits of the person
        from_camera=pa.list_(pa.float64(), 25),  # the label that the corrector saw, as in `portraits`
        from_pose=pa.list_(pa.float64(), 6),  # its pose
        from_window=pa.list_(pa.float64(), 3),  # its window
        # the label that the corrector made of it; null = an undo. It need not be normalised: the intrinsics
        # hold in the window, and together they say where the rig lies in the photo
        to_camera=pa.list_(pa.float64(), 25),
        to_pose=pa.list_(pa.float64(), 6),  # its pose
        to_window=pa.list_(pa.float64(), 3),  # its window
        undoes=pa.string(),  # correction_id that an undo takes back; null for corrections
        note=pa.string(),  # free text
        reviewer=pa.string(),  # name
        time=pa.timestamp("ms", tz="UTC"),  # when it was made
        seconds=pa.float32(),  # that it took
        client=pa.string(),  # program and version that sent it
    )
)
"""The log of corrected labels, append-only. `pipeline.corrections` says which of them hold."""

LEDGER = pa.schema(
    _fields(
        stage=pa.string(),  # ingest, detect, fit, align_crop, screen
        item=pa.string(),  # id of the row (or file) that the stage was given
        outcome=pa.string(),  # kept, rejected, failed
        reason=pa.string(),  # short, stable word; "" when kept
        message=pa.string(),  # a sentence for people
        retryable=pa.bool_(),  # only ever true for failed
        evidence=pa.string(),  # JSON: the numbers behind the verdict
        outputs=TEXT_LIST,  # ids of the rows that came out
        uri=pa.string(),  # where the photo came from, to find it again
    )
)
"""One row an item and stage: nothing disappears."""

RELEASE = pa.schema(
    [
        *_fields(
            portrait_id=pa.string(),
            photo_id=pa.string(),  # sha256 of the photo's bytes
            person_id=pa.string(),
            split=pa.string(),  # train, validation, test
            camera=_numbers(25),
            pose=_numbers(6),  # the label: axis-angle of neck, then head
            yaw=pa.float32(),
            pitch=pa.float32(),
            roll=pa.float32(),
            keypoints=_numbers(51),  # COCO-17: x, y in portrait pixels, score
            window=pa.list_(pa.float64(), 3),
            size=pa.int32(),  # side of the portrait in pixels
            photo_width=pa.int32(),
            photo_height=pa.int32(),
            effective_resolution=pa.float32(),
            padding=pa.float32(),
            landmark_error=pa.float32(),
            shoulder_error=pa.float32(),
            error_probability=pa.float32(),
            phash=pa.uint64(),  # 64-bit perceptual hash of the portrait, to find near-duplicates
            crop_mode=pa.string(),
            codec=pa.string(),
            body=pa.string(),  # anny, smpl: whose rig the labels refer to
            models=pa.string(),  # JSON: which detector, fitter, segmenter, rig
            pixels=pa.string(),  # sha256 of the decoded image: survives re-encoding
            mask_pixels=pa.string(),  # sha256 of the decoded mask
        ),
        # portrait whose label a reviewer corrected to this one; null = the label is the fit's
        pa.field("corrected_from", pa.string()),
        pa.field("day", pa.string()),  # ISO date the photo was taken, null = unknown
        *(
            pa.field(name, kind, nullable=name in _OPTIONAL)
            for name, kind in _PROVENANCE.items()
            if name not in ("source", "uri", "self_stated")  # may hold paths of somebody's disk, addresses
        ),
        # the screen for minors: adult, minor, unsure (a person accepted it); null = none was run
        pa.field("age_screen", pa.string()),
        pa.field("truth_camera", _numbers(25)),  # the true label (`camera` of `truth`) of synthetic photos
        pa.field("truth_pose", _numbers(6)),  # the true pose (`pose` of `truth`) of synthetic photos
        pa.field("image", IMAGE),  # sRGB; null where the image may not be published
        pa.field("mask", IMAGE),  # 8-bit alpha of the person
    ]
)
"""A released portrait: what a trainer needs, and where it is from."""

TRUTH = pa.schema(
    _fields(
        photo_id=pa.string(),  # sha256 of the photo's bytes
        uri=pa.string(),  # the file's name in the folder `photos`
        seed=pa.int64(),  # of `phq synthesize`: it names the series
        index=pa.int64(),  # of the photo in the series, from 0
        order=pa.int32(),  # of people, left to right by the neck
        people=pa.int32(),  # in the photo
        scored=pa.bool_(),  # enough of the person is seen to ask for a portrait
        photo_width=pa.int32(),
        photo_height=pa.int32(),
        # the label that a perfect pipeline would write, normalised as `camera` of `portraits`; not the
        # camera that the photo was rendered with (`focal`, `joints_camera`)
        camera=_numbers(25),
        pose=_numbers(6),  # the label: axis-angle of neck, then head
        yaw=pa.float32(),
        pitch=pa.float32(),
        roll=pa.float32(),
        # of the square in which the rig, with this label, lies on the true joints: as `window` of `portraits`
        window=pa.list_(pa.float64(), 3),
        keypoints=_numbers(51),  # COCO-17: x, y in photo pixels, 2 visible / 1 hidden / 0 outside
        joints=_numbers(26),  # x, y of the 13 `bodies.JOINT_NAMES`, photo pixels
        joints_camera=_numbers(39),  # the same in the frame of the photo's camera (OpenCV), metres
        focal=pa.float32(),  # of the photo's camera, pixels; the principal point is the middle of the photo
        head_pixels=pa.float32(),  # height of a head of 25 cm at the neck's distance, photo pixels
        head_visible=pa.float32(),  # share of the head that is seen
        visible=pa.float32(),  # share of the person that others do not cover
        hair=pa.string(),  # style
        hat=pa.string(),  # kind, or none
        clothes=pa.string(),  # neckline and collar
        arms=pa.string(),  # gestures of left and right
        mask=IMAGE,  # 8-bit, the whole photo: what is seen of the person
    )
)
"""A rendered person and what is known to be true of them: `truth.parquet` of `phq synthesize`."""

SCHEMAS: Mapping[str, pa.Schema] = {
    "plan": PLAN,
    "photos": PHOTOS,
    "people": PEOPLE,
    "fits": FITS,
    "portraits": PORTRAITS,
    "screened": SCREENED,
    "duplicates": DUPLICATES,
    "decisions": DECISIONS,
    "corrections": CORRECTIONS,
    "ledger": LEDGER,
    "release": RELEASE,
    "truth": TRUTH,
}

KEYS: Mapping[str, str] = {
    "photos": "photo_id",
    "people": "person_id",
    "fits": "fit_id",
    "portraits": "portrait_id",
    "screened": "portrait_id",
    "duplicates": "portrait_id",
    "decisions": "decision_id",
    "corrections": "correction_id",
    "release": "portrait_id",
}


def to_table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of schema `name`.

    Raises `SchemaError` naming the table, row and column for a missing, unknown or wrongly typed value.
    """
    schema = SCHEMAS[name]
    listed = list(rows)
    known = set(schema.names)
    for index, row in enumerate(listed):
        unknown = set(row) - known
        if unknown:
            raise SchemaError(f"table '{name}', row {index}: unknown column {sorted(unknown)[0]!r}")
        for column in schema:
            value = row.get(column.name)
            if not column.nullable and value is None:
                raise SchemaError(f"table '{name}', row {index}: column '{column.name}' is missing")
            # Arrow would take a text apart into letters and cut the fraction off a number.
            if (isinstance(value, str | bytes) and pa.types.is_list(column.type)) or (
                value is not None and pa.types.is_integer(column.type) and not hasattr(value, "__index__")
            ):
                raise SchemaError(
                    f"table '{name}', row {index}: column '{column.name}' wants {column.type}, not {value!r}"
                )
    try:
        return pa.Table.from_pylist(listed, schema=schema)
    except _ARROW_ERRORS as error:
        raise SchemaError(f"table '{name}'{_culprit(schema, listed)}: {error}") from error


_ARROW_ERRORS = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    ValueError,
    TypeError,
)


def _culprit(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> str:
    """`, row i: column 'c'` of the first value that Arrow does not take."""
    for index, row in enumerate(rows):
        for column in schema:
            try:
                pa.array([row.get(column.name)], type=column.type)
            except _ARROW_ERRORS:
                return f", row {index}: column '{column.name}'"
    return ""


def complete(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """`table` as `wanted`: optional columns that are younger than the table are null."""
    for field in wanted:
        if field.nullable and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(wanted.names).cast(wanted)


def check_table(name: str, table: pa.Table) -> pa.Table:
    """`table` cast to schema `name`; `SchemaError` when columns lack or cannot be cast."""
    schema = SCHEMAS[name]
    missing = [column for column in schema.names if column not in table.column_names]
    if missing:
        raise SchemaError(f"table '{name}' lacks column '{missing[0]}' (schema version {SCHEMA_VERSION})")
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise SchemaError(f"table '{name}': {error}") from error


def content_digest(table: pa.Table) -> str:
    """Hex digest of a table's rows: equal rows in equal order give equal digests."""
    state = hashlib.sha256()

    class _Sink:
        closed = False

        def write(self, data: Any) -> int:
            state.update(data)
            return len(data)

        def flush(self) -> None: ...
        def close(self) -> None: ...

    unused = [n for n in table.column_names if n in LATER and table[n].null_count == table.num_rows]
    plain = table.drop_columns(unused).replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(pa.PythonFile(_Sink(), "wb"), plain.schema) as writer:
        writer.write_table(plain)
    return state.hexdigest()[:32]


def make_id(*parts: str | int | float | bytes | Sequence[float]) -> str:
    """A content id: the first 32 hex digits of sha256 over a canonical form of `parts`.

    Numbers are rounded by the caller, who knows how far they mean something.
    """
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            chunk = part
        elif isinstance(part, str):
            chunk = part.encode()
        else:
            chunk = json.dumps(part, separators=(",", ":")).encode()
        state.update(len(chunk).to_bytes(8, "big"))
        state.update(chunk)
    return state.hexdigest()[:32]
