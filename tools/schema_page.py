"""Write docs/schema.md, the reference of all tables and columns, from `phq_data.schema`.

    python tools/schema_page.py           write the page
    python tools/schema_page.py check     end with an error when the page is not current

Names, order, types and whether a value may be missing come from the schemas themselves; what a column means
comes from its comment in `schema.py`, behind it or above it. Where a table repeats a column of another and
says nothing, the first table's comment holds. A column that is explained nowhere is an error.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from phq_data import schema

PAGE = Path(__file__).resolve().parents[1] / "docs" / "schema.md"
COLUMN = re.compile(r"""^\s*(?:\*?pa\.field\("(\w+)"|"(\w+)":|(\w+)=(?=pa\.|_|[A-Z]))""")
COMMENT = re.compile(r"  #\s*(.*)$|^\s*#\s*(.*)$")
INTRODUCTION = """# Tables and columns

Schema version {version}. Made from `phq_data/schema.py` by `make schema-page`: edit the comments there.

Pixel positions are pixels of the upright photo (EXIF orientation applied): x right, y down, 0 at the left or
top edge of the first pixel. Angles are radians, lengths metres, shares 0 to 1, where nothing else is said.
`camera` and `pose` are explained in [architecture](architecture.md#the-camera-label), and so is
[which stage writes which table](architecture.md#the-datas-way). A type with `?` may be null.
"""
TABLES: Mapping[str, str] = {
    "plan": "One row a source file, in fixed order; part i of the plan becomes part i of `photos`.",
    "photos": "One row a photo (stage ingest).",
    "people": "One row a detected person (stage detect).",
    "fits": "One row a fitted body (stage fit).",
    "portraits": "One row a portrait with its label, image and mask (stage align_crop).",
    "screened": "One row a portrait: kept or not, and the numbers behind it (stage screen).",
    "duplicates": "One row a member of a cluster of two or more near-duplicates among the kept portraits of "
    "the whole workspace. A portrait that resembles no other has no row.",
    "decisions": "One row a decision of a reviewer. The review's database, which this table is made from, "
    "has five columns more: `seq` (order of arrival), `client_time`, `server_time`, `rules` (their version) "
    "and `queue` (which order the portrait was shown in).",
    "corrections": "One row a label that a reviewer corrected, or an undo of that. The review's database, "
    "which this table is made from, has three columns more: `seq` (order of arrival), `client_time` and "
    "`server_time`. Which corrections hold: [review](review.md#correcting-a-label).",
    "ledger": "One row an item and stage: kept, rejected or failed. Nothing disappears.",
    "release": "One row a released portrait: what a trainer needs, and where it is from.",
    "truth": "One row a rendered person: the file `truth.parquet` of `phq synthesize`.",
}


class PageError(Exception):
    """The page cannot be made: a table or column is explained nowhere."""


def main() -> None:
    text = page(Path(schema.__file__).read_text())
    if sys.argv[1:] == ["check"]:
        if not PAGE.is_file() or PAGE.read_text() != text:
            sys.exit(f"{PAGE.name} is not current: run python tools/schema_page.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        PAGE.write_text(text)


def page(source: str) -> str:
    """The page's text. `source` is the text of schema.py; raises `PageError`."""
    comments = comments_by_table(source)
    anywhere = {name: text for table in reversed(comments.values()) for name, text in table.items() if text}
    parts = [INTRODUCTION.format(version=schema.SCHEMA_VERSION)]
    for table, columns in schema.SCHEMAS.items():
        if table not in TABLES:
            raise PageError(f"tools/schema_page.py says nothing of table '{table}': add it to TABLES")
        own = comments.get(table.upper(), {})
        parts.append(f"## {table}\n\n{TABLES[table]}\n\n| column | type | meaning |\n| --- | --- | --- |\n")
        for field in columns:
            meaning = own.get(field.name) or anywhere.get(field.name)
            if not meaning:
                raise PageError(f"column '{field.name}' of table '{table}' has no comment in schema.py")
            kind = f"{describe(field.type)}{'?' if field.nullable else ''}"
            parts[-1] += f"| `{field.name}` | {kind} | {meaning.replace('|', chr(92) + '|')} |\n"
    return "\n".join(parts)


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
        column, comment = COLUMN.match(line), COMMENT.search(line)
        text = next((group for group in comment.groups() if group), "") if comment else ""
        if column:
            name = next(group for group in column.groups() if group)
            yield name, " ".join([*above, text]).strip()
            above = []
        elif line.strip().startswith("#"):
            above.append(text)


def describe(kind: pa.DataType) -> str:
    """A type in a reader's words: `float32[25]`, `list of string`, `image`."""
    if kind == schema.IMAGE:
        return "image"
    if pa.types.is_fixed_size_list(kind):
        return f"{describe(kind.value_type)}[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list of {describe(kind.value_type)}"
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


if __name__ == "__main__":
    main()
