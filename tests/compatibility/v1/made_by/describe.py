"""What the programs of version 0.1.0 took and said: all options, and the keys of the JSON that they print.

`describe.py options` writes options.json; `describe.py keys < JSON` prints the keys of one JSON value.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import typer


def keys(value: Any, before: str = "") -> list[str]:
    """Dotted names of everything in a JSON value, sorted; `[]` stands for the entries of a list."""
    if isinstance(value, dict):
        inner = {f"{before}.{name}" if before else name: one for name, one in value.items()}
        return sorted({path for name, one in inner.items() for path in (name, *keys(one, name))})
    if isinstance(value, list):
        return sorted({path for one in value for path in keys(one, f"{before}[]")})
    return []


def options_of_click(command: Any, name: str) -> dict[str, list[str]]:
    """Command -> its options, subcommands included."""
    found = {name: sorted({text for one in command.params for text in (*one.opts, *one.secondary_opts)})}
    for inner, one in getattr(command, "commands", {}).items():
        found |= options_of_click(one, f"{name} {inner}")
    return found


def options_of_argparse(parser: argparse.ArgumentParser, name: str) -> dict[str, list[str]]:
    """The same of an argparse program; arguments by their names."""
    texts = set()
    found: dict[str, list[str]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner, one in action.choices.items():
                found |= options_of_argparse(one, f"{name} {inner}")
        elif not isinstance(action, argparse._HelpAction):
            texts |= set(action.option_strings or [action.dest])
    return {name: sorted(texts), **found}


if __name__ == "__main__":
    if sys.argv[1] == "keys":
        json.dump(keys(json.loads(sys.stdin.read().splitlines()[-1])), sys.stdout)
    else:
        from phq_data.cli import make_app
        from portraitgan.cli import build_parser

        every = options_of_click(typer.main.get_command(make_app()), "phq")
        every |= options_of_argparse(build_parser(), "portraitgan")
        lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in sorted(every.items())]
        Path(sys.argv[2]).write_text("{\n" + ",\n".join(lines) + "\n}\n")
