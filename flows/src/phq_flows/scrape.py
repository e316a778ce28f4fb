"""The flow behind a scheduled scrape: photos from a source into a workspace, the ingest as a task a part.

On the command line `phq scrape` does the same without Prefect's start. Searching and downloading are not
tasks: they are bound by what hosts allow, and resume by themselves at the page and file.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from phq_flows import attempts, environment, watch, worker_paths
from phq_flows.server import lost_server_told

environment.prepare()

from prefect import flow, task  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.futures import PrefectFuture  # noqa: E402
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner  # noqa: E402

from phq_data.pipeline.engine import PartReport, load_config, run_part  # noqa: E402
from phq_data.pipeline.scrape import Progress, ScrapeOutcome, ScrapeRequest, scrape_into  # noqa: E402
from phq_data.workspace import Workspace  # noqa: E402


@task(task_run_name="ingest-part-{part:05d}", cache_policy=NO_CACHE, persist_result=False)
def ingest_part(workspace: str, part: int) -> PartReport:
    """Decode the photos of a part, once, and write their rows."""
    return run_part(workspace, load_config(Workspace.open(workspace)), "ingest", part)


class _Pending:
    """A Prefect future as `scrape_into` wants it."""

    def __init__(self, future: PrefectFuture[PartReport]) -> None:
        self._future = future

    def done(self) -> bool:
        return self._future.state.is_final()

    def result(self) -> PartReport:
        return self._future.result()


SourceName = Literal["wikimedia", "openverse", "urls", "folder", "unsplash-lite", "pexels", "unsplash"]
"""`phq_data.pipeline.scrape.SOURCES`, for the schema of a deployment."""
_RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=2)


@flow(
    name="phq-scrape",
    flow_run_name="scrape-{source}",
    task_runner=_RUNNER,
    validate_parameters=False,
    persist_result=False,
)
def scrape(
    workspace: str,
    source: SourceName = "wikimedia",
    path: str = "",
    queries: list[str] | None = None,
    limit: int = 1000,
    permission: str | list[str] = "",
    retry_failed: bool = False,
    refresh: bool = False,
    connections: int = 8,
    wait: bool = True,
) -> ScrapeOutcome:
    """Photos from the web with their provenance; resumes by itself.

    Keys and contact come from the environment or the settings file of the machine that runs it.

    Args:
        workspace: The folder (or fsspec URL) that holds the dataset.
        source: Where photos come from.
        path: The list of urls, or the folder of folder and unsplash-lite.
        queries: What to search for; none: what `phq scrape --queries` shows.
        limit: How many photos of these queries to have in all; 0 = all there are.
        permission: Paths of statements that let a use run that the terms stand against.
        retry_failed: Only try again what failed for a reason that may have passed.
        refresh: Search from the first page again.
        connections: Downloads at once, over all hosts.
        wait: Wait while somebody else works on the workspace; else fail at once.
    """
    attempts.check()
    worker_paths.check_run()
    permissions = tuple([permission] if isinstance(permission, str) else permission) if permission else ()
    request = ScrapeRequest(
        source, path, tuple(queries or ()), limit, permissions, retry_failed, refresh, connections
    )
    outcome = scrape_into(
        workspace,
        request,
        progress=watch.scrapes.current(),
        wait=wait,
        submit=lambda part: _Pending(ingest_part.submit(workspace, part)),
    )
    report = outcome.scrape
    row = {
        "found": report.found,
        "downloaded": report.downloaded,
        "refused": sum(report.refused.values()),
        "failed": sum(report.failed.values()),
        "photos": sum(part.kept for part in outcome.ingest),
    }
    create_table_artifact(key="phq-scrape", table=[row], description=f"Scrape of {source} into {workspace}")
    return outcome


def run(workspace: str, request: ScrapeRequest, *, progress: Progress, wait: bool) -> ScrapeOutcome:
    """Run the flow in this process."""
    with watch.scrapes.watching(progress), lost_server_told():
        return scrape(
            workspace, cast(SourceName, request.source), request.path, list(request.queries), request.limit,
            list(request.permissions), request.retry_failed, request.refresh, request.connections, wait,
        )  # fmt: skip
