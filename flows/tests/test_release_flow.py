"""The release flow: what it builds it verifies, and only that is pushed."""

import json
import shutil
import subprocess
import sys

import pytest
from programs import environment

from phq_data.release import reader

PROGRAM = """
import sys
from phq_flows.release import release
print(release(*sys.argv[1:]))
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True, text=True, check=False, env=environment(), timeout=500,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_release_is_built_verified_and_pushed_and_a_damaged_one_is_not(
    small, tmp_path, monkeypatch, prefect_api
):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    permission = tmp_path / "permission.json"
    permission.write_text(
        json.dumps(
            {"who": "a test", "scope": ["train", "publish-images"], "date": "2026-11-23", "reference": "none"}
        )
    )
    releases, shelf = tmp_path / "releases", tmp_path / "shelf"
    given = (small, releases, "1.0.0", shelf, "yes", "all", permission)
    done = run(*given)
    assert done.returncode == 0, done.stderr
    assert reader.open(shelf / "1.0.0").manifest.digest == reader.open(releases / "1.0.0").manifest.digest

    shutil.rmtree(shelf)
    shard = next((releases / "1.0.0/data").iterdir())
    shard.write_bytes(b"\\0" * shard.stat().st_size)
    failed = run(*given)
    assert failed.returncode != 0 and shard.name in failed.stderr
    assert not shelf.exists()
