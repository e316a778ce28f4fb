"""What is known to be true of a workspace's portraits, for the `truth_*` columns of a release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from phq_data import parquet, schema
from phq_data.errors import ReleaseError
from phq_data.evaluation.matching import match_people
from phq_data.release.rows import Truth
from phq_data.synthesis import truth as photographs
from phq_data.workspace import Workspace

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
        table = parquet.read(path, columns=_COLUMNS).select(_COLUMNS).cast(pa.schema(fields))
    except (KeyError, ValueError) as error:
        raise schema.SchemaError(
            f"it must have the columns portrait_id, truth_camera (25 numbers) and truth_pose (6): {error}"
        ) from error
    return {row.pop("portrait_id"): row for row in table.to_pylist()}


def _by_people(path: Path, workspace: Workspace) -> dict[str, dict[str, Any]]:
    columns = [name for name in schema.TRUTH.names if name != "mask"]
    people: dict[str, list[dict[str, Any]]] = {}
    for row in photographs.read_truth(path, columns).to_pylist():
        people.setdefault(row["photo_id"], []).append(row)
    detected: dict[str, list[dict[str, Any]]] = {}
    for row in workspace.table("people", ["photo_id", "person_id", "keypoints"]).to_pylist():
        if row["photo_id"] in people:
            detected.setdefault(row["photo_id"], []).append(row)
    portrait_of = {
        row["person_id"]: row["portrait_id"]
        for row in workspace.table("portraits", ["person_id", "portrait_id"]).to_pylist()
    }
    known = {}
    for photo_id, found in sorted(detected.items()):
        for row, person_id in zip(people[photo_id], match_people(people[photo_id], found), strict=True):
            if person_id in portrait_of:
                known[portrait_of[person_id]] = {"truth_camera": row["camera"], "truth_pose": row["pose"]}
    return known
