import json
import uuid

import fsspec
import pyarrow.parquet as pq
import pytest

from phq_data.errors import ReleaseError
from phq_data.release import reader, transfer
from phq_data.release.build import build
from phq_data.release.rights import Permission, RightsError
from phq_data.release.takedown import take_down
from phq_data.release.transfer import TransferError, pull, push
from phq_data.release.verify import verify

from .conftest import DAY, options


@pytest.fixture
def made(maker, releases):
    maker.add(*(maker.photo() for _ in range(12)))
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=10_000))
    return releases / "1.0.0"


@pytest.fixture(params=["file", "memory"])
def shelf(request, tmp_path):
    """A place to push to."""
    if request.param == "file":
        yield f"file://{tmp_path / 'shelf'}"
        return
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    memory = fsspec.filesystem("memory")
    if memory.exists(url):
        memory.rm(url, recursive=True)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(transfer, "_PAUSE", 0.0)


def names(url):
    return set(reader.Folder(url).sizes())


def test_a_pushed_release_reads_and_verifies_like_the_original(made, shelf):
    done = push(made, shelf, check=True)
    assert done.sent == len(reader.open(made).manifest.entries) and done.kept == 0
    assert verify(f"{shelf}/1.0.0") == []
    assert names(f"{shelf}/1.0.0") == names(str(made))


def test_pushing_again_sends_nothing(made, shelf):
    push(made, shelf)
    again = push(made, shelf)
    assert (again.sent, again.bytes) == (0, 0)


class Breaks:
    """Lets a transfer fail at its n-th file, as a lost connection would, for good."""

    def __init__(self, monkeypatch, after):
        self.left = after
        real = transfer._upload

        def upload(source, target, entry):
            if self.left == 0:
                # Half of the file arrives.
                with target.fs.open(target.path(entry.path), "wb") as out:
                    out.write(source.read(entry.path)[: entry.bytes // 2])
                raise OSError("connection lost")
            self.left -= 1
            real(source, target, entry)

        monkeypatch.setattr(transfer, "_upload", upload)


@pytest.mark.parametrize("after", [0, 1, 5, -2])
def test_an_interrupted_push_never_looks_complete_and_goes_on(made, shelf, monkeypatch, after):
    total = len(reader.open(made).manifest.entries)
    after = after % (total + 1)
    with monkeypatch.context() as patch:
        Breaks(patch, after)
        with pytest.raises(TransferError, match="run the same command to go on"):
            push(made, shelf)
    with pytest.raises(ReleaseError, match="incomplete"):
        reader.open(f"{shelf}/1.0.0")
    done = push(made, shelf)
    assert (done.kept, done.sent) == (after, total - after)
    assert verify(f"{shelf}/1.0.0") == []


def test_a_passing_failure_is_tried_again(made, shelf, monkeypatch):
    real, failures = transfer._upload, [OSError("hiccup")] * 3

    def upload(*args):
        if failures:
            raise failures.pop()
        real(*args)

    monkeypatch.setattr(transfer, "_upload", upload)
    push(made, shelf)
    assert verify(f"{shelf}/1.0.0") == []


def test_a_file_that_arrived_wrong_is_found_by_the_check_and_sent_again(made, shelf, monkeypatch):
    real = transfer._upload
    wrong = [True]

    def upload(source, target, entry):
        real(source, target, entry)
        if wrong and entry.path.startswith("data/"):
            wrong.pop()
            target.fs.pipe_file(target.path(entry.path), b"\0" * entry.bytes)

    monkeypatch.setattr(transfer, "_upload", upload)
    with pytest.raises(TransferError, match="did not arrive whole"):
        push(made, shelf, check=True)
    with pytest.raises(ReleaseError, match="incomplete"):
        reader.open(f"{shelf}/1.0.0")
    push(made, shelf, check=True)
    assert verify(f"{shelf}/1.0.0") == []


def test_a_damaged_original_is_not_published(made, shelf):
    release = reader.open(made)
    shard = made / release.manifest.shards[0].path
    data = bytearray(shard.read_bytes())
    data[data.find(release.all()[0]["image"]["bytes"]) + 30] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(ReleaseError, match="is damaged: its sha256 differs"):
        push(made, shelf)
    with pytest.raises(ReleaseError, match="incomplete"):
        reader.open(f"{shelf}/1.0.0")


def test_a_published_version_is_never_replaced(made, shelf, maker, tmp_path):
    push(made, shelf)
    maker.add(maker.photo())
    build(maker.workspace, tmp_path / "other", "1.0.0", options())
    with pytest.raises(ReleaseError, match="a published version never changes"):
        push(tmp_path / "other/1.0.0", shelf)
    assert verify(f"{shelf}/1.0.0") == []


def test_unchanged_shards_are_copied_on_the_far_side(made, shelf, maker, releases):
    push(made, shelf)
    maker.add(maker.photo())
    build(maker.workspace, releases, "1.1.0", options())
    done = push(releases / "1.1.0", shelf)
    assert done.copied == len(reader.open(made).manifest.shards)
    assert verify(f"{shelf}/1.1.0") == []


def test_pushing_asks_the_rights_again(maker, releases, shelf):
    maker.add(maker.photo(), maker.photo(provider="unsplash-lite", license="Unsplash"))
    build(maker.workspace, releases, "1.0.0", options())
    with pytest.raises(RightsError, match="1 portrait may not be put to the use 'publish-images'"):
        push(releases / "1.0.0", shelf)
    assert not names(shelf)
    given = Permission("Rosa", ("publish-images",), DAY, "letter", provider="unsplash-lite")
    push(releases / "1.0.0", shelf, permissions=[given])
    assert verify(f"{shelf}/1.0.0") == []


def test_the_list_of_taken_down_portraits_reaches_copies_with_the_next_push(made, shelf, releases):
    push(made, shelf)
    portrait = reader.open(made).index["portrait_id"][3].as_py()
    take_down(releases, portrait_id=portrait)
    assert len(reader.open(f"{shelf}/1.0.0").all()) == 12
    push(made, shelf)
    assert len(reader.open(f"{shelf}/1.0.0").all()) == 11


def test_what_was_taken_down_is_not_published_anew(made, shelf, releases):
    take_down(releases, portrait_id=reader.open(made).index["portrait_id"][0].as_py())
    with pytest.raises(ReleaseError, match="still holds 1 portraits that were taken down"):
        push(made, shelf)


def test_lists_of_several_pushers_are_merged(made, shelf, releases, tmp_path):
    push(made, shelf)
    ids = reader.open(made).index["portrait_id"].to_pylist()
    pull(f"{shelf}/1.0.0", tmp_path / "hers")
    take_down(releases, portrait_id=ids[0])
    take_down(tmp_path / "hers", portrait_id=ids[1])
    push(made, shelf)
    push(tmp_path / "hers/1.0.0", shelf)
    assert len(reader.open(f"{shelf}/1.0.0").all()) == 10


def test_a_flat_copy_is_replaced_version_by_version_and_keeps_no_old_shard(made, shelf, maker, releases):
    push(made, shelf, flat=True)
    ids = reader.open(shelf).index["portrait_id"].to_pylist()
    take_down(releases, portrait_id=ids[0])
    build(maker.workspace, releases, "2.0.0", options(repack=True))
    push(releases / "2.0.0", shelf, flat=True)
    opened = reader.open(shelf)
    assert opened.version == "2.0.0" and verify(shelf) == []
    assert {n for n in names(shelf) if n.startswith("data/")} == {s.path for s in opened.manifest.shards}


def test_an_interrupted_replacement_of_a_flat_copy_is_no_release(made, shelf, maker, releases, monkeypatch):
    push(made, shelf, flat=True)
    maker.add(maker.photo())
    build(maker.workspace, releases, "1.1.0", options(repack=False))
    with monkeypatch.context() as patch:
        Breaks(patch, 1)
        with pytest.raises(TransferError):
            push(releases / "1.1.0", shelf, flat=True)
    with pytest.raises(ReleaseError, match="incomplete"):
        reader.open(shelf)
    push(releases / "1.1.0", shelf, flat=True)
    assert verify(shelf) == []


def test_a_pulled_release_is_the_same_and_brings_the_tombstones(made, shelf, releases, tmp_path):
    push(made, shelf)
    take_down(releases, portrait_id=reader.open(made).index["portrait_id"][0].as_py())
    push(made, shelf)
    pull(shelf, tmp_path / "here", version="1.0.0")
    assert verify(tmp_path / "here/1.0.0") == []
    assert len(reader.open(tmp_path / "here/1.0.0").all()) == 11
    assert names(str(tmp_path / "here/1.0.0")) == {*names(str(made)), "withheld.json"}


def test_a_pull_goes_on_in_the_middle_of_a_file_and_repairs_damage(made, shelf, tmp_path):
    push(made, shelf)
    here = tmp_path / "here"
    pull(f"{shelf}/1.0.0", here)
    shards = sorted((here / "1.0.0/data").iterdir())
    half = shards[0].read_bytes()[: shards[0].stat().st_size // 2]
    size = shards[0].stat().st_size
    shards[0].unlink()
    shards[0].with_name(f"{shards[0].name}.part").write_bytes(half)
    damaged = bytearray(shards[1].read_bytes())
    damaged[50] ^= 1
    shards[1].write_bytes(bytes(damaged))
    done = pull(f"{shelf}/1.0.0", here)
    assert done.bytes == size - len(half) + shards[1].stat().st_size
    assert verify(here / "1.0.0") == []


def test_wrong_bytes_from_the_far_side_are_refused(made, shelf, tmp_path):
    push(made, shelf)
    folder = reader.Folder(f"{shelf}/1.0.0")
    entry = reader.open(made).manifest.shards[0]
    folder.fs.pipe_file(folder.path(entry.path), b"\0" * entry.bytes)
    with pytest.raises(TransferError, match="sha256 differs"):
        pull(f"{shelf}/1.0.0", tmp_path / "here")
    with pytest.raises(ReleaseError, match="incomplete"):
        reader.open(tmp_path / "here/1.0.0")


def test_pulling_from_a_folder_of_releases_names_them(made, shelf, tmp_path):
    push(made, shelf)
    with pytest.raises(ReleaseError, match=r"open one of them: 1\.0\.0"):
        pull(shelf, tmp_path / "here")


def test_an_interrupted_push_and_a_new_build_of_the_same_number_do_not_mix(
    made, shelf, maker, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        Breaks(patch, 3)
        with pytest.raises(TransferError):
            push(made, shelf)
    maker.add(maker.photo())
    build(maker.workspace, tmp_path / "other", "1.0.0", options(shard_bytes=10_000))
    push(tmp_path / "other/1.0.0", shelf)
    assert verify(f"{shelf}/1.0.0") == []


def test_the_journal_lists_what_arrived(made, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        Breaks(patch, 2)
        with pytest.raises(TransferError):
            push(made, str(tmp_path / "shelf"))
    journal = json.loads((tmp_path / "shelf/1.0.0/.incomplete.json").read_text())
    assert len(journal["files"]) == 2 and journal["digest"] == reader.open(made).manifest.digest


# ---- readers that know no list ---------------------------------------------------------------------------


def rows_as_datasets_reads(url):
    """Every row of every shard as any program reads Parquet: portrait id -> row."""
    folder = reader.Folder(url)
    found = {}
    for name in folder.sizes():
        if name.endswith(".parquet") and "data/" in name:
            with folder.fs.open(folder.path(name), "rb") as file:
                found |= {row["portrait_id"]: row for row in pq.read_table(file).to_pylist()}
    return found


def test_what_was_taken_down_after_a_push_is_withheld_by_the_next_one(made, shelf, releases, tmp_path):
    push(made, shelf)
    ids = reader.open(made).index["portrait_id"].to_pylist()
    before = rows_as_datasets_reads(f"{shelf}/1.0.0")
    for gone in (ids[3], ids[7]):
        take_down(releases, portrait_id=gone)
        assert push(made, shelf).sent >= 2  # a shard, attribution.csv; report.html the first time
    after = rows_as_datasets_reads(f"{shelf}/1.0.0")
    assert list(after) == list(before)
    for portrait, row in after.items():
        shows = [row[name] for name in ("image", "mask", "author", "page_url", "title")]
        assert (shows == [None] * 5) is (portrait in (ids[3], ids[7]))
        if portrait in (ids[3], ids[7]):
            said = {name for name, value in row.items() if any(value if isinstance(value, list) else [value])}
            assert said == {"portrait_id", "photo_id", "split"}
        else:
            assert repr(row) == repr(before[portrait])  # a coordinate may be nan
    listed = reader.Folder(f"{shelf}/1.0.0").read("attribution.csv").decode()
    assert ids[3] not in listed and ids[4] in listed
    assert verify(f"{shelf}/1.0.0", pixels=True) == []
    assert push(made, shelf).sent == 0
    pull(f"{shelf}/1.0.0", tmp_path / "here")
    assert verify(tmp_path / "here/1.0.0") == [] and len(reader.open(tmp_path / "here/1.0.0").all()) == 10
    # The original is as it was, and the next version is made from it.
    assert verify(made) == []


def test_a_withheld_file_is_checked_like_any_other(made, shelf, releases):
    push(made, shelf)
    take_down(releases, portrait_id=reader.open(made).index["portrait_id"][3].as_py())
    push(made, shelf)
    folder = reader.Folder(f"{shelf}/1.0.0")
    whole = folder.read("withheld.json")
    for bit in range(0, 8 * len(whole), 29):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        folder.fs.pipe_file(folder.path("withheld.json"), bytes(changed))
        try:
            assert len(reader.open(folder.url).all()) == 11
        except ReleaseError as error:
            assert "withheld.json cannot be read" in str(error)
    folder.fs.pipe_file(folder.path("withheld.json"), whole)
    shard = next(name for name in json.loads(whole)["files"] if name["path"].startswith("data/"))["path"]
    data = bytearray(folder.read(shard))
    data[len(data) // 2] ^= 1
    folder.fs.pipe_file(folder.path(shard), bytes(data))
    assert any(problem.file == shard for problem in verify(folder.url))
