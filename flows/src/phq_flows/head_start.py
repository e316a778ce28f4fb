"""A build that does not wait for Prefect: it begins in this process while a private server starts.

Parts that are done are done for every runner, so the flow goes on with what is left once the server answers.
A build that ends before is a build without Prefect.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from phq_data.pipeline.engine import PartReport
from phq_data.pipeline.local import BuildReport, Handover, Progress
from phq_flows import server


class Starting:
    """Prefect's server on its way. A failure is said once; the build in this process goes on to its end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Start it in the background, where no server is configured. Call before prefect is imported."""
        self.handover = Handover()
        self._say: Callable[[str], None] = say
        self._thread = threading.Thread(target=self._start, name="prefect-server", daemon=True)
        self._thread.start()

    def forget(self) -> None:
        """Nobody waits any more: what the server still has to say is not said."""
        self._say = lambda text: None

    def _start(self) -> None:
        try:
            server.start(lambda text: self._say(text))
        except server.ServerError as lost:
            self._say(f"{lost}: going on without Prefect, as --runner inline does")
        else:
            self.handover.ask()


class Onward:
    """The `Progress` of the flow after a head start: what was listed and said before is not told again."""

    def __init__(self, progress: Told) -> None:
        self._progress = progress
        self._left = progress.files

    def file_seen(self, new: bool) -> None:
        """Files that were seen before are passed over."""
        if self._left:
            self._left -= 1
        else:
            self._progress.file_seen(new)

    def part_planned(self, part: int, items: int) -> None:
        """Tell."""
        self._progress.part_planned(part, items)

    def item_done(self, stage: str) -> None:
        """Tell."""
        self._progress.item_done(stage)

    def part_done(self, report: PartReport) -> None:
        """Tell what the head start did not do."""
        if (report.stage, report.part) not in self._progress.parts:
            self._progress.part_done(report)

    def say(self, text: str) -> None:
        """Say it, unless it was said."""
        if text not in self._progress.said:
            self._progress.say(text)


class Told:
    """Tells another `Progress`, and remembers what it told."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.files = 0
        self.parts: set[tuple[str, int]] = set()
        self.said: set[str] = set()

    def file_seen(self, new: bool) -> None:
        """Count and tell."""
        self.files += 1
        self._progress.file_seen(new)

    def part_planned(self, part: int, items: int) -> None:
        """Tell."""
        self._progress.part_planned(part, items)

    def item_done(self, stage: str) -> None:
        """Tell."""
        self._progress.item_done(stage)

    def part_done(self, report: PartReport) -> None:
        """Remember and tell."""
        self.parts.add((report.stage, report.part))
        self._progress.part_done(report)

    def say(self, text: str) -> None:
        """Remember and say."""
        self.said.add(text)
        self._progress.say(text)


def joined(first: BuildReport, rest: BuildReport) -> BuildReport:
    """One report of the head start and of the flow that found its parts done."""
    done = {(report.stage, report.part): report for report in first.reports}
    reports = [
        done.get((report.stage, report.part), report) if report.skipped else report for report in rest.reports
    ]
    return BuildReport(reports, rest.errors, first.seconds + rest.seconds)
