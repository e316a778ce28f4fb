"""The `portraitgan` program. Its help needs neither torch nor a GPU; a command imports what it uses."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = (
    "convert",
    "sample",
    "video",
    "mesh",
    "predict_pose",
    "invert",
    "viewer",
    "train",
    "watch",
    "metrics",
)
"""Modules of `portraitgan.commands`; each has `add(commands)`, and imports what it runs only when it runs."""


def build_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    parser = argparse.ArgumentParser(
        prog="portraitgan", description="A released portrait dataset to a 3D portrait generator."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"portraitgan.commands.{name}").add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 on success, 1 with a message on stderr when the user can do something about it."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print(f"\nportraitgan {options.command}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
