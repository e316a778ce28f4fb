"""Parquet files with checksums: damage is told, files without are read as they are."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data import parquet, parquet_limits

TABLE = pa.table({"name": [f"row {n}" for n in range(500)], "number": pa.array(range(500), pa.int64())})


def test_every_page_carries_a_checksum_and_a_flipped_bit_in_one_is_told(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write(TABLE, path, compression="none", use_dictionary=False)
    assert parquet_limits.read_all(path).equals(TABLE)
    data = bytearray(path.read_bytes())
    data[data.index(b"row 123")] ^= 1
    path.write_bytes(data)
    assert pq.read_table(path)["name"][123].as_py() == "sow 123"  # without the checksums nobody notices
    with pytest.raises(OSError, match="CRC checksum"):
        parquet_limits.read_all(path)
    with pytest.raises(OSError, match="CRC checksum"), parquet.opened(path) as file:
        file.read_row_group(0, ["name"])


def test_files_without_checksums_are_read(tmp_path):
    pq.write_table(TABLE, tmp_path / "old.parquet")
    assert parquet_limits.read_all(tmp_path / "old.parquet", ["number"]).equals(TABLE.select(["number"]))
    assert parquet.damaged((tmp_path / "old.parquet").read_bytes()) is None


def test_a_seal_tells_of_every_flipped_bit_in_pages_and_footer():
    table = TABLE.replace_schema_metadata({"kind": "toy"})
    data = parquet.sealed(table, {b"more": "here"}, row_group_size=100)
    read = parquet.opened(pa.BufferReader(data))
    assert read.read().equals(table) and read.num_row_groups == 5
    assert (read.metadata.metadata[b"kind"], read.metadata.metadata[b"more"]) == (b"toy", b"here")
    assert not parquet.damaged(data)
    rng = random.Random(1)
    marks = [data.rindex(mark) for mark in (b"more", b"zeros here", b"phq.sealed", b"sha256 of this")]
    for place in [*rng.sample(range(len(data)), 300), *marks]:
        broken = bytearray(data)
        broken[place] ^= 1 << rng.randrange(8)
        try:
            told = parquet.damaged(bytes(broken))
            parquet.opened(pa.BufferReader(bytes(broken))).read()
        except parquet.DAMAGE:
            told = True
        assert told, place


def test_equal_tables_give_equal_files():
    assert parquet.sealed(TABLE) == parquet.sealed(
        pa.concat_tables([TABLE.slice(0, 7), TABLE.slice(7)]).combine_chunks()
    )


@pytest.mark.parametrize("name", ["2024::01.parquet", "s3:table.parquet"])
def test_a_path_with_colons_is_written_and_read_as_a_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parquet.write(TABLE, name)
    with parquet.writer(f"w{name}", TABLE.schema) as writer:
        writer.write_table(TABLE)
    for path in (Path(name), f"w{name}"):
        assert parquet.opened(path).read().equals(TABLE)
