"""Execute the notebooks of docs/notebooks without Jupyter, and write them as pages with their outputs.

    python tools/notebooks.py run NOTEBOOK ...      execute each in a folder of its own; an error ends it
    python tools/notebooks.py strip NOTEBOOK ...    remove outputs and counters, as git holds them

Enough of a notebook for ours: Python cells, lines that begin with `!` (a failing one ends the notebook, where
Jupyter would go on), the value of a cell's last expression, figures of matplotlib.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One cell: `kind` is markdown or code."""

    kind: str
    source: str


@dataclass(frozen=True)
class Output:
    """What a cell left: text, HTML, or the bytes of a PNG."""

    text: str = ""
    html: str = ""
    png: bytes = b""


def main(arguments: list[str]) -> None:
    command, names = arguments[:1], [Path(name) for name in arguments[1:]]
    if command not in (["run"], ["strip"]) or not names:
        sys.exit(__doc__)
    for name in names:
        if command == ["strip"]:
            name.write_text(stripped(name.read_text()))
        else:
            for outputs in execute(read(name)):
                print("\n".join(one.text or f"({'table' if one.html else 'image'})" for one in outputs))


def read(path: Path) -> list[Cell]:
    """The cells of a notebook."""
    cells = json.loads(path.read_text())["cells"]
    return [Cell(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def stripped(text: str) -> str:
    """A notebook's text without outputs and counters."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def execute(cells: list[Cell], changes: Mapping[str, str] | None = None) -> list[list[Output]]:
    """The outputs of every cell, run one after another in an empty folder; `changes` replaces texts in them.

    The current folder is another one meanwhile. An exception of a cell is raised.
    """
    os.environ["MPLBACKEND"] = "Agg"
    module = types.ModuleType("__main__")
    before, path = Path.cwd(), os.environ.get("PATH", "")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    outputs = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for cell in cells:
                source = cell.source
                for old, new in (changes or {}).items():
                    source = source.replace(old, new)
                outputs.append(list(_run(source, module.__dict__)) if cell.kind == "code" else [])
            os.chdir(before)
    finally:
        os.chdir(before)
        os.environ["PATH"] = path
    return outputs


def write_page(notebook: Path, folder: Path, run: bool) -> None:
    """`NAME.md` in `folder`, and its images beside it; without `run` there are no outputs."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = read(notebook)
    outputs: list[list[Output]] = execute(cells) if run else [[] for _ in cells]
    parts = []
    images = 0
    for cell, made in zip(cells, outputs, strict=True):
        parts.append(cell.source if cell.kind == "markdown" else f"```python\n{cell.source}\n```")
        for one in made:
            if one.png:
                images += 1
                name = f"{notebook.stem}-{images}.png"
                (folder / name).write_bytes(one.png)
                parts.append(f"![What the cell above shows]({name})")
            elif one.html:
                parts.append(f'<div class="output" markdown="0">{one.html}</div>')
            elif one.text.strip():
                parts.append(f"```text\n{one.text.rstrip()}\n```")
    (folder / f"{notebook.stem}.md").write_text("\n\n".join(parts) + "\n")


def _run(source: str, names: dict[str, Any]) -> Iterator[Output]:
    printed = io.StringIO()
    names["_shell"] = lambda command: printed.write(_shell(command))
    lines = [f"_shell({line[1:]!r})" if line.startswith("!") else line for line in source.splitlines()]
    tree = ast.parse("\n".join(lines))
    last: ast.Expr | None = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = tree.body[-1]
        tree.body.pop()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)  # a notebook of this repository
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last else None  # noqa: S307
    yield Output(text=printed.getvalue())
    if value is not None and not (last and ast.unparse(last).startswith("_shell(")):
        yield _shown(value)
    yield from _figures()


def _shell(command: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def _shown(value: Any) -> Output:
    for method, kind in (("_repr_html_", "html"), ("_repr_png_", "png")):
        made = getattr(value, method, lambda: None)()
        if made:
            return Output(**{kind: made})
    return Output(text=repr(value))


def _figures() -> Iterator[Output]:
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    for number in pyplot.get_fignums() if pyplot else []:
        data = io.BytesIO()
        pyplot.figure(number).savefig(data, format="png", dpi=80, bbox_inches="tight")
        pyplot.close(number)
        yield Output(png=data.getvalue())


if __name__ == "__main__":
    main(sys.argv[1:])
