"""FID of a model against a release: octants, settings, caches, processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from phq_data import camera
from portraitgan.data.balance import OCTANTS, octant_of
from portraitgan.data.dataset import PortraitData
from portraitgan.metrics import quality
from portraitgan.metrics.features import open_features
from portraitgan.metrics.generate import Setting, drawn, settings_of
from portraitgan.metrics.quality import compare, made_features, real_features

COUNT = 24


@pytest.fixture(scope="module")
def network():
    return open_features(None)


def test_octants_are_centred_on_multiples_of_45_degrees():
    yaw = np.array([0, 22, 23, -22, -23, 45, 90, 180, -180, 157, 158, -158, -157])
    labels = camera.to_label(camera.from_angles(np.radians(yaw), 0.1, 0.05))
    middles = [OCTANTS[index] for index in octant_of(labels)]
    assert middles == [0, 0, 45, 0, -45, 45, 90, -180, -180, 135, -180, -180, -135]


@pytest.mark.slow
def test_a_release_against_itself(data, network, alone):
    found = real_features(data, network, alone)
    result = compare(found, found)
    assert result["fid"] == pytest.approx(0, abs=1e-3)
    assert found.all.count == len(data)
    yaws = octant_of(data.labels(range(len(data)))[0].numpy())
    assert [part.count for part in found.octants] == np.bincount(yaws, minlength=8).tolist()


def test_all_views_together_are_the_octants_together(data, network, alone, monkeypatch):
    monkeypatch.setattr(quality, "_TOGETHER", 4)
    found = real_features(data, network, alone, batch=7)
    features = network.extract(data.batch(range(len(data))).images).double().numpy()
    np.testing.assert_allclose(found.all.mean, features.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.all.covariance, np.cov(features, rowvar=False), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_an_octant_is_compared_with_its_like(data, network, alone):
    """Spoiling the images of one octant leaves the distances of the others."""
    real = real_features(data, network, alone)
    spoilt = quality.Collector(network, torch.device("cpu"), alone, 100)
    cameras, _ = data.labels(range(len(data)))
    octants = octant_of(cameras.numpy())
    pixels = data.batch(range(len(data))).images
    chosen = int(np.bincount(octants).argmax())
    spoilt.add(
        torch.where(torch.from_numpy(octants == chosen)[:, None, None, None], 255 - pixels, pixels), cameras
    )
    for index, (middle, one) in enumerate(compare(real, spoilt.finished())["octants"].items()):
        assert int(middle) == OCTANTS[index]
        if one["fid"] is not None:
            assert (one["fid"] > 0.1) is (index == chosen)


def test_an_empty_octant_has_no_distance(data, network, alone):
    real = real_features(data, network, alone)
    frontal = quality.Collector(network, torch.device("cpu"), alone, 10)
    label = torch.from_numpy(camera.to_label(camera.from_angles(np.zeros(4), 0.0)))
    frontal.add(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), label)
    result = compare(real, frontal.finished())
    assert result["octants"]["-180"]["fid"] is None
    assert result["octants"]["-180"]["made"] == 0
    assert result["octants"]["0"]["made"] == 4


@pytest.mark.slow
def test_real_features_are_measured_once_and_other_portraits_again(
    release, data, network, alone, tmp_path, monkeypatch
):
    first = real_features(data, network, alone, cache=tmp_path)
    read = []
    batch = PortraitData.batch
    monkeypatch.setattr(PortraitData, "batch", lambda self, i: read.append(len(i)) or batch(self, i))
    again = real_features(data, network, alone, cache=tmp_path)
    assert not read
    assert torch.equal(first.all.products, again.all.products) and torch.equal(first.some, again.some)
    other = PortraitData.open(release, 32, mirror=False)
    assert real_features(other, network, alone, cache=tmp_path).all.count == other.portraits
    assert read
    # A file that is not whole is made anew.
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    assert real_features(data, network, alone, cache=tmp_path).all.count == len(data)


def test_settings_follow_the_networks(model, coarse_model):
    assert [setting.name for setting in settings_of(model)] == [
        "generator, identical", "generator, independent",
        "discriminator, identical", "discriminator, independent",
    ]  # fmt: skip
    assert [setting.poses for setting in settings_of(coarse_model)] == ["labels", "labels"]


@pytest.mark.parametrize("conditioning", ["identical", "independent"])
def test_the_mapping_network_sees_what_the_setting_says(model, data, alone, conditioning, monkeypatch):
    told = []
    mapping = type(model.generator).mapping

    def spy(self, z, seen, pose=None, *rest, **more):
        told.append((seen.clone(), pose.clone()))
        return mapping(self, z, seen, pose, *rest, **more)

    monkeypatch.setattr(type(model.generator), "mapping", spy)
    parts = list(drawn(model, data, Setting("generator", conditioning), 16, 8, 0, alone))
    for part, (seen, pose) in zip(parts, told, strict=True):
        same = torch.equal(part.cameras, seen) and torch.equal(part.poses, pose)
        assert same is (conditioning == "identical")
    known = data.labels(range(len(data)))[0]
    drawn_from = torch.cat([seen for seen, _ in told])
    assert all((known == one).all(dim=1).any() for one in drawn_from)


def test_poses_of_the_discriminator_are_those_of_the_real_portrait(model, data, alone):
    from portraitgan.metrics.generate import predicted_poses

    part = next(iter(drawn(model, data, Setting("discriminator", "identical"), 4, 4, 0, alone)))
    known = data.labels(range(len(data)))[0]
    indices = [int((known == one).all(dim=1).nonzero()[0, 0]) for one in part.cameras]
    torch.testing.assert_close(part.poses, predicted_poses(model, data.batch(indices)))


def test_the_same_seed_gives_the_same_portraits_another_one_others(model, data, alone):
    def pixels(seed):
        parts = drawn(model, data, Setting("generator", "independent"), 6, 4, seed, alone)
        return torch.cat([part.pixels for part in parts])

    assert torch.equal(pixels(1), pixels(1))
    assert not torch.equal(pixels(1), pixels(2))
    assert len(pixels(1)) == 6


def test_made_features_count_what_was_asked_for(model, data, network, alone):
    found = made_features(model, data, network, Setting("generator", "identical"), COUNT, alone, batch=5)
    assert found.all.count == COUNT and len(found.some) == COUNT


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(run, release, tmp_path):
    def measured(processes):
        out = tmp_path / f"{processes}.json"
        arguments = ["-m", "portraitgan", "metrics", str(run), "--data", release, "--out", str(out)]
        arguments += ["--count", "20", "--num-samples", "10", "--batch", "4", "--device", "cpu"]
        arguments += ["--cache", str(tmp_path / str(processes))]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), *arguments]
        subprocess.run(command, check=True, timeout=1200, capture_output=True)
        return json.loads(Path(out).read_text())

    one, two = measured(1), measured(2)
    assert two["fid"].pop("processes") == 2 == one["fid"].pop("processes") + 1
    for part in ("fid", "canonicality", "generated_poses", "real_poses", "identity"):
        assert_close(one[part], two[part], part)


def assert_close(one, two, where):
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            if not key.startswith("kid"):  # of another choice of images
                assert_close(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, float):
        assert one == pytest.approx(two, rel=1e-3, abs=2e-3), where
    else:
        assert one == two, where
