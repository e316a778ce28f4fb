"""A damaged workspace: every fault is named, and what can be brought back is, as it was."""

import pytest

from phq_data import config as configs
from phq_data.pipeline.engine import run_part
from phq_data.pipeline.gather import gather
from phq_data.pipeline.integrity import repair, verify
from phq_data.pipeline.whole import behind, finish, prepare
from phq_data.sources.folder import FolderSource

CONFIG = configs.default()
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"


@pytest.fixture
def built(workspace, toys, tmp_path):
    """Three photos of a folder in two parts, built to the end."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(JPEG + bytes([number]))
    prepare(workspace, CONFIG)
    for part in gather(workspace, [FolderSource(folder)], CONFIG.ingest, 2):
        for stage in ("read", "look"):
            run_part(workspace.url, CONFIG, stage, part)
    finish(workspace, CONFIG)
    return workspace


def flip(workspace, key, text=None):
    data = bytearray(workspace.read_bytes(key))
    data[data.index(text) if text else len(data) // 2] ^= 1
    workspace.write_bytes(key, bytes(data))


def everything(workspace):
    return {name: workspace.table(name).to_pylist() for name in ("plan", "photos", "people", "ledger")}


def test_a_whole_workspace_has_no_faults(built):
    report = verify(built)
    assert report.faults == () and report.photos == 3
    assert report.parts == 2 * (2 + 4) + 1  # plan and copy, two tables and ledgers; near-duplicates


def test_every_kind_of_damage_is_named_and_mended(built):
    before = everything(built)
    photos = [row["key"] for row in before["plan"]]
    flip(built, photos[0])
    built.remove(photos[2])
    flip(built, "plan/part-00000.parquet", b"pictures/1.jpg")
    built.remove("plan/part-00001.parquet")
    flip(built, "tables/photos/part-00001.parquet")
    flip(built, "ledger/look/part-00000.parquet")
    flip(built, "tables/duplicates/part-00000.parquet")
    named = {fault.where: fault.problem for fault in verify(built).faults}
    assert named == {
        "plan/part-00000.parquet": "is damaged",
        "plan/part-00001.parquet": "is missing",
        "tables/photos/part-00001.parquet": "is damaged",
        "ledger/look/part-00000.parquet": "is damaged",
        "tables/duplicates/part-00000.parquet": "is damaged",
    }  # the photos of lost plan parts are not known
    with built.lock():
        done = repair(built)
    assert len(done) == 6, done
    assert verify(built).faults == () and everything(built) == before and behind(built) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_damaged_photo_comes_back_where_its_source_has_it(built, tmp_path, there):
    (row,) = [row for row in built.table("plan").to_pylist() if row["uri"].endswith("1.jpg")]
    flip(built, row["key"])
    (fault,) = verify(built).faults
    told = (fault.kind, fault.where, fault.problem)
    assert told == ("photo", row["key"], "has other bytes than were planned")
    if not there:
        (tmp_path / "pictures/1.jpg").unlink()
    with built.lock():
        assert repair(built) == ([f"{row['key']} was fetched again"] if there else [])
    assert verify(built).faults == (() if there else (fault,))


def test_a_referenced_file_that_is_gone_or_changed_is_named(workspace, tmp_path, toys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.jpg").write_bytes(JPEG + name.encode())
    referring = CONFIG.replace_setting("ingest.store=reference")
    list(gather(workspace, [FolderSource(folder)], referring.ingest, 2))
    (folder / "a.jpg").unlink()
    (folder / "b.jpg").write_bytes(JPEG + b"c")
    faults = [fault for fault in verify(workspace).faults if fault.kind == "file"]
    assert [(fault.where[-5:], fault.problem) for fault in faults] == [
        ("a.jpg", "is missing"),
        ("b.jpg", "has other bytes than were planned"),
    ]
    assert all("phq workspace remove" in fault.advice for fault in faults)
