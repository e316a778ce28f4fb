"""The pages of the site that are made from the code: both command lines, all settings.

`pages()` returns them as {file below docs: Markdown text}; `tools/docs_site.py` puts them into the site. What
they say is what `--help` and the comments in `config.py` say: edit those.
"""

from __future__ import annotations

import ast
import enum
import html
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = (
    ("Building a dataset", "packages/phq_data/src/phq_data/config.py", "phq build --set GROUP.NAME=VALUE"),
    (
        "Networks and losses",
        "packages/portraitgan/src/portraitgan/config.py",
        "portraitgan train --set model.…",
    ),
    (
        "Training",
        "packages/portraitgan/src/portraitgan/training/config.py",
        "portraitgan train --set NAME=VALUE",
    ),
)


def pages() -> dict[str, str]:
    """All generated pages."""
    import phq_data.cli.main
    import portraitgan.commands.main

    phq = typer.main.get_command(phq_data.cli.main.make_app())
    portraitgan_ = typer.main.get_command(portraitgan.commands.main.make_app())
    return {
        "reference/phq.md": command_page("phq", phq),
        "reference/portraitgan.md": command_page("portraitgan", portraitgan_),
        "reference/settings.md": settings_page(),
    }


# ---- command lines ---------------------------------------------------------------------------------------


def command_page(program: str, whole: Any) -> str:
    """One page a program: a section for each command, with its arguments and options."""
    parts = [f"# The program {program}\n\nMade from `{program} --help`.\n"]
    for path, command in commands(whole, (program,)):
        if len(path) > 1 or command.params:
            parts.append(_command(path, command))
    return "\n".join(parts)


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words, command) of a program and of all commands below it that are shown."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from commands(inner, (*path, name))


def _command(path: tuple[str, ...], command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([*path, *(f"{{{one.name.upper()}}}" for one in arguments)])
    text = f"## {' '.join(path)}\n\n```text\n{usage} [options]\n```\n\n{_prose(command.help or '')}\n"
    if arguments or options:
        rows = [(one.name.upper(), one) for one in arguments]
        rows += [(", ".join([*one.opts, *one.secondary_opts]), one) for one in options]
        text += "\n| name | value | meaning |\n| --- | --- | --- |\n"
        text += "".join(f"| {_code(name)} | {_value(one)} | {_cell(_meaning(one))} |\n" for name, one in rows)
    return text


def _value(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    annotation = parameter.type_descriptor.annotation
    choices = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        choices = tuple(one.value for one in annotation)
    if choices:
        return _cell(", ".join(map(str, choices)))
    bounds = [
        f"{sign} {bound}" for sign, bound in (("≥", parameter.min), ("≤", parameter.max)) if bound is not None
    ]
    kind = parameter.metavar or getattr(annotation, "__name__", str(annotation))
    return _cell(" ".join([kind.strip("<>").replace("Path", "path"), *bounds]))


def _meaning(parameter: Any) -> str:
    said = str(getattr(parameter, "help", "") or "")
    default = parameter.default
    if (
        getattr(parameter, "show_default", False)
        and default not in (None, "", False, ())
        and not callable(default)
    ):
        said += f" Default: `{getattr(default, 'value', default)}`."
    return said


def _prose(text: str) -> str:
    """Help as Markdown: paragraphs stay, `\\b` blocks become code."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\f", "").strip()):
        if paragraph.startswith("\b"):
            paragraphs.append("```text\n" + paragraph.lstrip("\b\n") + "\n```")
        else:
            paragraphs.append(_escape(" ".join(paragraph.split())))
    return "\n\n".join(paragraphs)


# ---- settings --------------------------------------------------------------------------------------------


def settings_page() -> str:
    """All settings: name, type, default and the comment that stands beside them in `config.py`."""
    parts = [
        "# Settings\n\nMade from the three `config.py`. A workspace and a run keep the settings they were "
        "made with; `--config FILE` takes many at once. A group is a field of the last table of its part.\n"
    ]
    for title, name, usage in SETTINGS:
        parts.append(f"## {title}\n\n```text\n{usage}\n```\n")
        for statement in ast.parse((ROOT / name).read_text()).body:
            if isinstance(statement, ast.ClassDef) and statement.name.endswith("Config"):
                parts.append(_group(statement, (ROOT / name).read_text().splitlines()))
    return "\n".join(parts)


def _group(group: ast.ClassDef, lines: list[str]) -> str:
    """A table of the fields of one dataclass."""
    text = f"### {group.name}\n\n{_escape(ast.get_docstring(group) or '')}\n\n"
    text += "| setting | type | default | meaning |\n| --- | --- | --- | --- |\n"
    for position, field in enumerate(group.body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        following = group.body[position + 1] if position + 1 < len(group.body) else None
        said = _comment(lines, field)
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            said += f" {' '.join(str(following.value.value).split())}"
        default = _code(ast.unparse(field.value)) if field.value else ""
        text += (
            f"| `{field.target.id}` | {_code(ast.unparse(field.annotation))} | {default} | {_cell(said)} |\n"
        )
    return text


def _comment(lines: list[str], field: ast.AnnAssign) -> str:
    """The comment above a field and that behind it."""
    above: list[str] = []
    row = field.lineno - 2
    while lines[row].strip().startswith("#"):
        above.insert(0, lines[row].strip("# "))
        row -= 1
    behind = re.search(r"  # (.*)$", lines[(field.end_lineno or field.lineno) - 1])
    return " ".join([*above, behind[1] if behind else ""]).strip()


# ---- Markdown --------------------------------------------------------------------------------------------


def _escape(text: str) -> str:
    """Text for Markdown: what stands in backticks stays, `<` and `*` elsewhere are no markup."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        one if one.startswith("`") else re.sub(r"([*_\[\]])", r"\\\1", html.escape(one, quote=False))
        for one in pieces
    )


def _cell(text: str) -> str:
    return _escape(" ".join(text.split())).replace("|", "\\|")


def _code(text: str) -> str:
    """Code in a table's cell."""
    return f"`{text}`".replace("|", "\\|")
