"""The flow behind a scheduled report: the page, and on the run's page a link, counts and overlays."""

from __future__ import annotations

from phq_flows import environment

environment.prepare()

from prefect import flow  # noqa: E402

from phq_data.release.preview import standing  # noqa: E402
from phq_data.report.page import write_report  # noqa: E402
from phq_data.workspace import Workspace  # noqa: E402
from phq_flows import artifacts, attempts, worker_paths  # noqa: E402


@flow(name="phq-report", flow_run_name="report-{workspace}", validate_parameters=False, persist_result=False)
def report(workspace: str, out: str = "", overlays: bool = True) -> str:
    """Write the report of a workspace; works during a build, too. Returns the page.

    Args:
        workspace: The folder (or fsspec URL) that holds the dataset.
        out: Where the page goes: a folder or the name of an .html file, also an fsspec URL; "" for report/
            in the workspace.
        overlays: Show the overlay sheet on the run's page.
    """
    attempts.check()
    worker_paths.check_run()
    artifacts.check()
    return show(Workspace.open(workspace), out, overlays)


def show(workspace: Workspace, out: str = "", overlays: bool = True) -> str:
    """Inside a flow: write the report and show it on the run's page. Returns the page."""
    page = write_report(workspace, out or None, standing=standing(workspace))
    artifacts.of_report(workspace, page, overlays=overlays)
    return page
