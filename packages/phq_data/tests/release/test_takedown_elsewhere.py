"""Takedowns that a release meets on its way: other folders, the far side, lists that were there before it."""

import shutil
import unicodedata

import pytest

from phq_data.errors import ReleaseError
from phq_data.parquet_limits import read_all
from phq_data.release import build as release_build
from phq_data.release import reader, tombstones, transfer
from phq_data.release.build import build
from phq_data.release.marks import mark, marks
from phq_data.release.takedown import take_down
from phq_data.release.transfer import pull, push
from phq_data.release.verify import verify
from phq_data.workspace import WorkspaceError

from .conftest import options

NAME, PAGE = "José Żołna", "https://photos.example.org/Ünter wegs/1?id=7"


@pytest.fixture
def made(maker):
    specs = [maker.photo() for _ in range(6)]
    specs[2]["author"], specs[4]["page_url"] = NAME, PAGE
    return maker.add(*specs)


def seen(folder):
    return set(reader.open(folder).all().metadata(["portrait_id"])["portrait_id"].to_pylist())


def raw(folder):
    """Portraits whose image stands in the shards, whatever a list says."""
    return {
        row["portrait_id"]
        for shard in (folder / "data").iterdir()
        for row in read_all(shard).to_pylist()
        if row["image"] is not None
    }


def test_a_build_elsewhere_knows_what_was_taken_down_and_says_what_is_gone(made, maker, tmp_path, caplog):
    build(maker.workspace, tmp_path / "a", "1.0.0", options())
    take_down(tmp_path / "a", portrait_id=made[0])
    result = build(maker.workspace, tmp_path / "b", "2.0.0", options())
    assert seen(result.folder) == set(made[1:]) and result.left_out["taken_down"] == 1
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "b")
    build(maker.workspace, tmp_path / "c", "3.0.0", options())
    assert f"into {tmp_path / 'a'}, which is not there" in caplog.text


def test_a_push_asks_the_far_sides_list_before_it_sends_anything(made, maker, tmp_path):
    far = tmp_path / "far"
    build(maker.workspace, tmp_path / "a", "1.0.0", options())
    push(tmp_path / "a/1.0.0", str(far))
    take_down(far, portrait_id=made[0])
    maker.workspace.remove("shelves.json")
    build(maker.workspace, tmp_path / "b", "2.0.0", options())
    for _ in range(2):
        with pytest.raises(ReleaseError, match="still holds 1 portraits that were taken down"):
            push(tmp_path / "b/2.0.0", str(far))
    assert not (far / "2.0.0").exists()
    with pytest.raises(ReleaseError, match="still holds 1 portraits"):
        push(tmp_path / "b/2.0.0", str(far / "flat"), flat=True)
    build(maker.workspace, tmp_path / "b", "3.0.0", options())  # the list was taken over
    push(tmp_path / "b/3.0.0", str(far))
    assert raw(far / "3.0.0") == seen(far / "3.0.0") == set(made[1:])


@pytest.mark.parametrize("kind, asked, gone", [("author", NAME.upper(), 2), ("url", PAGE, 4)])
def test_a_standing_request_holds_for_a_release_that_comes_later(made, maker, tmp_path, kind, asked, gone):
    here, far = tmp_path / "here", tmp_path / "far"
    build(maker.workspace, tmp_path / "a", "1.0.0", options())
    here.mkdir()
    assert not take_down(here, **{kind: asked}).versions
    pull(str(tmp_path / "a/1.0.0"), here)
    assert seen(here / "1.0.0") == {*made} - {made[gone]} and verify(here / "1.0.0") == []
    far.mkdir()
    take_down(far, **{kind: asked})
    with pytest.raises(ReleaseError, match="still holds 1 portraits"):
        push(tmp_path / "a/1.0.0", str(far))


def test_a_takedown_looks_at_what_was_copied_there(made, maker, tmp_path):
    build(maker.workspace, tmp_path / "a", "1.0.0", options())
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    take_down(shelf, author=NAME)
    shutil.copytree(tmp_path / "a/1.0.0", shelf / "1.0.0")
    (shelf / "1.0.0/tombstones.json").unlink()
    listed = tombstones.read(reader.Folder(str(shelf)).fs, str(shelf))
    about = reader.open(tmp_path / "a/1.0.0").manifest.about
    tombstones.add(reader.Folder(str(shelf)).fs, str(shelf), listed.known_to(about))
    take_down(shelf, portrait_id=made[0])
    assert seen(shelf / "1.0.0") == set(made) - {made[0], made[2]}


def test_a_request_granted_while_a_release_is_built_or_sent_holds_for_it(made, maker, tmp_path, monkeypatch):
    shelf, far = tmp_path / "a", tmp_path / "far"
    documents = release_build._write_documents

    def meanwhile(*given):
        take_down(shelf, author=NAME)
        return documents(*given)

    shelf.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(release_build, "_write_documents", meanwhile)
        build(maker.workspace, shelf, "1.0.0", options())
    assert seen(shelf / "1.0.0") == set(made) - {made[2]} and verify(shelf / "1.0.0") == []

    build(maker.workspace, shelf, "2.0.0", options())
    far.mkdir()
    sent = transfer.send

    def send(*given, **more):
        take_down(far, url=PAGE)
        return sent(*given, **more)

    monkeypatch.setattr(transfer, "send", send)
    push(shelf / "2.0.0", str(far))
    assert seen(far / "2.0.0") == raw(far / "2.0.0") == set(made) - {made[2], made[4]}


def test_new_requests_of_a_push_hold_for_what_is_there(made, maker, tmp_path):
    far = tmp_path / "far"
    build(maker.workspace, tmp_path / "a", "1.0.0", options())
    push(tmp_path / "a/1.0.0", str(far))
    (tmp_path / "b").mkdir()
    take_down(tmp_path / "b", author=NAME)
    build(maker.workspace, tmp_path / "b", "2.0.0", options())
    push(tmp_path / "b/2.0.0", str(far))
    assert seen(far / "1.0.0") == set(made) - {made[2]}
    push(tmp_path / "a/1.0.0", str(far))  # withholds what its own list did not know
    assert raw(far / "1.0.0") == seen(far / "1.0.0") and verify(far / "1.0.0") == []


def test_a_pull_does_not_bring_back_what_is_withheld(made, maker, tmp_path):
    far, home = tmp_path / "far", tmp_path / "a/1.0.0"
    build(maker.workspace, tmp_path / "a", "1.0.0", options())
    copy = tmp_path / "mirror"
    pull(str(home), copy)
    push(home, str(far))
    take_down(far, portrait_id=made[0])
    push(home, str(far))
    assert raw(far / "1.0.0") == set(made[1:])
    pull(str(copy / "1.0.0"), far)
    assert raw(far / "1.0.0") == seen(far / "1.0.0") == set(made[1:]) and verify(far / "1.0.0") == []


def test_who_may_only_read_the_workspace_can_release(made, maker, tmp_path, monkeypatch):
    def refused(key, data):
        raise WorkspaceError(f"{key} cannot be written")

    monkeypatch.setattr(maker.workspace, "write_bytes", refused)
    assert seen(build(maker.workspace, tmp_path / "a", "1.0.0", options()).folder) == set(made)


def test_one_release_is_not_a_folder_of_releases(made, maker, tmp_path):
    build(maker.workspace, tmp_path / "a", "1.0.0", options())
    before = (tmp_path / "a/1.0.0/tombstones.json").read_bytes()
    with pytest.raises(ReleaseError, match=rf"is one release: .*--releases {tmp_path / 'a'}, "):
        take_down(tmp_path / "a/1.0.0", author=NAME)
    assert (tmp_path / "a/1.0.0/tombstones.json").read_bytes() == before


@pytest.mark.parametrize("other", [
    "https://photos.example.org/%C3%9Cnter%20wegs/1?id=7",
    "HTTP://photos.example.org:80/%c3%9cnter wegs/1?id=7",
    "https://www.photos.example.org:443/ünter%20wegs/1/?utm_source=x&id=7#top",
    unicodedata.normalize("NFD", PAGE),
])  # fmt: skip
def test_an_address_has_many_spellings(other):
    assert mark("url", other) == mark("url", PAGE)


def test_what_differs_has_other_marks():
    assert mark("url", "https://bücher.example/1") == mark("url", "https://xn--bcher-kva.example/1")
    assert mark("url", PAGE) != mark("url", PAGE.replace("id=7", "id=8"))
    assert mark("author", unicodedata.normalize("NFD", NAME)) == mark("author", f" {NAME.upper()} ")
    assert mark("author", NAME) != mark("author", "Jose Zolna")  # accents tell people apart
    assert mark("author", "https://example.org/by/%C3%A9") == mark("author", "www.example.org/by/é")
    assert (
        mark("url", "https://[broken") and mark("url", "https://a..b/1") and mark("url", "https://\ud800/1")
    )
    assert len(set(marks("url", PAGE))) == 3 and len(set(marks("author", NAME))) == 2
