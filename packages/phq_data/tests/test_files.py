"""Files are written whole or not at all, and an error says which file and why."""

from __future__ import annotations

import errno
import hashlib

import pytest
from fsspec.implementations.local import LocalFileSystem

from phq_data import files
from phq_data.errors import PhqError


def test_a_file_is_there_when_it_is_whole_and_nothing_else_is_left(tmp_path):
    target = tmp_path / "folder" / "table.csv"
    with files.writing(target) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".csv" and temporary.name.startswith(files.TEMPORARY)
        assert not target.exists()
    files.write_text(target, "whöle")
    assert target.read_text(encoding="utf-8") == "whöle"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_what_was_there_stays_when_writing_stops(tmp_path, stop):
    target = tmp_path / "rig.bin"
    target.write_bytes(b"old")
    with pytest.raises(stop), files.writing(target) as temporary:
        temporary.write_bytes(b"new, half")
        raise stop
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_a_place_that_takes_no_file_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        files.OutputError, match=r"cannot write .*file/report\.json: Not a directory"
    ) as caught:
        files.write_text(tmp_path / "file" / "report.json", "{}")
    assert isinstance(caught.value, PhqError) and caught.value.errno == errno.ENOTDIR


def test_a_full_disk_is_an_output_error_with_its_number(tmp_path):
    with pytest.raises(files.OutputError, match="No space left") as caught, files.writing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []


def test_the_digest_is_that_of_the_bytes(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "photo.jpg").write_bytes(data)
    assert files.file_sha256(tmp_path / "photo.jpg") == hashlib.sha256(data).hexdigest()
    with (tmp_path / "photo.jpg").open("rb") as stream:
        stream.seek(1000)
        assert files.stream_sha256(stream) == hashlib.sha256(data[1000:]).hexdigest()


@pytest.mark.parametrize("name", ["Shoot::Monday", "2024::01", "shoot::monday", "data:x", "plain"])
def test_a_name_with_colons_is_a_folder_of_this_machine(tmp_path, monkeypatch, name):
    """fsspec takes :: for a chain of URLs, of which Shoot::Monday and Shoot::Tuesday share the last link."""
    monkeypatch.chdir(tmp_path)
    for given in (name, str(tmp_path / name), f"file://{tmp_path / name}"):
        fs, root = files.file_system(given)
        assert isinstance(fs, LocalFileSystem) and root == str(tmp_path / name)
    assert files.file_system("memory://a/b")[1] == "/a/b"


def test_tensors_come_with_their_metadata_or_an_error_of_the_callers_kind(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    class OwnError(PhqError):
        pass

    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_file({"weights": np.arange(3.0)}, good, {"format": "x/1"})
    metadata, tensors = files.read_tensors(good, OwnError, "none")
    assert metadata == {"format": "x/1"} and tensors["weights"].tolist() == [0, 1, 2]
    bad.write_bytes(good.read_bytes()[:-1])
    with pytest.raises(OwnError, match=r"bad\.safetensors is not a readable safetensors file"):
        files.read_tensors(bad, OwnError, "none")
    with pytest.raises(OwnError, match=r"^make one with that$"):
        files.read_tensors(tmp_path / "gone", OwnError, "make one with that")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])  # utf-16 writes its mark
def test_what_people_write_is_read_with_a_byte_order_mark_and_without(tmp_path, encoding):
    target = tmp_path / "rights.json"
    target.write_text('{"author": "Zoë"}', encoding=encoding)
    assert files.read_written_text(target) == '{"author": "Zoë"}'


BOM = b"\xef\xbb\xbf"


def _rights(path):
    from phq_data.sources.rights import read_rights

    return read_rights(path.parent).base["license"] == "CC0-1.0"


def _permission(path):
    from phq_data.sources.terms import Permission

    return Permission.load(path).who == "R"


def _scrape_settings(path):
    from phq_data.sources.web.settings import load

    return load({"PHQ_SETTINGS": str(path)}).contact == "a@example.org"


def _config(path):
    from phq_flows.cli import _settings

    return _settings("", "", path, []).crop.size == 256


def _urls(path):
    from phq_data.sources.urls import UrlList

    (candidate,) = UrlList(path).search("", "").candidates
    return candidate.uri == "https://example.org/a.jpg"


@pytest.mark.parametrize(
    ("name", "text", "reads"),
    [
        ("rights.json", '{"license": "CC0"}', _rights),
        ("rights.toml", 'license = "CC0"', _rights),
        ("permission.json",
         '{"who": "R", "scope": ["train"], "date": "2026-11-25", "reference": "x"}', _permission),
        ("phq.toml", 'contact = "a@example.org"', _scrape_settings),
        ("config.json", '{"crop": {"size": 256}}', _config),
        ("list.csv", "url\nhttps://example.org/a.jpg\n", _urls),
    ],
)  # fmt: skip
def test_every_file_that_people_write_may_begin_with_a_byte_order_mark(tmp_path, name, text, reads):
    path = tmp_path / name
    path.write_bytes(BOM + text.encode())
    assert reads(path)


def test_a_folder_that_was_made_for_what_failed_is_gone(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeError), files.new_folder(tmp_path / "there" / "a" / "b"):
        raise RuntimeError
    assert list((tmp_path / "there").iterdir()) == []
    with pytest.raises(RuntimeError), files.new_folder(tmp_path / "there" / "a" / "b"):
        (tmp_path / "there" / "a" / "kept.txt").write_text("somebody else's")
        raise RuntimeError
    assert [path.name for path in (tmp_path / "there").rglob("*")] == ["a", "kept.txt"]
