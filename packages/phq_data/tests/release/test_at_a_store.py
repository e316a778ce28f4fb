"""Releases at an object store: an S3 service on loopback."""

import threading

import pytest
from s3_server import Fault

from phq_data.errors import ReleaseError
from phq_data.release import fill as filling
from phq_data.release import reader
from phq_data.release.build import build
from phq_data.release.catalogue import catalogue
from phq_data.release.diff import diff
from phq_data.release.shelf import Shelf
from phq_data.release.takedown import take_down
from phq_data.release.transfer import TransferError, pull, push
from phq_data.release.verify import verify

from .conftest import DAY, Maker, options


@pytest.fixture
def shelf(s3):
    return f"{s3.url}/releases"


@pytest.fixture
def ids(maker):
    return maker.add(*(maker.photo() for _ in range(6)))


def test_releases_are_built_compared_and_taken_down_at_the_store(maker, ids, shelf, releases):
    made = build(maker.workspace, shelf, "1.0.0", options(shard_bytes=10_000))
    here = build(maker.workspace, releases, "1.0.0", options(shard_bytes=10_000))
    assert made.manifest.digest == here.manifest.digest and verify(made.folder) == []
    maker.add(maker.photo())
    second = build(maker.workspace, shelf, "1.1.0", options(shard_bytes=10_000))
    assert second.changes.added == 1 and second.changes.shards_copied and verify(second.folder) == []
    assert len(diff(reader.open(made.folder), reader.open(second.folder)).added) == 1
    assert take_down(shelf, portrait_id=ids[0]).versions == ("1.0.0", "1.1.0")
    assert ids[0] not in reader.open(made.folder).all().metadata(["portrait_id"])["portrait_id"].to_pylist()
    assert [(one.version, one.taken_down) for one in catalogue(shelf)] == [("1.0.0", 1), ("1.1.0", 1)]
    third = build(maker.workspace, shelf, "2.0.0", options(shard_bytes=10_000))
    assert third.changes.taken_down == 1 and verify(third.folder) == []


def test_a_build_that_breaks_off_leaves_no_release_and_the_next_goes_on(maker, ids, shelf, s3):
    def until(count):
        left = [None] * count

        def fault(request):
            if request.method == "PUT" and "/1.0.0/" in request.path:
                return left.pop() if left else Fault(status=403)
            return None

        return fault

    for count in (0, 3, 9):
        s3.service.fault = until(count)
        with pytest.raises(TransferError, match="no rights"):
            build(maker.workspace, shelf, "1.0.0", options(shard_bytes=10_000))
        with pytest.raises(ReleaseError, match=r"incomplete|there is no release"):
            reader.open(f"{shelf}/1.0.0")
        assert Shelf(shelf).latest() == ""
    s3.service.fault = None
    s3.service.requests.clear()
    result = build(maker.workspace, shelf, "1.0.0", options(shard_bytes=10_000))
    put = [one.path.partition("/1.0.0/")[2] for one in s3.service.requests if one.method == "PUT"]
    put = [name for name in put if name and not name.startswith(".")]
    assert put[-1] == "manifest.json" and len(put) < len(result.manifest.entries)  # the others had arrived
    assert verify(result.folder) == []


def test_what_another_half_build_left_is_no_part_of_the_release(maker, ids, shelf, s3):
    s3.service.fault = lambda request: Fault(status=403) if request.path.endswith("index.parquet") else None
    with pytest.raises(TransferError):
        build(maker.workspace, shelf, "1.0.0", options(shard_bytes=10_000))
    s3.service.fault = None
    result = build(maker.workspace, shelf, "1.0.0", options())
    assert verify(result.folder) == []


def test_one_builds_at_a_time_and_the_other_is_told_who(maker, ids, shelf, tmp_path):
    other = Maker(tmp_path / "other")
    other.add(other.photo())
    with Shelf(shelf).building(), pytest.raises(ReleaseError, match=r"being built: .* in use by process \d+"):
        build(other.workspace, shelf, "1.0.0", options())


def test_takedowns_at_the_same_time_are_all_on_the_list(maker, ids, shelf, s3):
    build(maker.workspace, shelf, "1.0.0", options())
    s3.service.fault = lambda request: Fault(pause=0.2 if request.method == "PUT" else 0.0)
    threads = [threading.Thread(target=take_down, args=(shelf,), kwargs={"portrait_id": i}) for i in ids[:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    s3.service.fault = None
    assert {p for one in Shelf(shelf).tombstones().entries for p in one.portraits} == set(ids[:3])
    assert int((~reader.open(f"{shelf}/1.0.0").alive()).sum()) == 3


def test_releases_move_between_stores_and_machines(maker, ids, shelf, s3, releases):
    build(maker.workspace, shelf, "1.0.0", options())
    push(f"{shelf}/1.0.0", f"{s3.url}/published", check=True)
    pull(f"{s3.url}/published", releases, version="1.0.0")
    pull(f"{s3.url}/published", f"{s3.url}/mirror", version="1.0.0")
    for place in (f"{s3.url}/published", str(releases), f"{s3.url}/mirror"):
        assert verify(f"{place}/1.0.0") == []
    s3.service.fs.pipe_file(f"{s3.name}/mirror/1.0.0/README.md", b"no")
    assert pull(f"{s3.url}/published", f"{s3.url}/mirror", version="1.0.0").sent == 1
    take_down(shelf, portrait_id=ids[0])
    assert push(f"{shelf}/1.0.0", f"{s3.url}/published").sent  # what shows it is withheld there
    assert verify(f"{s3.url}/published/1.0.0") == []


def test_a_release_without_images_is_filled_at_the_store(maker, ids, shelf):
    build(maker.workspace, shelf, "1.0.0", options(images="none"))
    done = filling.fill(f"{shelf}/1.0.0", shelf, [lambda row: None])
    assert done.folder == f"{shelf}/1.0.0+filled" and done.missing == {"not_found": 6}
    assert reader.open(done.folder).manifest.created == DAY
