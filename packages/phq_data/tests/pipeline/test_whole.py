"""A workspace as a whole: settings are on record when its parts carry them, and what is behind is named."""

import json
import multiprocessing
from typing import Any

import pytest

from phq_data import config as configs
from phq_data import records
from phq_data.pipeline import whole
from phq_data.pipeline.engine import load_config, run_part
from phq_data.pipeline.integrity import verify
from phq_data.pipeline.whole import Behind, behind, finish, finished, prepare
from phq_data.records import Duplicate, Screened
from phq_data.workspace import Workspace, WorkspaceBusyError, WorkspaceError

from .toy_stages import write_plan

CONFIG = configs.default()
OTHER = CONFIG.replace_setting("ingest.max_pixels=1000000")


def table(workspace, kind):
    return records.from_table(kind, workspace.table(kind.table))


@pytest.fixture
def built(workspace, toys):
    """Three parts, built to the end."""
    prepare(workspace, CONFIG)
    for part, name in enumerate("abc"):
        write_plan(workspace, part, [name])
        for stage in ("read", "look"):
            run_part(workspace.url, CONFIG, stage, part)
    finish(workspace, CONFIG)
    return workspace


def test_a_finished_workspace_may_be_read_and_an_imported_one_too(built, tmp_path):
    assert behind(built) == []
    with finished(built):
        pass
    imported = Workspace.open(tmp_path / "imported", create=True)
    imported.write_part("tables/photos", 0, built.read_part("tables/photos", 0), "imported")
    with finished(imported):
        pass


@pytest.mark.parametrize("key", ["config.json", "rig.safetensors", "recipes.json"])
def test_a_changed_record_is_noticed_and_written_anew_by_the_next_build(built, key):
    data = built.read_bytes(key)
    built.write_bytes(key, data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    with pytest.raises(WorkspaceError, match=key if key != "recipes.json" else "."), finished(built):
        pass
    if key != "recipes.json":
        assert [one.where for one in verify(built).faults if one.kind == "record"] == [key]
    finish(built, CONFIG)
    assert built.read_bytes(key) == data
    assert not [one for one in verify(built).faults if one.kind != "photo"]  # the photos are toys
    with finished(built):
        pass


def test_a_record_of_an_older_phq_carries_no_digests(built):
    recipes = json.loads(built.read_bytes("recipes.json"))
    del recipes["digests"]
    built.write_bytes("recipes.json", json.dumps(recipes).encode())
    with finished(built):
        pass


def test_parts_of_a_build_that_stopped_are_named(built):
    prepare(built, OTHER)
    run_part(built.url, OTHER, "read", 1)
    assert behind(built) == [Behind("read", 1, whole.OTHER)]
    told = r"not finished: read of part 1: made with other settings"
    with pytest.raises(WorkspaceError, match=told), finished(built):
        pass
    built.remove("ledger/look/part-00002.parquet")
    write_plan(built, 3, ["d"])
    assert behind(built) == [
        Behind("read", 1, whole.OTHER),
        Behind("look", 2, whole.MISSING),
        Behind("read", 3, whole.MISSING),
        Behind("look", 3, whole.MISSING),
    ]
    built.remove("plan/part-00000.parquet")
    assert Behind("read", 0, whole.NO_PLAN) in behind(built)


def test_settings_are_on_record_when_every_part_carries_them(built, toys):
    prepare(built, OTHER)
    assert load_config(built) == CONFIG
    run_part(built.url, OTHER, "read", 1)
    assert load_config(built) == CONFIG
    toys.calls.clear()
    prepare(built, CONFIG)  # back to the former settings: what fits is skipped
    skipped = [run_part(built.url, CONFIG, "read", part).skipped for part in range(3)]
    assert skipped == [True, False, True] and behind(built) == []
    prepare(built, OTHER)
    for part in range(3):
        run_part(built.url, OTHER, "read", part)
    finish(built, OTHER)
    assert load_config(built) == OTHER and behind(built) == []


def test_the_settings_of_a_first_build_are_on_record_from_its_start(workspace, toys):
    """No part contradicts them: a first build that was stopped goes on without naming them again."""
    prepare(workspace, OTHER)
    assert load_config(workspace) == OTHER


def test_stale_near_duplicates_are_behind(built):
    rows = [screened("a", 0), screened("b", 1)]
    built.write_part("tables/screened", 0, records.to_table(Screened, rows), "test")
    assert behind(built) == [Behind("near-duplicates", 0, whole.OTHER)]
    finish(built, CONFIG)
    assert behind(built) == []


def test_a_workspace_of_an_older_phq_is_compared_with_its_settings(built):
    built.remove("recipes.json")
    assert behind(built) == []
    built.write_bytes("config.json", OTHER.to_json().encode())
    assert {one.part for one in behind(built)} == {0, 1, 2}


def _hold(url, ready, done):
    with Workspace.open(url).lock():
        ready.set()
        done.wait(60)


def test_while_a_build_runs_nobody_reads_the_workspace_as_finished(built):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    builder = context.Process(target=_hold, args=(built.url, ready, done))
    builder.start()
    try:
        assert ready.wait(60)
        in_use = f"in use by process {builder.pid}"
        with pytest.raises(WorkspaceBusyError, match=in_use), finished(built):
            pass
    finally:
        done.set()
        builder.join(60)
    with finished(built):
        pass


def test_without_a_lock_a_change_while_reading_is_noticed(toys, monkeypatch):
    def refused(*unused, **given):
        raise WorkspaceError("it may only be read")

    workspace = Workspace.open("memory://phq-test-finished", create=True)
    write_plan(workspace, 0, ["a"])
    monkeypatch.setattr(workspace, "alone", refused)
    with workspace.reading():
        pass
    with pytest.raises(WorkspaceBusyError, match="changed meanwhile"), workspace.reading():
        write_plan(workspace, 0, ["a", "b"])


def screened(name, phash, kept=True):
    numbers: dict[str, Any] = dict.fromkeys(
        ("blur", "exposure_low", "exposure_high", "contrast", "effective_resolution", "padding",
         "landmark_error", "shoulder_error", "mask_share", "overlap", "error_probability"), 0.5,
    )  # fmt: skip
    return Screened(portrait_id=name, photo_id=f"photo {name}", kept=kept, reasons=(), phash=phash, **numbers)


def test_duplicates_are_found_among_the_kept_of_all_parts_and_only_when_something_changed(
    workspace, monkeypatch
):
    parts = [[screened("a", 0), screened("b", 1, kept=False)], [screened("c", 1), screened("d", 2**40 - 1)]]
    for part, rows in enumerate(parts):
        workspace.write_part("tables/screened", part, records.to_table(Screened, rows), "test")
    finish(workspace, CONFIG)
    assert {one.portrait_id for one in table(workspace, Duplicate)} == {"a", "c"}
    monkeypatch.setattr(whole, "duplicates", lambda *_: pytest.fail("searched again"))
    finish(workspace, CONFIG)
    monkeypatch.undo()
    finish(workspace, CONFIG.replace_setting("dedup.max_distance=0"))
    assert table(workspace, Duplicate) == []
