"""Errors of poses, and the poses of frontal neutral samples."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from portraitgan.metrics import poses
from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.generate import Setting
from portraitgan.networks.discriminator import Portraits

from .conftest import BIAS, ROWS


def test_angles_between_rotations():
    random = np.random.default_rng(0)
    a, b = random.normal(0, 0.8, (2, 50, 6))
    found = poses.angle_errors(a, b)
    for column, joint in enumerate((slice(0, 3), slice(3, 6))):
        apart = Rotation.from_rotvec(b[:, joint]).inv() * Rotation.from_rotvec(a[:, joint])
        np.testing.assert_allclose(found[:, column], np.degrees(apart.magnitude()), rtol=1e-9)
    tiny = poses.angle_errors(np.full((1, 6), 1e-7), np.zeros((1, 6)))
    np.testing.assert_allclose(tiny, np.degrees(np.sqrt(3) * 1e-7), rtol=1e-6)


def test_summary_tells_bias_from_spread():
    truth = np.zeros((2, 6))
    seen = np.radians(np.array([[1, 0, 0, 0, 0, 3], [1, 0, 0, 0, 0, -3.0]]))
    found = poses.summary(seen, truth)
    assert found["neck_deg"] == 1 and found["head_deg"] == 3 and found["mean_deg"] == 2
    assert found["bias_deg"]["neck_x"] == 1 and found["bias_deg"]["head_z"] == 0
    assert found["rms_deg"]["head_z"] == 3 and found["count"] == 2


def test_labels_and_learned_poses_against_the_truth(model, data, alone, monkeypatch):
    known = data.truth(range(data.portraits))[1].isfinite().all(dim=1)
    assert int(known.sum()) == ROWS // 2

    def nearly(model, batch):
        """A discriminator that is right but for one degree."""
        truth = torch.cat([one for one in data.truth(wanted.pop(0))[1:]])
        return truth + torch.tensor(np.radians([1, 0, 0, 0, 0, 0])).float()

    wanted = []
    batch = type(data).batch
    monkeypatch.setattr(type(data), "batch", lambda self, i: wanted.append(i) or batch(self, i))
    monkeypatch.setattr(poses, "predicted_poses", nearly)
    found = poses.real_errors(model, data, alone, batch=3)
    assert found["labels"]["count"] == ROWS // 2
    for name, value in zip(poses.COMPONENTS, np.degrees(BIAS), strict=True):
        assert found["labels"]["bias_deg"][name] == pytest.approx(value, abs=1e-3)
    assert found["learned"]["rms_deg"]["neck_x"] == pytest.approx(1, abs=1e-3)
    assert found["pose_error_learned_deg"] < found["pose_error_labels_deg"]
    assert found["camera_labels"]["mean_deg"] == pytest.approx(0, abs=0.05)


def test_no_truth_no_error(model, data, alone, monkeypatch):
    monkeypatch.setattr(type(data), "truth", lambda self, indices: None)
    assert poses.real_errors(model, data, alone) is None


def test_poses_of_generated_portraits_are_compared_with_those_rendered(model, data, alone, monkeypatch):
    rendered = []

    def blind(judge, portraits, seen):
        return np.zeros((len(seen), 6), np.float32)

    def predict(self, z, camera):
        rendered.append(0.1 * torch.ones(len(z), 6))
        return rendered[-1]

    monkeypatch.setattr(poses, "discriminator_poses", blind)
    monkeypatch.setattr(type(model.generator), "predict_pose", predict)
    found = poses.generated_error(
        model, data, alone, setting=Setting("generator", "identical"), count=6, batch=4
    )
    assert found["count"] == 6
    assert found["mean_deg"] == pytest.approx(np.degrees(0.1 * np.sqrt(3)), abs=1e-3)
    assert found["bias_deg"]["head_y"] == pytest.approx(-np.degrees(0.1), abs=1e-3)


def test_canonicality_does_not_depend_on_the_batch(model, alone):
    one = poses.canonicality(model, model, alone, count=6, batch=2, truncation=0.7)
    # Latents belong to a batch's number: only the same batches give the same samples.
    again = poses.canonicality(model, model, alone, count=6, batch=2, truncation=0.7)
    assert one == again
    assert one["samples"] == 6 and set(one["mean_deg"]) == set(poses.COMPONENTS)


def test_absolute_values_are_the_papers_and_signed_ones_tell_a_drift(model, alone, monkeypatch):
    """Two samples nod by 2 and by -4 degrees: absolute mean 3 and deviation 1, signed -1 and 3."""
    seen = iter([[2.0, 0, 0, 0, 0, 5.0], [-4.0, 0, 0, 0, 0, 5.0]])
    monkeypatch.setattr(poses, "discriminator_poses", lambda *_: np.radians([next(seen)], dtype=np.float32))
    found = poses.canonicality(model, model, alone, count=2, batch=1)
    assert found["absolute_mean_deg"]["neck_x"] == pytest.approx(3, abs=1e-3)
    assert found["absolute_std_deg"]["neck_x"] == pytest.approx(1, abs=1e-3)
    assert found["mean_deg"]["neck_x"] == pytest.approx(-1, abs=1e-3)
    assert found["std_deg"]["neck_x"] == pytest.approx(3, abs=1e-3)
    assert (found["absolute_mean_deg"]["head_z"], found["absolute_std_deg"]["head_z"]) == (5, 0)


def test_a_run_without_predictors_is_judged_by_another(coarse_model, model, alone):
    with pytest.raises(MetricError, match="--pose-discriminator"):
        poses.canonicality(coarse_model, coarse_model, alone, count=2)
    found = poses.canonicality(coarse_model, model, alone, count=4)
    assert str(model.folder) == found["pose_discriminator"]


def test_the_judges_sizes_count(model, alone, monkeypatch):
    """Images of another size are brought to what the judge knows."""
    seen = []
    predict = type(model.discriminator).predict_pose

    def spy(self, portraits, camera):
        seen.append((portraits.image.shape[-1], portraits.raw.shape[-1], portraits.mask.shape[-1]))
        return predict(self, portraits, camera)

    monkeypatch.setattr(type(model.discriminator), "predict_pose", spy)
    larger = Portraits(torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 16, 16), torch.zeros(2, 1, 16, 16))
    front = model.neutral_camera.expand(2, -1)
    assert poses.discriminator_poses(model, larger, front).shape == (2, 6)
    config = model.config
    assert seen == [(config.discriminator.image_resolution, *[config.generator.render.resolution] * 2)]
    assert replace(larger).image.shape[-1] == 64
