"""Running a whole build in this process, and what anybody who runs one reports and shows."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from phq_data.config import PipelineConfig
from phq_data.pipeline.engine import STAGE_NAMES, PartReport, finish, prepare, run_part
from phq_data.pipeline.gather import gather
from phq_data.sources import Source
from phq_data.workspace import Workspace, WorkspaceError


@dataclass
class BuildReport:
    """What a build came to; `errors` names parts that could not be finished."""

    reports: list[PartReport] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, stage: str, outcome: str) -> int:
        """Items of a stage with an outcome ("items", "kept", "rejected" or "failed")."""
        return sum(getattr(report, outcome) for report in self.reports if report.stage == stage)


class Progress(Protocol):
    """Who wants to see a build go on. Called from worker threads."""

    def file_seen(self, new: bool) -> None:
        """A file was listed; `new` if it is not in the plan yet."""
        ...

    def part_planned(self, part: int, items: int) -> None:
        """A part is ready to be worked on."""
        ...

    def item_done(self, stage: str) -> None:
        """An item went through a stage."""
        ...

    def part_done(self, report: PartReport) -> None:
        """A part went through a stage."""
        ...

    def say(self, text: str) -> None:
        """Something that a person should read."""
        ...


class SilentProgress:
    """The `Progress` of tests and of callers that show nothing."""

    def file_seen(self, new: bool) -> None:
        """Ignore."""

    def part_planned(self, part: int, items: int) -> None:
        """Ignore."""

    def item_done(self, stage: str) -> None:
        """Ignore."""

    def part_done(self, report: PartReport) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""


def run_chain(
    url: str,
    config: PipelineConfig,
    part: int,
    *,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> list[PartReport]:
    """Run a part through every stage, in order."""
    shown = progress or SilentProgress()
    reports = []
    for name in STAGE_NAMES:
        report = run_part(
            url, config, name, part, retry_failed=retry_failed, tick=partial(shown.item_done, name)
        )
        shown.part_done(report)
        reports.append(report)
    return reports


def run_inline(
    workspace: Workspace,
    config: PipelineConfig,
    sources: list[Source],
    *,
    workers: int = 1,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """The whole build in this process: `workers` threads, each taking a part through all stages.

    The caller holds `workspace.lock()`. A part that breaks is named in the report's `errors` and the others
    go on; a workspace that cannot be written stops the build with its `WorkspaceError`.
    """
    shown = progress or SilentProgress()
    report = BuildReport()
    began = time.perf_counter()
    prepare(workspace, config)
    pending: dict[Future[list[PartReport]], int] = {}

    def collect(futures: Iterable[Future[list[PartReport]]]) -> None:
        for future in futures:
            part = pending.pop(future)
            error = future.exception()
            if error is None:
                report.reports.extend(future.result())
            elif isinstance(error, WorkspaceError):
                raise error
            else:
                report.errors.append(f"part {part}: {type(error).__name__}: {error}")

    with ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix="part") as pool:
        try:
            for part in gather(workspace, sources, config.ingest, config.part_size, shown.file_seen):
                info = workspace.part_info("plan", part)
                shown.part_planned(part, info.rows if info else 0)
                future = pool.submit(
                    run_chain, workspace.url, config, part, retry_failed=retry_failed, progress=shown
                )
                pending[future] = part
            while pending:
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                collect(list(finished))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not report.errors:
        finish(workspace, config)
    report.seconds = time.perf_counter() - began
    return report
