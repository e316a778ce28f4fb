"""`phq report`, `phq inspect` and `phq doctor`: commands that look and change nothing."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phq_data.cli.machine import Check

WorkspaceOption = Annotated[
    str, typer.Option("--workspace", "-w", help="The folder (or fsspec URL) that holds the dataset.")
]
ReviewOption = Annotated[
    str,
    typer.Option(
        "--review-url", envvar="PHQ_REVIEW_PUBLIC_URL", show_envvar=True,
        help="Address of the review, such as http://127.0.0.1:8765: portraits get links to it.",
    ),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands to the phq program."""
    app.command("report")(report)
    app.command("inspect")(inspect)
    app.command("doctor")(doctor)


def report(
    workspace: WorkspaceOption = "",
    out: Annotated[
        str,
        typer.Option(
            help="A folder or the name of an .html file, also an fsspec URL. Default: report/ in the "
            "workspace."
        ),
    ] = "",
    yaw_target: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many portraits each 30 degrees of yaw should have. 0: an equal share of what is there.",
        ),
    ] = 0,
    review_url: ReviewOption = "",
) -> None:
    """Write one HTML page about a workspace: what was kept and why not, quality, cameras, images, rights,
    reviews, what a release made now would hold, speed.

    The page needs nothing but itself: open it in a browser, send it to somebody. Contact sheets of portraits,
    mesh overlays, masks and rejects lie beside it as PNG files. Works during a build, too; the page says
    which parts are not what the settings make of the photos, then.

    Example: phq report --workspace portraits
    """
    from phq_data.release.preview import standing
    from phq_data.report.links import review_address
    from phq_data.report.page import report_images, write_report
    from phq_data.workspace import Workspace

    def unfinished(faults: list[str]) -> None:
        if faults:
            typer.echo(f"phq: this workspace is not finished: {'; '.join(faults)}", err=True)

    review = review_address(review_url) if review_url else ""
    opened = Workspace.open(_named(workspace))
    page = write_report(
        opened, out or None, unfinished, standing=standing(opened), yaw_target=yaw_target, review=review
    )
    typer.echo(f"report    {page}")
    for image in report_images(page):
        typer.echo(f"images    {image}")


def inspect(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A photo, person, fit or portrait: its id or the first digits of it (the report shows "
            "them under every image), or a part of a file's name.",
        ),
    ],
    workspace: WorkspaceOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print every row as one JSON object.")] = False,
    image: Annotated[
        bool, typer.Option(help="Draw the image: people and windows on the photo, portraits, rig, masks.")
    ] = True,
    review_url: ReviewOption = "",
) -> None:
    """Tell everything about one photo, person or portrait: rows, verdicts, numbers, and an image.

    The image goes to inspect/ in the workspace.

    Examples: phq inspect 3fa94c1b --workspace portraits; phq inspect holiday.jpg --workspace portraits
    """
    from rich.console import Console

    from phq_data.pipeline.engine import load_config
    from phq_data.report import inspection
    from phq_data.report.links import portrait_link, review_address
    from phq_data.workspace import Workspace

    review = review_address(review_url) if review_url else ""
    opened = Workspace.open(_named(workspace))
    found = inspection.inspect(opened, what)
    path = inspection.write_image(opened, found) if image else ""
    if as_json:
        ids = [row["portrait_id"] for row in found.portraits] if review else []
        links = {"review": {one: portrait_link(review, one) for one in ids}} if review else {}
        typer.echo(json.dumps({**found.to_dict(), "picture": path, **links}, indent=2))
    else:
        inspection.show(found, Console(), load_config(opened).screen, path, review)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print all checks as one JSON list.")] = False,
) -> None:
    """Check this machine: packages, models and their licenses, drawing, Prefect, memory and space.

    Says what is missing and how to get it. Exit code 1 when the default pipeline lacks something, else 0.
    """
    from phq_data.cli.doctor import diagnose, healthy

    checks = diagnose()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        _show(checks)
    if not healthy(checks):
        raise typer.Exit(1)


def _named(workspace: str) -> str:
    if not workspace:
        raise typer.BadParameter("name the workspace: --workspace DIR")
    return workspace


def _show(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "optional": "dim", "attention": "yellow", "missing": "bold red"}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "what", "state", "found"):
        table.add_column(name, overflow="fold", no_wrap=name in ("", "state"))
    group = ""
    for check in checks:
        words = Text(check.found)
        if check.license:
            words.append(f"\nlicense: {check.license}", "cyan")
        if check.advice:
            words.append(f"\n{check.advice}", "yellow" if check.status != "optional" else "dim")
        if group and check.group != group:
            table.add_section()
        shown = check.group if check.group != group else ""
        table.add_row(Text(shown, "bold"), check.name, Text(check.status, styles[check.status]), words)
        group = check.group
    console = Console()
    console.print(table)
    console.print()
    missing = [check.name for check in checks if check.status == "missing"]
    if missing:
        console.print(Text(f"The default pipeline lacks: {', '.join(missing)}.", "bold red"))
    else:
        console.print(Text("The default pipeline has all it needs.", "green"))
