"""Build the wheels of all packages, check them and print their sizes.

    python tools/wheels.py build [FOLDER]     build into FOLDER (default: dist) and check
    python tools/wheels.py check WHEEL ...    check wheels that are there

A wheel passes that says what an index asks for (name, version, license, a readable description) and holds the
files of its package's folder: all that git knows, nothing else, so no test, tool or benchmark.
"""

from __future__ import annotations

import email
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.metadata import InvalidMetadata, Metadata

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("packages/phq_data", "packages/portraitgan", "flows", "annotator_app", "packages/phq")
CARRIED = ("LICENSE", "NOTICE")


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["build"] and len(arguments) <= 2:
        wheels = build(Path(arguments[1]) if arguments[1:] else ROOT / "dist")
    elif arguments[:1] == ["check"] and arguments[1:]:
        wheels = [Path(name) for name in arguments[1:]]
    else:
        sys.exit(__doc__)
    problems = [f"{wheel.name}: {problem}" for wheel in wheels for problem in check(wheel)]
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 1e6:8.2f} MB  {wheel}")
    if problems:
        sys.exit("\n".join(problems))


def build(out: Path, root: Path = ROOT) -> list[Path]:
    """The wheels of all packages of a checkout, made in `out`; wheels of other versions there are removed.

    hatchling is that of the environment: no index is asked.
    """
    out.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for folder in FOLDERS:
        pattern = f"{_project(root / folder)['name'].replace('-', '_')}-*.whl"
        for former in out.glob(pattern):
            former.unlink()
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out.resolve())]
        done = subprocess.run(command, cwd=root / folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{folder} cannot be built:\n{done.stdout}{done.stderr}")
        made += out.glob(pattern)
    return made


def check(wheel: Path, root: Path = ROOT) -> Iterator[str]:
    """What is wrong with a wheel of one of our packages, a sentence a fault."""
    with zipfile.ZipFile(wheel) as archive:
        members = set(archive.namelist())
        (inner,) = {name.partition("/")[0] for name in members if ".dist-info/" in name}
        described = archive.read(f"{inner}/METADATA")
    yield from _metadata(described)
    name = email.message_from_bytes(described)["Name"]
    folder = next((one for one in FOLDERS if _project(root / one)["name"] == name), None)
    if folder is None:
        yield f"'{name}' is none of our packages"
        return
    yield from (f"{one} is missing" for one in CARRIED if f"{inner}/licenses/{one}" not in members)
    packaged = {one for one in members if not one.startswith(f"{inner}/")}
    wanted = _tracked(root / folder / "src")
    yield from (f"{one} is missing" for one in sorted(wanted - packaged))
    yield from (f"{one} does not belong there" for one in sorted(packaged - wanted))
    for top in {one.partition("/")[0] for one in wanted}:
        if f"{top}/py.typed" not in packaged:
            yield f"{top}/py.typed is missing: its types would not be used"


def _metadata(described: bytes) -> Iterator[str]:
    try:
        metadata = Metadata.from_email(described, validate=True)
    except ExceptionGroup as group:
        yield from (str(error) for error in group.exceptions)
        return
    except InvalidMetadata as error:
        yield str(error)
        return
    for wanted in ("summary", "license_expression", "requires_python"):
        if not getattr(metadata, wanted):
            yield f"its metadata have no {wanted}"
    if metadata.description_content_type != "text/markdown" or len(metadata.description or "") < 200:
        yield "its description is no README in Markdown"
    if "](" in (metadata.description or "").replace("](http", ""):
        yield "its description has a relative link, which leads nowhere on an index"
    yield from (f"{one} names a place" for one in metadata.requires_dist or [] if one.url)


def _project(folder: Path) -> dict[str, str]:
    project: dict[str, str] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return project


def _tracked(source: Path) -> set[str]:
    """Files below a `src` folder that git knows or would add, by their name in the wheel."""
    if not source.is_dir():
        return set()
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True).stdout
    return {name for name in names.split("\0") if name and (source / name).exists()}


if __name__ == "__main__":
    main(sys.argv[1:])
