"""Taking photos out: everything made of them goes, nothing else is made anew, and they do not come back."""

import pytest

from phq_data.config import IngestConfig
from phq_data.pipeline import removal
from phq_data.pipeline.gather import gather
from phq_data.pipeline.removal import remove
from phq_data.pipeline.whole import behind
from phq_data.sources import removed
from phq_data.sources.folder import FolderSource
from phq_data.sources.plan import Plan
from phq_data.workspace import WorkspaceError

TABLES = ("photos", "people", "fits", "portraits", "screened")


def content(workspace):
    return {name: repr(workspace.table(name).to_pylist()) for name in TABLES}


@pytest.mark.parametrize("by", ["id", "uri"])
def test_a_photo_goes_with_everything_that_was_made_of_it_and_the_rest_stays_up_to_date(make_workspace, by):
    made = make_workspace(count=6, part_size=3, twins=False)
    workspace, photo = made.workspace, made.photos[3]
    rest = {
        name: repr([row for row in workspace.table(name).to_pylist() if row["photo_id"] != photo["photo_id"]])
        for name in TABLES
    }
    with workspace.lock():
        done = remove(workspace, [photo["photo_id"][:10] if by == "id" else photo["uri"]])
    assert (done.files, done.photos, done.portraits, done.stay) == (1, 1, 1, ())
    assert content(workspace) == rest
    assert not workspace.exists(photo["key"]) and behind(workspace) == []
    (row,) = [row for row in workspace.table("plan").to_pylist() if row["uri"] == photo["uri"]]
    assert (row["error"], row["key"], row["sha256"]) == ("removed", "", photo["photo_id"])
    entries = [row for row in workspace.table("ledger").to_pylist() if row["uri"] == photo["uri"]]
    assert [(row["stage"], row["outcome"], row["reason"]) for row in entries] == [
        ("ingest", "rejected", "removed")
    ]
    info = workspace.part_info("ledger/ingest", 1)
    assert (info.extra["items"], info.extra["kept"], info.extra["rejected"]) == (3, 2, 1)


@pytest.mark.parametrize("moment", ["amend", "_filter"])
def test_a_removal_that_was_stopped_is_done_by_the_same_command(make_workspace, monkeypatch, moment):
    made = make_workspace(count=6, part_size=3, twins=False)
    workspace, photo = made.workspace, made.photos[3]

    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Plan if moment == "amend" else removal, moment, stopped)
        with workspace.lock(), pytest.raises(KeyboardInterrupt):
            remove(workspace, [photo["photo_id"]])
    assert not workspace.exists(photo["key"])
    with workspace.lock():
        assert remove(workspace, [photo["photo_id"]]).photos == 1
    assert not any(row["photo_id"] == photo["photo_id"] for row in workspace.table("portraits").to_pylist())
    (row,) = [row for row in workspace.table("plan").to_pylist() if row["uri"] == photo["uri"]]
    assert (row["error"], row["key"]) == ("removed", "")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, number in (("a", 1), ("b", 2), ("z", 1)):
        (folder / f"{name}.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes([number]))
    return folder


def rows(workspace, *folders):
    for one in folders:
        list(gather(workspace, [FolderSource(one)], IngestConfig(), 2))
    return {row["uri"].rpartition("/")[2]: row for row in workspace.table("plan").to_pylist()}


def test_what_was_taken_out_is_not_taken_again_wherever_its_bytes_are(workspace, folder):
    before = rows(workspace, folder)
    with workspace.lock():
        assert remove(workspace, [before["a.jpg"]["sha256"]]).files == 2
    (folder / "a.jpg").touch()
    (folder / "c.jpg").write_bytes((folder / "a.jpg").read_bytes())
    after = rows(workspace, folder)
    assert {name: row["error"] for name, row in after.items()} == {
        "a.jpg": "removed", "b.jpg": "", "z.jpg": "removed", "c.jpg": "removed"
    }  # fmt: skip
    assert not workspace.exists(before["a.jpg"]["key"]) and workspace.exists(before["b.jpg"]["key"])
    assert rows(workspace, folder) == after and len(after) == workspace.table("plan").num_rows == 4


def test_a_file_that_is_taken_out_leaves_the_photo_to_its_twin(workspace, folder):
    key = rows(workspace, folder)["a.jpg"]["key"]
    with workspace.lock():
        done = remove(workspace, [str(folder / "a.jpg")])
    assert (done.files, done.photos, done.stay) == (1, 0, ((folder / "z.jpg").as_uri(),))
    after = rows(workspace)
    assert (after["z.jpg"]["same_as"], after["z.jpg"]["key"]) == (None, key) and workspace.exists(key)


def test_a_whole_source_is_taken_out(workspace, folder):
    rows(workspace, folder)
    with workspace.lock():
        assert remove(workspace, [str(folder)]).photos == 2
    assert {row["error"] for row in rows(workspace, folder).values()} == {"removed"}


def lose_the_plan(workspace, *parts):
    for part in parts or workspace.parts("plan"):
        for place in ("plan", "plan-copy"):
            workspace.remove(f"{place}/part-{part:05d}.parquet")


@pytest.mark.parametrize("former", [False, True])
def test_what_was_taken_out_stays_out_when_the_plan_is_lost(workspace, folder, former):
    before = rows(workspace, folder)
    with workspace.lock():
        remove(workspace, [before["a.jpg"]["sha256"]])
    if former:  # a workspace of a former version: the next plan writes the list
        workspace.remove(removed.FILE)
        list(gather(workspace, [], IngestConfig(), 2))
    lose_the_plan(workspace)
    after = rows(workspace, folder)
    assert {name: row["error"] for name, row in after.items()} == {
        "a.jpg": "removed", "b.jpg": "", "z.jpg": "removed"
    }  # fmt: skip
    assert not workspace.exists(before["a.jpg"]["key"]) and rows(workspace, folder) == after


@pytest.mark.parametrize("parts", [(0, 1), (1,)])
def test_a_twin_that_stays_comes_back_when_the_plan_is_lost(workspace, folder, parts):
    rows(workspace, folder)
    with workspace.lock():
        remove(workspace, [str(folder / "a.jpg")])
    rows(workspace)
    lose_the_plan(workspace, *parts)
    after = rows(workspace, folder)
    errors = {name: row["error"] for name, row in after.items()}
    assert errors == {"a.jpg": "removed", "b.jpg": "", "z.jpg": ""}
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF another")
    lose_the_plan(workspace)
    assert rows(workspace, folder)["a.jpg"]["error"] == ""


def test_a_damaged_list_of_what_was_taken_out_stops_a_build(workspace, folder):
    rows(workspace, folder)
    with workspace.lock():
        remove(workspace, [str(folder)])
    listed = workspace.read_bytes(removed.FILE)
    for spoilt in (b"", b"{}", listed.replace(b"a.jpg", b"c.jpg"), listed[:-9]):
        workspace.write_bytes(removed.FILE, spoilt)
        with pytest.raises(WorkspaceError, match=r"removed\.json.* is damaged"):
            rows(workspace, folder)


@pytest.mark.parametrize("target", ["0123456789", "nothing.jpg", "file:///nowhere.jpg"])
def test_a_target_that_names_nothing_is_told_and_nothing_changes(workspace, folder, target):
    before = rows(workspace, folder)
    with workspace.lock(), pytest.raises(WorkspaceError, match="has no photo"):
        remove(workspace, [str(folder / "b.jpg"), target])
    assert rows(workspace) == before


def test_a_build_after_a_stopped_removal_does_not_fetch_the_bytes_again(workspace, folder, monkeypatch):
    key = rows(workspace, folder)["b.jpg"]["key"]
    with monkeypatch.context() as patch:
        patch.setattr(Plan, "amend", lambda *arguments: 1 / 0)
        with workspace.lock(), pytest.raises(ZeroDivisionError):
            remove(workspace, [str(folder / "b.jpg")])
    rows(workspace, folder)
    assert not workspace.exists(key)
