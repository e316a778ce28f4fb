"""What a second version of a shard shares with the first, and that the measure tells chunks apart."""

import numpy as np
import pytest

from benchmarks import deduplication


def test_chunks_are_the_whole_and_meet_again_after_a_change():
    data = np.random.default_rng(1).bytes(3 << 20)
    found = deduplication.chunks(data)
    assert sum(size for _, size in found) == len(data)
    assert 0.5 < len(data) / len(found) / deduplication.AVERAGE < 1.5
    other = deduplication.chunks(data[:500_000] + b"something new" + data[500_000:])
    assert len(set(other) - set(found)) <= 3


@pytest.mark.slow
def test_row_groups_by_content_share_more_of_a_version_that_lost_rows():
    ways = ["row groups by content (what releases have)", "row groups by size"]
    content, size = deduplication.measure(300, ways).values()
    assert content["removed"] < 0.75 * size["removed"]  # 0.3 of 600 rows, 0.6 of these few
    assert max(content.values()) < 0.08
