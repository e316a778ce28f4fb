"""Parts of stages: written once, skipped when nothing changed, made again when something did."""

import dataclasses

import pytest

from phq_data import config as configs
from phq_data import records
from phq_data.pipeline import engine
from phq_data.pipeline.engine import load_config, run_part
from phq_data.records import LedgerEntry, Person, Photo
from phq_data.workspace import WorkspaceError

from .toy_stages import write_plan

CONFIG = configs.default()


def run(workspace, stage, part=0, config=CONFIG, **options):
    return run_part(workspace.url, config, stage, part, **options)


def table(workspace, kind):
    return records.from_table(kind, workspace.table(kind.table))


def test_a_part_becomes_rows_and_a_ledger_entry_for_every_item(workspace, toys):
    write_plan(workspace, 0, ["b", "a"])
    toys.fails = {"a": False}
    ticks = []
    report = run(workspace, "read", tick=lambda: ticks.append(1))
    assert (report.items, report.kept, report.rejected, report.failed) == (2, 1, 0, 1)
    assert not report.skipped and len(ticks) == 2
    assert [one.photo_id for one in table(workspace, Photo)] == ["b"]
    entries = table(workspace, LedgerEntry)
    assert [(one.stage, one.item, one.outcome, one.reason) for one in entries] == [
        ("read", "b", "kept", ""),
        ("read", "a", "failed", "ValueError"),
    ]
    assert [one.uri for one in entries] == ["file:///b.jpg", "file:///a.jpg"]
    assert entries[0].outputs == ("b",)


def test_the_uri_of_a_photo_follows_its_items_through_later_stages(workspace, toys):
    write_plan(workspace, 0, ["a"])
    run(workspace, "read")
    report = run(workspace, "look")
    assert report.rejected == 1
    entry = next(one for one in table(workspace, LedgerEntry) if one.stage == "look")
    assert (entry.item, entry.reason, entry.uri) == ("a", "no_person", "file:///a.jpg")


def test_what_is_done_is_skipped_and_reported_with_the_same_counts(workspace, toys):
    write_plan(workspace, 0, ["a", "b"])
    toys.fails = {"b": False}
    first, second = run(workspace, "read"), run(workspace, "read")
    assert second.skipped and second.seconds == 0
    assert dataclasses.replace(first, skipped=True, seconds=0.0) == second
    assert toys.calls == ["read"]


def test_a_setting_of_the_stage_makes_it_run_again_and_one_of_another_stage_does_not(workspace, toys):
    write_plan(workspace, 0, ["a"])
    run(workspace, "read")
    assert run(workspace, "read", config=CONFIG.replace_setting("fit.max_residual=0.5")).skipped
    changed = CONFIG.replace_setting("ingest.max_pixels=1000000")
    assert not run(workspace, "read", config=changed).skipped
    assert toys.calls == ["read", "read"]


def test_a_raised_version_makes_it_run_again(workspace, toys):
    write_plan(workspace, 0, ["a"])
    run(workspace, "read")
    toys.version = 2
    toys.use()
    assert not run(workspace, "read").skipped


def test_changed_rows_before_a_stage_make_it_run_again_and_equal_ones_do_not(workspace, toys):
    write_plan(workspace, 0, ["a"])
    run(workspace, "read")
    run(workspace, "look")
    write_plan(workspace, 0, ["a"], source="another folder")
    run(workspace, "read")
    assert not run(workspace, "look").skipped
    toys.version = 2  # the stage before runs again, and comes to the same rows
    toys.use()
    assert not run(workspace, "read").skipped and run(workspace, "look").skipped


@pytest.mark.parametrize(("retryable", "again"), [(True, True), (False, False)])
def test_failures_that_may_pass_are_tried_again_when_asked(workspace, toys, retryable, again):
    write_plan(workspace, 0, ["a"])
    toys.fails = {"a": retryable}
    run(workspace, "read")
    assert run(workspace, "read").skipped
    toys.fails = {}
    report = run(workspace, "read", retry_failed=True)
    assert report.skipped != again and report.kept == int(again)


def test_a_photo_that_is_gone_is_a_failure_of_that_item_alone(workspace, toys):
    write_plan(workspace, 0, ["a", "b"])
    workspace.remove("photos/a")
    report = run(workspace, "read")
    assert (report.kept, report.failed) == (1, 1)
    entry = table(workspace, LedgerEntry)[0]
    assert entry.item == "a" and entry.retryable and entry.reason == "FileNotFoundError"


def test_a_missing_part_before_says_what_to_do(workspace, toys):
    with pytest.raises(
        WorkspaceError, match="part 3 of tables/photos is missing or damaged: run `phq build`"
    ):
        run(workspace, "look", part=3)


def test_pages_that_are_damaged_lose_their_mark_so_that_the_next_build_makes_them(workspace, toys, tmp_path):
    write_plan(workspace, 0, ["a"])
    run(workspace, "read")
    victim = tmp_path / "ws/tables/photos/part-00000.parquet"
    data = bytearray(victim.read_bytes())
    data[4:200] = bytes(196)  # the footer stays whole
    victim.write_bytes(data)
    with pytest.raises(WorkspaceError):
        run(workspace, "look")
    assert not run(workspace, "read").skipped
    assert not run(workspace, "look").skipped


@pytest.mark.parametrize("lost", ["ledger/read", "tables/photos"])
def test_a_part_of_which_a_kill_left_half_is_made_again(workspace, toys, lost):
    write_plan(workspace, 0, ["a"])
    run(workspace, "read")
    workspace.remove(f"{lost}/part-00000.parquet")
    assert not run(workspace, "read").skipped
    assert len(table(workspace, Photo)) == len(table(workspace, LedgerEntry)) == 1


def test_a_stage_that_loses_an_item_is_stopped_before_anything_is_written(workspace, toys):
    write_plan(workspace, 0, ["a", "b"])
    toys.forgets = {"b"}
    with pytest.raises(RuntimeError, match="'read' was given 2 items and accounted for 1; first missing: b"):
        run(workspace, "read")
    assert workspace.parts("tables/photos") == workspace.parts("ledger/read") == []


def test_an_empty_part_is_a_part(workspace, toys):
    write_plan(workspace, 0, [])
    assert run(workspace, "read").items == run(workspace, "look").items == 0
    assert table(workspace, Person) == [] and run(workspace, "look").skipped


def test_the_settings_of_the_last_build_come_back(workspace):
    assert load_config(workspace) == CONFIG
    changed = CONFIG.replace_setting("crop.size=64")
    workspace.write_bytes("config.json", changed.to_json().encode())
    assert load_config(workspace) == changed
    for broken in (b"{", b"[]", b'{"crop": {"size": "large"}}'):
        workspace.write_bytes("config.json", broken)
        with pytest.raises(configs.ConfigError, match=r"settings of the last build.*--preset default"):
            load_config(workspace)


def test_the_fingerprint_hangs_on_the_content_of_inputs_and_not_on_their_order_of_writing(workspace, toys):
    write_plan(workspace, 0, ["a"])
    write_plan(workspace, 1, ["a"])
    made_with = engine.recipe(toys.stages[0], CONFIG)
    marks = [engine.fingerprint(made_with, [workspace.part_info("plan", part)]) for part in (0, 1)]
    assert marks[0] == marks[1]
    write_plan(workspace, 1, ["b"])
    assert engine.fingerprint(made_with, [workspace.part_info("plan", 1)]) != marks[0]


def test_a_flipped_bit_in_a_part_is_found_by_the_next_build_and_the_part_is_made_again(
    workspace, toys, tmp_path
):
    """In a column that no later stage reads, of a stage that would be skipped; and in a ledger."""
    write_plan(workspace, 0, ["a"], title="a title that nobody reads")
    run(workspace, "read")
    run(workspace, "look")
    for folder, text in (("tables/photos", b"a title that"), ("ledger/read", b"file:///a.jpg")):
        victim = tmp_path / f"ws/{folder}/part-00000.parquet"
        whole = victim.read_bytes()
        data = bytearray(whole)
        data[data.index(text)] ^= 1
        victim.write_bytes(data)
        assert workspace.damaged(folder, 0)
        assert not run(workspace, "read").skipped
        assert not workspace.damaged(folder, 0) and run(workspace, "look").skipped
