"""From the tables of a workspace to rows of a release."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phq_data import old_schema, parquet, schema
from phq_data.errors import ReleaseError
from phq_data.release.manifest import SPLITS, Images, encoded_digest, row_digest
from phq_data.release.select import PROVENANCE, day
from phq_data.workspace import Workspace, part_key

Bytes = NDArray[np.uint8]
_BATCH = 16  # rows read at once: one row group of the workspace
_FROM_PORTRAIT = (
    "portrait_id", "photo_id", "person_id", "camera", "pose", "yaw", "pitch", "roll", "keypoints", "window",
    "size", "effective_resolution", "padding", "landmark_error", "shoulder_error", "crop_mode", "codec",
    "models", "corrected_from",
)  # fmt: skip


_SCREENED = ["portrait_id", "error_probability", "phash", "age_screen"]

FACTS = np.dtype([
    ("split", "u1"),  # its place in `manifest.SPLITS`
    ("digest", "u1", 16), ("encoded", "u1", 16), ("pixels", "u1", 32), ("mask_pixels", "u1", 32),
    ("bytes", "i8"),  # encoded image and mask, also where the image is left out: it may be filled in
])  # fmt: skip
"""What the plan of a release must know of a row; its images stay in the workspace."""


BEFORE = np.dtype(
    [("shard", "i4"), ("row", "i4"), ("split", "i1"), ("digest", "u1", 16), ("encoded", "u1", 16)]
)
"""A row of the parent release; no shard and split (-1) where it has none."""

Truth = Mapping[str, Mapping[str, Any]]
"""portrait_id -> truth_camera [25] and truth_pose [6], where they are known."""


@dataclass(frozen=True)
class Joined:
    """A row of `portraits` with what other tables know of it."""

    number: int  # among the places of the release
    portrait: Mapping[str, Any]
    photo: Mapping[str, Any]
    screened: Mapping[str, Any]
    body: str

    def row(self, split: str, pixels: str, mask_pixels: str, images: Images, truth: Truth) -> dict[str, Any]:
        """The row of `schema.RELEASE`."""
        known = truth.get(self.portrait["portrait_id"], {})
        return {
            **{name: self.portrait[name] for name in _FROM_PORTRAIT},
            **{name: self.photo[name] for name in PROVENANCE},
            "photo_width": self.photo["width"],
            "photo_height": self.photo["height"],
            "day": day(self.photo["exif_time"]),
            "error_probability": self.screened["error_probability"],
            "phash": self.screened["phash"],
            "age_screen": self.screened["age_screen"],
            "body": self.body,
            "split": split,
            "pixels": pixels,
            "mask_pixels": mask_pixels,
            "truth_camera": known.get("truth_camera"),
            "truth_pose": known.get("truth_pose"),
            "image": self.portrait["image"] if images == "all" else None,
            "mask": self.portrait["mask"],
        }

    def facts(
        self, split: int, pixels: bytes, mask_pixels: bytes, images: Images, truth: Truth
    ) -> tuple[int, Bytes, Bytes, Bytes, Bytes, int]:
        """The row's digests and size, as `FACTS`."""
        row = self.row(SPLITS[split], pixels.hex(), mask_pixels.hex(), images, truth)
        digests = (bytes.fromhex(row_digest(row)), bytes.fromhex(encoded_digest(row)), pixels, mask_pixels)
        digest, encoded, image, mask = (np.frombuffer(one, np.uint8) for one in digests)
        size = sum(len(self.portrait[name]["bytes"]) for name in ("image", "mask"))
        return split, digest, encoded, image, mask, size


def joined(workspace: Workspace, places: Mapping[int, Mapping[int, int]]) -> Iterator[list[Joined]]:
    """Batches of the portraits at `places` (part -> row -> number) with their images, part by part.

    Memory holds one batch and the small tables of one part.
    """
    for part in sorted(places):
        wanted = places[part]
        photos = _by_key(workspace, "photos", part, ["photo_id", "width", "height", "exif_time", *PROVENANCE])
        screened = _by_key(workspace, "screened", part, _SCREENED)
        bodies = _by_key(workspace, "fits", part, ["fit_id", "body"])
        key = part_key("tables/portraits", part)
        columns = [*_FROM_PORTRAIT, "fit_id", "image", "mask"]
        try:
            with workspace.reading_file(key) as file:
                table = parquet.opened(file)
                start = 0
                for group in range(table.num_row_groups):
                    count = table.metadata.row_group(group).num_rows
                    rows = [row for row in range(start, start + count) if row in wanted]
                    for low in range(0, len(rows), _BATCH):
                        some = rows[low : low + _BATCH]
                        found = old_schema.read(table, "portraits", columns, group=group)
                        found = found.take([r - start for r in some])
                        yield [
                            Joined(
                                wanted[position],
                                row,
                                photos[row["photo_id"]],
                                screened[row["portrait_id"]],
                                bodies[row["fit_id"]]["body"],
                            )
                            for position, row in zip(some, found.to_pylist(), strict=True)
                        ]
                    start += count
        except (*parquet.DAMAGE, ValueError, TypeError) as error:
            raise ReleaseError(
                f"cannot read {workspace.path(key)}: {error}; run `phq build` again to make it anew"
            ) from error
        except KeyError as error:
            raise ReleaseError(
                f"part {part} of the workspace is not whole ({error} is named but not there): run `phq "
                "build` again"
            ) from error


def pixel_digests(portrait: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """(image, mask) digests of a row of `portraits`, decoded. Raises `ReleaseError` naming the row."""
    from phq_data.images.codecs import PhotoError, decode_struct

    try:
        image, mask = decode_struct(portrait["image"]), decode_struct(portrait["mask"])
    except (PhotoError, OSError) as error:
        raise ReleaseError(f"the image of portrait {portrait['portrait_id']} is damaged: {error}") from error
    return bytes.fromhex(pixel_digest(image)), bytes.fromhex(pixel_digest(mask))


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """sha256 of decoded pixels [H, W, 3] or [H, W], shape included."""
    state = hashlib.sha256("x".join(map(str, pixels.shape)).encode() + b":")
    state.update(np.ascontiguousarray(pixels).data)
    return state.hexdigest()


def stored_schema() -> pa.Schema:
    """`schema.RELEASE` with what Hugging Face `datasets` needs in a file's footer to show the images."""
    features = {field.name: _feature(field) for field in schema.RELEASE}
    return schema.RELEASE.with_metadata(
        {
            "huggingface": json.dumps({"info": {"features": features}}),
            "phq": json.dumps({"schema_version": schema.SCHEMA_VERSION}),
        }
    )


def _feature(field: pa.Field) -> dict[str, Any]:
    kind = field.type
    if kind == schema.IMAGE:
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(kind):
        inner = {"dtype": _DTYPES[kind.value_type], "_type": "Value"}
        return {"feature": inner, "length": kind.list_size, "_type": "List"}
    return {"dtype": _DTYPES[kind], "_type": "Value"}


_DTYPES = {
    pa.string(): "string",
    pa.float32(): "float32",
    pa.float64(): "float64",
    pa.int32(): "int32",
    pa.uint64(): "uint64",
}


def _by_key(workspace: Workspace, table: str, part: int, columns: list[str]) -> dict[str, dict[str, Any]]:
    rows = workspace.read_part(f"tables/{table}", part, columns).to_pylist()
    return {row[columns[0]]: row for row in rows}
