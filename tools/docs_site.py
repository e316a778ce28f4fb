"""Assemble the pages of the documentation site and build it: `make site`.

    python tools/docs_site.py             pages, executed notebooks and HTML, in site-out/
    python tools/docs_site.py html        the same, notebooks as they are (seconds)

The site has what docs/ has, CONTRIBUTING and CHANGELOG, what the code says of itself (`reference_pages`) and
the notebooks with their outputs. Pages are written for GitHub's Markdown; what MkDocs reads otherwise is
changed here. A broken link, a missing anchor or a page that nothing leads to ends the build with an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import notebooks
import reference_pages

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "site-out"
ABOVE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
"""Pages of the repository's root, by their name on the site; README's place is taken by docs/index.md."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
ITEM = re.compile(r"(?:[*-]|\d+\.) ")


def main(arguments: list[str]) -> None:
    if arguments not in ([], ["html"]):
        sys.exit(__doc__)
    write_pages(OUT / "pages", run=not arguments)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    print(OUT / "html/index.html")


def write_pages(folder: Path, run: bool = False) -> None:
    """All pages of the site; `run` executes the notebooks for their outputs."""
    shutil.rmtree(folder, ignore_errors=True)
    docs = ROOT / "docs"
    for source in sorted(docs.rglob("*")):
        if source.is_file() and source.suffix != ".ipynb":
            target = folder / source.relative_to(docs)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".md":
                target.write_text(page(source.read_text(), source))
            else:
                shutil.copy2(source, target)
    for name, target_name in ABOVE.items():
        if name != "README.md":
            (folder / target_name).write_text(page((ROOT / name).read_text(), ROOT / name))
    for name, text in reference_pages.pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for notebook in sorted((docs / "notebooks").glob("*.ipynb")):
        notebooks.write_page(notebook, folder / "notebooks", run)


def page(text: str, source: Path) -> str:
    """A page of GitHub's Markdown as MkDocs reads it; `source` tells where its links start."""
    return "\n".join(_blocks(_links(text, source).splitlines())) + "\n"


def _links(text: str, source: Path) -> str:
    def moved(match: re.Match[str]) -> str:
        image, words, link = match.groups()
        path, mark, anchor = link.partition("#")
        if "://" in link or not path:
            return match[0]
        target = (source.parent / path.replace(".ipynb", ".md")).resolve()
        if target.is_relative_to(ROOT / "docs"):
            start = source.parent if _inside(source) else ROOT / "docs"
            return f"{image}[{words}]({os.path.relpath(target, start)}{mark}{anchor})"
        if target.parent == ROOT and target.name in ABOVE:
            up = "../" * (len(source.relative_to(ROOT / "docs").parts) - 1) if _inside(source) else ""
            return f"[{words}]({up}{ABOVE[target.name]}{mark}{anchor})"
        return words  # a file of the repository, which the site does not hold

    return LINK.sub(moved, text)


def _inside(source: Path) -> bool:
    return source.is_relative_to(ROOT / "docs")


def _blocks(lines: list[str]) -> Iterator[str]:
    """Lists and tables begin after an empty line, and what belongs to an item is indented by four."""
    fence, before = "", ""
    for line in lines:
        indent = len(line) - len(line.lstrip(" "))
        opened = re.match(r" *(`{3,})", line)
        if fence:
            yield f" {line}" if fence.startswith("   `") and line else line
            if opened and line.strip() == fence.strip():
                fence, before = "", ""
            continue
        if opened:
            fence = " " * indent + opened[1]
            yield f" {line}" if indent == 3 else line
            continue
        stripped = line.strip()
        starts = bool(ITEM.match(stripped)) and not indent
        inside = bool(before) and (bool(ITEM.match(before.strip())) or before.startswith(" "))
        if (starts and before.strip() and not inside) or (
            stripped.startswith("|") and before.strip() and not before.strip().startswith("|")
        ):
            yield ""
        yield f"    {line.lstrip(' ')}" if indent in (2, 3) and not stripped.startswith("|") else line
        before = line


if __name__ == "__main__":
    main(sys.argv[1:])
