import json
import pickle
import subprocess
import sys

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data import schema
from phq_data.errors import ReleaseError
from phq_data.release import reader, tombstones
from phq_data.release.build import build
from phq_data.release.tombstones import Tombstone, Tombstones
from phq_data.release.verify import verify

from .conftest import options, resign, rig


@pytest.fixture
def made(maker, releases):
    """A release of 24 portraits in several shards."""
    maker.add(*(maker.photo(people=2) for _ in range(12)))
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=15_000))
    return releases / "1.0.0"


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_random_access_streaming_and_metadata_agree(made, monkeypatch):
    release = reader.open(made)
    rows = release.all()
    streamed = list(rows.stream())
    assert len(release.manifest.shards) > 2 and len(streamed) == len(rows) == 24
    assert str([rows[i] for i in range(24)]) == str(streamed)  # nan is not equal to itself, its text is
    assert str(rows[-1]) == str(streamed[-1])
    assert [row["portrait_id"] for row in rows.take([7, 3, 7])] == [
        streamed[i]["portrait_id"] for i in (7, 3, 7)
    ]
    table = rows.metadata()
    assert "image" not in table.column_names and "mask" not in table.column_names
    assert table["portrait_id"].to_pylist() == [row["portrait_id"] for row in streamed]
    with pytest.raises(IndexError):
        rows[24]


def test_parallel_readers_share_the_stream(made):
    rows = reader.open(made).all()
    whole = {row["portrait_id"] for row in rows.stream(["portrait_id"])}
    parts = [[r["portrait_id"] for r in rows.stream(["portrait_id"], shard=i, shards=3)] for i in range(3)]
    assert sum(map(len, parts)) == 24 and set().union(*parts) == whole


def test_splits_partition_the_rows(made):
    release = reader.open(made)
    ids = [i for name in release.splits for i in release.split(name).metadata(["portrait_id"])[0].to_pylist()]
    assert sorted(ids) == sorted(release.index["portrait_id"].to_pylist())
    assert all(row["split"] == "train" for row in release.split("train").stream(["split"]))
    with pytest.raises(ReleaseError, match="no split 'validate'; it has train"):
        release.split("validate")


def test_it_reads_from_any_file_system_and_survives_pickling(made):
    memory = fsspec.filesystem("memory")
    memory.put(str(made), "/shelf/1.0.0", recursive=True)
    try:
        remote = reader.open("memory://shelf/1.0.0")
        local = pickle.loads(pickle.dumps(reader.open(made)))
        assert str(list(remote.all().stream())) == str(list(local.all().stream()))
        assert remote.rig().digest == rig().digest
    finally:
        memory.rm("/shelf", recursive=True)


def test_opening_reads_no_shard(made):
    """A wrong shard of the right size is found by reading it, not by opening the release."""
    shard = next((made / "data").iterdir())
    shard.write_bytes(b"\0" * shard.stat().st_size)
    release = reader.open(made)
    with pytest.raises(ReleaseError, match=shard.name):
        list(release.all().stream())


@pytest.mark.parametrize("hide", ["portrait", "photo"])
def test_taken_down_portraits_vanish_from_every_way_of_reading(made, hide):
    release = reader.open(made)
    row = release.index.slice(5, 1).to_pylist()[0]
    twin = [i for i in range(24) if release.index["photo_id"][i].as_py() == row["photo_id"]]
    entry = Tombstone(
        "id", row["portrait_id"], "2026-11-25",
        portraits=(row["portrait_id"],) if hide == "portrait" else (),
        photos=(row["photo_id"],) if hide == "photo" else (),
    )  # fmt: skip
    tombstones.add(release.folder.fs, str(made.parent), Tombstones((entry,)))
    release.refresh()
    gone = 1 if hide == "portrait" else len(twin)
    for opened in (release, reader.open(made)):
        rows = opened.all()
        assert len(rows) == 24 - gone
        seen = [r["portrait_id"] for r in rows.stream(["portrait_id"])]
        assert row["portrait_id"] not in seen and len(seen) == 24 - gone
        assert row["portrait_id"] not in rows.metadata(["portrait_id"])["portrait_id"].to_pylist()
        assert opened.find(row["portrait_id"]) is None
        assert sum(len(opened.split(name)) for name in opened.splits if len(opened.split(name))) == 24 - gone


def test_an_unreadable_list_of_tombstones_is_not_taken_for_an_empty_one(made):
    (made.parent / "tombstones.json").write_text('{"format": "phq-tombstones/1", "tombst')
    with pytest.raises(ReleaseError, match=r"tombstones\.json cannot be read"):
        reader.open(made)


def test_an_edited_manifest_is_refused(made):
    change(made / "manifest.json", reviewed=True)
    with pytest.raises(ReleaseError, match="was changed after it was written"):
        reader.open(made)


def test_a_release_of_a_newer_phq_is_refused(made):
    change(made / "manifest.json", schema_version=schema.SCHEMA_VERSION + 1)
    with pytest.raises(ReleaseError, match="newer PHQ"):
        reader.open(made)
    change(made / "manifest.json", schema_version=1, format="phq-release/2")
    with pytest.raises(ReleaseError, match="newer PHQ"):
        reader.open(made)


def test_a_manifest_that_points_out_of_the_release_is_refused(made):
    document = json.loads((made / "manifest.json").read_text())
    document["files"][0]["path"] = "../../secret"
    (made / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ReleaseError, match="no file name of a release"):
        reader.open(made)


@pytest.mark.parametrize(
    ("found", "replacement"),
    [
        (b'"about": {', b'"about": [{'),
        (b'"reviewed": false', b'"reviewed": NaN'),
        (b'"reviewed": false', b'"reviewed": 1e999'),
        (b'"reviewed": false', b'"reviewed": ' + b"[" * 5000),
        (b'"reviewed": false', b'"reviewed": ' + b"[" * 90 + b"]" * 90),
        (b'"shards": [', b'"shards": 3, "x": ['),
        (b'"rows": ', b'"rows": 1000000000000'),
        (b'"rows": ', b'"rows": true, "r": '),
    ],
)
def test_a_hostile_manifest_is_one_sentence(made, found, replacement):
    path = made / "manifest.json"
    data = path.read_bytes()
    assert found in data
    path.write_bytes(data.replace(found, replacement))
    with pytest.raises(ReleaseError, match=r"manifest\.json is damaged"):
        reader.open(made)


@pytest.mark.parametrize("about", [[], "x", 7, None])
def test_an_about_that_is_no_object_is_told(made, about):
    path = made / "manifest.json"
    document = json.loads(path.read_text())
    document["about"] = about
    path.write_text(json.dumps(document))
    with pytest.raises(ReleaseError, match=r"damaged: 'about' is no object"):
        reader.open(made)


@pytest.mark.parametrize(
    "text", ["[]", "NaN", "[" * 5000, '{"format": "phq-tombstones/1", "tombstones": [3]}']
)
def test_a_hostile_list_of_tombstones_is_one_sentence(made, text):
    (made.parent / "tombstones.json").write_text(text)
    with pytest.raises(ReleaseError, match=r"tombstones\.json cannot be read"):
        reader.open(made)


def test_a_shard_of_zeros_is_refused_before_memory_is_spent(made):
    """Every way of reading pictures tells it; 300 MiB of zeros are some kB in the file."""
    release = reader.open(made)
    entry = release.manifest.shards[0]
    table = release.read_shard(0)
    image = [{"bytes": bytes(300 << 20), "path": "a.png"}, *table["image"].to_pylist()[1:]]
    place = table.column_names.index("image")
    bomb = table.set_column(
        place, table.schema.field("image"), pa.array(image, table.schema.field("image").type)
    )
    pq.write_table(bomb.cast(schema.RELEASE), made / entry.path, compression="zstd", use_dictionary=False)
    resign(made)
    assert (made / entry.path).stat().st_size < 200_000
    hostile = reader.open(made)
    for read in (
        lambda: hostile.all()[0],
        lambda: list(hostile.all().stream()),
        lambda: hostile.read_shard(0),
    ):
        with pytest.raises(ReleaseError, match=r"damaged \(its [0-9,]+ bytes unfold to 31[0-9,]+, more than"):
            read()
    assert any("unfold to" in str(problem) for problem in verify(made, pixels=True))


def test_a_missing_or_shortened_shard_is_named(made):
    shard = sorted((made / "data").iterdir())[1]
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    with pytest.raises(ReleaseError, match=f"{shard.name}.*bytes instead of"):
        reader.open(made)
    shard.unlink()
    with pytest.raises(ReleaseError, match=f"lacks data/{shard.name}"):
        reader.open(made)


def test_what_is_no_release_says_what_it_is(made, tmp_path):
    with pytest.raises(ReleaseError, match=r"holds releases; open one of them: 1\.0\.0"):
        reader.open(made.parent)
    with pytest.raises(ReleaseError, match="no release"):
        reader.open(tmp_path / "nowhere")
    with pytest.raises(ReleaseError, match="cannot open"):
        reader.open("nosuchprotocol://x")


def test_a_digest_from_elsewhere_pins_the_release(made):
    digest = reader.open(made).manifest.digest
    assert reader.open(made, digest=digest[:12]).version == "1.0.0"
    with pytest.raises(ReleaseError, match="another release"):
        reader.open(made, digest="0" * 64)


def test_a_changed_index_or_rig_is_refused(made):
    for name, read in (("index.parquet", lambda r: r.index), ("rig.safetensors", lambda r: r.rig())):
        path = made / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
        with pytest.raises(ReleaseError, match=name):
            read(reader.open(made))


def test_the_reader_needs_only_the_light_core(made):
    """No pillow, no torch, no pandas: what `portraitgan` imports must stay small."""
    program = (
        "import sys\n"
        "heavy = {'PIL', 'torch', 'pandas', 'scipy', 'typer', 'filelock', 'prefect', 'datasets'}\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in heavy:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from phq_data.release import reader\n"
        f"print(len(list(reader.open({str(made)!r}).all().stream())))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "24"
