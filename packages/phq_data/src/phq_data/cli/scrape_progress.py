"""A scrape's progress in the terminal: pages, photos, bytes, what was refused, and whom we wait for."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from phq_data.pipeline.engine import PartReport
from phq_data.pipeline.scrape import ScrapeOutcome
from phq_data.sources.web.journal import File, QueryState
from phq_data.sources.web.limits import for_people


class TerminalScrape:
    """A `scrape.Progress` that draws lines on a terminal, and plain ones into a file or pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._files: Counter[str] = Counter()
        self._bytes = self._pages = self._ingested = self._seen = self._had = self._limit = 0
        self._lock = threading.Lock()

    @property
    def web(self) -> TerminalScrape:
        """This one watches web sources too."""
        return self

    def __enter__(self) -> TerminalScrape:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def close(self) -> None:
        """Leave the lines as they are, below them a new one: nothing draws them again."""
        self._bars.stop()

    def begin(self, had: int, limit: int) -> None:
        """Know where it ends, if it does."""
        with self._lock:
            self._had, self._limit = had, limit

    def page(self, query: str, state: QueryState, total: int | None) -> None:
        """Count a page of results."""
        with self._lock:
            self._pages += 1
            of = f" of {total:,}" if total is not None else ""
            text = f"{self._pages} pages; '{query}' page {state.pages}, {state.found:,} new files{of}"
            self._note("search", text)
        if not self.console.is_terminal:
            self.say(f"search  {text}")

    def file(self, file: File, size: int) -> None:
        """Count a file."""
        with self._lock:
            self._files[file.state] += 1
            self._bytes += size
            counts = ", ".join(f"{count:,} {word}" for word, count in sorted(self._files.items()))
            self._note("photos", f"{counts}; {self._bytes / 2**20:,.1f} MiB")
            if self._limit:
                done = self._had + self._files["done"]
                self._bars.update(self._tasks["photos"], total=self._limit, completed=done)

    def file_seen(self, new: bool) -> None:
        """Count a file of a folder."""
        with self._lock:
            self._seen += 1
            self._note("files", f"{self._seen:,} seen")

    def part_done(self, report: PartReport) -> None:
        """Count the photos of a part."""
        with self._lock:
            self._ingested += report.kept
            self._note("ingest", f"{self._ingested:,} photos")
        if not self.console.is_terminal and not report.skipped:
            self.say(
                f"part {report.part:05d}  {report.items} files: {report.kept} photos, "
                f"{report.rejected} rejected, {report.failed} failed"
            )

    def waiting(self, host: str, seconds: float) -> None:
        """Say whom we wait for."""
        self.say(f"waiting {for_people(seconds)} for {host}, as it asks")

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False, markup=False)

    def _note(self, name: str, text: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, note="")
        self._bars.update(self._tasks[name], note=text)


def summary(outcome: ScrapeOutcome) -> list[str]:
    """What a scrape came to, in lines."""
    report = outcome.scrape
    kept = sum(part.kept for part in outcome.ingest if not part.skipped)
    rate = f", {report.downloaded / report.seconds:.1f} a second" if report.seconds > 1 else ""
    lines = [
        f"{report.pages} pages asked, {report.found:,} new files found, {report.downloaded:,} downloaded "
        f"({report.bytes / 2**20:,.1f} MiB{rate}), {kept:,} photos in the workspace now that were not"
    ]
    fresh = [part for part in outcome.ingest if not part.skipped]
    if fresh and not (report.pages or report.downloaded or report.failed):  # a folder
        rejected, failed = sum(part.rejected for part in fresh), sum(part.failed for part in fresh)
        lines = [
            f"{sum(part.items for part in fresh):,} files in new or changed parts: {kept:,} photos, "
            f"{rejected:,} rejected, {failed:,} failed"
        ]
    elif not (report.pages or report.downloaded or report.parts or report.failed or report.refused):
        lines = ["nothing new: all of it was asked before (--refresh searches from the first page again)"]
    if report.unchanged:
        lines.append(f"{report.unchanged:,} had not changed")
    if report.restated:
        lines.append(
            f"{report.restated:,} photos that were here: the rights stated now replace the planned ones"
        )
    for word, counted in (("refused", report.refused), ("failed", report.failed)):
        if counted:
            lines.append(f"{word}: " + ", ".join(f"{n} {reason}" for reason, n in counted.most_common()))
    if report.transient:
        lines.append(f"{report.transient:,} failures may pass: --retry-failed tries these alone")
    return lines
