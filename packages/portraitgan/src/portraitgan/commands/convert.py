"""`portraitgan convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FACE_SELECTION = {
    "matches": "the rig's faces inside the cube are the checkpoint's",
    "not checked": "the checkpoint's face selection was not compared with a rig (--rig)",
    "none": "the checkpoint has no body",
}


def convert(
    official: Annotated[Path, typer.Argument(metavar="OFFICIAL.pkl", help="The checkpoint.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    rig: Annotated[
        Path | None,
        typer.Option(help="The rig of the checkpoint's body; its faces are compared with the file's."),
    ] = None,
) -> None:
    """Turn an official checkpoint (.pkl) into safetensors and JSON, without running what is in it.

    Reads an official 3DPortraitGAN checkpoint (or one of PanoHead or EG3D of the same structure) and writes
    its networks as safetensors with a JSON config. Nothing in the file is run.
    """
    from phq_data.rig import PortraitRig
    from portraitgan.checkpoints.convert import convert as convert_checkpoint

    made = convert_checkpoint(official, out, None if rig is None else PortraitRig.load(rig))
    generator = made.config.generator
    print(f"{official} -> {made.folder}")
    print(f"  networks: {', '.join(made.networks)}")
    print(
        f"  image {generator.image_resolution}, neural rendering resolution {generator.render.resolution}, "
        f"deformation {generator.deformation.mode}"
    )
    print(f"  {made.dropped} constants left out (filters, body model)")
    print(f"  {FACE_SELECTION[made.face_selection]}")
