"""Where row groups end: few rows and bytes each, and a row that goes leaves the other groups as they were."""

import hashlib

import pytest

from phq_data.release.shards import ROW_BYTES, grouped

MOST_BYTES, MOST_ROWS = 4 << 20, 256


def rows_of(count, seed=0):
    """(id, bytes) in the order of ids, as shards hold them."""
    ids = sorted(hashlib.sha256(f"{seed} {n}".encode()).hexdigest()[:32] for n in range(count))
    return [(one, 60_000 + int(one[-5:], 16) % 300_000) for one in ids]


def groups_of(rows):
    return [tuple(group) for group in grouped(rows, lambda row: row[1], lambda row: row[0])]


def test_every_row_is_in_one_group_of_few_bytes_and_rows():
    rows = rows_of(3000)
    groups = groups_of(rows)
    assert [row for group in groups for row in group] == rows
    sizes = [sum(size + ROW_BYTES for _, size in group) for group in groups]
    assert max(sizes) <= MOST_BYTES and min(sizes[:-1]) >= MOST_BYTES // 4
    assert MOST_BYTES * 0.5 < sum(sizes) / len(sizes) < MOST_BYTES * 0.75  # on average 5/8 of the most
    light = groups_of([(one, 0) for one, _ in rows])  # a release without images
    assert max(map(len, light)) <= MOST_ROWS and min(map(len, light[:-1])) >= MOST_ROWS // 4
    (alone,) = groups_of([("0" * 32, 5 << 20)])  # larger than a group may be
    assert len(alone) == 1


@pytest.mark.parametrize("gone", [0, 1, 700, 1499, 2999])
def test_a_row_that_goes_changes_the_groups_around_it_alone(gone):
    rows = rows_of(3000)
    before, after = groups_of(rows), groups_of(rows[:gone] + rows[gone + 1 :])
    assert len(before) > 150
    # Ends meet again at the next group that ends by its id, not because it is full (one in about ten is).
    assert len(set(after) - set(before)) <= 4 and len(set(before) - set(after)) <= 4


def test_groups_end_where_ids_say_so_in_any_release():
    """Beside other rows a group is the same: what another shard has in common with this one is shared."""
    rows = rows_of(2000)
    extra = sorted([*rows, *rows_of(20, seed=1)])
    shared = set(groups_of(rows)) & set(groups_of(extra))
    assert len(shared) > 0.75 * len(groups_of(rows))
