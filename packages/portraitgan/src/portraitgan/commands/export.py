"""`portraitgan export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from portraitgan.commands import shared

if TYPE_CHECKING:
    from portraitgan.inference.export import Exported

HUB = "For --format hub"


def export(
    model: shared.ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    form: Annotated[
        Literal["torch", "onnx", "hub"],
        typer.Option(
            "--format", help="Programs of torch.export or ONNX, or a folder for the Hugging Face Hub."
        ),
    ] = "onnx",
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    parts: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Only these, as in mapping,backbone (default: all there are)."),
    ] = None,
    repository: Annotated[
        str | None,
        typer.Option("--push", metavar="USER/NAME", help="Upload the folder.", rich_help_panel=HUB),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public.", rich_help_panel=HUB)
    ] = False,
    license_name: Annotated[
        str | None,
        typer.Option(
            "--license", metavar="NAME", help="Of the Hub's list, for the card.", rich_help_panel=HUB
        ),
    ] = None,
) -> None:
    """Write a model for other runtimes, or for the Hugging Face Hub.

    torch and onnx: mapping, backbone, background, super-resolution and both pose networks, each a file that
    was run again and compared with the network; with torch also the whole generator, of the canonical body.
    hub: weights, config, rig and a model card with the numbers of the run; --push uploads it.
    """
    from portraitgan.inference.errors import InferenceError

    if form == "hub":
        if parts is not None:
            raise InferenceError("--parts is for --format torch and onnx")
        _pack(model, out, checkpoint, rig, repository, public, license_name)
        return
    if repository is not None or public or license_name is not None:
        raise InferenceError("--push, --public and --license are for --format hub")
    from portraitgan.inference.export import export as export_parts

    opened = shared.open_chosen(model, checkpoint, rig, "cpu", full_precision=True)
    made = export_parts(opened, out, form, shared.listed_names(parts), _tell)
    print(f"{len(made)} files -> {out}")


def _tell(made: Exported) -> None:
    shared.say(
        f"{made.file}: compared, the largest difference is {made.difference:.1e} of the largest number"
    )


def _pack(
    model: str,
    out: Path,
    checkpoint: str | None,
    rig: Path | None,
    repository: str | None,
    public: bool,
    license_name: str | None,
) -> None:
    from portraitgan.inference import hub

    made = hub.pack(model, out, checkpoint, rig, repository, license_name)
    print(f"{model} -> {made}")
    if repository is not None:
        print(hub.upload(made, repository, private=not public))
