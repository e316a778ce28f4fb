"""What a Parquet file may unfold to: kinds of files of a few kB that stand for GiBs, and footers that lie."""

import io
import resource

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data import parquet, parquet_limits
from phq_data.parquet_footer import SizeError, read_footer


def written(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def opened(data):
    return parquet.opened(pa.BufferReader(data))


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def number(value):
    """Thrift's compact form of a whole number."""
    value = value << 1 if value >= 0 else ~(value << 1)
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def replaced(data, old, new):
    """A file with bytes of its footer replaced, and the footer's length made right."""
    length = int.from_bytes(data[-8:-4], "little")
    body, footer = data[: -8 - length], data[-8 - length : -8]
    assert footer.count(old) >= 1
    footer = footer.replace(old, new)
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


@pytest.fixture(scope="module")
def zeros():
    """300 MiB of zeros in pages."""
    table = pa.table({"image": pa.array([bytes(4 << 20)] * 75, pa.binary()), "n": range(75)})
    return written(table, use_dictionary=False, row_group_size=25)


def test_pages_of_zeros_are_refused_before_they_are_unpacked(zeros):
    file = opened(zeros)
    assert len(zeros) < 100_000
    before = peak_mib()
    with pytest.raises(SizeError, match=r"unfold to 314,[0-9,]+, more than any of ours"):
        parquet_limits.read(file)
    with pytest.raises(SizeError, match=r"unfold to 314,[0-9,]+, more than any of ours"):
        list(parquet_limits.batches(opened(written(opened(zeros).read(), use_dictionary=False)), 10))
    assert peak_mib() - before < 1500  # the line above unpacks them itself
    assert parquet_limits.read(file, ["n"])["n"].to_pylist() == list(range(75))


def test_pages_that_a_footer_tells_smaller_are_refused(zeros):
    stated = read_footer(pa.BufferReader(zeros).read_at, len(zeros))
    lying = zeros
    for unpacked in {chunk.unpacked for chunk, _ in stated}:
        lying = replaced(lying, b"\x16" + number(unpacked), b"\x16" + number(1000))
    assert read_footer(pa.BufferReader(lying).read_at, len(lying))[0][0].unpacked == 1000
    before = peak_mib()
    with pytest.raises(SizeError, match=r"unfold to 314,[0-9,]+, more than any of ours"):
        parquet_limits.read(opened(lying))
    assert peak_mib() - before < 100


@pytest.mark.parametrize("encoding", ["RLE_DICTIONARY", "DELTA_BYTE_ARRAY"])
def test_a_text_that_every_row_names_is_counted_as_it_comes(encoding):
    if encoding == "RLE_DICTIONARY":
        column = pa.array(["x" * (1 << 20)] * 20_000, pa.dictionary(pa.int32(), pa.large_string()))
        data = written(pa.table({"a": column}), store_schema=False)
    else:
        table = pa.table({"a": ["x" * (1 << 17)] * 4000})
        options = {"use_dictionary": False, "column_encoding": {"a": encoding}}
        data = written(table, data_page_size=1 << 30, write_batch_size=100_000, **options)
    assert len(data) < 100_000
    before = peak_mib()
    with pytest.raises(SizeError, match="unfold to more than 268,435,456"):
        parquet_limits.read(opened(data))
    assert peak_mib() - before < 1200
    with pytest.raises(SizeError, match="unfold to more than 268,435,456"):
        for batch in parquet_limits.batches(opened(data), 1000):
            assert batch.nbytes <= 1 << 28


def test_runs_of_nothing_count_by_their_rows():
    data = written(pa.table({"a": pa.nulls(40_000_000, pa.int64())}))
    assert len(data) < 100_000
    with pytest.raises(SizeError, match=r"unfold to 320,[0-9,]+, more than any of ours"):
        parquet_limits.read(opened(data))


def test_rows_that_the_footer_alone_has_are_counted():
    data = replaced(written(pa.table({"a": [7]})), b"\x16" + number(1), b"\x16" + number(10**12))
    with pytest.raises(SizeError, match=r"unfold to 8,000,000,000,[0-9]+, more than any of ours"):
        parquet_limits.read(opened(data))


def test_texts_that_are_no_utf8_are_told_where_they_are_read():
    column = pa.array([b"abc\xff\xfegh"], pa.binary())
    invalid = pa.StringArray.from_buffers(1, *column.buffers()[1:])
    broken = written(pa.table({"a": invalid}), use_dictionary=False, write_statistics=False)
    with pytest.raises(pa.ArrowInvalid, match="UTF8"):
        parquet_limits.read(opened(broken))
    with pytest.raises(pa.ArrowInvalid, match="UTF8"):
        list(parquet_limits.batches(opened(broken), 5))


def test_a_column_that_stays_a_dictionary_is_refused():
    column = pa.array(["a", "a"]).dictionary_encode()
    with pytest.raises(SizeError, match="column a is a dictionary"):
        parquet_limits.read(opened(written(pa.table({"a": column}))))


def test_a_long_table_of_honest_texts_is_read_whole():
    ids = [f"{n:064x}" for n in range(50_000)]
    table = pa.table({"id": ids, "split": ["train"] * 50_000, "list": [[1.5, 2.5]] * 50_000})
    data = written(table, row_group_size=20_000)
    assert parquet_limits.read(opened(data)).equals(table)
    assert parquet_limits.read(opened(data), ["list"], group=2).num_rows == 10_000
    pieces = list(parquet_limits.batches(opened(data), 7000, ["id"]))
    assert max(len(piece) for piece in pieces) <= 7000
    assert pa.Table.from_batches(pieces).equals(table.select(["id"]))


def test_rows_that_a_file_cannot_hold_are_refused():
    parquet_limits.check_rows(1_000_000, 64_000_000)
    with pytest.raises(SizeError, match=r"states 1,000,000,000,000 rows"):
        parquet_limits.check_rows(10**12, 64_000_000)
