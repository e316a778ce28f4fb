"""Running a whole build: the one loop that drives it, and the submit function that works in this process."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from phq_data.config import PipelineConfig
from phq_data.errors import ObjectStoreError
from phq_data.pipeline import corrections
from phq_data.pipeline.engine import PartReport, run_part
from phq_data.pipeline.gather import gather
from phq_data.pipeline.whole import finish, prepare
from phq_data.sources import Source
from phq_data.sources.folder import FolderSource
from phq_data.stages.sequence import STAGE_NAMES
from phq_data.workspace import Workspace, WorkspaceError


@dataclass(frozen=True)
class PartError:
    """A part that could not be finished, and why."""

    part: int
    error: BaseException


Submit = Callable[[Iterable[int]], Iterator[PartReport | PartError]]
"""Runs parts through all stages, wherever it does, and gives what came of every stage as it ends."""


@dataclass
class BuildReport:
    """What a build came to; `errors` names parts that could not be finished."""

    reports: list[PartReport] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    whole: bool = True  # False: it ended early for a `Handover`

    def count(self, stage: str, outcome: str) -> int:
        """Items of a stage with an outcome ("items", "kept", "rejected" or "failed")."""
        return sum(getattr(report, outcome) for report in self.reports if report.stage == stage)


class Handover:
    """Ends a build in this process between two stages, for another runner to go on with it."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.taken = False  # something was left to the other runner

    def ask(self) -> None:
        """Do not begin anything further."""
        self._asked.set()

    def now(self) -> bool:
        """Whether to end here; asked where something is left to do."""
        self.taken = self.taken or self._asked.is_set()
        return self._asked.is_set()


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


def open_to_build(workspace: str, sources: Sequence[Source]) -> Workspace:
    """The workspace that a build writes to, made where there is none.

    Raises `WorkspaceError`, also for no sources where there are no photos to go on with.
    """
    if not sources and not Workspace.open(workspace).parts("plan"):
        raise WorkspaceError(f"{workspace} has no photos yet: name a source, for example a folder")
    return Workspace.open(workspace, create=True)


def drive(
    workspace: Workspace,
    config: PipelineConfig,
    sources: Iterable[Source],
    submit: Submit,
    progress: Progress,
    handover: Handover | None = None,
) -> BuildReport:
    """A whole build: gather photos into parts, submit the parts, finish what needs all of them.

    The caller holds `workspace.lock()`. A part that breaks is named in the report's `errors` and the others
    go on; a workspace that cannot be written stops the build with its `WorkspaceError`.
    """
    report = BuildReport()
    began = time.perf_counter()
    prepare(workspace, config)
    for line in corrections.told(workspace):
        progress.say(line)

    def planned() -> Iterator[int]:
        named = list(sources)
        for part in gather(
            workspace, named, config.ingest, config.part_size, progress.file_seen, progress.say
        ):
            info = workspace.part_info("plan", part)
            progress.part_planned(part, info.rows if info else 0)
            yield part
            if handover and handover.now():
                return
        for source in named:
            if isinstance(source, FolderSource) and source.ignored:
                kinds = ", ".join(f"{count} .{ending}" for ending, count in source.ignored.most_common(5))
                count = source.ignored.total()
                progress.say(
                    f"{source.spec}: {count} files are no pictures by their endings ({kinds}): ignored"
                )

    for result in submit(planned()):
        if isinstance(result, PartReport):
            report.reports.append(result)
            progress.part_done(result)
        elif isinstance(result.error, WorkspaceError | ObjectStoreError):
            raise result.error
        else:
            report.errors.append(f"part {result.part}: {type(result.error).__name__}: {result.error}")
    report.whole = not (handover and handover.taken)
    if report.whole and not report.errors:
        finish(workspace, config)
    report.seconds = time.perf_counter() - began
    return report


def run_inline(
    workspace: Workspace,
    config: PipelineConfig,
    sources: list[Source],
    *,
    workers: int = 1,
    retry_failed: bool = False,
    progress: Progress | None = None,
    handover: Handover | None = None,
) -> BuildReport:
    """The whole build in this process: `workers` threads, each taking a part through all stages (`drive`)."""
    shown = progress or SilentProgress()

    def submit(parts: Iterable[int]) -> Iterator[PartReport | PartError]:
        return _in_threads(workspace.url, config, parts, workers, retry_failed, shown, handover)

    return drive(workspace, config, sources, submit, shown, handover)


def _in_threads(
    url: str,
    config: PipelineConfig,
    parts: Iterable[int],
    workers: int,
    retry_failed: bool,
    progress: Progress,
    handover: Handover | None,
) -> Iterator[PartReport | PartError]:
    """What came of every stage of every part, as it ends. Abandoned, it starts no further part."""
    done: queue.SimpleQueue[PartReport | PartError | None] = queue.SimpleQueue()  # None: a part has ended

    def run(part: int) -> None:
        try:
            for name in STAGE_NAMES:
                if handover and handover.now():
                    return
                tick = partial(progress.item_done, name)
                done.put(run_part(url, config, name, part, retry_failed=retry_failed, tick=tick))
        except BaseException as error:
            done.put(PartError(part, error))
        finally:
            done.put(None)

    pool = ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix="part")
    try:
        running = sum(pool.submit(run, part) is not None for part in parts)
        while running:
            result = done.get()
            if result is None:
                running -= 1
            else:
                yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
