"""Selection over columns, against the same rules over lists of dictionaries and sets."""

import itertools
import random

import pytest

from phq_data import schema
from phq_data.release import splits
from phq_data.release.places import texts
from phq_data.release.select import select
from phq_data.release.tombstones import Tombstone, Tombstones
from phq_data.review.consensus import ConsensusRule

from .conftest import Maker

DISTANCE = 3


@pytest.fixture(params=range(4))
def made(request, tmp_path):
    """A workspace of some portraits, many of them alike, some in the table of near-duplicates."""
    draw = random.Random(request.param)
    maker = Maker(tmp_path / "workspace")
    codes = [draw.getrandbits(64) for _ in range(6)]
    for _ in range(4):
        photos = []
        for _ in range(8):
            code = draw.choice(codes) ^ sum(1 << draw.randrange(64) for _ in range(draw.randrange(4)))
            photos.append(
                maker.photo(
                    people=draw.choice([1, 1, 2]), kept=draw.random() < 0.9, phash=code % 2**64,
                    license=draw.choice(["CC-BY-4.0", "CC-BY-4.0", None]),
                    author=draw.choice(["Ann", " ann ", "Ben", None]),
                    time=draw.choice([None, "2026:01:02 10:00:00", "2026:01:03 10:00:00"]),
                )
            )  # fmt: skip
        maker.add(*photos)
    rows = facts(maker.workspace)
    some = draw.sample(sorted(rows), 9)
    twins = [
        {"portrait_id": one, "cluster": min(group), "representative": one == group[-1], "distance": number}
        for group in (some[:4], some[4:7], some[7:])
        for number, one in enumerate(group)
    ]
    maker.workspace.write_part("tables/duplicates", 0, schema.to_table("duplicates", twins), "test")
    gone = draw.choice(sorted(rows))
    stones = Tombstones((Tombstone("id", gone, "2026-01-01", "", (gone,), (rows[gone]["photo_id"],)),))
    return maker.workspace, rows, {row["portrait_id"]: row for row in twins}, stones


def facts(workspace):
    found = {}
    photos = {row["photo_id"]: row for row in workspace.table("photos").to_pylist()}
    screened = {row["portrait_id"]: row for row in workspace.table("screened").to_pylist()}
    for part in workspace.parts("tables/portraits"):
        table = workspace.read_part("tables/portraits", part, ["portrait_id", "photo_id"]).to_pylist()
        for number, row in enumerate(table):
            about = {**photos[row["photo_id"]], **screened[row["portrait_id"]]}
            found[row["portrait_id"]] = {**about, "part": part, "row": number}
    return found


def plain(rows, twins, stones, *, keep_duplicates, only_permitted):
    """Ids that enter the release, and clusters: lists of sets of ids."""
    alive = [key for key, row in rows.items() if not stones.hides(key, row["photo_id"])]
    gone = [key for key in rows if key not in alive]
    chosen = [key for key in alive if rows[key]["kept"]]
    cluster = {key: {key} for key in chosen}

    def join(one, other):
        both = cluster[one] | cluster[other]
        for key in both:
            cluster[key] = both

    for one, other in itertools.combinations(chosen, 2):
        named = one in twins and other in twins and twins[one]["cluster"] == twins[other]["cluster"]
        loose = one not in twins or other not in twins
        near = (rows[one]["phash"] ^ rows[other]["phash"]).bit_count() <= DISTANCE
        if named or (loose and near):
            join(one, other)
    bad = {key for key in chosen for lost in gone
           if (rows[key]["phash"] ^ rows[lost]["phash"]).bit_count() <= DISTANCE}  # fmt: skip
    names = {twins[lost]["cluster"] for lost in gone if lost in twins}
    bad |= {
        other for key in chosen if key in twins and twins[key]["cluster"] in names for other in cluster[key]
    }
    chosen = [key for key in chosen if key not in bad]
    if only_permitted:
        chosen = [key for key in chosen if rows[key]["license"]]

    def rank(key):
        twin = twins.get(key, {"representative": True, "distance": 0})
        return (not twin["representative"], twin["distance"], key)

    if not keep_duplicates:
        chosen = [key for key in chosen if key == min(cluster[key] & set(chosen), key=rank)]
    return sorted(chosen), cluster


@pytest.mark.parametrize("keep_duplicates", [False, True])
@pytest.mark.parametrize("only_permitted", [False, True])
def test_columns_choose_what_the_plain_rules_choose(made, keep_duplicates, only_permitted):
    workspace, rows, twins, stones = made
    ways = {"keep_duplicates": keep_duplicates, "only_permitted": only_permitted}
    found = select(
        workspace, reviewed=False, rule=ConsensusRule(), tombstones=stones, permissions=(),
        duplicate_distance=DISTANCE, **ways,
    )  # fmt: skip
    right, cluster = plain(rows, twins, stones, **ways)
    assert texts(found.places.ids) == right
    assert [(rows[key]["part"], rows[key]["row"]) for key in right] == list(
        zip(found.places.part.tolist(), found.places.row.tolist(), strict=True)
    )
    assert sum(found.left_out.values()) + len(right) == len(rows)
    assert {key for ids in found.refused.values() for key in ids} == {
        key for key in right if not rows[key]["license"]
    }
    number = dict(zip(right, splits.groups(found.ties).tolist(), strict=True))
    for one, other in itertools.combinations(right, 2):
        together = other in cluster[one] or rows[one]["photo_id"] == rows[other]["photo_id"]
        assert not together or number[one] == number[other]
