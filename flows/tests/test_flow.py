"""The Prefect flow: every task runner makes the tables that the inline runner makes."""

import pytest

from .conftest import phq, rows_of


def build(folder, runner):
    settings = ["--runner", runner, "--workers", "2", "--set", "part_size=2"]
    return phq("build", "-w", str(folder), *settings, "synthetic:3@3", timeout=900)


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("runner", ["processes", "dask", "ray"])
def test_each_task_runner_ends_with_the_same_tables(small, tmp_path, monkeypatch, prefect_api, runner):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    done = build(tmp_path / "ws", runner)
    assert done.returncode == 0, done.stderr[-3000:]
    assert rows_of(tmp_path / "ws") == rows_of(small)


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_flow_that_cannot_write_says_so(tmp_path, monkeypatch, prefect_api):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    (tmp_path / "file").write_text("in the way")
    done = build(tmp_path / "file" / "ws", "threads")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
