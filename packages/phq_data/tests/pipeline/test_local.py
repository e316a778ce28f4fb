"""The loop of a build: parts go through all stages, in threads; what breaks is told and the others go on."""

import pytest

from phq_data import config as configs
from phq_data import schema
from phq_data.pipeline import local
from phq_data.pipeline.local import PartError, SilentProgress, drive, run_inline
from phq_data.review.workspace_items import content
from phq_data.workspace import WorkspaceError

from .toy_stages import write_plan

CONFIG = configs.default()


class Told(SilentProgress):
    """A `Progress` that remembers."""

    def __init__(self):
        self.planned, self.items, self.done = [], [], []

    def part_planned(self, part, items):
        self.planned.append((part, items))

    def item_done(self, stage):
        self.items.append(stage)

    def part_done(self, report):
        self.done.append((report.stage, report.part, report.skipped))


@pytest.fixture
def build(workspace, toys, monkeypatch):
    """Build three planned parts of two files each; nothing is gathered, and no model is asked for."""
    finished = []
    monkeypatch.setattr(local, "prepare", lambda *_: None)
    monkeypatch.setattr(local, "finish", lambda *_: finished.append(True))
    for part, names in enumerate(("ab", "cd", "ef")):
        write_plan(workspace, part, list(names))

    def run(workers=2, **options):
        return run_inline(workspace, CONFIG, [], workers=workers, **options)

    vars(run)["finished"] = finished
    return run


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_part_goes_through_every_stage_in_order(build, workspace, workers):
    told = Told()
    report = build(workers, progress=told)
    assert report.errors == [] and build.finished == [True]
    assert told.planned == [(0, 2), (1, 2), (2, 2)] and told.items.count("read") == 6
    for part in range(3):
        assert [stage for stage, number, _ in told.done if number == part] == ["read", "look"]
    assert report.count("read", "kept") == 6 and report.count("look", "rejected") == 6
    assert workspace.table("people").num_rows == 6


def test_a_second_build_skips_every_part(build, toys):
    build()
    told = Told()
    build(progress=told)
    assert len(told.done) == 6 and all(skipped for _, _, skipped in told.done)
    assert len(toys.calls) == 6


def test_a_part_that_breaks_is_named_and_the_others_go_on(build, toys, workspace):
    toys.raises = {"c": ZeroDivisionError("a bug of ours")}
    report = build()
    assert report.errors == ["part 1: ZeroDivisionError: a bug of ours"]
    assert build.finished == []  # what needs all parts waits for all of them
    assert workspace.parts("tables/people") == [0, 2]
    toys.raises = {}
    assert build().errors == [] and build.finished == [True]
    assert workspace.parts("tables/people") == [0, 1, 2]


def test_a_workspace_that_cannot_be_written_stops_the_build(build, toys):
    toys.raises = {"a": WorkspaceError("the disk is full")}
    with pytest.raises(WorkspaceError, match="the disk is full"):
        build(workers=1)
    assert build.finished == []


def test_failures_are_tried_again_when_asked(build, toys):
    toys.fails = {"a": True}
    assert build().count("read", "failed") == 1
    toys.fails = {}
    report = build(retry_failed=True)
    assert report.count("read", "failed") == 0
    assert [one.part for one in report.reports if not one.skipped] == [0, 0]


def test_any_submit_function_can_run_the_parts(build, workspace):
    """`drive` takes what comes, in whatever order."""
    seen = []

    def submit(parts):
        seen.extend(parts)
        yield PartError(2, RuntimeError("lost"))
        yield from ()

    report = drive(workspace, CONFIG, [], submit, SilentProgress())
    assert seen == [0, 1, 2] and report.errors == ["part 2: RuntimeError: lost"]
    assert report.seconds >= 0 and build.finished == []


def test_a_build_without_sources_needs_photos_that_are_planned(tmp_path, workspace):
    url = workspace.path("")
    with pytest.raises(WorkspaceError, match="has no photos yet: name a source"):
        local.open_to_build(url, [])
    write_plan(workspace, 0, ["a"])
    assert local.open_to_build(url, []).parts("plan")
    with pytest.raises(WorkspaceError, match="there is no workspace at"):
        local.open_to_build(str(tmp_path / "other"), [])


def test_rights_that_are_stated_later_make_no_stage_run_again_but_the_one_that_reads_them(
    build, toys, workspace
):
    build()
    before, index = bytes_of(workspace, "people"), content(workspace, 0)
    toys.calls.clear()
    write_plan(workspace, 0, ["a", "b"], consent="yes", license="CC0-1.0")
    build()
    assert toys.calls == ["read"] and bytes_of(workspace, "people") == before
    photos = workspace.table("photos", ["photo_id", "consent"]).to_pylist()
    assert [row["consent"] for row in photos] == ["yes", "yes", None, None, None, None]
    assert content(workspace, 0) != index  # the review follows
    write_plan(workspace, 0, ["a", "b"], consent="yes", license="CC0-1.0", source="another folder")
    build()
    assert toys.calls == ["read", "read", "look"]


def test_columns_that_nobody_filled_change_no_fingerprint(build, toys, workspace, tmp_path):
    """A workspace that was built before there were columns `consent` and `self_stated`."""
    build()
    for folder in ("plan", "tables/photos"):
        for part in workspace.parts(folder):
            info, rows = workspace.part_info(folder, part), workspace.read_part(folder, part)
            old = rows.drop_columns(["consent", "self_stated"])
            assert schema.content_digest(old) == info.content
            workspace.write_part(folder, part, old, info.fingerprint, info.extra, info.content)
    toys.calls.clear()
    build()
    assert toys.calls == []


def bytes_of(workspace, table):
    return [workspace.read_bytes(f"tables/{table}/part-{part:05d}.parquet") for part in range(3)]
