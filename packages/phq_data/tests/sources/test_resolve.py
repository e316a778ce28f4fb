import os
import sys
import types

import pytest

from phq_data.sources import SourceError
from phq_data.sources.folder import FolderSource
from phq_data.sources.resolve import open_uri, resolve
from phq_data.sources.samples import SamplesSource


def test_an_existing_path_is_a_folder_source_and_comes_first(tmp_path, monkeypatch):
    (tmp_path / "samples").mkdir()
    (tmp_path / "one.jpg").write_bytes(b"x")
    assert isinstance(resolve(str(tmp_path)), FolderSource)
    assert [f.size for f in resolve(str(tmp_path / "one.jpg")).files()] == [1]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [f.size for f in resolve("~/one.jpg").files()] == [1]
    monkeypatch.chdir(tmp_path)
    assert isinstance(resolve("samples"), FolderSource)


def test_samples_is_a_word(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    assert isinstance(resolve("samples"), SamplesSource)


@pytest.mark.parametrize(("spec", "count", "seed"), [("synthetic:20", 20, 0), ("synthetic:3@71", 3, 71)])
def test_synthetic_photos_have_a_count_and_a_seed(spec, count, seed, monkeypatch):
    module = types.ModuleType("phq_data.sources.synthetic")
    vars(module)["SyntheticSource"] = lambda *arguments: arguments
    monkeypatch.setitem(sys.modules, "phq_data.sources.synthetic", module)
    assert resolve(spec) == (spec, count, seed)


@pytest.mark.parametrize(
    "spec", ["synthetic", "synthetic:", "synthetic:0", "synthetic:-3", "synthetic:x", "synthetic:5@"]
)
def test_a_wrong_number_of_synthetic_photos_shows_how_to_write_it(spec):
    with pytest.raises(SourceError, match="synthetic:20"):
        resolve(spec)


@pytest.mark.parametrize(
    "spec", ["", "  ", "nothing-like-it", "wikimedia:cats", "a\0b", "x" * 5000, "~nobody-at-all/x"]
)
def test_anything_else_says_what_is_possible(spec):
    with pytest.raises(SourceError, match="'samples', or 'synthetic:COUNT"):
        resolve(spec)


def test_near_misses_are_suggested(tmp_path):
    (tmp_path / "holiday photos").mkdir()
    with pytest.raises(SourceError, match="did you mean 'samples'"):
        resolve("sampels")
    with pytest.raises(SourceError, match="did you mean 'synthetic:COUNT'"):
        resolve("synthtic:20")
    with pytest.raises(SourceError, match=r"did you mean '.*holiday photos'"):
        resolve(str(tmp_path / "holidy photos"))


def test_every_listed_file_can_be_opened_by_its_uri_alone(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / os.fsdecode("50% ü#?".encode() + b"\xff.jpg")).write_bytes(b"odd name")
    for source in (resolve(str(folder)), resolve("samples"), resolve("synthetic:1@4")):
        for file in source.files():
            with source.open(file) as ours, open_uri(file.uri) as theirs:
                assert ours.read() == theirs.read()


@pytest.mark.parametrize(
    "uri", ["file:///nowhere/at/all.jpg", "sample:nobody.png", "synthetic:x#1", "memory://none"]
)
def test_a_uri_that_leads_nowhere_is_an_os_error(uri):
    with pytest.raises(OSError):
        open_uri(uri)
