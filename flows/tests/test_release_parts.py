"""A release that others write in pieces: the bytes are those of one process."""

import multiprocessing
import os

import pytest

from benchmarks import scale_tables
from phq_data.errors import ReleaseError
from phq_data.release import parts, shards
from phq_data.release.build import ReleaseOptions, build
from phq_data.release.verify import verify
from phq_flows import release_parts
from phq_flows.cluster import ClusterError

OPTIONS = ReleaseOptions(unreviewed=True, created="2026-01-01", shard_bytes=60_000)


def files(folder):
    return {
        one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()
    }


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return scale_tables.make_workspace(tmp_path_factory.mktemp("made") / "workspace", 400)


@pytest.fixture(scope="module")
def alone(workspace, tmp_path_factory):
    """Two versions written by this process in one thread; the second without some portraits."""
    folder = tmp_path_factory.mktemp("alone")
    return written(workspace, folder, parts.Here(1))


def written(workspace, folder, run):
    scale_tables.drop_some(workspace, 0)
    build(workspace, folder, "1.0.0", OPTIONS, run=run)
    scale_tables.drop_some(workspace, 10)
    build(workspace, folder, "2.0.0", OPTIONS, run=run)
    return files(folder)


def test_threads_write_what_one_writes(workspace, alone, tmp_path):
    assert len([name for name in alone if name.startswith("1.0.0/data/train")]) > 3
    assert written(workspace, tmp_path, parts.Here(3)) == alone
    assert verify(tmp_path / "2.0.0", pixels=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("runner", release_parts.RUNNERS)
def test_every_runner_writes_what_one_process_writes(workspace, alone, tmp_path, runner):
    release_parts.offer()
    with parts.running(runner, 2, "") as run:
        assert run.at_once == 2
        assert written(workspace, tmp_path, run) == alone


def test_a_worker_that_does_not_see_the_folder_is_told(workspace, tmp_path):
    class Elsewhere(parts.Here):
        def __call__(self, piece, calls):
            gone = str(tmp_path / "elsewhere")
            changed = (tuple(gone if str(one).endswith(".aside") else one for one in call) for call in calls)
            return super().__call__(piece, changed)

    with pytest.raises(ReleaseError, match="a folder that all machines share"):
        build(workspace, tmp_path, "1.0.0", OPTIONS, run=Elsewhere(1))
    assert list(tmp_path.glob("1.0.0/*")) == []


@pytest.mark.slow
def test_a_worker_that_is_killed_is_a_sentence(workspace, tmp_path):
    release_parts.offer()
    with pytest.raises(ClusterError, match="workers were lost"), parts.running("processes", 1, "") as run:
        build(workspace, tmp_path, "1.0.0", OPTIONS, run=_Killed(run))
    assert list(tmp_path.glob("1.0.0/*")) == []


class _Killed:
    def __init__(self, run):
        self.run, self.at_once = run, run.at_once

    def __call__(self, piece, calls):
        return self.run(os.kill if piece is shards.write_shard else piece, self.instead(piece, calls))

    def instead(self, piece, calls):
        for call in calls:
            yield (multiprocessing.active_children()[0].pid, 9) if piece is shards.write_shard else call


def test_a_worker_of_another_version_is_refused():
    with pytest.raises(ClusterError, match=r"a worker has PHQ .*, this release is made by 0\.0\.1"):
        release_parts.done("0.0.1", len, ([],))


def test_unknown_runners_are_told():
    with pytest.raises(ReleaseError, match=r"--runner is one of inline.*not .spark."):
        parts.running("spark", 1, "")
