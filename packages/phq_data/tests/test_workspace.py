import errno
import subprocess
import sys

import pyarrow as pa
import pytest

from phq_data import schema
from phq_data.schema import content_digest
from phq_data.workspace import Workspace, WorkspaceBusyError, WorkspaceError


def duplicates(*ids):
    rows = [{"portrait_id": i, "cluster": ids[0], "representative": i == ids[0], "distance": 0} for i in ids]
    return schema.to_table("duplicates", rows)


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(tmp_path / "ws", create=True)


def test_a_part_reads_back_with_its_footer(workspace):
    written = workspace.write_part("tables/duplicates", 3, duplicates("a", "b"), "print", {"seconds": 1.5})
    info = workspace.part_info("tables/duplicates", 3)
    assert info == written
    assert (info.rows, info.fingerprint, info.extra) == (2, "print", {"seconds": 1.5})
    assert workspace.read_part("tables/duplicates", 3).equals(duplicates("a", "b"))
    assert workspace.parts("tables/duplicates") == [3]


def test_tables_join_parts_in_order_and_honour_columns(workspace):
    workspace.write_part("tables/duplicates", 1, duplicates("c"), "x")
    workspace.write_part("tables/duplicates", 0, duplicates("a", "b"), "x")
    assert workspace.table("duplicates", ["portrait_id"]).to_pydict() == {"portrait_id": ["a", "b", "c"]}
    assert workspace.table("people").schema == schema.PEOPLE


def test_equal_rows_have_equal_digests_however_they_are_chunked():
    whole = duplicates("a", "b", "c")
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    assert content_digest(whole) == content_digest(pieces)
    assert content_digest(whole) != content_digest(duplicates("a", "b", "d"))


@pytest.mark.parametrize("damage", [b"", b"PAR1 this is no parquet file", None])
def test_a_damaged_part_counts_as_missing_and_reading_it_says_so(workspace, tmp_path, damage):
    workspace.write_part("tables/duplicates", 0, duplicates("a"), "x")
    path = tmp_path / "ws/tables/duplicates/part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    assert workspace.part_info("tables/duplicates", 0) is None
    with pytest.raises(WorkspaceError, match="part-00000"):
        workspace.read_part("tables/duplicates", 0)


def test_a_full_disk_leaves_the_old_file_and_no_litter(workspace, tmp_path, monkeypatch):
    workspace.write_bytes("config.json", b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WorkspaceError, match="disk is full"):
        workspace.write_bytes("config.json", b"new")
    assert workspace.read_bytes("config.json") == b"old"
    assert sorted(p.name for p in (tmp_path / "ws").iterdir()) == ["config.json", "workspace.json"]


def test_a_workspace_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WorkspaceError, match="is a file, not a folder"):
        Workspace.open(tmp_path / "file", create=True)
    with pytest.raises(WorkspaceError, match="no workspace at"):
        Workspace.open(tmp_path / "nowhere")
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer/workspace.json").write_text('{"format": "phq-workspace/1", "schema_version": 999}')
    with pytest.raises(WorkspaceError, match="newer PHQ"):
        Workspace.open(tmp_path / "newer")
    (tmp_path / "newer/workspace.json").write_text("{")
    with pytest.raises(WorkspaceError, match="damaged"):
        Workspace.open(tmp_path / "newer")


def test_workspaces_live_on_any_fsspec_file_system():
    workspace = Workspace.open("memory://phq-test-workspace", create=True)
    workspace.write_part("tables/duplicates", 0, duplicates("a"), "x")
    again = Workspace.open("memory://phq-test-workspace")
    assert again.table("duplicates").num_rows == 1


HOLD = """
import sys
from phq_data.workspace import Workspace
with Workspace.open(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


def held(folder):
    """A process that holds the workspace until it gets a line."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_builder_is_told_who_is_in_and_waits(workspace, tmp_path):
    holder = held(tmp_path / "ws")
    with pytest.raises(WorkspaceBusyError, match=f"process {holder.pid} on"), workspace.lock(wait=False):
        pass
    said = []

    def told(text):
        said.append(text)
        assert holder.poll() is None
        holder.stdin.write("go\n")
        holder.stdin.flush()

    with workspace.lock(on_wait=told):
        assert holder.wait(60) == 0
    assert len(said) == 1 and str(holder.pid) in said[0]


def test_a_killed_builder_frees_the_workspace_and_its_litter_is_swept(workspace, tmp_path):
    holder = held(tmp_path / "ws")
    holder.kill()
    holder.wait()
    litter = tmp_path / "ws/tables/photos/.tmp-1-abcd-part-00000.parquet"
    litter.parent.mkdir(parents=True)
    litter.write_bytes(b"half a part")
    with workspace.lock(wait=False):
        assert not litter.exists()


def test_rows_are_found_by_the_start_of_their_id(workspace):
    workspace.write_part("tables/duplicates", 0, duplicates("abc1", "abd2"), "x")
    assert workspace.row("duplicates", "abd")["portrait_id"] == "abd2"
    assert workspace.row("duplicates", "zzz") is None
    with pytest.raises(WorkspaceError, match="give more of the id"):
        workspace.row("duplicates", "ab")
    workspace.write_part("tables/duplicates", 2, duplicates("abd9", "b"), "x")
    found = list(workspace.search("tables/duplicates", "portrait_id", "abd", ["portrait_id"]))
    assert [(part, rows.to_pydict()) for part, rows in found] == [
        (0, {"portrait_id": ["abd2"]}),
        (2, {"portrait_id": ["abd9"]}),
    ]


def test_kept_portraits_are_those_screened_in_without_their_near_duplicates(make_workspace):
    workspace = make_workspace(count=5, rejected=2).workspace
    judged = workspace.table("screened", ["portrait_id", "kept"]).to_pylist()
    good = sorted(row["portrait_id"] for row in judged if row["kept"])
    twins = [
        {"portrait_id": i, "cluster": good[0], "representative": i == good[0], "distance": 0}
        for i in good[:2]
    ]
    workspace.write_part("tables/duplicates", 0, schema.to_table("duplicates", twins), "x")
    kept = workspace.kept(["portrait_id", "yaw"])
    assert sorted(kept["portrait_id"].to_pylist()) == [good[0], *good[2:]]
    assert kept.column_names == ["portrait_id", "yaw"]
    assert workspace.kept().schema.names == schema.PORTRAITS.names


def test_an_empty_workspace_has_no_kept_portraits(workspace):
    assert workspace.kept(["portrait_id"]).num_rows == 0


def test_a_copy_beside_a_part_is_no_part(workspace, tmp_path):
    workspace.write_part("tables/duplicates", 0, duplicates("a"), "x")
    (tmp_path / "ws/tables/duplicates/part-00000 (1).parquet").write_bytes(b"a sync conflict")
    assert workspace.parts("tables/duplicates") == [0]


def test_workspaces_whose_names_hold_colons_are_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Shoot::Monday", "Shoot::Tuesday", "shoot::monday"):
        Workspace.open(name, create=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "Shoot::Monday", "Shoot::Tuesday", "shoot::monday"
    ]  # fmt: skip
