"""How far a command is: a bar in a terminal, now and then a line in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_SECONDS = 20.0
LEAST_SHARE = 0.02
"""How much must be done before the time left is told."""


class CommandProgress(Progress):
    """`rich.progress.Progress` on stderr that writes plain lines where stderr is no terminal."""

    def __init__(self, title: str, line_seconds: float = LINE_SECONDS) -> None:
        self._title = title
        self._plain = not sys.stderr.isatty()
        self._line_seconds = line_seconds
        self._last = time.monotonic()
        super().__init__(
            TextColumn(title + ": {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=self._plain,
        )

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Some more is done."""
        super().advance(task_id, advance)
        self._line(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """So much is done, or it is called otherwise now."""
        super().update(task_id, **changes)
        self._line(task_id)

    def _line(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if not self._plain or now - self._last < self._line_seconds:
            return
        self._last = now
        task = self._tasks[task_id]
        left = ""
        # The first of many takes what starting takes: too little to go by.
        if task.total and task.elapsed and task.completed >= max(1, task.total * LEAST_SHARE):
            minutes = task.elapsed / task.completed * (task.total - task.completed) / 60
            left = f", about {minutes:.0f} min left"
        print(
            f"{self._title}: {task.description} {task.completed:g}/{task.total or 0:g}{left}",
            file=sys.stderr,
            flush=True,
        )
