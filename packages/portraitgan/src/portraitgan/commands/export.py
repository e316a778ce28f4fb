"""`portraitgan export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from portraitgan.commands import shared


def export(
    model: shared.ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    form: Annotated[
        Literal["hub"], typer.Option("--format", help="A folder for the Hugging Face Hub.")
    ] = "hub",
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    repository: Annotated[
        str | None, typer.Option("--push", metavar="USER/NAME", help="Upload the folder.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    license_name: Annotated[
        str | None, typer.Option("--license", metavar="NAME", help="Of the Hub's list, for the card.")
    ] = None,
) -> None:
    """Write a model for the Hugging Face Hub: weights, config, rig and a model card with the run's numbers.

    --push uploads the folder, into a private repository unless --public.
    """
    from portraitgan.inference import hub

    made = hub.pack(model, out, checkpoint, rig, repository, license_name)
    print(f"{model} -> {made}")
    if repository is not None:
        print(hub.upload(made, repository, private=not public))
