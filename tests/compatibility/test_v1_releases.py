"""Releases of version 1 beside those of today: compared, followed up, filled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from phq_data import old_schema, schema
from phq_data.release import manifest as manifests
from phq_data.release import reader
from phq_data.release.build import ReleaseOptions, build
from phq_data.release.diff import diff
from phq_data.release.manifest import FileEntry, Manifest, encoded_digest, row_digest
from phq_data.release.stats import of_release
from phq_data.release.verify import verify
from phq_data.workspace import Workspace

OPTIONS = ReleaseOptions(name="phq-portraits-v1", created="2026-02-01")


def test_its_columns_are_those_of_today(releases: Path) -> None:
    release = reader.open(releases / "1.0.0")
    assert release.manifest.schema_version == 1
    assert release.columns == tuple(schema.RELEASE.names)
    table = release.all().metadata(["license", "error_probability", "image.path"])
    assert table.column_names[:2] == ["license", "error_probability"] and table.num_rows == 3
    assert of_release(release).licenses == {"CC0-1.0": 3}


def test_rows_that_did_not_change_have_the_digest_they_had(workspace: Workspace, releases: Path) -> None:
    """So nothing but the taken-down portrait, and the truth that is not given now, differs."""
    build(workspace, releases, "2.0.0", OPTIONS)
    old, new = reader.open(releases / "1.0.0"), reader.open(releases / "2.0.0")
    assert new.manifest.schema_version == schema.SCHEMA_VERSION
    found = diff(old, new)
    assert (found.added, len(found.removed)) == ((), 1)
    assert set(found.columns()) <= {"truth_camera", "truth_pose", "split"}
    digests = dict(zip(old.index["portrait_id"].to_pylist(), old.index["digest"].to_pylist(), strict=True))
    for row in old.all().stream():
        assert row_digest(row) == digests[row["portrait_id"]]


def test_the_next_version_has_shards_of_one_kind(workspace: Workspace, releases: Path) -> None:
    """Also where a shard of the parent could have been copied."""
    (releases / "tombstones.json").unlink()
    truth = {
        row["portrait_id"]: {name: row[name] for name in ("truth_camera", "truth_pose")}
        for row in reader.open(releases / "1.0.0").all().stream(["portrait_id", "truth_camera", "truth_pose"])
        if row["truth_camera"] is not None
    }
    options = replace(OPTIONS, shares=replace(OPTIONS.shares))
    result = build(workspace, releases, "1.0.1", options, truth=truth)
    assert result.changes is not None
    assert (result.changes.added, result.changes.removed, result.changes.changed) == (0, 0, 0)
    assert (result.changes.shards_copied, result.changes.shards_written) == (0, 1)
    for shard in result.manifest.shards:
        with pq.ParquetFile(releases / "1.0.1" / shard.path) as file:
            assert old_schema.version_of(file) == schema.SCHEMA_VERSION
            assert file.schema_arrow.names == schema.RELEASE.names
    assert verify(releases / "1.0.1") == []


def size_and_digest(path: Path) -> tuple[int, str]:
    data = path.read_bytes()
    return len(data), hashlib.sha256(data).hexdigest()


def without_images(release: Path) -> None:
    """Make a release of version 1 one that went out without its pictures."""
    manifest = Manifest.from_bytes((release / manifests.NAME).read_bytes(), "")
    (shard,) = manifest.shards
    kind = pq.read_schema(release / shard.path)
    rows = [{**row, "image": None} for row in pq.read_table(release / shard.path).to_pylist()]
    pq.write_table(kind.empty_table().from_pylist(rows, schema=kind), release / shard.path)
    index = pq.read_table(release / manifests.INDEX).to_pylist()
    for entry, row in zip(index, rows, strict=True):
        entry |= {"digest": row_digest(row), "encoded": encoded_digest(row)}
    table = manifests.INDEX_SCHEMA.empty_table().from_pylist(index, schema=manifests.INDEX_SCHEMA)
    pq.write_table(table, release / manifests.INDEX)
    files = [FileEntry(one.path, *size_and_digest(release / one.path)) for one in manifest.files]
    size, digest = size_and_digest(release / shard.path)
    shards = (replace(shard, bytes=size, sha256=digest),)
    changed = replace(manifest, images="none", shards=shards, files=tuple(files))
    (release / manifests.NAME).write_bytes(changed.to_bytes())


def test_a_release_without_pictures_is_filled(workspace: Workspace, releases: Path) -> None:
    """The copy is of version 1, like its documents."""
    from phq_data.release.fill import fill, from_folders

    whole = [row["pixels"] for row in reader.open(releases / "1.0.0").all().stream()]
    without_images(releases / "1.0.0")
    assert verify(releases / "1.0.0") == []
    photos = Path(workspace.path("photos"))
    done = fill(releases / "1.0.0", releases, [from_folders([photos])])
    assert (done.filled, done.missing) == (3, {})
    filled = reader.open(done.folder)
    assert [row["pixels"] for row in filled.all().stream() if row["image"]] == whole
    assert filled.manifest.schema_version == 1
    assert verify(done.folder, pixels=True) == []


def test_a_newer_release_is_refused(releases: Path) -> None:
    path = releases / "1.0.0" / manifests.NAME
    document = json.loads(path.read_text())
    document["schema_version"] = schema.SCHEMA_VERSION + 1
    path.write_text(json.dumps(document))
    with pytest.raises(reader.ReleaseError, match="upgrade phq-data"):
        reader.open(releases / "1.0.0")
