import io

from rich.console import Console

from phq_data.cli import build_progress
from phq_data.pipeline.engine import PartReport
from phq_data.pipeline.local import BuildReport


def test_the_bars_say_how_long_the_build_has_run_from_its_start(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("phq_data.cli.build_progress.time.monotonic", lambda: clock[0])
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=100)
    with build_progress.TerminalProgress(console) as progress:
        assert "elapsed 0:00:00" in drawn.getvalue()  # nothing is known yet, and it is said that it runs
        clock[0] += 75
        progress.file_seen(True)
        progress._bars.refresh()
        assert "elapsed 0:01:15" in drawn.getvalue() and "files found" in drawn.getvalue()


def test_a_slow_stage_says_seconds_an_item_and_no_rate_of_zero():
    assert build_progress.pace(3, 100.0) == "33.3 s each"
    assert build_progress.pace(30, 20.0) == "1.5 a second"
    assert build_progress.pace(3000, 2.0) == "1,500 a second"
    assert build_progress.pace(0, 1.0) == build_progress.pace(1, 0.0) == "-"


def test_times_of_a_summary_are_minutes_where_they_are_long():
    reports = [PartReport("fit", part, False, 4, 4, 0, 0, 190.0) for part in range(2)]
    text = io.StringIO()
    Console(file=text, width=100).print(build_progress.summary(BuildReport(reports)))
    line = next(line for line in text.getvalue().splitlines() if line.startswith("fit"))
    assert "6 min" in line and "47.5 s each" in line


def test_photos_without_rights_are_told_with_the_command_for_their_folder(make_workspace):
    made = make_workspace(count=2)
    [line] = build_progress.without_rights(made.workspace)
    assert "a photo has no statement of rights" in line and "phq rights init pictures, then build" in line
