"""`phq review`: start the review of a workspace; its subcommands are in `cli_data`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

_PASSWORD = "PHQ_REVIEW_PASSWORD"


def register(app: typer.Typer) -> None:
    """Add `review` to the phq program."""
    from annotator_app import cli_data

    group = typer.Typer(invoke_without_command=True, no_args_is_help=True)
    group.callback()(review)
    cli_data.add(group)
    app.add_typer(group, name="review")


def review(
    context: typer.Context,
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="The folder (or fsspec URL) that holds the dataset.")
    ] = "",
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Beyond loopback people must log in: invite them (phq review invite) "
            f"or set a shared password in {_PASSWORD}."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=1, max=65_535, help="Port of the review page; a free one if it is in use."),
    ] = 8765,
    public_url: Annotated[
        str,
        typer.Option(
            envvar="PHQ_REVIEW_PUBLIC_URL",
            help="The address under which a reverse proxy brings people here, such as "
            "https://review.example.org. Everybody must then log in.",
        ),
    ] = "",
    app_port: Annotated[int | None, typer.Option(min=1, max=65_535, hidden=True)] = None,
    database: Annotated[
        str,
        typer.Option(
            envvar="PHQ_REVIEW_DATABASE",
            help="Database of the decisions: a PostgreSQL URL for teams on several machines. "
            "Default: SQLite in the workspace.",
        ),
    ] = "",
    reviewer: Annotated[
        str,
        typer.Option(help="Your name in the log without a login. Default: the user of this computer."),
    ] = "",
    name: Annotated[
        list[str] | None,
        typer.Option(help="A further host name of the service, besides --host. May be repeated."),
    ] = None,
    order: Annotated[
        str,
        typer.Option(help="Order of the queue at the start: error_probability, source, yaw or random."),
    ] = "error_probability",
    service_only: Annotated[
        bool, typer.Option("--service-only", help="Only the review page, without dashboard and gallery.")
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
) -> None:
    """Accept or reject portraits in the browser, by keyboard, mouse or touch.

    Starts the review page and an app around it (dashboard, gallery, triage,
    history, settings), opens the browser and runs until Ctrl-C. Decisions go
    to an append-only log, from which releases are made.

    Keys: A accepts, X and a reason's key rejects, U undoes, ? shows them all.
    The criterion: the mesh is aligned with the person's shoulders, and the
    photo is neither blurry nor noisy.

    Examples:

    phq review --workspace portraits

    phq review --workspace portraits --order random --no-browser

    phq review export decisions.csv --workspace portraits
    """
    if context.invoked_subcommand is not None:
        return
    if not workspace:
        raise typer.BadParameter("the workspace is missing: --workspace DIR", param_hint="--workspace")
    from annotator_app.launch import Plan, run
    from annotator_app.service.security import APP
    from phq_data.compatibility import REVIEW_ORDERS, notice
    from phq_data.review.queue import ORDERS

    if app_port is not None:
        typer.echo(f"--app-port is no longer needed: the app is at {APP}/ on the port of the review page")
    if order in REVIEW_ORDERS:
        notice("order", {order: REVIEW_ORDERS[order]})
        order = REVIEW_ORDERS[order]
    if order not in ORDERS:
        raise typer.BadParameter(f"{order!r} is none of {', '.join(ORDERS)}", param_hint="--order")

    plan = Plan(
        workspace=_absolute(workspace),
        host=host,
        port=port,
        public_url=public_url.rstrip("/"),
        database=database or None,
        password=os.environ.get(_PASSWORD) or None,
        reviewer=reviewer,
        names=tuple(name or ()),
        order=order,
        with_app=not service_only,
        browser=browser,
    )
    run(plan, typer.echo)


def _absolute(workspace: str) -> str:
    return workspace if "://" in workspace else str(Path(workspace).absolute())
