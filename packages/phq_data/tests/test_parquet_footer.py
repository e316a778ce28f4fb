"""Footers and page headers as we read them, against what Arrow says of whole files, and over damaged ones."""

import io
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data import parquet, parquet_limits
from phq_data.parquet_footer import Chunk, SizeError, read_footer, read_pages

TABLE = pa.table({
    "text": [f"row {n % 7}" for n in range(900)],
    "bytes": pa.array([bytes([n % 256]) * 40 for n in range(900)], pa.binary()),
    "list": [[{"a": n, "b": None}, {"a": 1, "b": "x"}][: n % 3] for n in range(900)],
    "fixed": pa.array([b"%016d" % n for n in range(900)], pa.binary(16)),
    "number": pa.array([float(n) for n in range(900)]),
    "truth": pa.array([n % 3 == 0 for n in range(900)]),
})  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {}, {"data_page_version": "2.0"}, {"compression": "none", "use_dictionary": False},
        {"data_page_size": 512, "write_page_index": True}, {"write_statistics": False, "store_schema": False},
    ],
)  # fmt: skip
def test_what_is_read_of_a_whole_file_is_what_arrow_says(options):
    sink = io.BytesIO()
    pq.write_table(TABLE, sink, row_group_size=250, write_page_checksum=True, **options)
    source = pa.BufferReader(sink.getvalue())
    footer, known = read_footer(source.read_at, source.size()), pq.read_metadata(source)
    assert len(footer) == known.num_row_groups == 4
    for number, group in enumerate(footer):
        assert len(group) == known.num_columns
        for index, chunk in enumerate(group):
            column = known.row_group(number).column(index)
            assert chunk.rows == known.row_group(number).num_rows
            assert (chunk.values, chunk.unpacked) == (column.num_values, column.total_uncompressed_size)
            assert chunk.start == (column.dictionary_page_offset or column.data_page_offset)
            assert chunk.packed == column.total_compressed_size
            assert chunk.texts == (column.physical_type == "BYTE_ARRAY")
            assert chunk.width == (16 if column.path_in_schema == "fixed" else 8)
            pages = read_pages(source.read_at, chunk)
            assert pages.values == chunk.values  # so every page was found
            assert 0 < pages.unpacked < chunk.unpacked
            repeats = chunk.texts and any("DICTIONARY" in name for name in column.encodings)
            assert (pages.repeated > 0) == repeats


_CRASH = """
import io, random, sys
import pyarrow as pa
from benchmarks.mutate import mutated
from phq_data import parquet, parquet_limits

sink = io.BytesIO()
parquet.write(pa.Table.from_pylist([{"url": "https://a", "license": "CC0"}] * 3), sink)
for number in (176, 1867):
    data = mutated(sink.getvalue(), random.Random(number))
    try:
        parquet_limits.read(parquet.opened(pa.BufferReader(data)))
    except parquet.DAMAGE as error:
        print(type(error).__name__, error)
print("alive")
"""


def test_size_statistics_that_fit_no_column_do_not_end_the_process():
    """Two footers over which `RowGroupMetaData.column` of pyarrow 26 calls `terminate`."""
    done = subprocess.run([sys.executable, "-c", _CRASH], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("alive\n"), done.stderr


def test_a_table_without_rows_has_no_pages_to_read():
    sink = io.BytesIO()
    parquet.write(TABLE.slice(0, 0), sink)
    file = parquet.opened(pa.BufferReader(sink.getvalue()))
    assert file.num_row_groups == 1 and parquet_limits.read(file).equals(TABLE.slice(0, 0))


def test_damaged_files_end_in_one_error():
    sink = io.BytesIO()
    pq.write_table(TABLE.slice(0, 40), sink)
    whole = sink.getvalue()
    rng = random.Random(3)
    told = 0
    for _ in range(400):
        data = bytearray(whole)
        place = rng.randrange(len(data))
        data[place] = rng.choice((0, 255, 127, data[place] ^ 1 << rng.randrange(8)))
        source = pa.BufferReader(bytes(data))
        try:
            for group in read_footer(source.read_at, len(data)):
                for chunk in group:
                    read_pages(source.read_at, chunk)
        except SizeError:  # anything else fails the test
            told += 1
    assert told > 50
    for cut in (b"", b"PAR1", whole[:-1], whole[-8:], whole[:500] + whole[-400:]):
        source = pa.BufferReader(cut)
        with pytest.raises(SizeError, match=r"no Parquet file|footer is damaged"):
            read_footer(source.read_at, len(cut))
        with pytest.raises(parquet.DAMAGE):
            parquet_limits.read(parquet.opened(source))


@pytest.mark.parametrize("data", [b"\x19" * 6000, b"\x1c" * 6000])
def test_lists_and_structures_that_never_end_are_a_damaged_header(data):
    chunk = Chunk(rows=1, values=1, unpacked=1, start=0, packed=len(data), texts=False, width=8)
    with pytest.raises(SizeError, match="page header is damaged"):
        read_pages(pa.BufferReader(data).read_at, chunk)
