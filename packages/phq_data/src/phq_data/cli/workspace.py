"""`phq workspace`: is a workspace whole, and taking photos out of it."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from phq_data.cli.report import WorkspaceOption
from phq_data.text import counted

if TYPE_CHECKING:
    from phq_data.pipeline.integrity import Report


def register(app: typer.Typer) -> None:
    """Add the command group to the phq program."""
    group = typer.Typer(no_args_is_help=True, help="Check a workspace, mend it, take photos out.")
    group.command("verify")(verify)
    group.command("remove")(remove)
    app.add_typer(group, name="workspace")


def verify(
    workspace: WorkspaceOption = "",
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Bring back what can be: plan parts from their copies, photos from their sources, tables "
            "and ledgers from the plan, decisions and corrections from the review's database and the other "
            "way round.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Read every byte of plan, tables, ledgers, logs and photos, and the review's database; name what is
    damaged, missing, behind.

    Exit code 1 when something is.

    Example: phq workspace verify --workspace portraits
    """
    from phq_data.pipeline import integrity
    from phq_data.review import logs
    from phq_data.workspace import Workspace, WorkspaceError

    opened = Workspace.open(_named(workspace))
    reviewed = logs.has_store(opened)
    if reviewed:
        if find_spec("sqlalchemy") is None:  # it comes with an extra
            raise WorkspaceError("the review's database needs its packages: pip install 'phq-data[review]'")
        from phq_data.review import corrections, decisions
        from phq_data.review import repair as review
    done: list[str] = []
    if repair:
        with opened.lock(wait=False):
            done = integrity.repair(opened)
            if reviewed:
                done += [*review.repair(opened), *decisions.mend(opened), *corrections.mend(opened)]
    with opened.reading():
        report = integrity.verify(opened)
        if reviewed:
            report = dataclasses.replace(report, faults=(*report.faults, *review.faults(opened)))
    if as_json:
        typer.echo(json.dumps({"repaired": done, **dataclasses.asdict(report)}, indent=2))
    else:
        _show(report, done)
    if report.faults:
        raise typer.Exit(1)


def remove(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...",
            help="The start of a photo's id (every file with its bytes), a path or uri (this file), or a "
            "source as it was given to phq build (all of its files).",
        ),
    ],
    workspace: WorkspaceOption = "",
) -> None:
    """Take photos out, with everything that was made of them.

    Their files are remembered and not taken again. What was released already: phq release takedown.

    Example: phq workspace remove 3fa94c1b ~/photos/party.jpg --workspace portraits
    """
    from phq_data.pipeline.removal import remove as take_out
    from phq_data.workspace import Workspace

    opened = Workspace.open(_named(workspace))
    with opened.lock(wait=False):
        removal = take_out(opened, what)
    gone = {"file": removal.files, "photo": removal.photos, "portrait": removal.portraits}
    typer.echo(f"taken out: {', '.join(counted(number, one) for one, number in gone.items())}")
    for uri in removal.stay:
        typer.echo(f"the same bytes stay as {uri}; the next phq build takes its photo")


def _named(workspace: str) -> str:
    if not workspace:
        raise typer.BadParameter("name the workspace: --workspace DIR")
    return workspace


def _show(report: Report, done: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=not report.faults)
    for line in done:
        console.print(line, markup=False, highlight=False)
    if report.faults:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("", "where", "what is wrong", "what to do"):
            table.add_column(name, overflow="fold")
        for fault in report.faults:
            table.add_row(fault.kind, fault.where, fault.problem, fault.advice)
        console.print(table)
    console.print(
        f"{counted(report.parts, 'part')} and {counted(report.photos, 'photo')} were read: "
        + (counted(len(report.faults), "fault") if report.faults else "all are what was written")
    )
