"""A build's progress in the terminal: one bar a stage, rates, and an estimate of the time left."""

from __future__ import annotations

import datetime
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from phq_data.pipeline.engine import PartReport
from phq_data.pipeline.local import BuildReport
from phq_data.sources.rights import how_to_state
from phq_data.stages.sequence import STAGE_NAMES, STAGES
from phq_data.text import duration
from phq_data.workspace import Workspace

_WORDS = {"gather": "files found", **{stage.name: stage.title for stage in STAGES}}


class _Bars(Progress):
    """Bars below a line that says for how long they are shown."""

    _began = 0.0

    def start(self) -> None:
        """Draw, and begin to count."""
        self._began = time.monotonic()
        super().start()

    def get_renderables(self) -> Iterator[RenderableType]:
        """The line, and the bars."""
        yield Text(f"elapsed {datetime.timedelta(seconds=int(time.monotonic() - self._began))}", style="dim")
        yield from super().get_renderables()


class TerminalProgress:
    """A `runner.Progress` that draws bars on a terminal and plain lines into a file or pipe."""

    def __init__(self, console: Console | None = None, *, transient: bool = False) -> None:
        """`transient` bars go away when they are done."""
        self.console = console or Console(stderr=True)
        self._bars = _Bars(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=transient,
        )
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._known: dict[str, dict[int, int]] = {name: {} for name in STAGE_NAMES}
        self._tally: dict[str, list[int]] = {name: [0, 0, 0] for name in STAGE_NAMES}
        self._files = 0
        self._new = 0
        self._parts = 0

    def __enter__(self) -> TerminalProgress:
        for name in ("gather", *STAGE_NAMES):
            self._tasks[name] = self._bars.add_task(_WORDS[name], total=None, note="", start=name == "gather")
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def file_seen(self, new: bool) -> None:
        """Count a file."""
        with self._lock:
            self._files += 1
            self._new += new
            self._bars.update(self._tasks["gather"], completed=self._files, note=f"{self._new} new")

    def close(self) -> None:
        """Leave the bars as they are, below them a new line: nothing draws them again."""
        self._bars.stop()

    def part_planned(self, part: int, items: int) -> None:
        """Extend the first two bars: photos are known, people are not yet."""
        with self._lock:
            self._parts += 1
            self._bars.update(self._tasks["gather"], total=self._files, completed=self._files)
            for name in ("ingest", "detect"):
                self._expect(name, part, items)

    def item_done(self, stage: str) -> None:
        """Advance a bar by one item."""
        with self._lock:
            self._bars.start_task(self._tasks[stage])
            self._bars.advance(self._tasks[stage])

    def part_done(self, report: PartReport) -> None:
        """Correct the bars by what a part really held, and extend those of the next stage."""
        with self._lock:
            tally = self._tally[report.stage]
            for position, count in enumerate((report.kept, report.rejected, report.failed)):
                tally[position] += count
            self._expect(report.stage, report.part, report.items)
            note = f"{tally[0]} kept, {tally[1]} rejected" + (f", {tally[2]} failed" if tally[2] else "")
            task = self._tasks[report.stage]
            self._bars.start_task(task)
            self._bars.update(task, completed=sum(tally), note=note)
            if not self.console.is_terminal and not report.skipped:
                self.console.print(
                    f"part {report.part:05d}  {_WORDS[report.stage]:<18} {report.items:5d} items  "
                    f"{report.kept} kept, {report.rejected} rejected, {report.failed} failed  "
                    f"{duration(report.seconds)}",
                    highlight=False,
                )

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False, markup=False)

    def _expect(self, stage: str, part: int, items: int) -> None:
        self._known[stage][part] = items
        self._bars.update(self._tasks[stage], total=sum(self._known[stage].values()))


def summary(report: BuildReport) -> Table:
    """What a build came to, a line a stage."""
    table = Table(title=None, box=None, pad_edge=False)
    for name in ("stage", "items", "kept", "rejected", "failed", "work", "rate"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in STAGE_NAMES:
        mine = [r for r in report.reports if r.stage == stage]
        fresh = [r for r in mine if not r.skipped]
        seconds, worked = sum(r.seconds for r in fresh), sum(r.items for r in fresh)
        counts = [str(report.count(stage, kind)) for kind in ("items", "kept", "rejected", "failed")]
        rate = pace(worked, seconds) if fresh else "done before"
        table.add_row(_WORDS[stage], *counts, duration(seconds) if fresh else "", rate)
    return table


def pace(items: int, seconds: float) -> str:
    """Items a second of work, or seconds an item where those are few; a dash where nothing was done."""
    if not items or seconds <= 0:
        return "-"
    rate = items / seconds
    if rate < 1:
        return f"{1 / rate:.1f} s each"
    return f"{rate:,.0f} a second" if rate >= 10 else f"{rate:.1f} a second"


def reasons(workspace: Workspace) -> list[str]:
    """Why items were rejected or failed, over the whole workspace: a line an outcome, most frequent first."""
    rows = workspace.table("ledger", ["outcome", "reason"]).to_pylist()
    lines = []
    for outcome in ("rejected", "failed"):
        counted = Counter(row["reason"] for row in rows if row["outcome"] == outcome)
        if counted:
            lines.append(f"{outcome}: " + ", ".join(f"{n} {reason}" for reason, n in counted.most_common()))
    return lines


def without_rights(workspace: Workspace) -> list[str]:
    """How many photos of folders nobody has said anything about; no line when there is none."""
    rows = workspace.table("photos", ["provider", "source", "license", "permission"]).to_pylist()
    silent = [
        row["source"]
        for row in rows
        if row["provider"] == "folder" and not (row["license"] or row["permission"])
    ]
    if not silent:
        return []
    whose = "a photo has" if len(silent) == 1 else f"{len(silent):,} photos have"
    commands = "; ".join(list(dict.fromkeys(map(how_to_state, silent)))[:3])
    return [f"{whose} no statement of rights, and a release will ask: {commands}, then build again"]
