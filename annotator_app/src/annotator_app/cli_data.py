"""`phq review export|import|invite|dismiss|status|gold|policy`: the log, the people, the rules."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from phq_data.review.rules import Policy
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
        ("status", status), ("gold", gold), ("policy", policy),
    ):  # fmt: skip
        group.command(name)(command)
    group.command("known", hidden=True)(known)


def export(
    out: Annotated[Path, typer.Argument(help="File to write: .parquet or .csv.")],
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
    corrected: Annotated[
        bool, typer.Option("--corrections", help="The log of corrected labels instead of the decisions.")
    ] = False,
) -> None:
    """Write the whole decision log to a file, and bring the workspace's tables up to date.

    Example: phq review export decisions.csv --workspace portraits
    """
    from phq_data.review import corrections, decisions, exchange, exchange_corrections

    what = "corrections" if corrected else "decisions"
    with _opened(workspace, database) as (place, store):
        fresh = {
            "decisions": decisions.synchronise(place, store),
            "corrections": corrections.synchronise(place, store),
        }
        count = (exchange_corrections if corrected else exchange).export(store, out)
    typer.echo(f"{count:,} {what} in {out}; {fresh[what]:,} new ones in the workspace's tables")


def import_(
    file: Annotated[
        Path, typer.Argument(help="An exported .parquet or .csv, or with --tool its own export.", exists=True)
    ],
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
    tool: Annotated[
        Literal["fiftyone", "cvat", "label-studio"] | None,
        typer.Option(help="Where phq export sent the portraits: its decisions and changed labels are taken."),
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option(help="Who decided in that tool, as the review's log calls them.")
    ] = None,
) -> None:
    """Add the decisions, or the corrections, of an exported file. What is in the log already is skipped.

    Example: phq review import decisions.parquet --workspace portraits
    """
    from phq_data.review import corrections, decisions, exchange, exchange_corrections, items
    from phq_data.review.consensus import ReviewError

    if (tool is None) != (reviewer is None):
        raise ReviewError("--tool and --reviewer go together: who decided in which tool?")
    if tool is not None and reviewer is not None:
        _take(file, workspace, database, tool, reviewer)
        return
    corrected = exchange_corrections.are_corrections(file)
    with _opened(workspace, database) as (place, store):
        items.sync(store, place)
        count, fresh = (exchange_corrections if corrected else exchange).load(store, file)
        decisions.synchronise(place, store)
        corrections.synchronise(place, store)
    typer.echo(f"{count:,} {'corrections' if corrected else 'decisions'} in {file}, {fresh:,} of them new")


def _take(file: Path, workspace: str, database: str | None, tool: str, reviewer: str) -> None:
    """Take over what people said in another tool, and say what was refused."""
    from phq_data.review import corrections, decisions, items, take_answers, tool_answers

    answers = tool_answers.read(file, tool)
    with _opened(workspace, database) as (place, store):
        items.sync(store, place)
        taken = take_answers.take(place, store, answers, reviewer, tool)
        decisions.synchronise(place, store)
        corrections.synchronise(place, store)
    typer.echo(
        f"{len(answers):,} answers in {file}: {taken.decisions:,} new decisions, {taken.corrections:,} new "
        f"corrections, {taken.as_before:,} as before, {len(taken.refused):,} refused"
    )
    for refusal in taken.refused[:20]:
        typer.echo(f"  {refusal.decision_id}: {refusal.why}", err=True)


def invite(
    name: Annotated[str, typer.Argument(help="Name of the reviewer.")],
    workspace: Annotated[str, WORKSPACE],
    role: Annotated[
        str, typer.Option(help="reviewer, or lead: adjudicates disputes, sees everybody's decisions.")
    ] = "reviewer",
    url: Annotated[str, typer.Option(help="Address at which others reach the service.")] = "",
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Invite a reviewer: prints a login link once. Inviting again replaces the link.

    Example: phq review invite "Ada L." --role lead --workspace portraits
    """
    from phq_data.review import reviewers
    from phq_data.review.consensus import ReviewError

    if role not in reviewers.ROLES:
        raise ReviewError(f"a role is one of {', '.join(reviewers.ROLES)}, not {role!r}")
    with _opened(workspace, database) as (_, store):
        token = reviewers.invite(store, name, "lead" if role == "lead" else "reviewer")
    place = (url or "http://127.0.0.1:8765").rstrip("/")
    typer.echo(f"{name.strip()}, {role}: give this link to nobody else; it is shown only once\n")
    typer.echo(f"  {place}/login#token={token}\n")


def dismiss(
    name: Annotated[str, typer.Argument(help="Name of the reviewer. The decisions stay.")],
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
    """Progress by yaw bin, throughput of the reviewers, agreement, verdicts on gold items."""
    from phq_data.review import agreement, corrections, integrity, items, rules

    with _opened(workspace, database) as (place, store):
        integrity.ensure(store, place)
        items.sync(store, place)
        bins = agreement.progress(store)
        team = agreement.throughput(store)
        agreed = agreement.agreement(store)
        reasons = agreement.reject_reasons(store)
        gold_scores = agreement.gold_scores(store)
        replaced = agreement.on_replaced(store)
        corrected = corrections.overview(place, store)
        where = store.database.name
    if json_out:
        found = {
            "store": where,
            "yaw_bins": {rules.bin_name(key): vars(one) for key, one in bins.items()},
            "reviewers": [vars(one) for one in team],
            "agreement": dataclasses.asdict(agreed),
            "reasons": reasons,
            "on_replaced_portraits": replaced,
            "gold": [vars(one) for one in gold_scores],
            "corrections": vars(corrected),
        }
        typer.echo(json.dumps(found))
        return
    typer.echo(f"decisions in {where}\n")
    typer.echo(f"{'yaw bin':<8}{'portraits':>10}{'accepted':>10}{'rejected':>10}{'disputed':>10}{'open':>10}")
    for key, one in bins.items():
        typer.echo(
            f"{rules.bin_name(key):<8}{one.total:>10,}{one.accepted:>10,}{one.rejected:>10,}"
            f"{one.disputed:>10,}{one.undecided:>10,}"
        )
    if replaced:
        typer.echo(f"{replaced:,} verdicts are on portraits that a newer build replaced; they do not count")
    if corrected.made:
        typer.echo(
            f"labels corrected: {corrected.made:,}, undone: {corrected.undone:,}, in force: "
            f"{corrected.holding:,}, disputed: {len(corrected.disputed):,}, waiting for the next phq build: "
            f"{corrected.waiting:,}"
        )
    if corrected.disputed:
        typer.echo(
            f"corrections that do not agree, for a lead to settle: {', '.join(corrected.disputed[:10])}"
        )
    if corrected.can_be_saved:
        typer.echo(f"{corrected.can_be_saved:,} rejected portraits could be saved by a corrected label")
    for each in team:
        median = f", median {each.median_seconds:.1f} s" if each.median_seconds else ""
        typer.echo(f"{each.reviewer}: {each.decisions:,} decisions, {each.undone:,} undone{median}")
    if agreed.portraits:
        kappa = "not defined" if agreed.kappa is None else f"{agreed.kappa:.2f}"
        typer.echo(f"{agreed.portraits:,} portraits judged by two or more: Fleiss' kappa {kappa}")
    for reason, count in reasons.items():
        typer.echo(f"rejected for {reason}: {count:,}")
    for score in gold_scores:
        typer.echo(f"{score.reviewer}: {score.correct} of {score.judged} gold items correct")


def gold(
    verdict: Annotated[str, typer.Argument(help="The correct verdict: accept, reject, or none.")],
    portraits: Annotated[list[str], typer.Argument(help="Ids of portraits.")],
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Make portraits gold items: everybody is asked about them, to measure the quality of reviewers.

    `none` makes ordinary portraits of them again.

    Example: phq review gold reject 1c3c701a693bb8d174929a71a2214ffa --workspace portraits
    """
    from phq_data.review import items
    from phq_data.review.consensus import ReviewError

    if verdict not in ("accept", "reject", "none"):
        raise ReviewError(f"the verdict of a gold item is accept, reject or none, not {verdict!r}")
    with _opened(workspace, database) as (place, store):
        items.sync(store, place)
        count = items.set_gold(store, dict.fromkeys(portraits, None if verdict == "none" else verdict))
    if count < len(set(portraits)):
        raise ReviewError(f"{len(set(portraits)) - count} of these portraits are not in the workspace")
    typer.echo(f"{count:,} gold items with the verdict {verdict}")


def known(
    answer: Annotated[str, typer.Argument()],
    portraits: Annotated[list[str], typer.Argument()],
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """What `gold` was called in version 1."""
    from phq_data.compatibility import notice

    notice("command", {"phq review known": "phq review gold"})
    gold(answer, portraits, workspace, database)


def policy(
    workspace: Annotated[str, WORKSPACE],
    database: Annotated[str | None, DATABASE] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, for example overlap_share=0.1.")
    ] = None,
) -> None:
    """Show or change the team's settings: overlap, gold items, leases, consensus."""
    with _opened(workspace, database) as (_, store):
        changed = store.policy()
        for change in set_ or []:
            changed = _with_setting(changed, change)
        if set_:
            store.set_policy(changed)
    for name, value in vars(changed).items():
        typer.echo(f"{name:<16}{value}")


def _with_setting(policy: Policy, change: str) -> Policy:
    """The policy with `name=value` applied. Raises `ReviewError`."""
    from phq_data.compatibility import REVIEW_SETTINGS, notice
    from phq_data.review.consensus import ReviewError

    name, _, text = change.partition("=")
    if name in REVIEW_SETTINGS:
        notice("setting", {name: REVIEW_SETTINGS[name]})
        name = REVIEW_SETTINGS[name]
    values = vars(policy)
    if name not in values:
        near = get_close_matches(name, values, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ReviewError(f"there is no setting {name!r}{hint}; there is {', '.join(values)}")
    try:
        value = type(values[name])(text)
    except ValueError:
        raise ReviewError(f"{name} wants a number, not {text!r}") from None
    return dataclasses.replace(policy, **{name: value})


@contextmanager
def _opened(workspace: str, database: str | None) -> Iterator[tuple[Workspace, Store]]:
    """The workspace and its store. Raises `WorkspaceError`, `StoreError`."""
    from phq_data.review.store import Store
    from phq_data.workspace import Workspace

    place = Workspace.open(workspace)
    store = Store.open(place, database)
    try:
        yield place, store
    finally:
        store.close()
