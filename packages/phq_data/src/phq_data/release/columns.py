"""What every column of a table means and in which unit: from the comments in `phq_data/schema.py`.

A comment stands behind a column or above it. Where a table repeats a column of another and says nothing, the
first table's comment holds.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from phq_data import schema

_COLUMN = re.compile(r"""^\s*(?:\*?pa\.field\("(\w+)"|"(\w+)":|(\w+)=(?=pa\.|_|[A-Z]))""")
_COMMENT = re.compile(r"  #\s*(.*)$|^\s*#\s*(.*)$")


@dataclass(frozen=True)
class Column:
    """A column for people."""

    name: str
    type: str  # `float32[25]`, `list of string`, `image`; with `?` it may be null
    meaning: str  # "" = explained nowhere


@functools.cache
def columns(table: str, source: str = "") -> tuple[Column, ...]:
    """The columns of a table of `schema.SCHEMAS`, in their order; `source`: another text of schema.py."""
    comments = comments_by_table(source or inspect.getsource(schema))
    anywhere = {name: text for found in reversed(comments.values()) for name, text in found.items() if text}
    own = comments.get(table.upper(), {})
    return tuple(
        Column(
            field.name,
            f"{describe(field.type)}{'?' if field.nullable else ''}",
            own.get(field.name) or anywhere.get(field.name, ""),
        )
        for field in schema.SCHEMAS[table]
    )


def markdown_table(table: str, source: str = "") -> str:
    """The columns as a Markdown table."""
    rows = (
        f"| `{one.name}` | {one.type} | {one.meaning.replace('|', chr(92) + '|')} |\n"
        for one in columns(table, source)
    )
    return "| column | type | meaning |\n| --- | --- | --- |\n" + "".join(rows)


def describe(kind: pa.DataType) -> str:
    """A type in a reader's words: `float32[25]`, `list of string`, `image`."""
    if kind == schema.IMAGE:
        return "image"
    if pa.types.is_fixed_size_list(kind):
        return f"{describe(kind.value_type)}[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list of {describe(kind.value_type)}"
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


def comments_by_table(source: str) -> dict[str, dict[str, str]]:
    """{assignment in schema.py: {column: the comment behind it, and that on lines of its own above it}}."""
    lines = source.splitlines()
    found: dict[str, dict[str, str]] = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            if isinstance(target, ast.Name) and statement.end_lineno:
                found[target.id] = dict(_comments(lines[statement.lineno - 1 : statement.end_lineno]))
    return found


def _comments(lines: list[str]) -> Iterator[tuple[str, str]]:
    above: list[str] = []
    for line in lines:
        column, comment = _COLUMN.match(line), _COMMENT.search(line)
        text = next((group for group in comment.groups() if group), "") if comment else ""
        if column:
            name = next(group for group in column.groups() if group)
            yield name, " ".join([*above, text]).strip()
            above = []
        elif line.strip().startswith("#"):
            above.append(text)
