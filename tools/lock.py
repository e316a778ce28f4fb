"""Keep a hash-checked lock in git that names no package index.

    python tools/lock.py restore      uv.lock.in -> uv.lock, for the index this machine uses
    python tools/lock.py save         uv.lock -> uv.lock.in, after `uv lock`
    python tools/lock.py check        both say the same

A uv.lock holds the address of the index and of every file. Users and clusters have their own mirrors, so
the committed template holds placeholders instead. What belongs there is learned from uv itself: it locks a
scratch project with one small package, and the addresses in that lock are those that this machine uses.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK, TEMPLATE = ROOT / "uv.lock", ROOT / "uv.lock.in"
INDEX, FILES = "@INDEX@", "@FILES@"
PROBE = "iniconfig"
SUFFIX = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/[^/\"]+$")


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in {"restore", "save", "check"}:
        sys.exit(__doc__)
    if sys.argv[1] == "restore":
        index, files = addresses()
        write(LOCK, TEMPLATE.read_text().replace(INDEX, index).replace(FILES, files))
    elif sys.argv[1] == "save":
        write(TEMPLATE, template(LOCK.read_text()))
    elif template(LOCK.read_text()) != TEMPLATE.read_text():
        sys.exit("uv.lock and uv.lock.in differ: run `python tools/lock.py save` after `uv lock`")


def addresses() -> tuple[str, str]:
    """(index, file host with path) as uv writes them on this machine."""
    version = re.search(rf'name = "{PROBE}"\nversion = "([^"]+)"', TEMPLATE.read_text())
    if version is None:
        sys.exit(f"uv.lock.in does not hold the package {PROBE}")
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "pyproject.toml").write_text(
            '[project]\nname = "scratch"\nversion = "0"\nrequires-python = ">=3.11"\n'
            f'dependencies = ["{PROBE}=={version[1]}"]\n'
        )
        command = [os.environ.get("UV", "uv"), "lock", "--quiet", "--project", folder]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"uv could not reach a package index:\n{done.stderr}")
        return parse((project / "uv.lock").read_text())


def parse(lock: str) -> tuple[str, str]:
    """(index, file host with path) that a lock names; the program ends when it names several."""
    indexes = set(re.findall(r'registry = "([^"]+)"', lock))
    files = {SUFFIX.sub("", url) for url in re.findall(r'url = "([^"]+)"', lock)}
    if len(indexes) != 1 or len(files) != 1:
        sys.exit(f"expected one index and one file host, found {sorted(indexes)} and {sorted(files)}")
    return indexes.pop(), files.pop()


def template(lock: str) -> str:
    """A lock's text with placeholders for the index and the file host."""
    index, files = parse(lock)
    return lock.replace(f'"{index}"', f'"{INDEX}"').replace(f'"{files}/', f'"{FILES}/')


def write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


if __name__ == "__main__":
    main()
