"""`phq release trace`: where portraits went."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phq_data.text import counted

if TYPE_CHECKING:
    from phq_data.release.trace import Trained

RELEASES = typer.Option("--releases", "-r", help="The folder (or fsspec URL) of releases.")
RUNS = typer.Option("--runs", help="Where training runs lie: a run, or a folder above. Repeatable.")
JSON_OUT = typer.Option("--json", help="Print one JSON object.")


def trace(
    releases: Annotated[str, RELEASES] = "releases",
    portrait: Annotated[
        list[str] | None, typer.Option(help="Portrait id, or its first digits. Repeatable.")
    ] = None,
    photo: Annotated[
        list[str] | None, typer.Option(help="Photo id, or its first digits. Repeatable.")
    ] = None,
    person: Annotated[
        list[str] | None, typer.Option(help="Person id, or its first digits. Repeatable.")
    ] = None,
    author: Annotated[list[str] | None, typer.Option(help="Name or page of the author. Repeatable.")] = None,
    runs: Annotated[list[Path] | None, RUNS] = None,
    json_out: Annotated[bool, JSON_OUT] = False,
) -> None:
    """Where portraits went: the releases that hold them, the training runs that saw them, their checkpoints.

    Example: phq release trace --photo 3fa94c1b -r releases --runs ~/runs
    """
    from phq_data.release.trace import trace as follow

    given = {"portrait": portrait, "photo": photo, "person": person, "author": author}
    requests = [(kind, text.strip()) for kind, texts in given.items() for text in texts or [] if text.strip()]
    if not requests:
        raise typer.BadParameter("say whom to look for: --portrait, --photo, --person or --author")
    found = follow(releases, requests, runs or ())
    if json_out:
        typer.echo(json.dumps(dataclasses.asdict(found)))
        return
    for one in found.releases:
        typer.echo(f"release {one.version}: {counted(one.portraits, 'portrait')}, digest {one.digest}")
    if runs:
        say_trained(found.runs)
    else:
        typer.echo("Training runs were not looked for: name folders of them with --runs.")


def say_trained(found: Sequence[Trained]) -> None:
    """Name runs and checkpoints."""
    for one in found:
        if one.through:
            what = f"began from weights of {one.through}"
        elif one.portraits:
            what = f"saw {counted(one.portraits, 'portrait')} of release {one.version}"
        else:
            what = f"was trained on release {one.version} and may have seen them (it kept no list)"
        typer.echo(f"run {one.run} {what}")
        for checkpoint in one.checkpoints:
            typer.echo(f"  checkpoint {checkpoint}")
    if not found:
        typer.echo("no run there saw them")
