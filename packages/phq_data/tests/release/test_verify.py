import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data.release import reader
from phq_data.release.build import build
from phq_data.release.verify import verify

from .conftest import options, resign


@pytest.fixture
def made(maker, releases):
    maker.add(*(maker.photo() for _ in range(12)))
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=15_000))
    return releases / "1.0.0"


def edit_row(folder, row, **values):
    """Rewrite the first shard with one row changed."""
    shard = sorted((folder / "data").iterdir())[0]
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[row].update(values)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard, row_group_size=4)
    return shard


def test_a_whole_release_has_no_problems(made):
    assert verify(made) == []


def test_a_flipped_bit_in_a_picture_is_found_and_its_row_named(made):
    release = reader.open(made)
    shard = release.manifest.shards[0]
    row = release.all()[1]
    path = made / shard.path
    data = bytearray(path.read_bytes())
    where = data.find(row["image"]["bytes"]) + 40
    data[where] ^= 1
    path.write_bytes(bytes(data))
    problems = [str(p) for p in verify(made)]
    assert any(shard.path in p and "sha256 differs" in p for p in problems)
    assert any(f"{shard.path}, row" in p or f"{shard.path}, rows" in p for p in problems), problems
    assert not any(other.path in p for p in problems for other in release.manifest.shards[1:])


def test_a_changed_label_is_found_even_when_checksums_were_made_to_fit(made):
    edit_row(made, 2, error_probability=0.75)
    resign(made)
    (problem,) = verify(made)
    assert problem.row == 2 and "says something else" in problem.what


def test_a_changed_picture_is_found_by_its_pixels_when_checksums_were_made_to_fit(made, maker):
    from .conftest import picture, png

    release = reader.open(made)
    old = release.all()[0]["image"]
    edit_row(made, 0, image={"bytes": png(picture(9999)), "path": old["path"]})
    resign(made)
    assert verify(made) == []  # only the pixels can tell
    problems = verify(made, pixels=True)
    assert {problem.row for problem in problems} == {0}
    assert any("its image shows other pixels" in problem.what for problem in problems)


def test_a_camera_that_is_none_is_named(made):
    edit_row(made, 1, camera=[0.0] * 25)
    resign(made)
    problems = verify(made)
    assert {p.row for p in problems} == {1}
    assert any("not a rotation" in p.what for p in problems)


def test_missing_extra_and_unfinished_files_are_named(made):
    shard = sorted((made / "data").iterdir())[0]
    shard.rename(made / "data/train-99999.parquet")
    problems = {p.file: p.what for p in verify(made)}
    assert "missing" in problems[f"data/{shard.name}"]
    assert "not part of the release" in problems["data/train-99999.parquet"]
    (made / "manifest.json").unlink()
    assert "interrupted" in verify(made)[0].what


def test_an_edited_manifest_is_the_only_thing_reported(made):
    path = made / "manifest.json"
    path.write_text(path.read_text().replace('"1.0.0"', '"1.0.1"'))
    (problem,) = verify(made)
    assert problem.file == "manifest.json" and "changed after" in problem.what


def test_a_column_of_another_kind_is_named(made):
    shard = sorted((made / "data").iterdir())[0]
    table = pq.read_table(shard)
    place = table.schema.get_field_index("yaw")
    pq.write_table(table.set_column(place, "yaw", table["yaw"].cast(pa.float64())), shard)
    resign(made)
    assert any("column 'yaw' is double" in p.what for p in verify(made))


def test_splits_that_leak_are_found(made, maker, releases):
    release = reader.open(made)
    if len(release.splits) == 1:
        maker.add(*(maker.photo() for _ in range(200)))
        build(maker.workspace, releases, "1.1.0", options())
        made = releases / "1.1.0"
    assert verify(made) == []
    assert len(reader.open(made).splits) == 3
    # A distance so wide that everything looks alike must find portraits alike across splits.
    assert any("looks like" in p.what for p in verify(made, duplicate_distance=40))
