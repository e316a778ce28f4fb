"""What is known of a split's portraits without their images: labels, and where the images lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from phq_data import camera
from phq_data.errors import PhqError
from phq_data.release.reader import Release

_COLUMNS = ("portrait_id", "camera", "pose", "size")
_TRUTH = ("truth_camera", "truth_pose")


class DataError(PhqError, ValueError):
    """A release that cannot be trained on; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Labels:
    """The rows of a split in the order of its shards, those taken down included. N rows."""

    split: str
    portrait_ids: list[str]
    cameras: NDArray[np.float32]  # [N, 25]
    poses: NDArray[np.float32]  # [N, 6]
    true_cameras: NDArray[np.float32] | None  # [N, 25], nan = unknown
    true_poses: NDArray[np.float32] | None  # [N, 6], nan = unknown
    places: list[tuple[int, int]]  # shard, row
    groups: NDArray[np.int64]  # [N] ascending; rows of one number are read together
    hidden: NDArray[np.bool_]  # [N] taken down
    usable: NDArray[np.bool_]  # [N] neither taken down nor without images
    index_rows: NDArray[np.int64]  # [N] rows of the release's index
    notes: tuple[str, ...]  # what the user should know

    @property
    def shards(self) -> list[int]:
        """The shards that hold the split."""
        return sorted({shard for shard, _ in self.places})

    def rows_of_group(self, group: int) -> list[int]:
        """All rows that are read together."""
        low, high = np.searchsorted(self.groups, [group, group + 1])
        return list(range(int(low), int(high)))

    def hidden_now(self, release: Release) -> NDArray[np.bool_]:
        """`hidden` as the list of taken-down portraits says now, [N]."""
        return ~release.alive()[self.index_rows]


def read_labels(release: Release, split: str, resolution: int) -> Labels:
    """The labels of one split ("all": of every split). Raises `DataError`, `ReleaseError`."""
    _check_release(release, split)
    index = release.index
    wanted = np.ones(index.num_rows, bool)
    if split != "all":
        wanted = np.array([name == split for name in index["split"].to_pylist()], bool)
    index_rows = np.flatnonzero(wanted)
    shards, rows = (index[name].to_numpy()[index_rows] for name in ("shard", "row"))
    names = [*_COLUMNS, *(name for name in _TRUTH if name in release.columns)]
    tables, images, groups = [], [], []
    count = 0
    for shard in np.unique(shards).tolist():
        here = pa.array(rows[shards == shard])
        tables.append(release.read_shard(shard, names).take(here))
        paths = release.read_shard(shard, ["image.path", "mask.path"]).take(here)
        images.append(pc.and_(*(pc.is_valid(paths[name]) for name in ("image", "mask"))).to_numpy())
        numbers = release.row_groups(shard, rows[shards == shard])
        groups.append(numbers + count)
        count += int(numbers.max(initial=-1)) + 1
    table = pa.concat_tables(tables).combine_chunks()
    ids = table["portrait_id"].to_pylist()
    hidden = ~release.alive()[index_rows]
    has_images = np.concatenate(images)
    usable = ~hidden & has_images
    labels = Labels(
        split=split,
        portrait_ids=ids,
        cameras=_numbers(table, "camera", 25, release, usable),
        poses=_numbers(table, "pose", 6, release, usable),
        true_cameras=_known(table, "truth_camera", 25),
        true_poses=_known(table, "truth_pose", 6),
        places=list(zip(shards.tolist(), rows.tolist(), strict=True)),
        groups=np.concatenate(groups),
        hidden=hidden,
        usable=usable,
        index_rows=index_rows,
        notes=_notes(hidden, has_images),
    )
    _check_rows(labels, table["size"].to_numpy(), release, resolution)
    return labels


def _check_release(release: Release, split: str) -> None:
    if release.manifest.images == "none":
        raise DataError(
            f"the release {release.url} has no images (it was published without them): fill it with "
            "`phq release fill`"
        )
    counts = release.manifest.counts()
    if split != "all" and split not in counts:
        raise DataError(
            f"the release {release.url} has nothing in the split '{split}'; it has "
            f"{', '.join(f'{name} ({rows:,})' for name, rows in counts.items()) or 'no rows at all'}"
        )
    missing = [name for name in (*_COLUMNS, "image", "mask") if name not in release.columns]
    if missing:
        what = "poses" if missing == ["pose"] else f"column '{missing[0]}'"
        raise DataError(
            f"the shards of {release.url} have no {what}: it is not a release of portraits that this program "
            f"reads (schema version {release.manifest.schema_version})"
        )


def _check_rows(labels: Labels, sizes: NDArray[np.int32], release: Release, resolution: int) -> None:
    if not labels.usable.any():
        raise DataError(
            f"no portrait of the split '{labels.split}' of {release.url} can be used: "
            f"{int(labels.hidden.sum()):,} of {len(labels.usable):,} were taken down, the others have no "
            "image"
        )
    try:
        camera.check_label(labels.cameras[labels.usable])
    except camera.CameraError:
        for row in np.flatnonzero(labels.usable):
            try:
                camera.check_label(labels.cameras[row])
            except camera.CameraError as error:
                raise DataError(
                    f"the camera of portrait {labels.portrait_ids[row]} in {release.url} is none: {error}"
                ) from error
    small = np.flatnonzero(labels.usable & (sizes < resolution))
    if len(small):
        raise DataError(
            f"{len(small):,} portraits of {release.url} are smaller than {resolution}x{resolution} pixels "
            f"(the smallest {sizes[small].min()}): train at a lower resolution, or release larger portraits"
        )


def _numbers(
    table: pa.Table, name: str, size: int, release: Release, usable: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """A column of fixed-size lists as [N, size]; every usable row must have finite numbers."""
    values = _known(table, name, size)
    what = "pose" if name == "pose" else f"'{name}'"
    if values is None:
        raise DataError(f"no portrait of {release.url} has a {what}")
    bad = np.flatnonzero(usable & ~np.isfinite(values).all(axis=1))
    if len(bad):
        first = table["portrait_id"][int(bad[0])].as_py()
        raise DataError(
            f"{len(bad):,} portraits of {release.url} have no {what} (the first: {first}); the release is "
            "damaged or of another kind"
        )
    return values


def _known(table: pa.Table, name: str, size: int) -> NDArray[np.float32] | None:
    """[N, size] with nan where a row has none; None when the column is missing or empty."""
    if name not in table.column_names:
        return None
    column = table[name].combine_chunks()
    if column.null_count == len(column):
        return None
    if column.type != pa.list_(pa.float32(), size):
        raise DataError(f"column '{name}' holds {column.type}, not {size} numbers a row")
    values = np.full((len(column), size), np.nan, np.float32)
    there = column.is_valid().to_numpy(zero_copy_only=False)
    values[there] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
    return values


def _notes(hidden: NDArray[np.bool_], has_images: NDArray[np.bool_]) -> tuple[str, ...]:
    notes = []
    if hidden.any():
        notes.append(f"{int(hidden.sum()):,} portraits were taken down and are left out")
    empty = int((~has_images & ~hidden).sum())
    if empty:
        notes.append(f"{empty:,} portraits have no image (see `phq release fill`) and are left out")
    return tuple(notes)
