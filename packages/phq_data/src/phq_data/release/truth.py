"""What is known to be true of a workspace's portraits, for the `truth_*` columns of a release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from phq_data import parquet, parquet_limits, records, schema
from phq_data.errors import ReleaseError
from phq_data.evaluation.matching import match_people
from phq_data.records import Record
from phq_data.release.rows import Truth
from phq_data.synthesis import truth as photographs
from phq_data.workspace import Workspace


@dataclass(frozen=True, eq=False, kw_only=True)
class _TruePerson(Record):
    table = "truth"
    photo_id: str
    camera: records.Label
    pose: records.Pose
    keypoints: records.Keypoints
    head_pixels: float


@dataclass(frozen=True, eq=False, kw_only=True)
class _Detected(Record):
    table = "people"
    photo_id: str
    person_id: str
    keypoints: records.Keypoints


@dataclass(frozen=True, eq=False, kw_only=True)
class _Portrait(Record):
    table = "portraits"
    person_id: str
    portrait_id: str


_COLUMNS = ["portrait_id", "truth_camera", "truth_pose"]


def read(path: Path, workspace: Workspace) -> Truth:
    """True cameras and poses by portrait, from one of two kinds of Parquet file.

    `truth.parquet` of `phq synthesize` knows the people of photos: each is followed to the person that was
    detected there and to the portrait cut out (who was not found has none). Any other file must name
    portraits itself, with the columns portrait_id, truth_camera and truth_pose.

    Raises `ReleaseError` when the file is missing or another one, or knows none of the portraits.
    """
    try:
        metadata = parquet.schema_of(path).metadata or {}
        if metadata.get(b"format", b"").decode() == photographs.FORMAT:
            known = _by_people(path, workspace)
        else:
            known = _by_portrait(path)
    except (*parquet.DAMAGE, schema.SchemaError) as error:
        raise ReleaseError(f"the truth in {path} cannot be read: {error}") from error
    portraits = set(workspace.table("portraits", ["portrait_id"])["portrait_id"].to_pylist())
    if not portraits & set(known):
        raise ReleaseError(
            f"{path} knows the truth of none of the {len(portraits):,} portraits of {workspace.url}: it "
            "belongs to other photos"
        )
    return known


def _by_portrait(path: Path) -> dict[str, dict[str, Any]]:
    fields = [schema.RELEASE.field(name) for name in _COLUMNS]
    try:
        table = parquet_limits.read_all(path, _COLUMNS).select(_COLUMNS).cast(pa.schema(fields))
    except (KeyError, ValueError) as error:
        raise schema.SchemaError(
            f"it must have the columns portrait_id, truth_camera (25 numbers) and truth_pose (6): {error}"
        ) from error
    return {row.pop("portrait_id"): row for row in table.to_pylist()}


def _by_people(path: Path, workspace: Workspace) -> dict[str, dict[str, Any]]:
    people: dict[str, list[_TruePerson]] = {}
    table = photographs.read_truth(path, list(records.columns(_TruePerson)))
    for one in records.from_table(_TruePerson, table):
        people.setdefault(one.photo_id, []).append(one)
    detected: dict[str, list[_Detected]] = {}
    for person in workspace.records(_Detected):
        if person.photo_id in people:
            detected.setdefault(person.photo_id, []).append(person)
    portrait_of = {one.person_id: one.portrait_id for one in workspace.records(_Portrait)}
    known = {}
    for photo_id, found in sorted(detected.items()):
        group = people[photo_id]
        heads = [one.head_pixels for one in group]
        seen_points = [one.keypoints for one in found]
        matches = match_people([one.keypoints for one in group], heads, seen_points)
        for one, match in zip(group, matches, strict=True):
            if match is not None and (portrait := portrait_of.get(found[match].person_id)):
                known[portrait] = {"truth_camera": one.camera.tolist(), "truth_pose": one.pose.tolist()}
    return known
