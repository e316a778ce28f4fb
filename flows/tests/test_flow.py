"""The Prefect flow: every task runner makes the tables that the inline runner makes."""

import pytest

from .conftest import phq, rows_of


def build(folder, photos, runner):
    return phq(
        "build", "-w", str(folder), "--runner", runner, "--workers", "2", "--set", "part_size=3", str(photos),
        timeout=500,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("runner", ["threads", "processes", "dask", "ray"])
def test_each_task_runner_ends_with_the_same_tables(finished, photos, tmp_path, runner):
    done = build(tmp_path / "ws", photos, runner)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "ws") == rows_of(finished)


@pytest.mark.slow
def test_a_flow_stopped_by_a_full_workspace_says_so(photos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = build(tmp_path / "file" / "ws", photos, "threads")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
