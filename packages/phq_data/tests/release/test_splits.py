import random
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phq_data.errors import ReleaseError
from phq_data.release import splits
from phq_data.release.manifest import SPLITS
from phq_data.release.splits import MOST_IN_A_FOLDER, OWN, SplitShares, Ties, own_photo, series

HALF = SplitShares(0.5, 0.25, 0.25)


class Grouped(NamedTuple):
    """What ties a portrait to others, in words."""

    portrait_id: str
    photo_id: str
    author: str | None
    day: str | None
    cluster: str
    series: tuple[int, ...] = (0, 0)


def ties_of(portraits):
    """The same as columns. Photo ids here are `photo` or a letter, and a number."""

    def column(values):
        return np.array(list(values), np.uint64)

    days = np.array([int((one.day or "0").replace("-", "")) for one in portraits], np.int32)
    return Ties(
        column(int("".join(c for c in one.photo_id if c.isdigit())) for one in portraits),
        column(splits.draw_of(one.photo_id) for one in portraits),
        [
            column(splits.code_of(one.cluster) for one in portraits),
            splits.sessions(column(splits.author_code(one.author) for one in portraits), days),
            *(column(one.series[which] for one in portraits) for which in (0, 1)),
        ],
    )


def assign(portraits, shares, before):
    known = np.array(
        [SPLITS.index(before[p.portrait_id]) if p.portrait_id in before else -1 for p in portraits]
    )
    return [SPLITS[place] for place in splits.assign(ties_of(portraits), shares, known.astype(np.int8))]


def groups(portraits):
    return splits.groups(ties_of(portraits)).tolist()


def some(count, seed=0):
    draw = random.Random(seed)
    return [
        Grouped(
            f"p{i:04d}",
            f"photo{draw.randrange(count)}",
            draw.choice([None, *"ABCDEFGHIJ"]),
            draw.choice([None, "2026-01-01", "2026-01-02", "2026-01-03"]) if draw.random() < 0.9 else None,
            f"c{draw.randrange(count)}",
        )
        for i in range(count)
    ]


def ties(one, undated):
    yield ("photo", one.photo_id)
    yield ("cluster", one.cluster)
    if one.author and one.day:
        yield ("day", one.author, one.day)
    if one.author in undated:
        yield ("author", one.author)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_nothing_that_ties_portraits_straddles_two_splits(seed, count):
    portraits = some(count, seed)
    undated = {one.author for one in portraits if one.author and not one.day}
    split_of = {}
    for one, split in zip(portraits, assign(portraits, HALF, {}), strict=True):
        for tie in ties(one, undated):
            assert split_of.setdefault(tie, split) == split


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_groups_are_the_connected_components(seed):
    portraits = some(30, seed)
    undated = {one.author for one in portraits if one.author and not one.day}
    near = {i: {i} for i in range(30)}
    for i in range(30):
        for j in range(30):
            if set(ties(portraits[i], undated)) & set(ties(portraits[j], undated)):
                near[i].add(j)
    for _ in range(30):  # brute-force closure
        near = {i: set().union(*(near[j] for j in near[i])) for i in near}
    found = groups(portraits)
    for i in range(30):
        assert {j for j in range(30) if found[j] == found[i]} == near[i]


def test_the_order_of_portraits_does_not_matter():
    portraits = some(80, 3)
    by_id = dict(zip((p.portrait_id for p in portraits), assign(portraits, HALF, {}), strict=True))
    shuffled = random.Random(1).sample(portraits, 80)
    assert dict(zip((p.portrait_id for p in shuffled), assign(shuffled, HALF, {}), strict=True)) == by_id


def lone(i, **changes):
    return Grouped(**{
        "portrait_id": f"p{i}", "photo_id": f"f{i}", "author": f"a{i}", "day": "2026-01-01",
        "cluster": f"c{i}", **changes,
    })  # fmt: skip


def test_shares_are_met_about():
    found = assign([lone(i) for i in range(4000)], HALF, {})
    assert found.count("train") == pytest.approx(2000, abs=150)
    assert found.count("validation") == pytest.approx(1000, abs=130)


def test_a_group_stays_where_it_was_and_newcomers_join_it():
    before = {"p1": "test"}
    assert assign([lone(1), lone(2, photo_id="f1")], SplitShares(1.0, 0.0, 0.0), before) == ["test", "test"]


def test_groups_that_were_joined_across_splits_go_to_train():
    bridge = lone(3, photo_id="f1", cluster="c2")
    before = {"p1": "test", "p2": "validation"}
    assert assign([lone(1), lone(2), bridge], HALF, before) == ["train"] * 3


def test_shares_must_sum_to_one():
    with pytest.raises(ReleaseError, match=r"sum to 1, not 0\.9"):
        SplitShares(0.8, 0.05, 0.05)


def photo(name, folder, day=None, author=None, provider="folder"):
    return {
        "photo_id": name, "provider": provider, "source": "photos", "author": author, "day": day,
        "uri": f"file:///photos/{folder}/{name}.jpg",
    }  # fmt: skip


def series_of(photos):
    """photo -> codes of its sessions, as a release reads photos: those in users' folders alone."""
    own = [one for one in photos if one["provider"] == "folder"]
    rows = np.array([own_photo(one["source"], one["uri"], one["day"]) for one in own], OWN)
    found = dict(
        zip(
            (one["photo_id"] for one in own),
            zip(*(c.tolist() for c in series(rows)), strict=True),
            strict=True,
        )
    )
    return {one["photo_id"]: found.get(one["photo_id"], (0, 0)) for one in photos}


def test_photos_of_one_day_or_one_small_folder_are_a_session():
    many = [photo(f"many{i}", "crowd") for i in range(MOST_IN_A_FOLDER + 1)]
    photos = [
        photo("a", "ada"), photo("b", "ada"), photo("c", "ben", "2026-05-01"),
        photo("d", "eve", "2026-05-01"), photo("e", "ada", author="Ada"),
        photo("f", "ada", provider="wikimedia"), *many,
    ]  # fmt: skip
    portraits = [
        lone(number, author=None, series=codes) for number, codes in enumerate(series_of(photos).values())
    ]
    found = dict(zip("abcdef", groups(portraits), strict=False))
    assert found["a"] == found["b"] and found["c"] == found["d"]
    assert found["e"] == found["a"] and len({found[name] for name in "acf"}) == 3  # pages have their own
    assert len({*groups(portraits)[6:]}) == len(many)  # a large folder is a collection of anybody
    assert series_of([photo("a", "."), photo("b", ".")]) == {
        "a": (0, 0),
        "b": (0, 0),
    }  # so is the only folder


def test_a_chain_of_ties_is_one_group_however_long():
    chain = [lone(i, cluster=f"c{i // 2}", author=f"a{(i + 1) // 2}") for i in range(999)]
    assert groups(chain) == [0] * 999
    shuffled = random.Random(2).sample(chain, 999)
    assert groups(shuffled) == [0] * 999
    assert groups([*shuffled, lone(1000, author=None, cluster="other")]) == [0] * 999 + [999]


def test_a_split_is_that_of_the_smallest_photo_wherever_it_stands():
    """As written down by version 0.1: sha256 of a prefix and the id, its first 64 bits as a share of 1."""
    for first, second in ((1, 2), (2, 1)):
        both = [lone(first, cluster="c"), lone(second, cluster="c")]
        assert assign(both, HALF, {}) == assign([lone(1)], HALF, {}) * 2
    draws = [splits.draw_of(f"f{i}") / 2**64 for i in range(200)]
    right = ["train" if draw < 0.5 else "validation" if draw < 0.75 else "test" for draw in draws]
    assert assign([lone(i) for i in range(200)], HALF, {}) == right
