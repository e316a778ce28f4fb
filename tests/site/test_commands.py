"""Commands in README, CONTRIBUTING, docs/ and the notebooks: those of tutorials run, all others exist.

A block of a tutorial is run as it stands, but for what `SMALLER` makes cheaper, unless its title says what it
needs. A line of any other page that begins with one of our programs names a command and options that it has.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import phq_data.cli.main
import portraitgan.commands.main

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^( *)```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
TUTORIALS = ["first-dataset", "team-review", "release", "training", "photos-to-film"]
NEEDS = {"needs the internet", "needs a GPU", "needs a browser", "needs your photos"}
SMALLER = {
    "phq build ": "phq build --runner inline ",
    "samples synthetic:24": "synthetic:6@3",
    "until_kimg=2": "until_kimg=0.016",
    "sheet.png --seeds 0-3": "sheet.png --seeds 0 --samples 1",
    "--seconds 1": "--seconds 0.2 --samples 1",
}
PROGRAMS = {
    "phq": typer.main.get_command(phq_data.cli.main.make_app()),
    "portraitgan": typer.main.get_command(portraitgan.commands.main.make_app()),
}


def pages() -> list[Path]:
    docs = ROOT / "docs"
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *docs.rglob("*.md"), *docs.rglob("*.ipynb")]


def command_lines(page: Path) -> Iterator[str]:
    """Lines of a page's blocks, or of a notebook's cells, that begin with one of our programs."""
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text())["cells"]
        lines = [line.removeprefix("!") for cell in cells for line in "".join(cell["source"]).splitlines()]
    else:
        blocks = [match for match in BLOCK.finditer(page.read_text()) if match[2] in ("", "bash", "sh")]
        lines = "\n".join(block[4].replace("\\\n", " ") for block in blocks).splitlines()
    for line in lines:
        if re.match(rf"\s*({'|'.join(PROGRAMS)}) \S", line):
            yield line.strip()


def unknown(line: str) -> list[str]:
    """Commands and options of a line that its program has not."""
    words = shlex.split(line, comments=True)
    command: Any = PROGRAMS[words.pop(0)]
    if {"<", ">", "&", "|"} & set(words):
        words = words[: min(words.index(one) for one in "<>&|" if one in words)]
    while words and getattr(command, "commands", None) and not words[0].startswith("-"):
        inner = command.commands.get(words[0])
        if inner is None and "[" not in words[0] and not getattr(command, "invoke_without_command", False):
            return [words[0]]
        if inner is None:
            break
        command = inner
        words.pop(0)
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {
        "--help"
    }
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    return [option for option in options if option not in known]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    assert {line: unknown(line) for line in command_lines(page) if unknown(line)} == {}


def test_a_command_or_option_that_is_not_there_is_seen() -> None:
    assert unknown("phq biuld -w DIR") == ["biuld"]
    assert unknown("phq build --worksapce DIR samples  # a comment") == ["--worksapce"]
    assert unknown("portraitgan train --data R --out RUN --set a=--b --presett=tiny") == ["--presett"]


def test_every_block_of_a_tutorial_is_run_or_says_what_it_needs() -> None:
    folder = ROOT / "docs/tutorials"
    assert {page.stem for page in folder.glob("*.md")} == set(TUTORIALS)
    for page in [*folder.glob("*.md"), ROOT / "docs/install.md"]:
        for _, language, title, text in BLOCK.findall(page.read_text()):
            assert language == "bash", f"{page.name}: a block of {language or 'no language'}:\n{text}"
            assert not title or title in NEEDS, f"{page.name}: {title}"
    assert [title for _, _, title, _ in BLOCK.findall((ROOT / "docs/install.md").read_text())] == [
        "needs the internet"
    ]


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.timeout(1800)
def test_the_tutorials_run_one_after_another(tmp_path: Path) -> None:
    variables = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1",
        "HOME": str(tmp_path), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    used = set()
    for name in TUTORIALS:
        for _, _, title, block in BLOCK.findall((ROOT / f"docs/tutorials/{name}.md").read_text()):
            if title:
                continue
            for old, new in SMALLER.items():
                used |= {old} if old in block else set()
                block = block.replace(old, new)
            command = ["bash", "-euo", "pipefail", "-c", block]
            done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
            assert done.returncode == 0, (name, block, done.stdout, done.stderr)
    assert used == set(SMALLER)
    for made in ("portraits/report/index.html", "decisions.csv", "releases/2.0.0/manifest.json", "sheet.png"):
        assert (tmp_path / made).stat().st_size > 0
    assert (tmp_path / "turn.mp4").stat().st_size > 0
