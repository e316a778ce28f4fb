import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from phq_data import schema
from phq_data.errors import ReleaseError
from phq_data.release import reader
from phq_data.release.build import build
from phq_data.release.rights import Permission
from phq_data.release.verify import verify
from phq_data.workspace import WorkspaceBusyError, WorkspaceError

from .conftest import Maker, options


def bytes_of(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_a_release_has_every_kept_portrait_and_verifies(maker, releases):
    ids = maker.add(*(maker.photo(people=2) for _ in range(6)), maker.photo(kept=False))
    result = build(maker.workspace, releases, "1.0.0", options())
    release = reader.open(releases / "1.0.0")
    assert sorted(release.all().metadata(["portrait_id"])["portrait_id"].to_pylist()) == sorted(ids[:12])
    assert result.left_out == {"screened_out": 1}
    assert not release.manifest.reviewed
    assert verify(releases / "1.0.0", pixels=True) == []
    assert not (releases / ".building").exists()


def test_rows_carry_picture_labels_and_provenance_but_no_path_of_the_makers_disk(maker, releases):
    (portrait,) = maker.add(maker.photo(time="2025:06:07 10:11:12"))
    build(maker.workspace, releases, "1.0.0", options())
    row = reader.open(releases / "1.0.0").find(portrait)
    source = maker.workspace.row("portraits", portrait)
    assert row["image"] == source["image"] and row["mask"] == source["mask"]
    assert row["camera"] == source["camera"] and row["window"] == source["window"]
    assert (row["author"], row["license"], row["day"]) == ("Author 1", "CC-BY-4.0", "2025-06-07")
    assert not {"uri", "source", "key"} & set(row)


def test_the_same_workspace_gives_the_same_bytes_whatever_the_order_of_its_parts(tmp_path, releases):
    names = [Maker(tmp_path / name) for name in ("a", "b")]
    for number, maker in enumerate(names):
        specs = [
            maker.photo(seed=seed, author=f"A{seed}", page_url=f"p{seed}", yaw=seed) for seed in range(12)
        ]
        halves = [specs[:6], specs[6:]]
        for half in halves if number == 0 else reversed(halves):
            maker.add(*half)
        build(maker.workspace, releases / str(number), "1.0.0", options(workers=1 + number))
    first, second = (bytes_of(releases / str(n) / "1.0.0") for n in (0, 1))
    assert first == second


def test_only_what_reviewers_accepted_enters_a_reviewed_release(maker, releases):
    screened = (maker.photo(kept=False), maker.photo(kept=False))
    ids = maker.add(*(maker.photo() for _ in range(5)), *screened)
    maker.decide({ids[0]: "accept", ids[1]: "reject", ids[2]: "flag", ids[3]: "accept", ids[5]: "accept"})
    maker.decide({ids[3]: "reject"}, reviewer="sam")
    result = build(maker.workspace, releases, "1.0.0", options(unreviewed=False))
    release = reader.open(releases / "1.0.0")
    found = set(release.all().metadata(["portrait_id"])["portrait_id"].to_pylist())
    assert found == {ids[0], ids[5]}  # a reviewer may overrule the screening
    assert result.left_out == {"review_disputed": 2, "review_rejected": 1, "review_undecided": 1} | {
        "screened_out": 1  # nobody was asked about it
    }
    assert release.manifest.reviewed


def test_an_unreviewed_release_still_leaves_out_what_somebody_rejected(maker, releases):
    ids = maker.add(maker.photo(), maker.photo())
    maker.decide({ids[0]: "reject"})
    build(maker.workspace, releases, "1.0.0", options())
    assert reader.open(releases / "1.0.0").index["portrait_id"].to_pylist() == [ids[1]]


def test_without_an_accepted_portrait_there_is_no_release(maker, releases):
    maker.add(maker.photo())
    with pytest.raises(ReleaseError, match=r"1 review_undecided; nobody has decided about them: review"):
        build(maker.workspace, releases, "1.0.0", options(unreviewed=False))
    assert list(releases.glob("[!.]*")) == []
    maker.decide({"0" * 32: "accept"})  # of a portrait that a newer crop replaced
    with pytest.raises(ReleaseError, match="1 decided portraits were replaced"):
        build(maker.workspace, releases, "1.0.0", options(unreviewed=False))


def test_one_of_each_cluster_is_released_and_look_alikes_without_a_cluster_are_found(maker, releases):
    near = [maker.photo(phash=0b1111), maker.photo(phash=0b0111), maker.photo(phash=0b0011)]
    ids = maker.add(*near, maker.photo(phash=2**64 - 1))
    rows = [
        {"portrait_id": ids[0], "cluster": ids[0], "representative": False, "distance": 1},
        {"portrait_id": ids[1], "cluster": ids[0], "representative": True, "distance": 0},
    ]
    maker.workspace.write_part("tables/duplicates", 0, schema.to_table("duplicates", rows), "test")
    result = build(maker.workspace, releases, "1.0.0", options())
    found = set(reader.open(releases / "1.0.0").index["portrait_id"].to_pylist())
    assert ids[3] in found and len(found) == 2
    assert result.left_out == {"near_duplicate": 2}


def test_the_representative_is_the_member_that_stays(maker, releases):
    ids = maker.add(maker.photo(phash=1), maker.photo(phash=1))
    for keep in ids:
        rows = [
            {"portrait_id": i, "cluster": min(ids), "representative": i == keep, "distance": 0} for i in ids
        ]
        maker.workspace.write_part("tables/duplicates", 0, schema.to_table("duplicates", rows), "test")
        build(maker.workspace, releases / keep, "1.0.0", options())
        assert reader.open(releases / keep / "1.0.0").index["portrait_id"].to_pylist() == [keep]


def test_shards_are_filled_to_their_size_and_row_groups_stay_small(maker, releases):
    maker.add(*(maker.photo() for _ in range(20)))
    build(maker.workspace, releases, "1.0.0", options(shard_bytes=20_000))
    manifest = reader.open(releases / "1.0.0").manifest
    assert len(manifest.shards) > 2
    assert all(shard.path.startswith(f"data/{shard.split}-") for shard in manifest.shards)
    # Filled in the order of the ids: the last of a split may be small, the others not.
    train = [shard.rows for shard in manifest.shards if shard.split == "train"]
    assert max(train) - min(train[:-1]) <= 1


def test_a_damaged_picture_in_the_workspace_stops_the_build_and_is_named(maker, releases, tmp_path):
    (portrait,) = maker.add(maker.photo())
    table = maker.workspace.read_part("tables/portraits", 0)
    rows = table.to_pylist()
    rows[0]["image"]["bytes"] = rows[0]["image"]["bytes"][:60]
    maker.workspace.write_part("tables/portraits", 0, schema.to_table("portraits", rows), "test")
    with pytest.raises(ReleaseError, match=portrait):
        build(maker.workspace, releases, "1.0.0", options())
    assert list(releases.glob("[!.]*")) == []


def test_truth_is_released_where_it_is_known(maker, releases):
    ids = maker.add(maker.photo(), maker.photo())
    truth = {ids[0]: {"truth_camera": [0.5] * 25, "truth_pose": [0.25] * 6}}
    build(maker.workspace, releases, "1.0.0", options(), truth=truth)
    release = reader.open(releases / "1.0.0")
    assert release.find(ids[0])["truth_camera"] == [0.5] * 25
    assert release.find(ids[1])["truth_camera"] is None
    assert verify(releases / "1.0.0") == []


def test_the_shards_say_to_datasets_that_image_and_mask_are_pictures(maker, releases):
    maker.add(maker.photo())
    build(maker.workspace, releases, "1.0.0", options())
    shard = next((releases / "1.0.0/data").iterdir())
    metadata = pq.read_metadata(shard).metadata
    assert b'"image": {"_type": "Image"}' in metadata[b"huggingface"]


def test_a_licensed_body_is_released_as_a_recipe(tmp_path, releases):
    from .conftest import rig

    maker = Maker(tmp_path / "ws", body="smpl")
    maker.add(maker.photo())
    build(maker.workspace, releases, "1.0.0", options())
    folder = releases / "1.0.0"
    assert not (folder / "rig.safetensors").exists()
    assert verify(folder) == []
    release = reader.open(folder)
    with pytest.raises(ReleaseError, match="phq rig build --body smpl"):
        release.rig()
    rig("smpl").save(tmp_path / "mine.safetensors")
    assert release.rig(tmp_path / "mine.safetensors").digest == rig("smpl").digest
    rig("anny").save(tmp_path / "other.safetensors")
    with pytest.raises(ReleaseError, match="not the rig of this release"):
        release.rig(tmp_path / "other.safetensors")


def test_renders_are_not_tied_together_by_their_maker(maker, releases):
    maker.add(*(maker.photo(provider="synthetic", author="PHQ", license="CC0-1.0") for _ in range(150)))
    build(maker.workspace, releases, "1.0.0", options())
    assert set(reader.open(releases / "1.0.0").splits) == {"train", "validation", "test"}
    assert verify(releases / "1.0.0") == []


def test_two_builds_in_one_folder_do_not_mix(maker, releases):
    from filelock import FileLock

    maker.add(maker.photo())
    releases.mkdir()
    with FileLock(releases / ".building.lock"), pytest.raises(ReleaseError, match="another release"):
        build(maker.workspace, releases, "1.0.0", options())


def test_a_portrait_that_was_not_screened_is_not_released_silently(maker, releases):
    maker.add(maker.photo())
    maker.workspace.remove("tables/screened/part-00000.parquet")
    with pytest.raises(ReleaseError, match="was not screened"):
        build(maker.workspace, releases, "1.0.0", options())


def test_cells_of_the_camera_plot_hold_every_portrait(maker, releases):
    from phq_data.release import stats

    maker.add(*(maker.photo() for _ in range(9)))
    build(maker.workspace, releases, "1.0.0", options())
    summary = stats.of_release(reader.open(releases / "1.0.0"))
    assert summary.rows == 9 == int(np.sum(summary.cells)) == sum(summary.octants.values())


def test_a_workspace_of_two_settings_is_not_released_and_its_parts_are_named(make_workspace, releases):
    """A build with other settings that was stopped after some of its parts."""
    workspace = make_workspace(count=8, part_size=3).workspace
    folder, allowed = "tables/portraits", Permission("Ann", ("train",), "2026-01-01", "a mail")
    free = options(permissions=(allowed,))
    whole = workspace.part_info(folder, 1)

    def mark(fingerprint):
        for where in (folder, "ledger/align_crop"):
            content = workspace.part_info(where, 1).content
            workspace.write_part(where, 1, workspace.read_part(where, 1), fingerprint, content=content)

    mark("of other settings")
    with pytest.raises(WorkspaceError, match=r"not finished: align_crop of part 1: made with other settings"):
        build(workspace, releases, "1.0.0", free)
    assert not list(releases.glob("*"))
    mark(whole.fingerprint)
    build(workspace, releases, "1.0.0", free)
    workspace.remove("ledger/screen/part-00002.parquet")
    with pytest.raises(WorkspaceError, match=r"screen of part 2: missing"):
        build(workspace, releases, "1.1.0", free)


def test_no_release_is_made_of_a_workspace_while_somebody_works_on_it(maker, releases):
    maker.add(maker.photo())
    with (
        maker.workspace.lock(),
        pytest.raises(WorkspaceBusyError, match=r"in use by process \d+ on .*: wait for it"),
    ):
        build(maker.workspace, releases, "1.0.0", options())
    build(maker.workspace, releases, "1.0.0", options())


@pytest.mark.parametrize("table", ["portraits", "screened", "photos", "decisions"])
def test_a_flipped_bit_in_the_workspace_is_not_released(maker, releases, tmp_path, table):
    """Also in the footer, where no page has it, and in columns that no release has."""
    ids = maker.add(*(maker.photo() for _ in range(3)))
    maker.decide({ids[0]: "accept"})
    path = tmp_path / f"ws/tables/{table}/part-00000.parquet"
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.choice(len(whole) - 8, 12, replace=False):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(WorkspaceError, match="of part 0: damaged"):
            build(maker.workspace, releases, "1.0.0", options())
    path.write_bytes(whole)
    build(maker.workspace, releases, "1.0.0", options())
