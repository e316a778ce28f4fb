import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from phq_data import schema
from phq_data.release import reader, rows
from phq_data.release.build import build
from phq_data.release.verify import verify
from phq_data.release.version import Version, VersionError, check_step, step

from .conftest import options, resign


def ids_of(folder):
    return set(reader.open(folder).index["portrait_id"].to_pylist())


def shards_of(folder):
    return {shard.path: shard.sha256 for shard in reader.open(folder).manifest.shards}


@pytest.mark.parametrize("text", ["1.2", "v1.2.3", "01.2.3", "1.2.3-rc1", "1.2.3.4", "", "١.0.0"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(VersionError, match=r"MAJOR\.MINOR\.PATCH"):
        Version.parse(text)


@pytest.mark.parametrize(
    ("parent", "child", "kind"),
    [
        ("1.2.3", "2.0.0", "major"),
        ("1.2.3", "1.3.0", "minor"),
        ("1.2.3", "1.2.4", "patch"),
        ("0.9.0", "0.10.0", "minor"),
    ],
)
def test_steps(parent, child, kind):
    assert step(Version.parse(parent), Version.parse(child)) == kind


@pytest.mark.parametrize("child", ["1.2.3", "1.2.2", "0.9.9", "2.1.0", "2.0.1", "1.3.1"])
def test_a_version_goes_up_and_ends_in_zeros(child):
    with pytest.raises(VersionError):
        step(Version.parse("1.2.3"), Version.parse(child))


@pytest.mark.parametrize(
    ("added", "removed", "changed", "right"),
    [(0, 0, 0, "1.2.4"), (3, 0, 0, "1.3.0"), (3, 1, 0, "2.0.0"), (0, 0, 1, "2.0.0")],
)
def test_the_number_must_say_what_happened_to_the_rows(added, removed, changed, right):
    for child in ("1.2.4", "1.3.0", "2.0.0"):
        if child == right:
            check_step(Version.parse("1.2.3"), Version.parse(child), added, removed, changed)
        else:
            with pytest.raises(VersionError, match=right.replace(".", r"\.")):
                check_step(Version.parse("1.2.3"), Version.parse(child), added, removed, changed)


def test_additions_are_minor_and_leave_old_shards_alone(maker, releases):
    maker.add(*(maker.photo() for _ in range(10)))
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=10_000))
    added = maker.add(*(maker.photo() for _ in range(3)))
    with pytest.raises(VersionError, match=r"3 rows added, 0 removed, 0 changed since 1\.0\.0.*1\.1\.0"):
        build(maker.workspace, releases, "2.0.0", options())
    result = build(maker.workspace, releases, "1.1.0", options(shard_bytes=10_000))
    old, new = shards_of(releases / "1.0.0"), shards_of(releases / "1.1.0")
    assert old.items() <= new.items() and len(new) > len(old)
    assert ids_of(releases / "1.1.0") - ids_of(releases / "1.0.0") == set(added)
    assert (result.changes.added, result.changes.shards_copied) == (3, len(old))
    manifest = reader.open(releases / "1.1.0").manifest
    assert manifest.parent["digest"] == reader.open(releases / "1.0.0").manifest.digest
    assert verify(releases / "1.1.0") == []


def test_a_removal_is_major_and_rewrites_only_its_shard(maker, releases):
    ids = maker.add(*(maker.photo() for _ in range(10)))
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=10_000))
    maker.decide({ids[4]: "reject"})
    with pytest.raises(VersionError, match=r"1 removed.*MAJOR version: 2\.0\.0"):
        build(maker.workspace, releases, "1.1.0", options())
    build(maker.workspace, releases, "2.0.0", options())
    old, new = shards_of(releases / "1.0.0"), shards_of(releases / "2.0.0")
    assert len(set(old.items()) - set(new.items())) == 1
    assert ids_of(releases / "2.0.0") == ids_of(releases / "1.0.0") - {ids[4]}
    assert verify(releases / "2.0.0") == []


def test_a_changed_row_is_major(maker, releases):
    specs = [maker.photo() for _ in range(4)]
    maker.add(*specs)
    build(maker.workspace, releases, "1.0.0", options())
    maker.add(
        *[{**spec, "error_probability": 0.5} if i == 2 else spec for i, spec in enumerate(specs)], part=0
    )
    with pytest.raises(VersionError, match="0 removed, 1 changed"):
        build(maker.workspace, releases, "1.0.1", options())
    assert build(maker.workspace, releases, "2.0.0", options()).changes.changed == 1


def test_packing_the_same_rows_anew_is_a_patch(maker, releases):
    maker.add(*(maker.photo() for _ in range(10)))
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=10_000))
    with pytest.raises(VersionError, match=r"PATCH version: 1\.0\.1"):
        build(maker.workspace, releases, "1.1.0", options(repack=True))
    build(maker.workspace, releases, "1.0.1", options(repack=True))
    assert len(shards_of(releases / "1.0.1")) < len(shards_of(releases / "1.0.0"))
    assert ids_of(releases / "1.0.1") == ids_of(releases / "1.0.0")


def test_a_version_never_changes(maker, releases):
    maker.add(maker.photo())
    build(maker.workspace, releases, "1.0.0", options())
    with pytest.raises(VersionError, match="a version never changes"):
        build(maker.workspace, releases, "1.0.0", options())


def test_a_damaged_parent_shard_is_not_copied_on(maker, releases):
    maker.add(*(maker.photo() for _ in range(4)))
    build(maker.workspace, releases, "1.0.0", options())
    shard = next((releases / "1.0.0/data").iterdir())
    data = bytearray(shard.read_bytes())
    data[200] ^= 1
    shard.write_bytes(bytes(data))
    maker.add(maker.photo())
    with pytest.raises(Exception, match=r"is not what 1\.0\.0 was released with"):
        build(maker.workspace, releases, "1.1.0", options())
    assert not (releases / "1.1.0").exists()


def test_the_change_log_grows_on_top(maker, releases):
    maker.add(maker.photo())
    build(maker.workspace, releases, "1.0.0", options())
    maker.add(maker.photo())
    build(maker.workspace, releases, "1.1.0", options())
    text = (releases / "1.1.0/CHANGELOG.md").read_text()
    assert text.index("## 1.1.0") < text.index("1 portraits added") < text.index("## 1.0.0")
    assert text.count("# Changes of") == 1


def test_pictures_that_did_not_change_are_not_decoded_again(maker, releases, monkeypatch):
    maker.add(*(maker.photo() for _ in range(5)))
    build(maker.workspace, releases, "1.0.0", options())
    added = maker.add(maker.photo(), maker.photo())
    seen = []
    real = rows.pixel_digests
    monkeypatch.setattr(
        "phq_data.release.parts.pixel_digests", lambda p: (seen.append(p["portrait_id"]), real(p))[1]
    )
    build(maker.workspace, releases, "1.1.0", options())
    assert sorted(seen) == sorted(added)
    assert verify(releases / "1.1.0", pixels=True) == []


def without_column(folder, name):
    """The release as an older PHQ wrote it, whose shards had no such column."""
    for shard in reader.open(folder).manifest.shards:
        path = folder / shard.path
        file = pq.ParquetFile(path)
        table = file.read().drop_columns([name])
        features = json.loads(table.schema.metadata[b"huggingface"])
        features["info"]["features"].pop(name)
        told = {**table.schema.metadata, b"huggingface": json.dumps(features).encode()}
        pq.write_table(table.replace_schema_metadata(told), path, write_page_checksum=True)
    resign(folder)


def test_a_parent_without_the_column_of_corrected_labels(maker, releases):
    maker.add(*(maker.photo() for _ in range(6)))
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=4_000))
    without_column(releases / "1.0.0", "corrected_from")
    old = reader.open(releases / "1.0.0")
    assert "corrected_from" not in old.stored_columns and "corrected_from" in old.columns
    assert verify(releases / "1.0.0") == []
    rows_of_old = [dict(row) for row in old.all().stream()]
    assert [row["corrected_from"] for row in rows_of_old] == [None] * 6
    maker.add(maker.photo())
    result = build(maker.workspace, releases, "1.1.0", options(shard_bytes=4_000))
    assert (result.changes.added, result.changes.changed, result.changes.removed) == (1, 0, 0)
    assert result.changes.shards_copied == 0  # all shards of a release have the same columns
    new = reader.open(releases / "1.1.0")
    assert "corrected_from" in new.stored_columns
    assert verify(releases / "1.1.0") == []
    again = {row["portrait_id"]: row["camera"] for row in new.all().stream()}
    assert all(again[row["portrait_id"]] == row["camera"] for row in rows_of_old)


def test_a_corrected_label_is_told_and_a_row_of_its_own(maker, releases):
    ids = maker.add(*(maker.photo() for _ in range(3)))
    build(maker.workspace, releases, "1.0.0", options())
    part = maker.workspace.read_part("tables/portraits", 0)
    found = part.to_pylist()
    found[0] |= {"portrait_id": "c" * 32, "corrected_from": ids[0], "corrected_by": "Ada", "correction": "C1"}
    screened = maker.workspace.read_part("tables/screened", 0).to_pylist()
    screened[0]["portrait_id"] = "c" * 32
    for name, rows_of in (("portraits", found), ("screened", screened)):
        maker.workspace.write_part(f"tables/{name}", 0, schema.to_table(name, rows_of), "test")
    result = build(maker.workspace, releases, "2.0.0", options())
    assert (result.changes.added, result.changes.removed, result.changes.changed) == (1, 1, 0)
    assert result.manifest.about["counts"]["corrected"] == 1
    rows_of = {row["portrait_id"]: row for row in reader.open(result.folder).all().stream()}
    assert rows_of["c" * 32]["corrected_from"] == ids[0]
    assert "1 portrait has a label corrected by people" in (Path(result.folder) / "README.md").read_text()
    assert "1 labels were corrected by people" in (Path(result.folder) / "DATASHEET.md").read_text()
    assert not any(b"Ada" in path.read_bytes() for path in Path(result.folder).rglob("*.*"))  # nobody's name
