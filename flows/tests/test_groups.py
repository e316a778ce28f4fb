"""Some thousand tasks a run, whatever the number of photos."""

import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from programs import environment

from phq_data import __version__
from phq_data.config import default
from phq_data.pipeline.engine import PartReport
from phq_data.pipeline.local import PartError, SilentProgress, drive
from phq_data.sources.plan import Plan
from phq_data.sources.resolve import resolve
from phq_data.workspace import Workspace
from phq_data.workspace.lease import LeaseLostError
from phq_flows import build, groups

from .conftest import rows_of

IN_GROUPS = "from phq_flows import groups; groups.MOST_TASKS = 1; from phq_data.cli.main import main; main()"

STAGES = 5


def parts_of(photos: int, part_size: int = 64) -> list[int]:
    """Sizes of the parts that so many photos are planned as."""
    sizes: list[int] = []
    plan: Any = types.SimpleNamespace(parts=[])
    while photos > 0:
        sizes.append(min(photos, Plan.room(plan, part_size)))
        plan.parts.append(len(sizes))
        photos -= sizes[-1]
    return sizes


@pytest.mark.parametrize("photos", [1, 64, 25_600, 40_000, 100_000, 1_000_000, 10_000_000])
def test_a_run_has_at_most_two_thousand_tasks(photos):
    sizes = parts_of(photos)
    assert sum(sizes) == photos and max(sizes) <= 256
    made = groups.grouped(range(len(sizes)))
    assert [part for group in made for part in group] == (list(range(len(sizes))) if made else [])
    tasks = len(made) or STAGES * len(sizes)
    assert tasks <= groups.MOST_TASKS and tasks >= min(len(sizes), 1000)


def test_the_pages_table_is_computed():
    page = (Path(__file__).parents[2] / "docs/deployment.md").read_text()
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", page, flags=re.MULTILINE)
    assert len(rows) == 4
    for photos, parts, tasks in (map(int, (cell.replace(",", "") for cell in row)) for row in rows):
        sizes = parts_of(photos)
        assert (len(sizes), len(groups.grouped(range(len(sizes)))) or STAGES * len(sizes)) == (parts, tasks)


def test_small_plans_and_existing_ones_keep_their_parts():
    assert parts_of(640) == [64] * 10
    assert not groups.grouped(range(400)) and len(groups.grouped(range(401))) == 401
    assert len(groups.grouped(range(15_625))) == 1954  # a million photos in parts of 64, from before


def test_groups_end_with_the_same_tables_and_a_broken_part_stops_no_other(small, tmp_path):
    """The task's own function, without a server."""
    workspace = Workspace.open(tmp_path / "ws", create=True)
    config = default().replace_setting("part_size=2")

    def submit(parts):
        given = (str(workspace.url), config.to_json(), 0, 1, [*parts, 7], False, __version__, "")
        ended = groups.part_group.fn(*given)
        broken = [one for one in ended if isinstance(one, PartError)]
        assert [one.part for one in broken] == [7] and "part 7 of plan is missing" in str(broken[0].error)
        return iter([one for one in ended if one not in broken])

    report = drive(workspace, config, [resolve("synthetic:3@3")], submit, SilentProgress())
    assert not report.errors and rows_of(tmp_path / "ws") == rows_of(small)


def test_a_group_stops_once_its_build_does_not_hold_the_workspace(small, tmp_path):
    workspace = Workspace.open(shutil.copytree(small, tmp_path / "ws"))
    with workspace.lock():
        worker = Workspace.open(workspace.url)
        worker.follow(workspace.holder())
        parts = workspace.parts("plan")
        settings = (workspace.read_bytes("config.json")).decode()
        given = (workspace.url, settings, 0, 1, parts, False, __version__, "", workspace.holder())
        told = groups.part_group.fn(*given)
        assert len(told) == STAGES * len(parts)
        assert all(isinstance(one, PartReport) and one.skipped for one in told)
        worker.write_bytes("written", b"")
    shutil.rmtree(tmp_path / "ws" / "ledger")
    with pytest.raises(LeaseLostError, match="has let go of it: this worker writes nothing more"):
        groups.part_group.fn(*given)
    with workspace.lock(), pytest.raises(LeaseLostError):  # of another one
        groups.part_group.fn(*given)
    assert not workspace.parts("ledger/ingest")
    with pytest.raises(LeaseLostError):  # in the middle of a stage
        worker.write_bytes("written", b"too late")


@pytest.mark.parametrize("task", [groups.part_group, build.stage_part], ids=lambda task: task.name)
def test_the_process_of_a_task_ends_with_its_build(task, small, monkeypatch):
    ended = []
    monkeypatch.setattr("multiprocessing.parent_process", lambda: "a build")
    monkeypatch.setattr(groups, "end_with_parent", lambda: ended.append(True))
    groups.end_with_build.cache_clear()
    settings = (small / "config.json").read_text()
    if task is build.stage_part:
        task.fn(
            str(small), settings, "ingest", Workspace.open(small).parts("plan")[0], False, None, __version__
        )
    else:
        task.fn(str(small), settings, 0, 0, [], False, __version__, "")
    groups.end_with_build.cache_clear()
    assert ended


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_flow_of_groups_ends_with_the_same_tables(small, tmp_path, prefect_api):
    command = ["build", "-w", str(tmp_path / "ws"), "--workers", "2", "--set", "part_size=2", "synthetic:3@3"]
    done = subprocess.run(
        [sys.executable, "-c", IN_GROUPS, *command], env=environment() | {"PREFECT_API_URL": prefect_api},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "going on without Prefect" not in done.stderr, done.stderr[-3000:]
    assert rows_of(tmp_path / "ws") == rows_of(small)
    lines = [line for line in done.stderr.splitlines() if line.startswith("part ")]
    assert len(lines) == len(set(lines)) == 2 * STAGES


def test_a_lost_group_names_all_its_parts(monkeypatch):
    died = RuntimeError("its worker died")
    monkeypatch.setattr(groups, "part_group", types.SimpleNamespace(submit=lambda *given: given[2]))
    monkeypatch.setattr(groups, "as_completed", list)
    ended = groups.run_groups(
        [[1, 2], [3, 4]], "", "", False, "", "", lambda first: died if first == 3 else []
    )
    assert list(ended) == [[], [PartError(3, died), PartError(4, died)]]
