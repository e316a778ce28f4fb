"""`portraitgan export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from portraitgan.commands import shared

if TYPE_CHECKING:
    from portraitgan.inference.export import Exported


def export(
    model: shared.ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    form: Annotated[
        Literal["hub", "torch", "onnx"],
        typer.Option(
            "--format",
            help="A folder for the Hugging Face Hub, or programs of torch.export (.pt2) or ONNX.",
        ),
    ] = "hub",
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    parts: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="For torch and onnx: only these, as in mapping,backbone."),
    ] = None,
    repository: Annotated[
        str | None, typer.Option("--push", metavar="USER/NAME", help="For hub: upload the folder.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="For hub: make a new repository public.")] = False,
    license_name: Annotated[
        str | None,
        typer.Option("--license", metavar="NAME", help="Of the model, by the Hub's list: for card and JSON."),
    ] = None,
) -> None:
    """Write a model for the Hugging Face Hub, or its networks for other runtimes.

    hub: weights, config, rig and a model card with the run's numbers; --push uploads the folder, into a
    private repository unless --public. torch and onnx: mapping, backbone, volume, background,
    super-resolution and both pose networks, each a file that was run again and compared with the network, and
    export.json that names inputs, outputs, shapes and units; torch also has the whole generator.
    """
    from portraitgan.inference.errors import InferenceError

    if form == "hub":
        if parts is not None:
            raise InferenceError("--parts is for --format torch and onnx")
        _pack(model, out, checkpoint, rig, repository, public, license_name)
        return
    if repository is not None or public:
        raise InferenceError("--push and --public are for --format hub")
    from portraitgan.inference.export import export as export_parts

    opened = shared.open_chosen(model, checkpoint, rig, "cpu", full_precision=True)
    made = export_parts(opened, out, form, shared.listed_names(parts), license_name, _tell)
    print(f"{len(made)} files -> {out}")


def _tell(made: Exported) -> None:
    said = f"{made.difference:.1e} of the largest number"
    shared.say(f"{made.file}: compared with the network, differs by at most {said}")


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
