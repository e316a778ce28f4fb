import io

from rich.console import Console

from phq_data.cli import build_progress


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
