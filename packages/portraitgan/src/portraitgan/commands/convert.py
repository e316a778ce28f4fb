"""`portraitgan convert`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    convert = commands.add_parser(
        "convert",
        help="turn an official checkpoint (.pkl) into safetensors and JSON, without running what is in it",
        description="Reads an official 3DPortraitGAN checkpoint (or one of PanoHead or EG3D of the same "
        "structure) and writes its networks as safetensors with a JSON config. Nothing in the file is run.",
    )
    convert.add_argument("official", type=Path, metavar="OFFICIAL.pkl", help="the checkpoint")
    convert.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    convert.add_argument(
        "--rig", type=Path, help="the rig of the checkpoint's body; its faces are compared with the file's"
    )
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    from phq_data.rig import PortraitRig, RigError
    from portraitgan.checkpoints.convert import ConvertError, PickleRefusedError, convert
    from portraitgan.checkpoints.weights import WeightsError
    from portraitgan.deformation.errors import DeformationError
    from portraitgan.strict_json import ConfigError

    known = (ConvertError, PickleRefusedError, ConfigError, WeightsError, RigError, DeformationError)
    try:
        rig = None if options.rig is None else PortraitRig.load(options.rig)
        made = convert(options.official, options.out, rig)
    except known as error:
        print(f"portraitgan convert: {error}", file=sys.stderr)
        return 1
    generator = made.config.generator
    print(f"{options.official} -> {made.folder}")
    print(f"  networks: {', '.join(made.networks)}")
    print(
        f"  image {generator.image_resolution}, rays {generator.render.resolution}, "
        f"deformation {generator.deformation.mode}"
    )
    print(f"  {made.dropped} constants left out (filters, body model)")
    selection = {
        "matches": "the rig's faces inside the cube are the checkpoint's",
        "not checked": "the checkpoint's face selection was not compared with a rig (--rig)",
        "none": "the checkpoint has no body",
    }
    print(f"  {selection[made.face_selection]}")
    return 0
