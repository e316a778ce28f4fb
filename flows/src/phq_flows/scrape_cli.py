"""`phq scrape`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phq_data.pipeline.scrape import ScrapeRequest

HELP = """Photos from the web into a workspace, with their provenance; phq build goes on from there.

SOURCE is one of
wikimedia (Wikimedia Commons: no key, free licenses; the one to start with),
openverse (finds free photos on many sites; no key),
urls FILE (a CSV or Parquet list with a column url, and license, author, page_url, ...),
folder DIR (photos here, with a rights.json or rights.toml beside them),
unsplash-lite DIR (the Lite data set's TSV files: for internal training, never published),
pexels and unsplash (their terms stand against data sets: they need --permission, and a key).

\b
Examples
  PHQ_CONTACT=ada@example.org phq scrape wikimedia -w ws --limit 200
  phq scrape wikimedia -w ws --query "person from behind" --query "profile portrait"
  phq scrape urls list.csv -w ws
  phq build -w ws

It may be stopped at any time; the same command goes on where it was, and nothing is downloaded twice. Only
free licenses are taken (CC0, public domain, CC BY, CC BY-SA); what is refused is recorded with the reason.
robots.txt, X-Robots-Tag noai and TDM reservations are honoured. Keys come from PEXELS_API_KEY,
UNSPLASH_ACCESS_KEY and OPENVERSE_TOKEN, or from the settings file. More: docs/sources.md"""


def register(app: typer.Typer) -> None:
    """Add `scrape` to the phq program."""
    app.command("scrape", help=HELP)(scrape)


def scrape(
    source: Annotated[str, typer.Argument(help="Where from: see above.", show_default=False)] = "",
    path: Annotated[
        Path | None, typer.Argument(help="The list of urls, or the folder of folder and unsplash-lite.")
    ] = None,
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="The folder (or fsspec URL) that holds the dataset.")
    ] = "",
    query: Annotated[
        list[str] | None,
        typer.Option(help="What to search for. Repeatable; they take turns. Without any: --queries."),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            min=-1,
            help="How many photos of these queries to have in all. 0 = all there are. Without it: 1,000 of a "
            "search, all of a list or folder.",
            show_default=False,
        ),
    ] = -1,
    permission: Annotated[
        list[Path] | None,
        typer.Option(
            help="A statement that lets a use run that the terms stand against: JSON with who, scope, date, "
            "reference, provider. It is recorded with every photo. Repeatable."
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Only try again what failed for a reason that may have passed."),
    ] = False,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Search from the first page again, for what is new or has changed."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Ask for the first page of every query, show it, and write nothing."),
    ] = False,
    connections: Annotated[int, typer.Option(min=1, max=256, help="Downloads at once, over all hosts.")] = 8,
    queries: Annotated[
        bool, typer.Option("--queries", help="Show what is searched for when no --query is given, and stop.")
    ] = False,
    runner: Annotated[
        str, typer.Option(help="inline: in this process. prefect: as a Prefect flow, some 15 seconds later.")
    ] = "inline",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Stop at once if somebody else is working on the workspace.")
    ] = False,
) -> None:
    """Set up and run; the text of `--help` is `HELP`."""
    from phq_data.pipeline.scrape import SOURCES, ScrapeRequest, default_limit

    if queries:
        _show_queries()
        return
    if source not in SOURCES:
        raise typer.BadParameter(f"SOURCE is one of {', '.join(SOURCES)}, not {source!r}")
    if not workspace and not dry_run:
        raise typer.BadParameter("say where to with --workspace DIR")
    if runner not in ("inline", "prefect"):
        raise typer.BadParameter(f"--runner is inline or prefect, not {runner!r}")
    request = ScrapeRequest(
        source=source,
        path=str(path) if path is not None else "",
        queries=tuple(query or ()),
        limit=limit if limit >= 0 else default_limit(source),
        permissions=tuple(str(path) for path in permission or ()),
        retry_failed=retry_failed,
        refresh=refresh,
        connections=connections,
    )
    if dry_run:
        _dry_run(request)
    else:
        run_scrape(workspace, request, runner=runner, wait=not no_wait)


def run_scrape(workspace: str, request: ScrapeRequest, *, runner: str, wait: bool) -> None:
    """Scrape with progress on the terminal and a summary at the end; exits 1 when it had to stop early."""
    from rich.console import Console

    from phq_data.cli.build_progress import reasons
    from phq_data.cli.scrape_progress import TerminalScrape, summary
    from phq_data.pipeline.scrape import scrape_into
    from phq_data.workspace import Workspace
    from phq_flows import server
    from phq_flows.interrupt import stop_at_once_on_interrupt

    console = Console(stderr=True, soft_wrap=True)
    with TerminalScrape(console) as progress:
        stop_at_once_on_interrupt(progress.close)
        report = None
        if runner != "inline":
            try:
                server.start(progress.say)
                from phq_flows.scrape import run

                report = run(workspace, request, progress=progress, wait=wait)
            except server.ServerError as lost:
                progress.say(f"{lost}: going on without Prefect, as --runner inline does")
        if report is None:
            report = scrape_into(workspace, request, progress=progress, wait=wait)
    lines = summary(report)
    if request.source == "folder":
        lines += reasons(Workspace.open(workspace))
    for line in lines:
        console.print(line, highlight=False, markup=False)
    console.print(f"\nNext: phq build --workspace {shlex.quote(workspace)}", markup=False)
    if report.scrape.stopped:
        console.print("It stopped early; the same command goes on:", markup=False)
        for line in report.scrape.stopped:
            console.print(f"  {line}", highlight=False, markup=False)
        sys.exit(1)


def _show_queries() -> None:
    from phq_data.sources.queries import by_view

    for view, texts in by_view().items():
        typer.echo(f"{view}: {'; '.join(texts)}")


def _dry_run(request: ScrapeRequest) -> None:
    from phq_data.pipeline.scrape import preview_lines

    for line in preview_lines(request):
        typer.echo(line)
