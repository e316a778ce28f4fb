import json

import pyarrow.parquet as pq
import pytest

from phq_data.release import reader
from phq_data.release.build import build
from phq_data.release.diff import DIFF_SCHEMA, diff
from phq_data.release.takedown import take_down

from .conftest import options, picture


@pytest.fixture
def two(maker, releases):
    """1.0.0, then a row changed in its label, one in its picture, one removed, one added."""
    specs = [maker.photo() for _ in range(6)]
    ids = maker.add(*specs)
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=10_000))
    specs[1]["error_probability"] = 0.5
    specs[2]["picture"] = picture(4242)
    specs[3]["kept"] = False
    maker.add(*specs, part=0)
    new = maker.add(maker.photo())
    build(maker.workspace, releases, "2.0.0", options())
    return ids, new, reader.open(releases / "1.0.0"), reader.open(releases / "2.0.0")


def test_every_kind_of_change_is_named_with_its_columns(two, tmp_path):
    ids, new, old, now = two
    found = diff(old, now)
    assert found.added == tuple(new) and found.removed == (ids[3],)
    assert set(found.changed) == {ids[1], ids[2]}
    assert found.changed[ids[1]] == ("error_probability",)
    assert set(found.changed[ids[2]]) == {"pixels", "mask_pixels"}
    found.save(tmp_path / "diff.parquet")
    rows = {row["portrait_id"]: row for row in pq.read_table(tmp_path / "diff.parquet").to_pylist()}
    assert json.loads(rows[ids[1]]["before"])["error_probability"] == pytest.approx(0.1)
    assert json.loads(rows[ids[1]]["after"])["error_probability"] == pytest.approx(0.5)
    assert rows[new[0]]["change"] == "added" and rows[ids[3]]["change"] == "removed"
    assert found.table.schema == DIFF_SCHEMA


def test_the_other_way_round_it_is_the_mirror_image(two):
    _, _, old, now = two
    there, back = diff(old, now), diff(now, old)
    assert (there.added, there.removed) == (back.removed, back.added)
    assert there.changed == back.changed


def test_a_release_does_not_differ_from_itself(two):
    _, _, old, _ = two
    found = diff(old, old)
    assert not (found.added or found.removed or found.changed or found.repacked)
    assert found.table.num_rows == 0


def test_pictures_left_out_are_a_change_of_the_picture(maker, releases):
    maker.add(*(maker.photo() for _ in range(3)))
    build(maker.workspace, releases, "1.0.0", options())
    build(maker.workspace, releases, "2.0.0", options(images="none"))
    found = diff(reader.open(releases / "1.0.0"), reader.open(releases / "2.0.0"))
    assert found.columns() == {"image": 3}


def test_a_takedown_shows_as_one(maker, releases):
    ids = maker.add(*(maker.photo() for _ in range(3)))
    build(maker.workspace, releases, "1.0.0", options())
    take_down(releases, portrait_id=ids[0])
    build(maker.workspace, releases, "2.0.0", options())
    table = diff(reader.open(releases / "1.0.0"), reader.open(releases / "2.0.0")).table
    assert table.to_pylist()[0]["taken_down"] and table.num_rows == 1
