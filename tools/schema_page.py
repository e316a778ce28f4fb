"""Write docs/schema.md, the reference of all tables and columns, from `phq_data.schema`.

    python tools/schema_page.py           write the page
    python tools/schema_page.py check     end with an error when the page is not current

Names, order, types and whether a value may be missing come from the schemas themselves; what a column means
comes from its comment in `schema.py` (`phq_data.release.columns`). A column that is explained nowhere is an
error.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from phq_data import schema
from phq_data.release.columns import columns, markdown_table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "schema.md"
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
    parts = [INTRODUCTION.format(version=schema.SCHEMA_VERSION)]
    for table in schema.SCHEMAS:
        if table not in TABLES:
            raise PageError(f"tools/schema_page.py says nothing of table '{table}': add it to TABLES")
        for column in columns(table, source):
            if not column.meaning:
                raise PageError(f"column '{column.name}' of table '{table}' has no comment in schema.py")
        parts.append(f"## {table}\n\n{TABLES[table]}\n\n{markdown_table(table, source)}")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
