import random
import shutil

import pytest

from phq_data.review import journal
from phq_data.review.database import DamagedStoreError, Database
from phq_data.review.store import Store

from .conftest import fill, vote


@pytest.fixture
def killed(tmp_path):
    """A store as a killed service leaves it: its last decisions lie in the journal alone."""
    store = fill(Store(Database.open(tmp_path / "live" / "r.sqlite")), 5)
    with store.database.write() as connection:
        connection.exec_driver_sql("SELECT 1")
    for portrait in store.ids:
        vote(store, "rosa", portrait)
    shutil.copytree(tmp_path / "live", tmp_path / "killed")
    store.close()
    return tmp_path / "killed" / "r.sqlite"


def decided(file):
    store = Store(Database.open(file))
    try:
        return len(list(store.entries()))
    finally:
        store.close()


def test_a_whole_journal_is_read(killed):
    assert killed.with_name("r.sqlite-wal").stat().st_size > 10_000
    assert journal.is_whole(killed) and decided(killed) == 5
    assert journal.is_whole(killed)  # after the last program closed it, there is none


def test_an_unfinished_change_at_the_end_is_no_damage(killed):
    wal = killed.with_name("r.sqlite-wal")
    frame = wal.read_bytes()[-4120:]
    unfinished = frame[:4] + bytes(4) + frame[8:]  # no size of the database: more pages were to come
    wal.write_bytes(wal.read_bytes() + unfinished + unfinished[:1000])
    assert journal.is_whole(killed) and decided(killed) == 5


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_the_journal_loses_nothing_without_a_word(killed, seed):
    wal = killed.with_name("r.sqlite-wal")
    data = bytearray(wal.read_bytes())
    place = random.Random(seed).choice([number for number, byte in enumerate(data) if byte])
    data[place] ^= 1 << seed % 8
    wal.write_bytes(data)
    for _ in range(2):  # it is told until it is mended
        with pytest.raises(DamagedStoreError, match=r"changes saved last cannot be read.*--repair"):
            Database.open(killed)
    assert wal.read_bytes() == data


def frames(data):
    """Where the last change begins and ends, and the size of a frame."""
    size = 24 + int.from_bytes(data[8:12], "big")
    count = (len(data) - 32) // size
    ends = [n + 1 for n in range(count) if int.from_bytes(data[32 + n * size + 4 : 32 + n * size + 8], "big")]
    return 32 + ends[-2] * size, 32 + ends[-1] * size, size


def earlier_round(data, at, size):
    data[at + 8 : at + 16] = bytes(byte ^ 0x5A for byte in data[at + 8 : at + 16])


def test_a_last_change_that_a_power_cut_tore_is_no_damage(killed):
    wal = killed.with_name("r.sqlite-wal")
    data = bytearray(wal.read_bytes())
    begin, end, size = frames(data)
    assert end - begin > size  # the change has more than its last frame, which is whole here
    earlier_round(data, begin, size)
    wal.write_bytes(data)
    assert journal.is_whole(killed) and decided(killed) == 4  # what was whole is there


def test_a_hole_before_the_last_change_is_damage(killed):
    wal = killed.with_name("r.sqlite-wal")
    data = bytearray(wal.read_bytes())
    begin, _, size = frames(data)
    earlier_round(data, begin - 2 * size, size)
    wal.write_bytes(data)
    with pytest.raises(DamagedStoreError, match="changes saved last cannot be read"):
        Database.open(killed)
