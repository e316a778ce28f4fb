import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data.sources import SourceError
from phq_data.sources.urls import UrlList


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("url,image_url", "url and image_url mean the same"),
        ("url,license,license", "license and license mean the same"),
        ("url;license", "separated by ';'"),
        ("url\tlicense", "separated by a tab"),
    ],
)
def test_a_header_that_means_two_things_or_none_is_told(tmp_path, head, reason):
    path = tmp_path / "list.csv"
    path.write_text(f"{head}\nhttp://h/a.jpg,CC0,CC0\n")
    with pytest.raises(SourceError, match=reason):
        UrlList(path).search("", "")


@pytest.mark.parametrize("values", [pa.array([b"x"]), pa.array([7]), pa.array([["x"]])])
def test_columns_of_a_table_that_are_no_texts_are_told_by_name(tmp_path, values):
    pq.write_table(pa.table({"url": ["http://h/a.jpg"], "author": values}), tmp_path / "list.parquet")
    with pytest.raises(SourceError, match="the column author"):
        UrlList(tmp_path / "list.parquet").search("", "")


def test_what_is_not_a_number_is_nothing_and_pages_are_web_addresses(tmp_path):
    columns = {
        "url": ["http://h/a.jpg"], "license": ["CC0"], "author": pa.array([float("nan")]),
        "page_url": ["javascript:alert(1)"], "author_url": ["https://h/ada"],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    (found,) = UrlList(tmp_path / "list.parquet").search("", "").candidates
    stated = found.provenance
    assert (stated.author, stated.page_url, stated.author_url) == (None, None, "https://h/ada")
