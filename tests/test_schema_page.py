"""The reference of tables and columns (docs/schema.md) says what the schema says."""

import re
import sys
from pathlib import Path

import pytest

from phq_data import schema
from phq_data.release.columns import comments_by_table

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def schema_page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.delitem(sys.modules, "schema_page", raising=False)
    import schema_page

    return schema_page


def test_the_page_is_current(schema_page):
    source = Path(schema.__file__).read_text()
    assert schema_page.page(source) == schema_page.PAGE.read_text(), "run `make schema-page`"


def test_every_column_stands_under_its_table_with_a_meaning():
    sections = re.split(r"^## ", (ROOT / "docs" / "schema.md").read_text(), flags=re.MULTILINE)[1:]
    named = {
        section.splitlines()[0]: re.findall(r"^\| `(\w+)` \| \S.* \| \S.* \|$", section, re.MULTILINE)
        for section in sections
    }
    assert named == {table: columns.names for table, columns in schema.SCHEMAS.items()}


def test_a_column_without_a_comment_is_named(schema_page):
    source = Path(schema.__file__).read_text()
    bare = re.sub(r"(yaw_std=pa\.float32\(\),)  #.*", r"\1", source)
    assert bare != source
    with pytest.raises(schema_page.PageError, match="'yaw_std' of table 'fits'"):
        schema_page.page(bare)


def test_comments_above_and_behind_a_column_are_one():
    source = (
        "FITS = pa.schema(\n    _fields(\n        # first part,\n        # second part\n"
        "        yaw=pa.float32(),  # third\n        roll=pa.float32(),\n    )\n)\n"
    )
    assert comments_by_table(source)["FITS"] == {
        "yaw": "first part, second part third",
        "roll": "",
    }
