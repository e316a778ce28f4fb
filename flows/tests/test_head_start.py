"""A build begins while Prefect starts, and the flow goes on with what is left."""

import subprocess
import sys

import pytest

from phq_data.config import default
from phq_data.pipeline.engine import PartReport
from phq_data.pipeline.local import BuildReport, Handover, SilentProgress, run_inline
from phq_data.sources.resolve import resolve
from phq_data.workspace import Workspace
from phq_flows import cli, head_start, server

from .conftest import rows_of

WAITING = """
import sys
from phq_flows import head_start

class Told(head_start.Told):
    def part_done(self, report):  # the head start ends with the first part: the server has come by then
        starting._thread.join()
        super().part_done(report)

class Starting(head_start.Starting):
    def __init__(self, say):
        global starting
        starting = self
        super().__init__(say)

head_start.Told, head_start.Starting = Told, Starting
from phq_data.cli.main import main
sys.argv[0] = "phq"
sys.exit(main())
"""


def test_a_build_that_is_handed_over_is_gone_on_with(small, tmp_path):
    config = default().replace_setting("part_size=2")
    handover = Handover()

    class Asking(SilentProgress):
        def part_done(self, report):
            handover.ask()

    opened = Workspace.open(str(tmp_path / "ws"), create=True)
    with opened.lock():
        sources = [resolve("synthetic:3@3")]
        first = run_inline(opened, config, sources, progress=Asking(), handover=handover)
    assert not first.whole and 0 < len(first.reports) < 10
    assert not opened.exists("recipes.json") or not opened.parts("tables/screened")
    with opened.lock():
        rest = run_inline(opened, config, [resolve("synthetic:3@3")])
    assert rest.whole and rows_of(tmp_path / "ws") == rows_of(small)
    whole = head_start.joined(first, rest)
    assert {(one.stage, one.part) for one in whole.reports} == {(one.stage, one.part) for one in rest.reports}
    assert not any(one.skipped for one in whole.reports)


def test_a_build_that_ends_before_it_is_asked_is_whole(tmp_path):
    opened = Workspace.open(str(tmp_path / "ws"), create=True)
    with opened.lock():
        report = run_inline(opened, default(), [resolve("synthetic:1@3")], handover=Handover())
    assert report.whole and opened.parts("tables/duplicates") == [0]


def test_the_flow_tells_nothing_twice():
    seen = []

    class Listening(SilentProgress):
        def file_seen(self, new):
            seen.append(new)

        def part_done(self, report):
            seen.append(report.part)

        def say(self, text):
            seen.append(text)

    told = head_start.Told(Listening())
    told.file_seen(True)
    told.say("one")
    done = PartReport("ingest", 0, False, 1, 1, 0, 0, 1.0)
    told.part_done(done)
    onward = head_start.Onward(told)
    onward.file_seen(False)
    onward.file_seen(True)
    onward.say("one")
    onward.say("two")
    onward.part_done(done)
    onward.part_done(PartReport("ingest", 1, False, 1, 1, 0, 0, 1.0))
    assert seen == [True, "one", 0, True, "two", 1]


def test_a_lost_server_is_told_and_the_build_in_this_process_goes_on(monkeypatch):
    monkeypatch.setattr(server, "configured", lambda: False)
    said, handovers = [], []

    def lost(say):
        raise server.ServerError("no room")

    class Saying(SilentProgress):
        def say(self, text):
            said.append(text)

    def inline(progress, handover):
        handovers.append(handover)
        return BuildReport(whole=len(handovers) > 1)

    def flow(progress):
        raise server.ServerError("gone")

    monkeypatch.setattr(server, "start", lost)
    assert cli._with_prefect(None, False, inline, flow, Saying()).whole
    assert said[-1] == "gone: going on without Prefect, as --runner inline does"
    assert "no room: going on without Prefect, as --runner inline does" in said
    assert handovers[0] is not None and handovers[1] is None
    monkeypatch.setattr(server, "start", lambda say, host: None)
    assert cli._with_prefect("127.0.0.1", False, inline, flow, Saying()).whole  # a cluster of this machine
    with pytest.raises(
        server.ServerError, match=r"^gone: finished parts are kept, the same command goes on$"
    ):
        cli._with_prefect("10.0.0.1", True, inline, flow, Saying())
    assert len(handovers) == 3


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_the_flow_of_a_private_server_goes_on_with_what_is_left(small, tmp_path, monkeypatch, runner):
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    command = ["build", "-w", str(tmp_path / "ws"), "--runner", runner, "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", WAITING, *command, "--set", "part_size=2", "synthetic:3@3"],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "going on without Prefect" not in done.stderr
    assert rows_of(tmp_path / "ws") == rows_of(small)
    assert (tmp_path / ".prefect" / "prefect.db").exists()
    lines = [line for line in done.stderr.splitlines() if line.startswith("part ")]
    assert len(lines) == len(set(lines)) == 10  # five stages of two parts, each told once
