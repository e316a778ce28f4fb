"""Facts about portraits read from a release, the order they come in, and the cache."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from s3_server import Fault

from phq_data import camera
from phq_data.release import reader, takedown
from phq_data.release.manifest import Manifest
from portraitgan.data.dataset import DataError, PortraitData
from portraitgan.data.loader import Sampler, loader

from .conftest import SIZE

LIGHT = {"arrays", "camera", "compatibility", "errors", "files", "foreign", "old_schema", "parquet",
         "parquet_footer", "parquet_limits", "release", "rig", "schema", "typed_json"}  # fmt: skip
"""Modules of `phq_data` that reading a release loads."""


@pytest.fixture
def releases(made, tmp_path):
    return shutil.copytree(made, tmp_path / "releases")


def reseal(folder, change):
    """Edit a release's manifest and give it the digest that fits, as a malicious editor would."""
    path = folder / "manifest.json"
    manifest = change(Manifest.from_bytes(path.read_bytes(), "test"))
    path.write_bytes(manifest.to_bytes())


def rewrite_shard(folder, change):
    """Edit the table of the first shard and make size and checksum fit."""
    name = Manifest.from_bytes((folder / "manifest.json").read_bytes(), "test").shards[0].path
    table = change(pq.read_table(folder / name))
    pq.write_table(table, folder / name)
    data = (folder / name).read_bytes()
    digest = hashlib.sha256(data).hexdigest()

    def fit(manifest):
        entry = replace(manifest.shards[0], rows=table.num_rows, bytes=len(data), sha256=digest)
        return replace(manifest, shards=(entry, *manifest.shards[1:]))

    reseal(folder, fit)


def truth_of(releases, portrait_id, resolution=SIZE):
    """Image [3, H, W], mask [1, H, W], camera, pose straight from the reader, averaged in float64."""
    row = reader.open(releases / "1.0.0").find(portrait_id)
    image, mask = (np.asarray(Image.open(io.BytesIO(row[name]["bytes"]))) for name in ("image", "mask"))
    stacked = np.concatenate([image, mask[..., None]], -1).astype(np.float64)
    factor = SIZE // resolution
    blocks = stacked.reshape(resolution, factor, resolution, factor, 4).mean((1, 3)).transpose(2, 0, 1)
    return blocks[:3], blocks[3:], np.array(row["camera"]), np.array(row["pose"])


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("resolution", [SIZE, SIZE // 4])
def test_a_portrait_is_what_the_release_holds_averaged_over_areas(made, tmp_path, cached, resolution):
    data = PortraitData.open(str(made / "1.0.0"), resolution, cache=tmp_path if cached else None)
    for _ in range(2):  # the second time from the cache
        batch = data.batch([3, 0])
        for place, one in enumerate(data.portrait_ids([3, 0])):
            image, mask, label, pose = truth_of(made, one, resolution)
            assert np.abs(batch.images[place].numpy() - image).max() <= 0.51
            assert np.abs(batch.masks[place].numpy() - mask).max() <= 0.51
            np.testing.assert_allclose(batch.cameras[place], label, rtol=1e-6)
            np.testing.assert_allclose(batch.poses[place], pose, rtol=1e-6)
    assert batch.images.dtype == batch.masks.dtype == torch.uint8
    assert batch.cameras.dtype == batch.poses.dtype == torch.float32


@pytest.mark.parametrize("cached", [False, True])
def test_the_second_half_is_mirrored_in_image_mask_camera_and_pose(made, tmp_path, cached):
    data = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path if cached else None)
    count = data.portraits
    assert len(data) == 2 * count
    mirrored_first = data.batch([count + 2, 2])
    again = data.batch([2, count + 2])
    for batch, plain, mirrored in ((mirrored_first, 1, 0), (again, 0, 1)):
        assert torch.equal(batch.images[mirrored], batch.images[plain].flip(-1))
        assert torch.equal(batch.masks[mirrored], batch.masks[plain].flip(-1))
        # Spec section 1.4: these entries change their sign, no others.
        sign = torch.ones(25)
        sign[[1, 2, 3, 4, 8]] = -1
        torch.testing.assert_close(batch.cameras[mirrored], batch.cameras[plain] * sign)
        pose_sign = torch.tensor([1.0, -1, -1, 1, -1, -1])
        torch.testing.assert_close(batch.poses[mirrored], batch.poses[plain] * pose_sign)


def test_a_mirrored_image_shows_the_mirrored_rig(made):
    """Projecting mirrored points with the mirrored label lands at mirrored places."""
    data = PortraitData.open(str(made / "1.0.0"), SIZE)
    cameras, _ = data.labels([1, data.portraits + 1])
    points = np.random.default_rng(0).normal(0, 0.1, (20, 3))
    plain, _ = camera.project(points, camera.from_label(cameras[0].numpy())[0])
    mirrored, _ = camera.project(points * [-1, 1, 1], camera.from_label(cameras[1].numpy())[0])
    np.testing.assert_allclose(mirrored[:, 0], 1 - plain[:, 0], atol=1e-6)
    np.testing.assert_allclose(mirrored[:, 1], plain[:, 1], atol=1e-6)


def test_without_mirror_every_portrait_is_there_once(made):
    data = PortraitData.open(str(made / "1.0.0"), SIZE, mirror=False)
    assert len(data) == data.portraits == len(set(data.portrait_ids(range(len(data)))))
    with pytest.raises(IndexError):
        data.batch([len(data)])
    with pytest.raises(IndexError):
        data.labels([-1])


def test_labels_are_drawn_uniformly_and_repeatably(made):
    data = PortraitData.open(str(made / "1.0.0"), SIZE)
    cameras, poses = data.draw_labels(20_000, np.random.default_rng(5))
    again, _ = data.draw_labels(20_000, np.random.default_rng(5))
    assert torch.equal(cameras, again)
    assert poses.shape == (20_000, 6)
    share = (cameras[:, 3, None] == data.labels(range(len(data)))[0][:, 3]).float().mean(0)
    np.testing.assert_allclose(share, 1 / len(data), rtol=0.25)


def test_rig_checksum_and_splits_come_from_the_release(made):
    data = PortraitData.open(str(made / "1.0.0"), SIZE)
    release = reader.open(made / "1.0.0")
    assert data.checksum == release.manifest.digest
    assert data.rig is not None and data.rig.digest == release.rig().digest
    assert data.portraits == release.manifest.counts()["train"]
    assert PortraitData.open(str(made / "1.0.0"), SIZE, split="all").portraits == release.manifest.rows
    assert data.truth([0]) is None


# Batches ahead of time


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_the_samplers_order_and_its_state_is_that_of_the_last(made, tmp_path, workers):
    data = PortraitData.open(str(made / "1.0.0"), 8, cache=tmp_path)
    sampler, expected = Sampler(len(data), seed=2), Sampler(len(data), seed=2)
    batches: Any = loader(data, sampler, 5, workers)
    for _ in range(9):
        batch = next(batches)
        wanted = data.batch(expected.take(5))
        assert torch.equal(batch.images, wanted.images)
        assert torch.equal(batch.cameras, wanted.cameras)
        assert sampler.state() == expected.state()
    batches.close()


def test_an_error_in_a_worker_reaches_the_caller(releases):
    def spoil(table):
        rows = table.to_pylist()
        for row in rows:
            row["image"]["bytes"] = row["image"]["bytes"][:90]
        return type(table).from_pylist(rows, schema=table.schema)

    rewrite_shard(releases / "1.0.0", spoil)
    data = PortraitData.open(str(releases / "1.0.0"), SIZE)
    batches = loader(data, Sampler(len(data), 0), len(data), 2)
    with pytest.raises(DataError, match=r"image of portrait [0-9a-f]{32} .*cannot be read"):
        next(batches)


# The cache


def test_the_first_pass_decodes_each_portrait_once_and_the_second_none(made, tmp_path, monkeypatch):
    data = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path)
    seen = []
    decode = PortraitData._decode
    monkeypatch.setattr(
        PortraitData,
        "_decode",
        lambda self, row, out: seen.append(row["portrait_id"]) or decode(self, row, out),
    )
    for _ in range(2):
        for index in np.random.default_rng(0).permutation(len(data)):
            data.batch([index])
        assert len(seen) == len(set(seen)) == data.portraits
    # Another process finds them.
    PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path).batch(range(len(data)))
    assert len(seen) == data.portraits


def test_damaged_pixels_are_noticed_and_decoded_again(made, tmp_path):
    data = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path)
    whole = data.batch(range(data.portraits))
    path = data.cache.folder / "pixels"
    with path.open("r+b") as file:
        file.seek(4 * SIZE * SIZE + 77)
        old = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([old[0] ^ 1]))
    again = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path)
    assert torch.equal(again.batch(range(data.portraits)).images, whole.images)
    assert again.cache.damaged == 1


@pytest.mark.parametrize("what", ["short", "no about", "other about"])
def test_a_broken_cache_is_made_anew(made, tmp_path, what):
    data = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path)
    whole = data.batch([0, 1])
    folder = data.cache.folder
    if what == "short":
        os.truncate(folder / "pixels", 100)
    elif what == "no about":
        (folder / "about.json").unlink()
    else:
        (folder / "about.json").write_text('{"format": "another"}')
    said = []
    again = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path, say=said.append)
    assert any("damaged" in line for line in said)
    assert torch.equal(again.batch([0, 1]).images, whole.images)


def test_its_cost_is_told_before_it_is_spent_and_a_full_disk_is_noticed(made, tmp_path, monkeypatch):
    said = []
    data = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path, say=said.append)
    assert any("GiB for" in line for line in said)
    size = sum(path.stat().st_size for path in data.cache.folder.iterdir() if path.name != "about.json")
    assert size == data.cache_bytes
    usage = shutil.disk_usage(tmp_path)._replace(free=data.cache_bytes - 1)
    monkeypatch.setattr("portraitgan.data.cache.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"need .* GiB"):
        PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path / "other")
    assert not any(path.is_dir() for path in (tmp_path / "other").iterdir())


def test_a_disk_that_fails_later_is_one_sentence(made, tmp_path, monkeypatch):
    def full(file, data, offset):
        raise OSError(28, "No space left on device")

    data = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path)
    monkeypatch.setattr("portraitgan.data.cache.os.pwrite", full)
    with pytest.raises(DataError, match=r"pixels: No space left.*without a cache"):
        data.batch([0])


@pytest.mark.slow
def test_a_killed_process_leaves_a_cache_that_is_right(made, tmp_path):
    script = (
        "import sys, os, signal\nfrom portraitgan.data.dataset import PortraitData\n"
        f"data = PortraitData.open({str(made / '1.0.0')!r}, {SIZE}, cache={str(tmp_path)!r})\n"
        "write = type(data.cache).write\n"
        "def once(self, row, pixels):\n"
        "    write(self, row, pixels)\n"
        "    half = bytes([7]) * 2000  # the next one half written\n"
        "    os.pwrite(self._file.fileno(), half, (row + 1) * pixels.size)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "type(data.cache).write = once\n"
        "data.batch([0])\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=300)
    assert ended.returncode == -9
    data = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path)
    assert data.cache.stored == 1
    plain = PortraitData.open(str(made / "1.0.0"), SIZE)
    everything = range(data.portraits)
    assert torch.equal(data.batch(everything).images, plain.batch(everything).images)
    assert data.cache.damaged == 0


# Takedowns


def test_what_was_taken_down_is_neither_served_nor_kept(releases, tmp_path):
    url = str(releases / "1.0.0")
    data = PortraitData.open(url, SIZE, cache=tmp_path / "cache")
    data.batch(range(data.portraits))
    victim = data.portrait_ids([4])[0]
    row = int(data._rows[4])
    pixels = np.fromfile(data.cache.folder / "pixels", np.uint8).reshape(-1, 4, SIZE, SIZE)
    assert pixels[row].any()
    takedown.take_down(releases, portrait_id=victim)
    # A run that is on its way.
    assert data.refresh() == 1
    assert victim not in data.portrait_ids(range(len(data)))
    assert len(data) == len(data.portrait_ids(range(len(data))))
    pixels = np.fromfile(data.cache.folder / "pixels", np.uint8).reshape(-1, 4, SIZE, SIZE)
    assert not pixels[row].any()
    # The next run.
    later = PortraitData.open(url, SIZE, cache=tmp_path / "cache")
    assert later.portraits == data.portraits - 1
    assert victim not in later.portrait_ids(range(len(later)))
    plain = PortraitData.open(url, SIZE)
    assert torch.equal(later.batch(range(len(later))).images, plain.batch(range(len(plain))).images)
    # A process that does not know yet cannot bring it back.
    data.cache.write(row, np.full((4, SIZE, SIZE), 9, np.uint8))
    pixels = np.fromfile(data.cache.folder / "pixels", np.uint8).reshape(-1, 4, SIZE, SIZE)
    assert not pixels[row].any()


def test_a_takedown_before_the_first_pass_keeps_it_out_of_the_cache(releases, tmp_path):
    url = str(releases / "1.0.0")
    victim = PortraitData.open(url, SIZE).portrait_ids([0])[0]
    takedown.take_down(releases, portrait_id=victim)
    data = PortraitData.open(url, SIZE, cache=tmp_path / "cache")
    data.batch(range(data.portraits))
    assert data.cache.stored == data.portraits


# What cannot be trained on


def test_no_release_and_no_split_are_named(made):
    with pytest.raises(DataError, match="no release"):
        PortraitData.open(str(made / "2.0.0"), SIZE)
    with pytest.raises(DataError, match=r"split 'night'.*train \("):
        PortraitData.open(str(made / "1.0.0"), SIZE, split="night")


def test_images_smaller_than_asked_for_are_refused(made):
    with pytest.raises(DataError, match=r"smaller than 64x64.*32"):
        PortraitData.open(str(made / "1.0.0"), 64)


@pytest.mark.parametrize(
    "name, words", [("pose", "have no poses"), ("camera", "no column 'camera'"), ("mask", "column 'mask'")]
)
def test_missing_columns_are_named(releases, name, words):
    rewrite_shard(releases / "1.0.0", lambda table: table.drop_columns([name]))
    with pytest.raises(DataError, match=words):
        PortraitData.open(str(releases / "1.0.0"), SIZE)


def test_missing_poses_and_impossible_cameras_name_the_portrait(releases):
    def change(column, value):
        def spoil(table):
            rows = table.to_pylist()
            rows[0][column] = value
            return type(table).from_pylist(rows, schema=table.schema)

        return spoil

    first = PortraitData.open(str(releases / "1.0.0"), SIZE, split="all").portrait_ids([0])[0]
    rewrite_shard(releases / "1.0.0", change("pose", None))
    with pytest.raises(DataError, match=f"no pose.*{first}"):
        PortraitData.open(str(releases / "1.0.0"), SIZE, split="all")
    rewrite_shard(releases / "1.0.0", change("pose", [float("nan")] * 6))
    with pytest.raises(DataError, match=f"no pose.*{first}"):
        PortraitData.open(str(releases / "1.0.0"), SIZE, split="all")
    rewrite_shard(releases / "1.0.0", change("pose", [0.0] * 6))
    rewrite_shard(releases / "1.0.0", change("camera", [0.0] * 25))
    with pytest.raises(DataError, match=f"camera of portrait {first}"):
        PortraitData.open(str(releases / "1.0.0"), SIZE, split="all")


def test_a_flipped_byte_is_found_before_training(releases):
    shard = next((releases / "1.0.0" / "data").glob("train-*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=f"{shard.name}.*sha256"):
        PortraitData.open(str(releases / "1.0.0"), SIZE)


def test_a_whole_cache_needs_no_shard_to_be_right(releases, tmp_path):
    data = PortraitData.open(str(releases / "1.0.0"), SIZE, cache=tmp_path / "cache")
    whole = data.batch(range(data.portraits))
    said = []
    PortraitData.open(str(releases / "1.0.0"), SIZE, cache=tmp_path / "cache", say=said.append)
    assert not any(line.startswith("checking") for line in said)
    # One row less, and the shards count again.
    state = data.cache.folder / "state"
    state.write_bytes(bytes(8) + state.read_bytes()[8:])
    again = PortraitData.open(str(releases / "1.0.0"), SIZE, cache=tmp_path / "cache", say=said.append)
    assert any(line.startswith("checking") for line in said)
    assert torch.equal(again.batch(range(data.portraits)).images, whole.images)


@pytest.mark.slow
def test_processes_that_fill_a_cache_at_once_agree(made, tmp_path):
    script = (
        "import sys, torch\nfrom portraitgan.data.dataset import PortraitData\n"
        f"data = PortraitData.open({str(made / '1.0.0')!r}, {SIZE}, cache={str(tmp_path)!r})\n"
        "order = range(len(data)) if sys.argv[1] == '0' else range(len(data) - 1, -1, -1)\n"
        f"plain = PortraitData.open({str(made / '1.0.0')!r}, {SIZE})\n"
        "for i in order:\n"
        "    assert torch.equal(data.batch([i]).images, plain.batch([i]).images)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    data = PortraitData.open(str(made / "1.0.0"), SIZE, cache=tmp_path)
    assert data.cache.stored == data.portraits
    assert len(list(tmp_path.glob("*-train-*"))) == 1


def test_a_release_without_images_says_how_to_fill_it(releases):
    reseal(releases / "1.0.0", lambda manifest: replace(manifest, images="none"))
    with pytest.raises(DataError, match="phq release fill"):
        PortraitData.open(str(releases / "1.0.0"), SIZE)


def test_rows_that_were_not_filled_are_left_out_and_counted(releases):
    def spoil(table):
        rows = table.to_pylist()
        rows[1]["image"] = None
        return type(table).from_pylist(rows, schema=table.schema)

    whole = PortraitData.open(str(releases / "1.0.0"), SIZE, split="all").portraits
    rewrite_shard(releases / "1.0.0", spoil)
    said = []
    data = PortraitData.open(str(releases / "1.0.0"), SIZE, split="all", say=said.append)
    assert data.portraits == whole - 1
    assert any(line.startswith("1 portraits have no image") for line in said)
    data.batch(range(len(data)))


def test_a_release_on_another_file_system_is_read_too(made):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(made), "/far/releases", recursive=True)
    near, far = (PortraitData.open(url, SIZE) for url in (str(made / "1.0.0"), "memory://far/releases/1.0.0"))
    assert torch.equal(near.batch([0, 5]).images, far.batch([0, 5]).images)
    memory.rm("/far", recursive=True)


def test_a_release_at_an_object_store_is_read_amid_faults(made, s3):
    near = PortraitData.open(str(made / "1.0.0"), SIZE)
    s3.service.fs.put(str(made), f"{s3.name}/releases", recursive=True)
    faults = cycle([None] * 4 + [Fault(status=503), Fault(reset=True), Fault(cut=True)])
    s3.service.fault = lambda request: next(faults)
    far = PortraitData.open(f"{s3.url}/releases/1.0.0", SIZE)
    for indices in ([0, 5], [3]):
        assert torch.equal(near.batch(indices).images, far.batch(indices).images)
    assert torch.equal(near.batch([1]).cameras, far.batch([1]).cameras)


@pytest.mark.slow
def test_reading_needs_only_the_light_core(made):
    """Training must not pull in what builds a dataset."""
    script = (
        "import sys\nfrom portraitgan.data.dataset import PortraitData\n"
        f"PortraitData.open({str(made / '1.0.0')!r}, {SIZE}).batch([0])\n"
        "heavy = {'prefect', 'onnxruntime', 'typer', 'streamlit', 'scipy.optimize'} & set(sys.modules)\n"
        "heavy |= {n for n in sys.modules if n.startswith('phq_data.') and n.split('.')[1] not in\n"
        f"          {LIGHT!r}}}\n"
        "sys.exit(str(sorted(heavy)) if heavy else 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
