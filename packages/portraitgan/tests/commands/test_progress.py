"""Progress where there is no terminal."""

from __future__ import annotations

import pytest

from portraitgan.commands.progress import CommandProgress


def test_a_log_gets_lines_with_count_and_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    with CommandProgress("video", line_seconds=0) as bar:
        task = bar.add_task("video", total=4)
        bar.advance(task)
        bar.update(task, completed=3, description="end")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("video: video 1/4, about ") and lines[1].startswith("video: end 3/4")


def test_each_task_is_estimated_by_its_own_pace(capsys: pytest.CaptureFixture[str]) -> None:
    """The second begins an hour after the first, and its first step of many, start included, says nothing."""
    now = [0.0]
    with CommandProgress("metrics", line_seconds=0) as bar:
        bar.get_time = lambda: now[0]
        bar.add_task("real", total=1)
        now[0] = 3600.0
        task = bar.add_task("made", total=100)
        now[0] += 120
        bar.advance(task)
        bar.advance(task, 19)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["metrics: made 1/100", "metrics: made 20/100, about 8 min left"]


def test_quick_work_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with CommandProgress("video") as bar:
        task = bar.add_task("video", total=2)
        bar.advance(task, 2)
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out == ""
