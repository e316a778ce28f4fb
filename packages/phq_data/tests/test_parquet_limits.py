"""What a Parquet file may unfold to: two kinds of files of a few kB that stand for GiBs."""

import io
import resource

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data import parquet_limits
from phq_data.parquet_limits import SizeError


def written(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


def opened(data):
    source = pa.BufferReader(data)
    return pq.ParquetFile(source), len(data), source


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@pytest.fixture(scope="module")
def zeros():
    """300 MiB of zeros in pages."""
    table = pa.table({"image": pa.array([bytes(4 << 20)] * 75, pa.binary()), "n": range(75)})
    return written(table, use_dictionary=False, row_group_size=25)


def test_pages_of_zeros_are_refused_before_they_are_unpacked(zeros):
    file, size, _ = opened(zeros)
    assert size < 100_000
    before = peak_mib()
    with pytest.raises(SizeError, match=r"unfold to 314,[0-9,]+, more than any of ours"):
        parquet_limits.read(file, size)
    assert peak_mib() - before < 100
    assert parquet_limits.read(file, size, ["n"])["n"].to_pylist() == list(range(75))


@pytest.mark.parametrize("with_source", [True, False])
def test_a_text_that_every_row_names_is_counted_as_it_comes(with_source):
    column = pa.array(["x" * (1 << 20)] * 20_000, pa.dictionary(pa.int32(), pa.large_string()))
    file, size, source = opened(written(pa.table({"a": column}), store_schema=False))
    assert size < 10_000
    before = peak_mib()
    with pytest.raises(SizeError, match="unfold to more than 268,435,456"):
        parquet_limits.read(file, size, source=source if with_source else None)
    assert peak_mib() - before < 1200


def test_texts_that_are_no_utf8_are_told_where_they_are_read():
    column = pa.array([b"abc\xff\xfegh"], pa.binary())
    invalid = pa.StringArray.from_buffers(1, *column.buffers()[1:])
    broken = written(pa.table({"a": invalid}), use_dictionary=False, write_statistics=False)
    file, size, _ = opened(broken)
    with pytest.raises(pa.ArrowInvalid, match="UTF8"):
        parquet_limits.read(file, size)


def test_a_column_that_stays_a_dictionary_is_refused():
    column = pa.array(["a", "a"]).dictionary_encode()
    file, size, _ = opened(written(pa.table({"a": column})))
    with pytest.raises(SizeError, match="column a is a dictionary"):
        parquet_limits.read(file, size)


def test_a_long_table_of_honest_texts_is_read_whole():
    ids = [f"{n:064x}" for n in range(50_000)]
    table = pa.table({"id": ids, "split": ["train"] * 50_000})
    for source in (True, False):
        file, size, stream = opened(written(table))
        assert parquet_limits.read(file, size, source=stream if source else None).equals(table)


def test_rows_that_a_file_cannot_hold_are_refused():
    parquet_limits.check_rows(1_000_000, 64_000_000)
    with pytest.raises(SizeError, match=r"states 1,000,000,000,000 rows"):
        parquet_limits.check_rows(10**12, 64_000_000)
