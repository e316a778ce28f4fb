"""Rotations against SciPy, and SMPL's own facts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from phq_data.models.crowdnet import rotations


@pytest.mark.parametrize("count", [1, 3, 7])
def test_six_numbers_are_the_first_two_columns_interleaved(count):
    wanted = Rotation.random(count, rng=np.random.default_rng(count)).as_matrix()
    numbers = torch.from_numpy(wanted[:, :, :2].reshape(count, 6))
    np.testing.assert_allclose(rotations.from_6d(numbers), wanted, atol=1e-12)
    scaled = numbers.reshape(count, 3, 2) * torch.tensor([2.0, 0.5])
    scaled[..., 1] += 0.3 * scaled[..., 0]
    np.testing.assert_allclose(rotations.from_6d(scaled.reshape(count, 6)), wanted, atol=1e-12)


def test_axis_angles_are_scipys_for_every_angle():
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(400, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate([rng.uniform(0, np.pi, 360), [0.0] * 10, [1e-7] * 10, [np.pi - 1e-6] * 20])
    vectors = axes * angles[:, None]
    matrices = Rotation.from_rotvec(vectors).as_matrix()
    found = rotations.to_axis_angle(torch.from_numpy(matrices)).numpy()
    np.testing.assert_allclose(found, vectors, atol=1e-9)
    np.testing.assert_allclose(rotations.from_axis_angle(torch.from_numpy(vectors)), matrices, atol=1e-12)


def test_half_turns_come_out_as_half_turns():
    for axis in np.eye(3):
        matrix = torch.from_numpy(Rotation.from_rotvec(np.pi * axis).as_matrix())
        np.testing.assert_allclose(np.abs(rotations.to_axis_angle(matrix).numpy()), np.pi * axis, atol=1e-12)


def test_a_root_that_is_no_rotation_counts_as_none_and_hands_are_straight():
    pose = rotations.body_pose(torch.full((1, 6), float("nan")), torch.randn(1, 126))
    assert not pose[:, :3].any() and not pose[:, 66:].any()
    assert pose.shape == (1, 72) and bool(pose[:, 3:66].any())
