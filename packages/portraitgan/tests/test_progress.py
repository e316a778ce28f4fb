"""Progress where there is no terminal."""

from __future__ import annotations

import pytest

from portraitgan.commands.progress import CommandProgress


def test_a_log_gets_lines_with_count_and_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    with CommandProgress("video", line_seconds=0) as bar:
        task = bar.add_task("film", total=4)
        bar.advance(task)
        bar.update(task, completed=3, description="end")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("video: film 1/4, about ") and lines[1].startswith("video: end 3/4")


def test_quick_work_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with CommandProgress("video") as bar:
        task = bar.add_task("film", total=2)
        bar.advance(task, 2)
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out == ""
