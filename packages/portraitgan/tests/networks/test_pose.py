"""Pose predictors: exact left-right symmetry, quirk Q1 only on request, and the mirror operators."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phq_data import camera as labels
from portraitgan.networks.discriminator import Discriminator, Portraits
from portraitgan.networks.pose import GeneratorPosePredictor, mirror_camera, mirror_pose, needs_mirror
from portraitgan.presets import tiny


def cameras() -> Tensor:
    yaw = np.array([0.4, -0.4, 2.5, -2.5, 1.5])
    return torch.from_numpy(labels.to_label(labels.from_angles(yaw, np.linspace(-0.2, 0.2, 5), 0.05)))


def test_mirror_operators_are_those_of_the_data() -> None:
    pose = np.random.RandomState(0).standard_normal((5, 6))
    assert torch.equal(mirror_camera(cameras()), torch.from_numpy(labels.mirror_label(cameras().numpy())))
    assert np.allclose(mirror_pose(torch.from_numpy(pose)).numpy(), labels.mirror_pose(pose))
    assert needs_mirror(cameras()).tolist() == [True, False, True, False, True]


def test_generator_predictor_is_symmetric() -> None:
    torch.manual_seed(0)
    predictor = GeneratorPosePredictor(8, 25, (16, 8))
    z = torch.randn(5, 8)
    pose = predictor(z, cameras())
    assert torch.equal(predictor(z, mirror_camera(cameras())), mirror_pose(pose))
    assert (pose.abs() > 1e-3).any()


def test_discriminator_predictor_is_symmetric_unless_q1() -> None:
    torch.manual_seed(0)
    camera = cameras()[:4]
    portraits = Portraits(torch.randn(4, 3, 32, 32), torch.randn(4, 3, 8, 8), torch.rand(4, 1, 8, 8))
    assert portraits.mask is not None
    flipped = Portraits(portraits.image.flip(3), portraits.raw.flip(3), portraits.mask.flip(3))
    errors = {}
    for unmirrored in (False, True):
        network = Discriminator(tiny().discriminator, pose_camera_unmirrored=unmirrored)
        pose = network.predict_pose(portraits, camera)
        other = network.predict_pose(flipped, mirror_camera(camera))
        errors[unmirrored] = (other - mirror_pose(pose)).abs().max()
    assert errors[False] < 1e-5 < 1e-3 < errors[True]
