"""Releases of small portraits."""

import pytest

from benchmarks import release as bench
from phq_data.release.build import ReleaseOptions, build
from phq_data.workspace import Workspace

ROWS, SIZE = 18, 32


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder of releases with one release of small portraits; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("made")
    bench.make_workspace(folder / "workspace", ROWS, SIZE)
    options = ReleaseOptions(unreviewed=True, created="2026-01-01", shard_bytes=30_000)
    build(Workspace.open(folder / "workspace"), folder / "releases", "1.0.0", options)
    return folder / "releases"
