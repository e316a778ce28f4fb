"""`phq serve`: deployments of the flows on a team's Prefect server, from one file."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

    from phq_flows.serve_file import ServeFile

DEFAULT_FILE = "phq-serve.toml"

HELP = f"""Serve deployments of scrape, build, report and release on a Prefect server.

\b
  phq serve --init                     writes {DEFAULT_FILE}, an example with comments
  export PREFECT_API_URL=http://HOST:4200/api
  phq serve                            runs what the file says, on this machine, until Ctrl-C
  phq serve --work-pool phq            hands it to the workers of a pool: prefect worker start --pool phq
  phq serve --prepare                  only limits and automations, for who uses prefect deploy

FILE names deployments with schedules, parameters, tags and limits. Runs are started by their schedule, on the
server's page, or by `prefect deployment run phq-build/nightly`. The server refuses parameters that a flow
does not have. A run that crashes or loses its machine is scheduled again and goes on where it was.

More: docs/deployment.md"""


def register(app: typer.Typer) -> None:
    """Add `serve` to the phq program."""
    app.command("serve", help=HELP)(serve)


def serve(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The deployments.")] = Path(DEFAULT_FILE),
    init: Annotated[bool, typer.Option("--init", help="Write an example to FILE, and stop.")] = False,
    work_pool: Annotated[
        str, typer.Option(help="Register the deployments for this pool's workers, and stop.", metavar="NAME")
    ] = "",
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare", help="Set up limits and automations, make deployments check parameters, and stop."
        ),
    ] = False,
) -> None:
    """Set up and run; the text of `--help` is `HELP`."""
    from phq_flows import serve_file, server

    if init:
        serve_file.write_example(file)
        typer.echo(f"{file}: change it, then: phq serve {'' if file.name == DEFAULT_FILE else file}".rstrip())
        return
    read = serve_file.read(file)
    if not server.configured():
        raise server.ServerError(
            "phq serve needs a Prefect server: start one (`prefect server start`) and set "
            "PREFECT_API_URL=http://HOST:4200/api"
        )
    _run(read, work_pool, prepare)


def _run(file: ServeFile, work_pool: str, prepare: bool) -> None:
    from phq_flows import environment

    environment.prepare()
    from phq_flows import team

    made = team.deployments(file, on_workers=bool(work_pool or prepare))
    team.check_answers()
    if work_pool or prepare:
        with team.told():
            if not prepare:
                asyncio.run(team.register(made, work_pool, typer.echo))
            asyncio.run(team.prepare(file))
        typer.echo("limits and automations are set up")
    else:
        _serve(made, file)


def _serve(made: list[RunnerDeployment], file: ServeFile) -> None:
    """Run deployments until Ctrl-C or SIGTERM, which end what runs, too; schedules pause meanwhile."""
    from prefect.exceptions import TerminationSignal
    from prefect.runner import Runner

    from phq_flows import team

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt, TerminationSignal), team.told():
        runner = Runner(pause_on_shutdown=True, limit=file.limit)
        for one in made:
            runner.add_deployment(one)
            typer.echo(f"serving {one.flow_name}/{one.name}")
        asyncio.run(team.prepare(file))
        typer.echo("Ctrl-C ends it", err=True)
        asyncio.run(runner.start())
    typer.echo("phq: no longer serving; schedules are paused until the next phq serve", err=True)
