"""`phq rights init`: say what the photos of a folder may be used for, before anything is built of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command group to the program."""
    group = typer.Typer(no_args_is_help=True, help="Say what photos may be used for.")
    group.callback()(lambda: None)
    group.command("init")(init)
    app.add_typer(group, name="rights")


def init(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", exists=True, file_okay=False, help="The photos, subfolders included."
        ),
    ],
    owner: Annotated[str, typer.Option(help="Who made the photos, or holds the rights in them.")] = "",
    license: Annotated[
        str, typer.Option(help="Their license, for example CC-BY-4.0; none: what --scope says is allowed.")
    ] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What the owner allows: train, publish-images, publish-ids. Repeatable. [default: train]"
        ),
    ] = None,
    consent: Annotated[
        str, typer.Option(help="Do the people shown agree: yes, no, unknown. Without a yes, say why you may.")
    ] = "",
    consent_of: Annotated[
        list[str] | None,
        typer.Option(
            "--consent-of",
            metavar="FILES=ANSWER",
            help="The same for some photos, by their path below FOLDER: 'party/*=no'. Repeatable; the last "
            "one that fits a photo counts.",
        ),
    ] = None,
    reference: Annotated[
        str, typer.Option(help="Where that is written: a contract, a letter, the law you rely on.")
    ] = "",
) -> None:
    """Write rights.json into a folder of your own photos; asks for what the options do not say.

    Example: phq rights init ~/photos --owner "Ada Example" --consent yes --reference "releases of 2026-03-01"
    """
    import datetime
    import json
    import sys

    from phq_data import files
    from phq_data.sources.licenses import is_free, normalise
    from phq_data.sources.rights import CONSENT, RIGHTS_NAMES, read_rights
    from phq_data.sources.terms import Permission

    if present := [name for name in RIGHTS_NAMES if (folder / name).exists()]:
        raise typer.BadParameter(f"{folder / present[0]} is there already: edit it, or remove it first")
    told = {"--owner NAME": owner, "--consent yes": consent, "--reference TEXT": reference}
    if not sys.stdin.isatty() and (missing := [option for option, value in told.items() if not value]):
        raise typer.BadParameter(f"say it with {' '.join(missing)}")
    owner = owner or _ask("Who made the photos, or holds the rights in them")
    some = dict(_answer(text) for text in consent_of or [])
    consent = consent or _ask(f"Do the people shown agree ({', '.join(CONSENT)})")
    for option, answer in (("--consent", consent), *(("--consent-of", answer) for answer in some.values())):
        if answer not in CONSENT:
            raise typer.BadParameter(f"{option} is one of {', '.join(CONSENT)}, not {answer!r}")
    reference = reference or _ask("Where is that written (a contract, a letter, or: my own photos)")
    today = datetime.date.today().isoformat()
    stated: dict[str, Any] = {
        "author": owner, "rights_checked_at": today, "consent": consent,
        "rights_evidence": f"{reference} (stated by {owner} on {today})",
    }  # fmt: skip
    if license:
        stated["license"] = normalise(license).name or license
    if not license or not is_free(stated["license"]):
        given = {"who": owner, "scope": scope or ["train"], "date": today, "reference": reference}
        try:
            Permission.parse(given)
        except ValueError as error:
            raise typer.BadParameter(f"--scope: {error}") from error
        stated["permission"] = given
    elif scope:
        raise typer.BadParameter(f"{stated['license']} says what is allowed: leave --scope out")
    if some:
        stated["files"] = {files_named: {"consent": answer} for files_named, answer in some.items()}
    path = folder / RIGHTS_NAMES[0]
    with files.writing(path) as temporary:
        temporary.write_text(json.dumps(stated, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    read_rights(folder)  # raises what a build would
    typer.echo(f"{path} is written; `phq build` with this folder takes it over, also for photos built before")
    answers = {consent, *some.values()}
    if "no" in answers:
        typer.echo("Photos whose people do not agree enter no release.")
    if "unknown" in answers:
        typer.echo(
            "Without the consent of the people shown, ask somebody who knows the law before you train."
        )


def _answer(text: str) -> tuple[str, str]:
    """(files, answer) of `party/*=no`."""
    named, separator, answer = text.rpartition("=")
    if not (named and separator):
        raise typer.BadParameter(f"--consent-of is FILES=ANSWER such as 'party/*=no', not {text!r}")
    return named, answer


def _ask(question: str) -> str:
    return str(typer.prompt(question)).strip()
