import dataclasses
import io
from dataclasses import dataclass, field

import pytest

from phq_data.config import IngestConfig
from phq_data.pipeline.gather import gather
from phq_data.sources import Provenance, RefusedFileError, SourceFile
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


def test_a_grown_source_adds_parts_and_touches_no_old_one(workspace):
    shelf = Shelf({f"{n}.jpg": photo(n) for n in (1, 3, 5)})
    take(workspace, shelf)
    before = [workspace.part_info("plan", part) for part in (0, 1)]
    shelf.content |= {"0.jpg": photo(0), "4.jpg": photo(4)}
    shelf.opened.clear()
    assert take(workspace, shelf) == [0, 1, 2]
    assert shelf.opened == ["memory://0.jpg", "memory://4.jpg"]
    assert [workspace.part_info("plan", part) for part in (0, 1)] == before


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

    take(workspace, Touched(shelf.content))
    first, second = plan(workspace)
    assert (first["same_as"], second["same_as"]) == (None, first["uri"])


def test_a_file_that_became_readable_is_planned_once_even_if_listed_twice(workspace):
    shelf = Shelf({"a.jpg": PermissionError(13, "Permission denied")})
    take(workspace, shelf)
    shelf.content["a.jpg"] = photo(1)
    list(gather(workspace, [shelf, shelf], IngestConfig(), 2))
    assert [row["sha256"] != "" for row in plan(workspace)] == [True]


def test_a_damaged_plan_part_says_what_to_do(workspace, tmp_path):
    take(workspace, Shelf({"a.jpg": photo(1)}))
    (tmp_path / "plan/part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(WorkspaceError, match="delete it and run the build again"):
        take(workspace, Shelf({"a.jpg": photo(1)}))


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
