"""What both programs' command lines have in common: an option that holds one value is given once, and a file
of this machine is no URL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def refuse_repeats(app: typer.Typer) -> typer.Typer:
    """`app`, whose commands and groups now refuse an option given twice that is not a repeatable one.

    Otherwise the last one counts and the others are dropped silently.
    """
    for command in app.registered_commands:
        command.cls = _Command
    if app.registered_callback is not None:
        app.registered_callback.cls = _Group
    app.info.cls = _Group
    for group in app.registered_groups:
        group.cls = _Group
        if group.typer_instance is not None:
            refuse_repeats(group.typer_instance)
    return app


class _Command(TyperCommand):
    def make_parser(self, ctx: Any) -> Any:
        return _strict(super().make_parser(ctx), ctx)

    def invoke(self, ctx: Any) -> Any:
        _refuse_urls(ctx)
        return super().invoke(ctx)


class _Group(TyperGroup):
    def make_parser(self, ctx: Any) -> Any:
        return _strict(super().make_parser(ctx), ctx)


def _strict(parser: Any, ctx: Any) -> Any:
    plain = parser.parse_args

    def parse_args(args: list[str]) -> tuple[dict[str, Any], list[str], list[Any]]:
        values, rest, order = plain(args=args)
        _check(order, ctx)
        return values, rest, order

    parser.parse_args = parse_args
    return parser


def _check(order: Sequence[Any], ctx: Any) -> None:
    """`order` names every parameter as often as it was given."""
    seen: set[str] = set()
    for parameter in order:
        single = parameter.param_type_name == "option" and not (parameter.multiple or parameter.count)
        if single and parameter.name in seen:
            raise typer.BadParameter(
                f"{parameter.opts[0]} was given twice, and only one can count: give it once", ctx=ctx
            )
        seen.add(parameter.name)


def _refuse_urls(ctx: Any) -> None:
    """What is a file or folder of this machine is no URL: of `s3://b` a path makes a folder `s3:`."""
    for value in ctx.params.values():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Path) and re.match(r"[a-z][a-z0-9+.-]+:/", str(one)):
                raise typer.BadParameter(
                    f"{str(one).replace(':/', '://', 1)} is a URL; here a file or folder of this machine is "
                    "asked for",
                    ctx=ctx,
                )
