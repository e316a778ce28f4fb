"""A workspace of version 1 is carried over: part by part, whenever it is stopped, and no stage runs again."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data import old_schema, schema
from phq_data.compatibility import COLUMNS, SETTINGS
from phq_data.pipeline.engine import load_config
from phq_data.pipeline.local import run_inline
from phq_data.stages.sequence import STAGES
from phq_data.workspace import Workspace, WorkspaceError

TABLES = ("plan", "photos", "people", "fits", "portraits", "screened", "duplicates", "decisions", "ledger")


def files(workspace: Workspace) -> list[Path]:
    """Every part, as a file."""
    return sorted(Path(workspace.path("")).glob("**/part-*.parquet"))


def versions(workspace: Workspace) -> set[int]:
    found = set()
    for path in files(workspace):
        with pq.ParquetFile(path) as file:
            found.add(old_schema.version_of(file))
    return found


def content(workspace: Workspace) -> dict[str, list[str]]:
    """All rows of all tables as text; the ledger's sorted, because a stage's new name sorts elsewhere."""
    found = {name: [repr(row) for row in workspace.table(name).to_pylist()] for name in TABLES}
    return {**found, "ledger": sorted(found["ledger"])}


def marks(workspace: Workspace) -> dict[tuple[str, int], tuple[str, str]]:
    """Fingerprint and content digest of every part of every stage's table and ledger."""
    folders = [f"tables/{stage.table}" for stage in STAGES] + [f"ledger/{stage.name}" for stage in STAGES]
    found = {}
    for folder in [*folders, "plan", "tables/duplicates"]:
        for part in workspace.parts(folder):
            info = workspace.part_info(folder, part)
            assert info is not None
            found[folder, part] = (info.fingerprint, info.content)
    return found


def redone(workspace: Workspace, *settings: str) -> list[tuple[str, int]]:
    """Build with the workspace's settings and these; the stages and parts that ran."""
    config = load_config(workspace)
    for setting in settings:
        config = config.replace_setting(setting)
    with workspace.lock():
        report = run_inline(workspace, config, [])
    assert report.errors == []
    return [(one.stage, one.part) for one in report.reports if not one.skipped]


def test_nothing_is_lost_and_nothing_runs_again(workspace: Workspace) -> None:
    before, marked, old = content(workspace), marks(workspace), versions(workspace)
    assert redone(workspace) == []
    assert old == {1}
    assert versions(workspace) == {schema.SCHEMA_VERSION}
    assert content(workspace) == before
    assert marks(workspace) == marked
    assert not Path(workspace.path("ledger/portray")).exists()
    assert json.loads(workspace.read_bytes("workspace.json")) == {
        "format": "phq-workspace/1",
        "schema_version": schema.SCHEMA_VERSION,
    }


def test_the_files_have_the_columns_of_today(workspace: Workspace) -> None:
    """Also for those who read them without PHQ."""
    degrees = pq.read_table(workspace.path("tables/screened/part-00000.parquet"))["yaw_error"].to_numpy()
    with workspace.lock():
        pass
    for table, renamed in COLUMNS.items():
        if table == "release":
            continue
        folder = table if table == "plan" else f"tables/{table}"
        for part in workspace.parts(folder):
            found = pq.read_schema(workspace.path(f"{folder}/part-{part:05d}.parquet"))
            assert not set(renamed) & set(found.names) - set(renamed.values())
            assert set(renamed.values()) <= set(found.names)
    screened = pq.read_table(workspace.path("tables/screened/part-00000.parquet"))
    np.testing.assert_allclose(np.degrees(screened["expected_yaw_error"].to_numpy()), degrees, rtol=1e-6)
    evidence = [
        json.loads(row["evidence"])
        for row in workspace.table("ledger").to_pylist()
        if row["stage"] == "screen"
    ]
    shown = dict(zip(screened["portrait_id"].to_pylist(), screened.to_pylist(), strict=True))
    told = {
        row["item"]: json.loads(row["evidence"])
        for row in workspace.read_part("ledger/screen", 0).to_pylist()
    }
    assert evidence and not any("doubt" in numbers or "yaw_error" in numbers for numbers in evidence)
    for portrait, row in shown.items():
        for name in ("error_probability", "expected_yaw_error", "landmark_error", "effective_resolution"):
            assert told[portrait][name] == pytest.approx(row[name], abs=1e-6)


def test_settings_are_carried_over(workspace: Workspace) -> None:
    chosen = load_config(workspace)
    with workspace.lock():
        pass
    found = json.loads(workspace.read_bytes("config.json"))
    assert load_config(workspace) == chosen
    assert found == json.loads(chosen.to_json())
    for name in SETTINGS:
        group, _, member = name.partition(".")
        assert member not in found[group] or name in SETTINGS.values()


def test_whoever_waits_is_told_once(workspace: Workspace) -> None:
    told: list[str] = []
    with workspace.lock(on_wait=told.append):
        pass
    with workspace.lock(on_wait=told.append):
        pass
    assert len(told) == 1 and "carried over" in told[0]


def test_a_part_that_was_behind_its_settings_runs(workspace: Workspace) -> None:
    """Its settings were changed and not built with; what does not depend on them is up to date."""
    values = json.loads(workspace.read_bytes("config.json"))
    values["screen"]["max_doubt"] = 0.1
    workspace.write_bytes("config.json", json.dumps(values).encode())
    assert redone(workspace) == [("screen", part) for part in (0, 1, 2, 3)]
    assert redone(workspace) == []


def test_settings_of_version_1_lead_to_its_parts_again(workspace: Workspace) -> None:
    """What was built with which settings is known by its fingerprint, whatever was built last."""
    verdicts = workspace.table("screened", ["portrait_id", "kept"]).to_pylist()
    assert {stage for stage, _ in redone(workspace, "screen.max_error_probability=0.1")} == {"screen"}
    assert {stage for stage, _ in redone(workspace, "screen.max_error_probability=0.6")} == {"screen"}
    assert workspace.table("screened", ["portrait_id", "kept"]).to_pylist() == verdicts


def test_what_is_made_again_has_the_ids_it_had(workspace: Workspace) -> None:
    """From the photos to the portraits, by today's code."""
    names = {"people": "person_id", "fits": "fit_id", "portraits": "portrait_id"}
    before = {table: workspace.table(table, [key])[key].to_pylist() for table, key in names.items()}
    for stage in STAGES[1:]:
        workspace.remove(f"ledger/{stage.name.replace('align_crop', 'portray')}/part-00000.parquet")
    ran = redone(workspace)
    assert {stage for stage, part in ran if part == 0} == {stage.name for stage in STAGES[1:]}
    assert {part for _, part in ran} == {0}
    after = {table: workspace.table(table, [key])[key].to_pylist() for table, key in names.items()}
    assert after == before


def test_a_damaged_part_is_made_again_and_the_others_are_not(workspace: Workspace) -> None:
    before = workspace.table("screened").to_pylist()
    path = Path(workspace.path("tables/screened/part-00001.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    assert redone(workspace) == [("screen", 1)]
    after = workspace.table("screened").to_pylist()
    assert [row["portrait_id"] for row in after] == [row["portrait_id"] for row in before]


def test_an_older_program_leaves_it_alone(workspace: Workspace) -> None:
    """It refuses a schema that is newer than its own, as version 1 did."""
    with workspace.lock():
        pass
    newer = {"format": "phq-workspace/1", "schema_version": schema.SCHEMA_VERSION + 1}
    workspace.write_bytes("workspace.json", json.dumps(newer).encode())
    with pytest.raises(WorkspaceError, match="newer PHQ"):
        Workspace.open(workspace.path(""))


# ---- stopped in the middle ---------------------------------------------------------------------------------


@contextmanager
def stopped_after(workspace: Workspace, count: int) -> Iterator[None]:
    """`workspace` breaks when it is about to write part number `count`."""
    written = 0
    usual = workspace.write_part

    def write_part(*arguments: object, **more: object) -> object:
        nonlocal written
        if written == count:
            raise KeyboardInterrupt
        written += 1
        return usual(*arguments, **more)  # type: ignore[arg-type]

    workspace.write_part = write_part  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        workspace.write_part = usual  # type: ignore[method-assign]


@pytest.mark.parametrize("count", [0, 1, 7, 20, 30])
def test_it_may_be_stopped_anywhere_and_goes_on(workspace: Workspace, count: int) -> None:
    before, marked = content(workspace), marks(workspace)
    with stopped_after(workspace, count), pytest.raises(KeyboardInterrupt), workspace.lock():
        pass
    half = Workspace.open(workspace.path(""))
    assert content(half) == before  # reading knows both
    assert marks(half) == marked
    assert redone(half) == []
    assert versions(half) == {schema.SCHEMA_VERSION}
    assert content(half) == before


def test_a_ledger_part_that_is_there_twice_counts_once(workspace: Workspace) -> None:
    """Killed after it was written under the stage's new name and before the old one went."""
    before = content(workspace)
    info = workspace.part_info("ledger/align_crop", 0)
    assert info is not None
    rows = workspace.read_part("ledger/align_crop", 0)
    workspace.write_part("ledger/align_crop", 0, rows, info.fingerprint, info.extra, info.content)
    assert Path(workspace.path("ledger/portray/part-00000.parquet")).exists()
    assert content(workspace) == before
    assert redone(workspace) == []
    assert content(workspace) == before
    assert not Path(workspace.path("ledger/portray")).exists()


def test_killed_for_real(workspace: Workspace) -> None:
    """SIGKILL while a process carries it over."""
    before = content(workspace)
    code = (
        "import sys, time\n"
        "from phq_data.workspace import Workspace\n"
        "usual = Workspace.write_part\n"
        "def slow(*arguments, **more):\n"
        "    print('part', flush=True); time.sleep(0.05)\n"
        "    return usual(*arguments, **more)\n"
        "Workspace.write_part = slow\n"
        "with Workspace.open(sys.argv[1]).lock(): pass\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, workspace.path("")], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(10):
        assert child.stdout.readline() == "part\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    time.sleep(0.01)
    half = Workspace.open(workspace.path(""))
    assert versions(half) == {1, schema.SCHEMA_VERSION}
    assert content(half) == before
    assert redone(half) == []
    assert content(half) == before


# ---- reading without carrying over -------------------------------------------------------------------------


def test_columns_are_read_by_their_names_of_today(workspace: Workspace) -> None:
    for table, renamed in COLUMNS.items():
        if table == "release":
            continue
        wanted = list(renamed.values())
        found = workspace.table(table, wanted)
        assert found.schema == pa.schema([schema.SCHEMAS[table].field(name) for name in wanted])
        assert found.num_rows > 0


def test_reading_writes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    """The report, and all that is known of a portrait."""
    import io

    from rich.console import Console

    from phq_data.report import inspection
    from phq_data.report.page import write_report

    before = {path: path.read_bytes() for path in files(workspace)}
    header = workspace.read_bytes("workspace.json")
    page = Path(write_report(workspace, tmp_path / "report.html")).read_text()
    assert "align_crop" in page or "align, crop, mask" in page
    row = workspace.table("screened").to_pylist()[0]
    found = inspection.inspect(workspace, row["portrait_id"])
    (verdict,) = found.to_dict()["verdicts"]
    assert verdict["error_probability"] == pytest.approx(row["error_probability"], abs=1e-6)
    assert {entry["stage"] for entry in found.to_dict()["ledger"]} == {stage.name for stage in STAGES}
    shown = io.StringIO()
    inspection.show(found, Console(file=shown, width=200), load_config(workspace).screen)
    assert f"{math.degrees(row['expected_yaw_error']):.3g}" in shown.getvalue()
    assert {path: path.read_bytes() for path in files(workspace)} == before
    assert workspace.read_bytes("workspace.json") == header
