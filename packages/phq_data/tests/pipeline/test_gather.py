import dataclasses
import io
import json
import os
from dataclasses import dataclass, field

import pytest
from PIL import Image

from phq_data import schema
from phq_data.config import IngestConfig
from phq_data.pipeline.gather import gather
from phq_data.sources import Provenance, RefusedFileError, SourceFile
from phq_data.sources.folder import FolderSource
from phq_data.workspace import Workspace, WorkspaceError

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"


@dataclass
class Shelf:
    """A source of files held in memory; values that are errors are raised when read."""

    content: dict = field(default_factory=dict)
    provider: str = "folder"
    spec: str = "shelf"
    opened: list = field(default_factory=list)

    def files(self):
        for uri, data in sorted(self.content.items()):
            size = len(data) if isinstance(data, bytes) else -1
            yield SourceFile(f"memory://{uri}", size, 1, Provenance(license="CC0-1.0"))

    def open(self, file):
        self.opened.append(file.uri)
        data = self.content[file.uri.removeprefix("memory://")]
        if isinstance(data, Exception):
            raise data
        return io.BytesIO(data)


def photo(number):
    return JPEG + number.to_bytes(4, "big")


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(tmp_path, create=True)


def plan(workspace):
    return workspace.table("plan").to_pylist()


def take(workspace, shelf, part_size=2, **settings):
    return list(gather(workspace, [shelf] if shelf else [], IngestConfig(**settings), part_size))


def test_files_are_cut_into_parts_copied_under_their_hash_and_planned_once(workspace):
    shelf = Shelf({f"{n}.jpg": photo(n) for n in range(5)})
    assert take(workspace, shelf) == [0, 1, 2]
    rows = plan(workspace)
    assert [row["uri"] for row in rows] == [f"memory://{n}.jpg" for n in range(5)]
    assert all(workspace.read_bytes(row["key"]) == photo(n) for n, row in enumerate(rows))
    assert rows[0]["license"] == "CC0-1.0"
    shelf.opened.clear()
    assert take(workspace, shelf) == [0, 1, 2]
    assert take(workspace, None) == [0, 1, 2]
    assert shelf.opened == []


def test_parts_of_a_large_plan_hold_more_photos_also_of_one_that_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("phq_data.sources.plan.STEP", 4)
    shelf = Shelf({f"{n:03}.jpg": b"" for n in range(80)})  # files without content are planned, too

    def sizes(workspace):
        return [workspace.part_info("plan", part).rows for part in workspace.parts("plan")]

    whole = Workspace.open(tmp_path / "whole", create=True)
    take(whole, shelf, part_size=3)
    assert sizes(whole) == [3] * 4 + [6] * 4 + [12] * 3 + [8]

    stopped = Workspace.open(tmp_path / "stopped", create=True)
    shelf.content["050.jpg"] = RuntimeError("stopped")
    shelf.files = lambda: (dataclasses.replace(file, size=1) for file in Shelf.files(shelf))
    with pytest.raises(RuntimeError, match="stopped"):
        take(stopped, shelf, part_size=3)
    before = sizes(stopped)
    assert before == [3] * 4 + [6] * 4 + [12]
    shelf.content["050.jpg"] = b""
    take(stopped, shelf, part_size=3)
    assert sizes(stopped) == sizes(whole)


def test_a_grown_source_adds_parts_and_touches_no_old_one(workspace):
    shelf = Shelf({f"{n}.jpg": photo(n) for n in (1, 3, 5)})
    take(workspace, shelf)
    before = [workspace.part_info("plan", part) for part in (0, 1)]
    shelf.content |= {"0.jpg": photo(0), "4.jpg": photo(4)}
    shelf.opened.clear()
    assert take(workspace, shelf) == [0, 1, 2]
    assert shelf.opened == ["memory://0.jpg", "memory://4.jpg"]
    assert [workspace.part_info("plan", part) for part in (0, 1)] == before


def test_sources_that_overlap_give_each_file_once(workspace, tmp_path):
    inner = tmp_path / "pictures" / "inner"
    inner.mkdir(parents=True)
    for name, number in (("a", 1), ("b", 2), ("inner/c", 3)):
        (tmp_path / "pictures" / f"{name}.jpg").write_bytes(photo(number))
    sources = [FolderSource(inner.parent), FolderSource(inner), FolderSource(inner.parent)]
    told = []
    for part_size in (2, 5):  # the second build knows all of them
        list(gather(workspace, sources, IngestConfig(), part_size, told.append))
        assert sorted(row["uri"].rpartition("/")[2] for row in plan(workspace)) == ["a.jpg", "b.jpg", "c.jpg"]
    assert told.count(True) == 3, told


def test_the_same_bytes_twice_are_planned_as_the_same(workspace):
    take(workspace, Shelf({"a.jpg": photo(1), "b.jpg": photo(1)}))
    first, second = plan(workspace)
    assert first["same_as"] is None
    assert second["same_as"] == first["uri"]
    assert second["item"] == first["item"]


@pytest.mark.parametrize(
    ("data", "error"), [(b"", "empty"), (b"plain text", "not_an_image"), (photo(1) * 40, "too_many_bytes")]
)
def test_what_is_no_photo_is_planned_with_the_reason_and_not_copied(workspace, data, error):
    take(workspace, Shelf({"bad.jpg": data, "good.jpg": photo(7)}), max_bytes=100)
    bad, good = plan(workspace)
    assert (bad["error"], bad["key"], bad["sha256"]) == (error, "", "")
    assert bad["message"]
    assert good["error"] == ""


def test_an_unreadable_file_is_tried_again_and_takes_its_old_place(workspace):
    shelf = Shelf({"a.jpg": photo(1), "b.jpg": PermissionError(13, "Permission denied"), "c.jpg": photo(3)})
    take(workspace, shelf)
    assert plan(workspace)[1]["error"] == "PermissionError"
    shelf.opened.clear()
    take(workspace, shelf)
    assert shelf.opened == ["memory://b.jpg"]
    shelf.content["b.jpg"] = photo(2)
    assert take(workspace, shelf) == [0, 1]
    rows = plan(workspace)
    assert [row["uri"] for row in rows] == ["memory://a.jpg", "memory://b.jpg", "memory://c.jpg"]
    assert rows[1]["error"] == "" and workspace.read_bytes(rows[1]["key"]) == photo(2)


def test_photos_can_stay_where_they_are(workspace, tmp_path):
    take(workspace, Shelf({"a.jpg": photo(1)}), store="reference")
    assert plan(workspace)[0]["key"] == "memory://a.jpg"
    assert not (tmp_path / "photos").exists()


def test_gathering_that_is_killed_between_parts_goes_on_to_the_same_plan(workspace, tmp_path):
    files = {f"{n}.jpg": photo(n) for n in range(7)}
    take(workspace, Shelf(files))
    whole = plan(workspace)

    class Dies(Shelf):
        def open(self, file):
            if file.uri == "memory://5.jpg":
                raise KeyboardInterrupt
            return super().open(file)

    other = Workspace.open(tmp_path / "other", create=True)
    with pytest.raises(KeyboardInterrupt):
        take(other, Dies(files))
    assert other.parts("plan") == [0, 1]
    take(other, Shelf(files))
    assert plan(other) == whole


def test_a_full_disk_stops_gathering_with_advice(workspace, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WorkspaceError, match="disk is full"):
        take(workspace, Shelf({"a.jpg": photo(1)}))


def test_a_touched_file_is_known_by_its_bytes(workspace):
    shelf = Shelf({"a.jpg": photo(1)})
    take(workspace, shelf)

    class Touched(Shelf):
        def files(self):
            for file in super().files():
                yield SourceFile(file.uri, file.size, file.mtime_ns + 1, file.provenance)

    content = workspace.part_info("plan", 0).content
    touched = Touched(shelf.content)
    take(workspace, touched)
    (row,) = plan(workspace)
    assert (row["same_as"], row["mtime_ns"]) == (None, 2)
    assert workspace.part_info("plan", 0).content == content  # what was made of it stays up to date
    touched.opened.clear()
    take(workspace, touched)
    assert touched.opened == []


def test_a_file_that_became_readable_is_planned_once_even_if_listed_twice(workspace):
    shelf = Shelf({"a.jpg": PermissionError(13, "Permission denied")})
    take(workspace, shelf)
    shelf.content["a.jpg"] = photo(1)
    list(gather(workspace, [shelf, shelf], IngestConfig(), 2))
    assert [row["sha256"] != "" for row in plan(workspace)] == [True]


def _made_of(workspace, *parts):
    for part in parts:
        for folder, table in (("ledger/ingest", "ledger"), ("tables/photos", "photos")):
            workspace.write_part(folder, part, schema.SCHEMAS[table].empty_table(), "made")


@pytest.mark.parametrize("damage", [b"PAR1", None, "flip"])
def test_a_plan_part_that_is_damaged_or_deleted_comes_back_as_it_was(workspace, tmp_path, damage):
    files = {f"{n}.jpg": photo(n) for n in range(5)}
    take(workspace, Shelf(files))
    before = plan(workspace)
    _made_of(workspace, 0, 1, 2)
    path = tmp_path / "plan/part-00001.parquet"
    if damage is None:
        path.unlink()
    elif damage == "flip":
        data = bytearray(path.read_bytes())
        data[data.index(b"memory://2.jpg")] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(damage)
    shelf = Shelf(files)
    assert take(workspace, shelf) == [0, 1, 2]
    assert plan(workspace) == before and shelf.opened == []
    assert workspace.parts("tables/photos") == [0, 1, 2]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_without_a_copy_the_files_of_a_lost_part_are_planned_anew_and_nothing_is_doubled(
    workspace, tmp_path, lost
):
    """The owner of twins in part 0 among them: the twin that is left is the owner then."""
    files = {f"{n}.jpg": photo(n % 4) for n in range(6)}
    take(workspace, Shelf(files))
    _made_of(workspace, 0, 1, 2)
    for folder in ("plan", "plan-copy"):
        (tmp_path / folder / f"part-{lost:05d}.parquet").unlink()
    parts = take(workspace, Shelf(files))
    assert sorted(row["uri"] for row in plan(workspace)) == [f"memory://{n}.jpg" for n in range(6)]
    owners = [row for row in plan(workspace) if row["same_as"] is None]
    assert len(owners) == len({row["sha256"] for row in owners}) == 4
    uri_of = {row["sha256"]: row["uri"] for row in owners}
    assert all(row["same_as"] in (None, uri_of[row["sha256"]]) for row in plan(workspace))
    assert lost not in workspace.parts("tables/photos") and len(parts) == 3


def test_photos_are_not_built_into_a_workspace_of_imported_portraits(workspace):
    """Their parts would take the place of imported ones."""
    workspace.write_part("tables/photos", 0, schema.SCHEMAS["photos"].empty_table(), "imported")
    assert take(workspace, None) == []
    with pytest.raises(WorkspaceError, match="holds imported portraits"):
        take(workspace, Shelf({"a.jpg": photo(1)}))


@pytest.mark.parametrize("damage", [b"", None])
def test_a_copy_of_a_photo_that_is_cut_short_or_deleted_is_fetched_again(workspace, tmp_path, damage):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(photo(1))
    take(workspace, FolderSource(folder))
    key = plan(workspace)[0]["key"]
    workspace.write_bytes(key, damage) if damage is not None else workspace.remove(key)
    take(workspace, FolderSource(folder))
    assert workspace.read_bytes(key) == photo(1)


# ---- photos that stay where they are -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Two files of the same bytes, and another."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, number in (("a", 1), ("b", 2), ("z", 1)):
        (folder / f"{name}.jpg").write_bytes(photo(number))
    return folder


def rows(workspace):
    """name -> (its photo, name of the file that has it) of every row."""
    found = {}
    for row in plan(workspace):
        name = row["uri"].rpartition("/")[2]
        assert name not in found
        found[name] = (row["sha256"][:6], row["same_as"] and row["same_as"].rpartition("/")[2])
    return found


def refer(workspace, *folders):
    for folder in folders:
        list(gather(workspace, [FolderSource(folder)], IngestConfig(store="reference"), 2))
    return rows(workspace)


def test_a_folder_that_was_moved_is_found_again_by_its_bytes(workspace, folder):
    before = refer(workspace, folder)
    moved = folder.rename(folder.with_name("elsewhere"))
    (moved / "b.jpg").rename(moved / "c.jpg")
    before["c.jpg"] = before.pop("b.jpg")
    assert refer(workspace, moved) == before
    for row in plan(workspace):
        assert row["key"] == row["uri"] == (moved / row["uri"].rpartition("/")[2]).as_uri()
    contents = [workspace.part_info("plan", part).content for part in (0, 1)]
    refer(workspace, moved)
    assert [workspace.part_info("plan", part).content for part in (0, 1)] == contents


def test_when_the_first_of_twins_is_deleted_the_other_is_taken(workspace, folder):
    first = refer(workspace, folder)
    assert first["a.jpg"][1] is None and first["z.jpg"][1] == "a.jpg"
    (folder / "a.jpg").unlink()
    after = refer(workspace, folder)
    assert after["z.jpg"][1] is None and after["a.jpg"][1] == "z.jpg" and len(after) == 3


def test_a_file_that_was_replaced_is_another_photo_and_its_twin_has_the_former_one(workspace, folder):
    before = refer(workspace, folder)
    (folder / "a.jpg").write_bytes(photo(3) + b"longer")
    after = refer(workspace, folder)
    assert after["z.jpg"] == (before["a.jpg"][0], None)
    assert after["a.jpg"][0] not in {one for one, _ in before.values()} and after["a.jpg"][1] is None


def test_a_file_of_the_same_time_and_size_is_read_again_when_a_stage_found_it_changed(workspace, folder):
    before = refer(workspace, folder)
    status = (folder / "b.jpg").stat()
    (folder / "b.jpg").write_bytes(photo(9))
    os.utime(folder / "b.jpg", ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert refer(workspace, folder) == before  # nothing tells
    entry = {
        "stage": "ingest", "item": "b", "outcome": "failed", "reason": "changed", "message": "",
        "retryable": True, "evidence": "{}", "outputs": [], "uri": (folder / "b.jpg").as_uri(),
    }  # fmt: skip
    ledger = schema.to_table("ledger", [entry])
    workspace.write_part("ledger/ingest", 0, ledger, "made", {"retryable": 1})
    assert refer(workspace, folder)["b.jpg"] != before["b.jpg"]


@pytest.mark.parametrize("left", ["nothing", "a broken link"])
def test_a_file_that_was_deleted_keeps_its_row(workspace, folder, left):
    before = refer(workspace, folder)
    (folder / "b.jpg").unlink()
    if left == "a broken link":
        (folder / "b.jpg").symlink_to(folder / "unplugged.jpg")
    assert refer(workspace, folder) == before
    assert [row["error"] for row in plan(workspace)] == ["", "", ""]


def test_rights_that_are_stated_later_replace_what_was_planned_and_only_that(workspace):
    shelf = Shelf({"a": photo(1), "b": photo(2), "c": photo(3)})
    take(workspace, shelf)
    before, contents = plan(workspace), [workspace.part_info("plan", part).content for part in (0, 1)]
    take(workspace, shelf)
    assert [workspace.part_info("plan", part).content for part in (0, 1)] == contents
    original = shelf.files

    def restated():
        for file in original():
            changed = Provenance(license="CC-BY-4.0", author="Ada") if file.uri.endswith("c") else None
            yield dataclasses.replace(file, provenance=changed or file.provenance)

    shelf.files = restated
    take(workspace, shelf)
    after = plan(workspace)
    assert after[:2] == before[:2] and workspace.part_info("plan", 0).content == contents[0]
    assert after[2] == {**before[2], "license": "CC-BY-4.0", "author": "Ada"}
    assert len(shelf.opened) == 3


def test_a_permission_once_recorded_stays_when_the_folder_says_nothing_of_one(workspace):
    shelf = Shelf({"a": photo(1)})
    original = shelf.files
    given = Provenance(license="CC0-1.0", permission='{"who": "Rosa"}')
    shelf.files = lambda: (dataclasses.replace(file, provenance=given) for file in original())
    take(workspace, shelf)
    shelf.files = original
    take(workspace, shelf)
    assert plan(workspace)[0]["permission"] == '{"who": "Rosa"}'


def test_a_file_that_its_source_refuses_is_planned_with_the_reason_and_asked_again(workspace):
    shelf = Shelf({"a": RefusedFileError("license_nc", "not for sale")})
    take(workspace, shelf)
    assert (plan(workspace)[0]["error"], plan(workspace)[0]["sha256"]) == ("license_nc", "")
    shelf.content["a"] = photo(1)
    shelf.content = {"a": photo(1)}
    take(workspace, shelf)
    assert plan(workspace)[0]["error"] == "" and len(plan(workspace)) == 1


def forbidding(number, said='plus:DataMining="DMI-PROHIBITED"'):
    """A JPEG whose XMP says so."""
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/">'
        f"<rdf:Description {said}><dc:creator>Ada</dc:creator></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), (number, 9, 9)).save(stream, "JPEG", xmp=packet.encode())
    return stream.getvalue()


def test_a_photo_that_forbids_data_mining_is_refused_like_robots_and_its_bytes_are_not_kept(workspace):
    shelf = Shelf({"a": forbidding(1), "b": forbidding(2, ""), "c": photo(3)})
    take(workspace, shelf, part_size=3)
    a, b, c = plan(workspace)
    assert (a["error"], a["key"]) == ("opt_out", "") and "DMI-PROHIBITED" in a["message"]
    assert json.loads(b["self_stated"]) == {"creator": "Ada"} and b["error"] == ""
    assert c["self_stated"] is None and len(workspace.sizes("photos")) == 2
    given = {"who": "Ada", "scope": ["train"], "date": "2026-11-01", "reference": "letter"}
    original = shelf.files
    allowed = Provenance(permission=json.dumps(given))
    shelf.files = lambda: (dataclasses.replace(file, provenance=allowed) for file in original())
    take(workspace, shelf)
    assert plan(workspace)[0]["error"] == "" and workspace.exists(plan(workspace)[0]["key"])
    assert "DMI-PROHIBITED" in plan(workspace)[0]["self_stated"]
