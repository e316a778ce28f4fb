"""`phq config`: what the settings of a build are, and what each one is for."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from typing import Annotated, Any, get_type_hints

import typer

from phq_data import config as settings
from phq_data.config import ConfigError, PipelineConfig

_MADE_BY = {"align": "align_crop", "crop": "align_crop", "mask": "align_crop"}
"""The stage that a group of settings enters, where it is not called so."""
_COMMENT = re.compile(r"^\s*#\s?(.*)$")
_BEHIND = re.compile(r"\s#\s(.*)$")


def register(app: typer.Typer) -> None:
    """Add the command group to the phq program."""
    group = typer.Typer(no_args_is_help=True, help="Show and explain the settings of a build.")
    group.command("show")(show)
    group.command("explain")(explain)
    app.add_typer(group, name="config")


def show(
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="The settings that this workspace was built with.")
    ] = "",
    preset: Annotated[str, typer.Option(help="Or those of a preset: default, paper.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As a file for phq build --config.")] = False,
) -> None:
    """List all settings with their values; those that differ from the default have a star.

    Example: phq config show --workspace portraits
    """
    chosen = _chosen(workspace, preset)
    if as_json:
        typer.echo(chosen.to_json())
        return
    plain = _flat(settings.default())
    for name, value in _flat(chosen).items():
        star = "" if value == plain[name] else f"   * default: {json.dumps(plain[name])}"
        typer.echo(f"{name:<34} {json.dumps(value)}{star}")


def explain(
    name: Annotated[str, typer.Argument(help="A setting such as screen.min_blur, or a group such as crop.")],
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="Show the value in this workspace, too.")
    ] = "",
) -> None:
    """Say what a setting is for, what it may be, and what a change makes anew.

    Example: phq config explain screen.max_error_probability
    """
    from phq_data.compatibility import SETTINGS

    name = SETTINGS.get(name, name)
    plain, chosen = _flat(settings.default()), _flat(_chosen(workspace, ""))
    found = [one for one in plain if one == name or one.startswith(f"{name}.")]
    if not found:
        settings.default().replace_setting(f"{name}=0")  # raises what tells of the nearest name
        raise ConfigError(f"there is no setting '{name}'")
    described = descriptions()
    for one in found:
        value = f"; here {json.dumps(chosen[one])}" if workspace else ""
        typer.echo(f"{one}: {_kind(one)}, default {json.dumps(plain[one])}{value}")
        for line in filter(None, (described[one], _makes_anew(one))):
            typer.echo(f"  {line}")
    typer.echo(f"Set it with: phq build --set {found[0]}=VALUE (kept for later builds of the workspace)")


def descriptions() -> dict[str, str]:
    """What every setting is for: the comments and texts that stand with them in `phq_data/config.py`."""
    import inspect

    source = inspect.getsource(settings)
    lines = source.splitlines()
    kinds = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    found = {"part_size": _described(kinds["PipelineConfig"], lines)["part_size"]}
    for group, kind in get_type_hints(PipelineConfig).items():
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            for name, text in _described(kinds[kind.__name__], lines).items():
                found[f"{group}.{name}"] = text
    return found


def _described(kind: ast.ClassDef, lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    last = ""
    for node in kind.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            above: list[str] = []
            row = node.lineno - 2
            while match := _COMMENT.match(lines[row]):
                above.insert(0, match[1])
                row -= 1
            behind = _BEHIND.search(lines[node.lineno - 1])
            found[last] = " ".join([*above, *([behind[1]] if behind else [])])
        elif last and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[last] = " ".join(f"{found[last]} {node.value.value!s}".split())
    return found


def _kind(name: str) -> str:
    """What values a setting takes, in words."""
    kind: Any = PipelineConfig
    for step in name.split("."):
        kind = get_type_hints(kind)[step]
    if choices := getattr(kind, "__args__", ()):
        return f"one of {', '.join(map(str, choices))}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}.get(
        kind, str(kind)
    )


def _makes_anew(name: str) -> str:
    """Which stages a change of a setting runs again."""
    from phq_data.stages.sequence import STAGE_NAMES

    group = name.partition(".")[0]
    stages = [*STAGE_NAMES, "dedup"]
    first = _MADE_BY.get(group, group)
    return f"A change runs again: {', '.join(stages[stages.index(first) :])}." if first in stages else ""


def _chosen(workspace: str, preset: str) -> PipelineConfig:
    if workspace:
        from phq_data.pipeline.engine import load_config
        from phq_data.workspace import Workspace

        return load_config(Workspace.open(workspace))
    if preset and preset not in settings.PRESETS:
        raise typer.BadParameter(f"--preset is one of {', '.join(settings.PRESETS)}, not {preset!r}")
    return settings.PRESETS[preset or "default"]()


def _flat(config: PipelineConfig) -> dict[str, Any]:
    """Settings by their dotted names, in the order of the code."""
    found: dict[str, Any] = {}
    for name, value in dataclasses.asdict(config).items():
        members = {f"{name}.{one}": inner for one, inner in value.items()} if isinstance(value, dict) else {}
        found |= members or {name: value}
    return found
