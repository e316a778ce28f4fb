import json
import os
import threading
import unicodedata
from pathlib import Path

import pytest

from phq_data import schema
from phq_data.sources import Provenance, SourceError
from phq_data.sources.folder import FolderSource, path_of


def put(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))


def listed(root):
    """Paths below `root` in the order of the listing."""
    base = os.fsencode(root)
    return [os.fsdecode(path_of(file.uri)[len(base) + 1 :]) for file in FolderSource(root).files()]


def test_every_file_below_is_listed_in_the_order_of_its_path_and_hidden_ones_are_not(tmp_path):
    put(
        tmp_path, "b.jpg", "a/2.png", "a/10.tmp", "B.JPG", "a.jpg", ".hidden.jpg", ".git/x.jpg", "a/.DS_Store"
    )
    assert listed(tmp_path) == ["B.JPG", "a.jpg", "a/10.tmp", "a/2.png", "b.jpg"]


def test_files_that_are_no_pictures_by_their_endings_are_counted_and_not_listed(tmp_path):
    put(tmp_path, "a.jpg", "README.md", "a/IMG_1.MOV", "a/IMG_2.mov", "no ending", "a/list.csv", "x.unknown")
    source = FolderSource(tmp_path)
    for _ in range(2):  # counted anew each time
        names = [Path(os.fsdecode(path_of(file.uri))).name for file in source.files()]
        assert names == ["a.jpg", "no ending", "x.unknown"]
        assert source.ignored == {"mov": 2, "md": 1, "csv": 1}
    named = FolderSource(tmp_path / "README.md")  # who names a file means it
    assert len(list(named.files())) == 1 and not named.ignored


def test_a_listed_file_has_its_size_and_time_and_gives_its_bytes(tmp_path):
    put(tmp_path, "sub/a.jpg")
    os.utime(tmp_path / "sub/a.jpg", ns=(5, 1_700_000_000_123_456_789))
    source = FolderSource(tmp_path)
    (file,) = source.files()
    assert (file.size, file.mtime_ns) == (9, 1_700_000_000_123_456_789)
    assert file.uri == (tmp_path / "sub/a.jpg").as_uri()
    with source.open(file) as stream:
        assert stream.read() == b"sub/a.jpg"


def test_a_single_file_is_a_source_of_one_even_when_hidden(tmp_path):
    put(tmp_path, ".one.jpg", "two.jpg")
    source = FolderSource(tmp_path / ".one.jpg")
    (file,) = source.files()
    assert source.open(file).read() == b".one.jpg"


def test_a_relative_path_gives_the_same_uris_as_the_absolute_one(tmp_path, monkeypatch):
    put(tmp_path, "photos/a.jpg")
    monkeypatch.chdir(tmp_path)
    source = FolderSource("photos")
    assert source.spec == "photos"
    assert list(source.files()) == list(FolderSource(tmp_path / "photos").files())


@pytest.mark.parametrize(
    "name", [b"a b%20#?.jpg", "ü 頭 🙂.jpg".encode(), b"bad \xff\xfe bytes.jpg", b"two\nlines\t.jpg"]
)
def test_odd_names_survive_and_fit_into_tables(tmp_path, name):
    folder = tmp_path / os.fsdecode(b"odd \xe9 folder")
    folder.mkdir()
    (folder / os.fsdecode(name)).write_bytes(name)
    source = FolderSource(folder)
    (file,) = source.files()
    assert path_of(file.uri) == os.fsencode(folder) + b"/" + name
    assert source.open(file).read() == name
    assert file.uri.isascii() and "\n" not in file.uri
    row = dict.fromkeys(schema.PLAN.names) | {
        "item": "x", "size": 1, "mtime_ns": 1, "sha256": "", "key": "", "error": "", "message": "",
        "provider": source.provider, "source": source.spec, "uri": file.uri,
    }  # fmt: skip
    assert schema.to_table("plan", [row]).to_pylist()[0]["source"] == source.spec


def test_loops_of_links_end_and_no_folder_is_listed_twice(tmp_path):
    put(tmp_path, "z/real.jpg", "b/other.jpg")
    (tmp_path / "a").symlink_to(tmp_path / "z")  # would come first by name
    (tmp_path / "z" / "up").symlink_to(tmp_path)
    (tmp_path / "z" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_z").symlink_to(tmp_path / "z")
    assert listed(tmp_path) == ["b/other.jpg", "z/real.jpg"]


def test_a_linked_folder_elsewhere_is_followed_once(tmp_path):
    put(tmp_path, "photos/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "elsewhere")
    assert listed(tmp_path / "photos") == ["a.jpg", "again/b.jpg"]


def test_broken_links_are_listed_and_opening_them_says_why(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    source = FolderSource(tmp_path)
    gone, itself = source.files()
    assert (gone.size, gone.mtime_ns) == (-1, -1)
    with pytest.raises(FileNotFoundError):
        source.open(gone)
    with pytest.raises(OSError, match="symbolic links"):
        source.open(itself)


def test_a_pipe_is_listed_and_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    source = FolderSource(tmp_path)
    (file,) = source.files()
    caught = []

    def read():
        try:
            source.open(file)
        except OSError as error:
            caught.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert caught and "not a regular file" in caught[0]


def test_a_folder_that_may_not_be_listed_is_in_the_listing(tmp_path, monkeypatch):
    put(tmp_path, "a.jpg", "secret/b.jpg")
    real = {name: getattr(os, name) for name in ("scandir", "listdir")}

    def refusing(name):
        def call(path):
            if os.fsdecode(path).endswith("secret"):
                raise PermissionError(13, "Permission denied")
            return real[name](path)

        return call

    for name in real:
        monkeypatch.setattr(os, name, refusing(name))
    source = FolderSource(tmp_path)
    first, second = source.files()
    assert second.uri.endswith("/secret")
    with pytest.raises(PermissionError):
        source.open(second)
    assert source.open(first).read() == b"a.jpg"


def test_a_missing_folder_is_a_source_error(tmp_path):
    with pytest.raises(SourceError, match="nothing-here"):
        FolderSource(tmp_path / "nothing-here")


def provenances(root):
    return {Path(os.fsdecode(path_of(f.uri))).name: f.provenance for f in FolderSource(root).files()}


def test_rights_files_speak_for_what_lies_below_and_the_nearer_one_wins(tmp_path):
    put(tmp_path, "a.jpg", "studio/b.jpg", "studio/c.png", "old/d.jpg")
    rights = {
        "license": "CC-BY-4.0",
        "author": "Ada",
        "permission": {"signed": "2026-03-01"},
        "files": {"studio/*.jpg": {"author": "Bo"}, "a.jpg": {"title": "A", "rights_evidence": "a letter"}},
    }
    (tmp_path / "rights.json").write_text(json.dumps(rights))
    (tmp_path / "old" / "rights.toml").write_text('license = "CC0-1.0"\nrights_checked_at = 2026-02-03\n')
    found = provenances(tmp_path)
    assert set(found) == {"a.jpg", "b.jpg", "c.png", "d.jpg"}  # the rights files are no photos
    assert found["a.jpg"] == Provenance(
        license="CC-BY-4.0",
        author="Ada",
        title="A",
        rights_evidence="a letter",
        permission='{"signed": "2026-03-01"}',
    )
    assert (found["b.jpg"].author, found["b.jpg"].license) == ("Bo", "CC-BY-4.0")
    assert found["c.png"].author == "Ada" and "rights.json" in found["c.png"].rights_evidence
    assert (found["d.jpg"].license, found["d.jpg"].author) == ("CC0-1.0", "Ada")
    assert found["d.jpg"].rights_checked_at == "2026-02-03"
    (single,) = FolderSource(tmp_path / "a.jpg").files()
    assert single.provenance == found["a.jpg"]


def test_without_a_rights_file_nothing_is_claimed(tmp_path):
    put(tmp_path, "a.jpg")
    assert provenances(tmp_path)["a.jpg"] == Provenance()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "must hold an object"),
        ('{"lizense": "CC0-1.0"}', "did you mean 'license'"),
        ('{"license": 4}', "must be a text"),
        ('{"rights_checked_at": "last year"}', "is a date"),
        ('{"files": {"*.jpg": "mine"}}', "maps file names"),
        ('{"files": {"*.jpg": {"autor": "me"}}}', "did you mean 'author'"),
    ],
)
def test_a_wrong_rights_file_stops_with_its_name_and_what_is_wrong(tmp_path, text, message):
    put(tmp_path, "a.jpg")
    (tmp_path / "rights.json").write_text(text)
    with pytest.raises(SourceError, match=message) as caught:
        list(FolderSource(tmp_path).files())
    assert "rights.json" in str(caught.value)


def test_two_rights_files_in_one_folder_are_one_too_many(tmp_path):
    put(tmp_path, "a.jpg", "rights.json", "rights.toml")
    with pytest.raises(SourceError, match="both"):
        list(FolderSource(tmp_path).files())


def test_a_workspace_inside_the_folder_is_not_taken_for_photos(tmp_path):
    (tmp_path / "ws" / "photos").mkdir(parents=True)
    (tmp_path / "ws" / "workspace.json").write_text("{}")
    (tmp_path / "ws" / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.jpg").write_bytes(b"x")
    assert [file.uri.rsplit("/", 1)[1] for file in FolderSource(tmp_path).files()] == ["b.jpg"]


def test_a_license_in_a_rights_file_gets_its_one_name(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    for written, name in [
        ("CC BY-SA 3.0 de", "CC-BY-SA-3.0-de"), ("cc0", "CC0-1.0"), ("CC BY-NC 4.0", "CC BY-NC 4.0"),
        ("our own", "our own"),
    ]:  # fmt: skip
        (tmp_path / "rights.json").write_text(json.dumps({"license": written}))
        assert [file.provenance.license for file in FolderSource(tmp_path).files()] == [name]


KEYS = {
    "IMG [1].png": "IMG [1].png",
    "é.png": unicodedata.normalize("NFD", "é.png"),  # a Mac's
    unicodedata.normalize("NFD", "ö.png"): "ö.png",
    "studio/b.png": "studio\\b.png",
    "Portrait.PNG": "portrait.png",
    "set [2]/c.jpg": "set [2]/*",
    "a?b.png": "a?b.png",
}


@pytest.mark.parametrize(("name", "key"), KEYS.items())
def test_a_key_means_the_file_that_is_called_so(tmp_path, caplog, name, key):
    put(tmp_path, name, "other.webp")
    (tmp_path / "rights.json").write_text(json.dumps({"files": {key: {"license": "CC0"}}}))
    found = {
        Path(os.fsdecode(path_of(f.uri))).name: f.provenance.license for f in FolderSource(tmp_path).files()
    }
    assert found == {Path(name).name: "CC0-1.0", "other.webp": None}
    assert caplog.text == ""


def test_brackets_are_no_wildcard_and_the_exact_spelling_wins(tmp_path):
    put(tmp_path, "IMG 1.png", "A.jpg", "a.jpg")
    rules = {"IMG [1].png": {"license": "CC0"}, "a.jpg": {"author": "Ada"}}
    (tmp_path / "rights.json").write_text(json.dumps({"files": rules}))
    found = {file.uri.rpartition("/")[2]: file.provenance for file in FolderSource(tmp_path).files()}
    assert found["IMG%201.png"].license is None
    assert (found["A.jpg"].author, found["a.jpg"].author) == (None, "Ada")


def test_a_key_that_fits_no_file_is_named_once_with_the_nearest_name(tmp_path, caplog):
    put(tmp_path, "studio/portrait.png", "b.png")
    (tmp_path / "rights.json").write_text(json.dumps({"files": {"studio/potrait.png": {}, "zzz": {}}}))
    for _ in range(2):
        list(FolderSource(tmp_path).files())
    first, second = caplog.messages
    assert "no file is called 'studio/potrait.png'; did you mean 'studio/portrait.png'?" in first
    assert "no file is called 'zzz'; keys are paths below its folder" in second
    caplog.clear()
    list(FolderSource(tmp_path / "b.png").files())  # of one file nothing can be said about the others
    assert caplog.messages == []
