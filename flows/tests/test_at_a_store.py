"""`phq build` into a workspace at an object store: an S3 service on loopback, with faults."""

from itertools import count, cycle

import pytest
from programs import phq_here
from s3_server import Fault

from phq_data.object_store import S3
from phq_data.pipeline import whole
from phq_data.sources.resolve import resolve
from phq_data.workspace import Workspace, lease

from .conftest import rows_of

QUICK = ("--set", "part_size=1", "--set", "detect.flip_tta=false", "--workers", "1", "--runner", "inline")


def build(place, *sources):
    return phq_here("build", "--workspace", str(place), *QUICK, *map(str, sources))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two rendered photos."""
    folder = tmp_path_factory.mktemp("photos")
    source = resolve("synthetic:2@5")
    for number, file in enumerate(source.files()):
        with source.open(file) as stream:
            (folder / f"{number}.jpg").write_bytes(stream.read())
    return folder


@pytest.fixture(scope="module")
def at_home(tmp_path_factory, photos):
    """What a build into a folder of this machine makes: its tables, but for the clock."""
    place = tmp_path_factory.mktemp("home") / "ws"
    assert build(place, photos).returncode == 0
    return without_clocks(rows_of(place))


def without_clocks(tables):
    return {name: [{**row, "seconds": 0} for row in rows] for name, rows in tables.items()}


def test_amid_faults_the_tables_are_those_of_a_build_at_home(s3, photos, at_home):
    kinds = [Fault(status=500), Fault(status=503), Fault(reset=True), Fault(lost=True), Fault(cut=True)]
    faults, number = cycle([*kinds, Fault(pause=0.3)]), count(1)
    s3.service.fault = lambda request: next(faults) if next(number) % 11 == 0 else None
    url = f"{s3.url}/ws"
    ended = build(url, photos)
    assert ended.returncode == 0, ended.stderr
    s3.service.fault = None
    assert next(number) > 100  # faults of every kind there were
    assert without_clocks(rows_of(url)) == at_home
    assert not [key for key in s3.keys("ws") if ".tmp-" in key or "clock" in key]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(403, "no rights at s3://"), (404, "there is no bucket"), (500, "did not answer")],
)
def test_a_store_that_fails_in_the_middle_ends_the_build_in_a_sentence_and_the_next_goes_on(
    s3, photos, at_home, status, sentence, monkeypatch
):
    def fault(request):
        broken.extend([True] if "/ledger/detect/" in request.path and request.method == "PUT" else [])
        return Fault(status=status) if broken else None

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(lease, "SECONDS", 3.0)  # it cannot be given back
    S3.clear_instance_cache()
    broken, s3.service.fault = [], fault
    place = f"{s3.url}/ws"
    ended = build(place, photos)
    assert ended.returncode == 1 and sentence in ended.stderr, ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("phq: ") and "Traceback" not in ended.stderr
    s3.service.fault = None
    workspace = Workspace.open(place)
    assert workspace.part_info("tables/people", 0) and workspace.part_info("ledger/detect", 0) is None
    assert not whole.damaged(workspace)
    ended = build(place, photos)
    assert ended.returncode == 0, ended.stderr
    assert without_clocks(rows_of(place)) == at_home


def test_without_rights_nothing_is_begun(s3, photos):
    s3.service.fault = lambda request: Fault(status=403)
    ended = build(f"{s3.url}/ws", photos)
    assert ended.returncode == 1 and "no rights at s3://" in ended.stderr and "Traceback" not in ended.stderr
    s3.service.fault = None
    assert s3.keys() == []


def test_a_second_build_is_told_who_is_in(s3, photos):
    place = f"{s3.url}/ws"
    with Workspace.open(place, create=True).lock():
        ended = build(place, "--no-wait", photos)
    assert ended.returncode == 1 and "is in use by process" in ended.stderr
