import random

import numpy as np
import pyarrow as pa
import pytest

from phq_data.errors import ReleaseError
from phq_data.release.places import Places, digests, packed, texts
from phq_data.schema import make_id

IDS = [make_id("place", number) for number in range(200)]


@pytest.fixture
def places():
    draw = random.Random(4)
    ids = packed(pa.array(sorted(IDS)))
    part = [draw.choice([0, 3, 4, 9, 200]) for _ in ids]
    return Places(ids, np.array(part, np.int32), np.array(draw.sample(range(500), len(ids)), np.int32))


def plain(places, numbers):
    """part -> row -> number, as dictionaries."""
    found = {}
    for number in numbers:
        found.setdefault(int(places.part[number]), {})[int(places.row[number])] = int(number)
    return found


def test_packed_ids_are_in_the_order_of_their_texts_and_come_back():
    ids = packed(pa.array(IDS))
    assert texts(ids) == IDS
    assert [IDS[place] for place in np.argsort(ids)] == sorted(IDS)
    zeros = ["00" * 16, "ab" + "00" * 15, "00" * 15 + "01"]  # bytes that NumPy's texts would drop
    assert texts(packed(pa.array(zeros))[np.array([1, 2, 0])]) == [zeros[1], zeros[2], zeros[0]]


def test_digests_of_slices_and_chunks_are_those_of_their_rows():
    column = pa.chunked_array([pa.array(IDS[:7]), pa.array([], pa.string()), pa.array(IDS[7:]).slice(5, 20)])
    found = [row.tobytes().hex() for row in digests(column, 32)]
    assert found == [*IDS[:7], *IDS[12:32]]
    assert digests(column.slice(6, 3), 32).tobytes().hex() == IDS[6] + IDS[12] + IDS[13]


@pytest.mark.parametrize("wrong", ["", "AB" * 16, "ab" * 15, "zz" * 16, None])
def test_what_is_no_digest_is_told(wrong):
    with pytest.raises(ReleaseError, match="is no digest of 32 hexadecimal digits"):
        packed(pa.array([*IDS[:3], wrong]))


def test_rows_are_those_of_a_plain_dictionary(places):
    some = np.array(sorted(random.Random(5).sample(range(200), 90)))
    for numbers, rows in ((range(200), places.rows()), (some, places.rows(some))):
        right = plain(places, numbers)
        assert dict(rows) == right and list(rows) == sorted(right)
        assert rows.numbers().tolist() == list(numbers)
    with pytest.raises(KeyError):
        places.rows()[1]


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_pieces_are_all_rows_once(places, count):
    pieces = list(places.rows().pieces(count))
    assert len(pieces) == min(count, 5)
    assert {part: dict(rows) for piece in pieces for part, rows in piece.items()} == plain(places, range(200))
    assert sorted(np.concatenate([piece.numbers() for piece in pieces]).tolist()) == list(range(200))


def test_a_portrait_that_is_there_twice_is_named(places):
    assert places.twice() == ""
    again = np.sort(np.append(places.ids, places.ids[17]))
    assert Places(again, np.zeros(201, np.int32), np.zeros(201, np.int32)).twice() == sorted(IDS)[17]
