"""The flow behind `phq build`: one task a stage and part, chained part by part."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, cast
from uuid import UUID

from phq_flows import artifacts, attempts, environment, groups, watch, worker_paths
from phq_flows.server import lost_server_told

environment.prepare()

from prefect import flow, task  # noqa: E402
from prefect.artifacts import (  # noqa: E402
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.futures import PrefectFuture, as_completed  # noqa: E402
from prefect.settings import PREFECT_API_URL  # noqa: E402
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner  # noqa: E402

import phq_data  # noqa: E402
from phq_data.config import PipelineConfig  # noqa: E402
from phq_data.errors import PhqError  # noqa: E402
from phq_data.foreign import parse_json  # noqa: E402
from phq_data.pipeline.engine import PartReport, load_config, run_part  # noqa: E402
from phq_data.pipeline.local import BuildReport, PartError, Progress, drive, open_to_build  # noqa: E402
from phq_data.sources.resolve import resolve  # noqa: E402
from phq_data.stages.sequence import STAGE_NAMES  # noqa: E402
from phq_data.workspace import WorkspaceError  # noqa: E402
from phq_flows.cluster import Backend, is_loss, loss_told  # noqa: E402
from phq_flows.clusters import check_server, watched  # noqa: E402

Runner = Literal["threads", "processes"]


@task(task_run_name="{stage}-part-{part:05d}", cache_policy=NO_CACHE, persist_result=False, log_prints=False)
def stage_part(
    workspace: str,
    settings: str,
    stage: str,
    part: int,
    retry_failed: bool,
    before: PartReport | None,
    version: str,
    limit: str = "",
    holder: str = "",
) -> PartReport:
    """One part of one stage; `before` is the same part's report of the stage before, to wait for it.

    Raises `ClusterError` on a worker of another PHQ than `version` (one that has joined the cluster later).
    """
    from phq_data.cli.main import main  # noqa: F401 (one numeric thread a worker)

    groups.check_version(version)
    groups.end_with_build()
    with groups.slot(limit, stage):
        return run_part(workspace, _config(settings), stage, part, retry_failed=retry_failed, holder=holder)


_HERE: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=os.cpu_count() or 1)


@flow(
    name="phq-build", flow_run_name="build-{workspace}", task_runner=_HERE, validate_parameters=False,
    persist_result=False,
)  # fmt: skip
def build(
    workspace: str,
    sources: list[str] | None = None,
    settings: str = "",
    retry_failed: bool = False,
    wait: bool = True,
    concurrency_limit: str = "",
    report: bool = False,
) -> BuildReport:
    """Photos into aligned portraits; resumes by itself.

    Args:
        workspace: The folder (or fsspec URL) that holds the dataset.
        sources: Folders, files, samples or synthetic:COUNT; none goes on with what is planned.
        settings: JSON of `phq_data.config.PipelineConfig`; "" for those that the workspace was built with.
        retry_failed: Try again what failed for a reason that may have passed.
        wait: Wait while somebody else works on the workspace; else fail at once.
        concurrency_limit: A limit of the server for parts that run networks, as `phq serve` sets one up.
        report: Write the report at the end and show it on the run's page.
    """
    attempts.check()
    worker_paths.check_run()
    if report:
        artifacts.check()
    found = [resolve(spec) for spec in sources or []]
    opened = open_to_build(workspace, found)
    config = _config(settings) if settings else load_config(opened)
    settings = config.to_json()
    progress = watch.builds.current()

    def submit(parts: Iterable[int]) -> Iterator[PartReport | PartError]:
        planned, holder = list(parts), opened.holder()
        if many := groups.grouped(planned):
            ended = groups.run_groups(
                many, workspace, settings, retry_failed, concurrency_limit, holder, _result
            )
            return _groups_as_they_end(ended, len(many))
        futures: dict[PrefectFuture[PartReport], int] = {}
        before: dict[int, Any] = {}
        # Stage by stage: a thread that has a task waits inside it for the one before, idle.
        for stage in STAGE_NAMES:
            for part in planned:
                before[part] = stage_part.submit(
                    workspace,
                    settings,
                    stage,
                    part,
                    retry_failed,
                    before.get(part),
                    phq_data.__version__,
                    concurrency_limit,
                    holder,
                )
                futures[before[part]] = part
        return _as_they_end(futures)

    with opened.lock(wait=wait, on_wait=progress.say):
        built = drive(opened, config, found, submit, progress)
    create_table_artifact(
        key="phq-build", table=list(_artifact_rows(built)), description=f"Build of {workspace}"
    )
    if report:
        from phq_flows.report import show

        show(opened)
    return built


def run(
    workspace: str,
    sources: list[str],
    config: PipelineConfig,
    *,
    runner: Runner | Backend = "threads",
    workers: int = 2,
    retry_failed: bool = False,
    wait: bool = True,
    progress: Progress | None = None,
) -> BuildReport:
    """Run the flow in this process: its parts in threads or processes, or on a cluster.

    Raises `WorkspaceError` for a workspace that cannot be used, `ClusterError` for a cluster that is lost,
    `ServerError` when Prefect's server is lost meanwhile.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(watch.builds.watching(progress))
        stack.enter_context(lost_server_told())
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).addFilter(_unexpected)
            stack.callback(logging.getLogger(name).removeFilter, _unexpected)
        if runner == "threads":
            parts: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=workers)
        elif runner == "processes":
            parts = ProcessPoolTaskRunner(max_workers=workers)
        else:
            stack.enter_context(loss_told(runner.cluster))
            check_server(runner, PREFECT_API_URL.value())
            parts = runner.task_runner()
            stack.enter_context(runner.taking())
            stack.enter_context(watched(runner, watch.builds.current().say))
        return build.with_options(task_runner=parts)(workspace, sources, config.to_json(), retry_failed, wait)


def _unexpected(record: logging.LogRecord) -> bool:
    """Whether Prefect may show the traceback of this record: not of an error that we tell in a sentence."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or not (isinstance(error, PhqError) or is_loss(error))


def _as_they_end(futures: Mapping[PrefectFuture[PartReport], int]) -> Iterator[PartReport | PartError]:
    """What came of every task. A workspace that cannot be written is told last: the others go on until then.

    `futures` are the tasks with their parts. Those that only waited for a broken one are passed over.
    """
    progress_id = _progress_artifact()
    stopped: list[PartError] = []
    broken: set[int] = set()
    for count, future in enumerate(as_completed(list(futures)), start=1):
        part, result = futures[future], _result(future)
        if isinstance(result, PartReport):
            yield result
        elif "UpstreamTaskError" not in type(result).__name__ and part not in broken:
            broken.add(part)  # a cluster tells the same of all tasks that waited for a lost one
            failed = PartError(part, result)
            if isinstance(result, WorkspaceError):
                stopped.append(failed)
            else:
                yield failed
        if count % 20 == 0 or count == len(futures):
            update_progress_artifact(artifact_id=progress_id, progress=100.0 * count / len(futures))
    yield from stopped


def _groups_as_they_end(
    ended: Iterator[list[PartReport | PartError]], count: int
) -> Iterator[PartReport | PartError]:
    """The same of tasks that each took several parts through all stages."""
    progress_id = _progress_artifact()
    stopped: list[PartError] = []
    for number, results in enumerate(ended, start=1):
        for result in results:
            if isinstance(result, PartError) and isinstance(result.error, WorkspaceError):
                stopped.append(result)
            else:
                yield result
        if number % 20 == 0 or number == count:
            update_progress_artifact(artifact_id=progress_id, progress=100.0 * number / count)
    yield from stopped


def _progress_artifact() -> UUID:
    return cast(
        UUID, create_progress_artifact(progress=0.0, key="phq-build-progress", description="Parts done")
    )


def _result(future: PrefectFuture[PartReport]) -> PartReport | BaseException:
    """The report of a task, or why there is none. Raises what is raised when the cluster itself is lost."""
    try:
        return cast("PartReport | BaseException", future.result(raise_on_failure=False))
    except Exception as error:  # of a part whose worker died again and again
        if is_loss(error):
            raise
        return error


def _artifact_rows(report: BuildReport) -> Iterator[dict[str, Any]]:
    for stage in STAGE_NAMES:
        counts = {kind: report.count(stage, kind) for kind in ("items", "kept", "rejected", "failed")}
        seconds = sum(r.seconds for r in report.reports if r.stage == stage)
        yield {"stage": stage, **counts, "seconds": round(seconds, 1)}


def _config(settings: str) -> PipelineConfig:
    return PipelineConfig.from_dict(parse_json(settings))
