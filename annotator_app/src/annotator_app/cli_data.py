"""`phq review export|import|invite|dismiss|status|known|policy`: the log, the people, the rules."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phq_data.review.store import Store
    from phq_data.workspace import Workspace

WORKSPACE = typer.Option("--workspace", "-w", help="The workspace that is reviewed.")
DATABASE = typer.Option(
    "--database", envvar="PHQ_REVIEW_DATABASE", show_envvar=True, help="Database URL; without it, embedded."
)
JSON_OUT = typer.Option("--json", help="Print one JSON object.")


def add(group: typer.Typer) -> None:
    """Add the commands to the group `phq review`."""
    for name, command in (
        ("export", export), ("import", import_), ("invite", invite), ("dismiss", dismiss),
        ("status", status), ("known", known), ("policy", policy),
    ):  # fmt: skip
        group.command(name)(command)


def export(
    out: Annotated[Path, typer.Argument(help="File to write: .parquet or .csv.")],
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Write the whole log of decisions to a file, and bring the workspace's tables up to date.

    Example: phq review export decisions.csv --workspace portraits
    """
    from phq_data.review import decisions, exchange

    with _opened(workspace, database) as (place, store):
        fresh = decisions.synchronise(place, store)
        count = exchange.export(store, out)
    typer.echo(f"{count:,} decisions in {out}; {fresh:,} new ones in the workspace's tables")


def import_(
    file: Annotated[Path, typer.Argument(help="An exported .parquet or .csv.", exists=True, dir_okay=False)],
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Take over the decisions of an exported file. What is known already is left out.

    Example: phq review import decisions.parquet --workspace portraits
    """
    from phq_data.review import decisions, exchange, items

    with _opened(workspace, database) as (place, store):
        items.sync(store, place)
        count, fresh = exchange.load(store, file)
        decisions.synchronise(place, store)
    typer.echo(f"{count:,} decisions in {file}, {fresh:,} of them new")


def invite(
    name: Annotated[str, typer.Argument(help="How the reviewer is called.")],
    workspace: Annotated[str, WORKSPACE],
    role: Annotated[
        str, typer.Option(help="reviewer, or lead: rules on disputes, sees everything.")
    ] = "reviewer",
    url: Annotated[str, typer.Option(help="Address under which the others reach the service.")] = "",
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Invite a reviewer: prints a link, once. Inviting again gives a new one and ends the old.

    Example: phq review invite "Ada L." --role lead --workspace portraits
    """
    from phq_data.review import reviewers
    from phq_data.review.consensus import ReviewError

    if role not in reviewers.ROLES:
        raise ReviewError(f"a role is one of {', '.join(reviewers.ROLES)}, not {role!r}")
    with _opened(workspace, database) as (_, store):
        token = reviewers.invite(store, name, "lead" if role == "lead" else "reviewer")
    place = (url or "http://127.0.0.1:8765").rstrip("/")
    typer.echo(f"{name.strip()}, {role}: give this link to nobody else, it is shown only now\n")
    typer.echo(f"  {place}/login#token={token}\n")


def dismiss(
    name: Annotated[str, typer.Argument(help="Whose access ends. Decisions stay.")],
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """End a reviewer's access at once."""
    from phq_data.review import reviewers
    from phq_data.review.consensus import ReviewError

    with _opened(workspace, database) as (_, store):
        if not reviewers.disable(store, name):
            names = ", ".join(one.name for one in reviewers.everybody(store)) or "nobody"
            raise ReviewError(f"there is no reviewer called {name}; there is {names}")
    typer.echo(f"{name} has no access any more")


def status(
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
    json_out: Annotated[bool, JSON_OUT] = False,
) -> None:
    """How far the review is, who did how much, and how well reviewers agree."""
    from phq_data.review import agreement, items, rules

    with _opened(workspace, database) as (place, store):
        items.sync(store, place)
        views = agreement.progress(store)
        paces = agreement.paces(store)
        agreed = agreement.agreement(store)
        reasons = agreement.reject_reasons(store)
        known_of = agreement.known_quality(store)
        replaced = agreement.on_replaced(store)
        where = store.database.name
    if json_out:
        found = {
            "store": where,
            "views": {rules.bin_name(key): dataclasses.asdict(one) for key, one in views.items()},
            "reviewers": [dataclasses.asdict(one) for one in paces],
            "agreement": dataclasses.asdict(agreed),
            "reasons": reasons,
            "on_replaced_portraits": replaced,
            "known": [dataclasses.asdict(one) for one in known_of],
        }
        typer.echo(json.dumps(found))
        return
    typer.echo(f"decisions in {where}\n")
    typer.echo(f"{'view':<8}{'portraits':>10}{'accepted':>10}{'rejected':>10}{'disputed':>10}{'open':>10}")
    for key, one in views.items():
        typer.echo(
            f"{rules.bin_name(key):<8}{one.total:>10,}{one.accepted:>10,}{one.rejected:>10,}"
            f"{one.disputed:>10,}{one.undecided:>10,}"
        )
    if replaced:
        typer.echo(f"{replaced:,} verdicts are on portraits that newer ones replaced: they count no more")
    for pace in paces:
        speed = f", {pace.median_seconds:.1f} s in the middle" if pace.median_seconds else ""
        typer.echo(f"{pace.reviewer}: {pace.decisions:,} decisions, {pace.undone:,} taken back{speed}")
    if agreed.portraits:
        kappa = "not defined" if agreed.kappa is None else f"{agreed.kappa:.2f}"
        typer.echo(f"{agreed.portraits:,} portraits judged by two or more: Fleiss' kappa {kappa}")
    for reason, count in reasons.items():
        typer.echo(f"rejected for {reason}: {count:,}")
    for quality in known_of:
        typer.echo(f"{quality.reviewer}: {quality.right} of {quality.asked} known answers right")


def known(
    answer: Annotated[str, typer.Argument(help="accept, reject or none.")],
    portraits: Annotated[list[str], typer.Argument(help="Ids of portraits.")],
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Give portraits a known answer: they are mixed into everybody's queue, to watch quality."""
    from phq_data.review import items
    from phq_data.review.consensus import ReviewError

    if answer not in ("accept", "reject", "none"):
        raise ReviewError(f"a known answer is accept, reject or none, not {answer!r}")
    with _opened(workspace, database) as (place, store):
        items.sync(store, place)
        count = items.set_known(store, dict.fromkeys(portraits, None if answer == "none" else answer))
    if count < len(set(portraits)):
        raise ReviewError(f"{len(set(portraits)) - count} of these portraits are not in the workspace")
    typer.echo(f"{count:,} portraits with the known answer {answer}")


def policy(
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, for example overlap_share=0.1.")
    ] = None,
) -> None:
    """Show or change how the team reviews: overlap, known answers, leases, consensus."""
    from phq_data.review.consensus import ReviewError

    with _opened(workspace, database) as (_, store):
        current = store.policy()
        values = dataclasses.asdict(current)
        for change in set_ or []:
            name, _, text = change.partition("=")
            if name not in values:
                raise ReviewError(f"there is no setting {name!r}; there is {', '.join(values)}")
            try:
                values[name] = type(values[name])(text)
            except ValueError:
                raise ReviewError(f"{name} wants a number, not {text!r}") from None
        if set_:
            try:
                store.set_policy(type(current)(**values))
            except ValueError as error:
                raise ReviewError(str(error)) from None
    for name, value in values.items():
        typer.echo(f"{name:<16}{value}")


@contextmanager
def _opened(workspace: str, database: str | None) -> Iterator[tuple[Workspace, Store]]:
    """The workspace and its store; what a user can mend becomes one sentence."""
    from phq_data.review.consensus import ReviewError
    from phq_data.review.database import StoreError
    from phq_data.review.store import Store
    from phq_data.workspace import Workspace

    place = Workspace.open(workspace)
    try:
        store = Store.open(place, database)
        try:
            yield place, store
        finally:
            store.close()
    except StoreError as error:
        raise ReviewError(str(error)) from error
