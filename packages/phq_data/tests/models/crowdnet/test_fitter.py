"""The fitter: the network's numbers in the protocol's terms, whatever the batch."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from phq_data.bodies import JOINT_NAMES
from phq_data.models.crowdnet import boxes, inputs, placement, rotations
from phq_data.models.crowdnet.fitter import UNSEEN, CrowdNetConfig, CrowdNetFitter
from phq_data.models.crowdnet.layout import INPUT_TO_SMPL, SMPL_JOINTS
from phq_data.models.crowdnet.smpl_layer import SmplLayer
from phq_data.models.protocols import BodyFitter, FitRequest, PreparingFitter


def request(seed: int, size: tuple[int, int] = (320, 240)) -> FitRequest:
    rng = np.random.default_rng(seed)
    low = np.array([30.0, 20.0]) + rng.uniform(0, 60, 2)
    keypoints = np.concatenate([low + rng.uniform(0, 130, (17, 2)), rng.uniform(0.2, 1, (17, 1))], axis=1)
    image = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
    return FitRequest(keypoints, np.array([0.0, 0.0, *size]), size, image)


@pytest.fixture(scope="module")
def fitter(network, golden_body):
    return CrowdNetFitter(network, golden_body[0], "0" * 64, CrowdNetConfig(batch=2))


def test_it_is_a_body_fitter_that_prepares(fitter):
    assert isinstance(fitter, BodyFitter) and isinstance(fitter, PreparingFitter)
    assert fitter.needs_image and fitter.body == "smpl"


def test_a_fit_is_the_readable_networks_body_in_front_of_the_box_camera(fitter, network, golden_body):
    person = request(3)
    fit = fitter.fit([person])[0]
    joints = boxes.with_pelvis_and_neck(person.keypoints)
    box = boxes.box_of_person(joints, person.photo_size, boxes.Thresholds())
    arrays = inputs.stack([inputs.prepare(person.image, joints, box, 0.05)])
    image, points, mask, box_tensor = map(torch.from_numpy, arrays)
    with torch.inference_mode():
        said = network(image, points, mask)
        pose = rotations.body_pose(said.root_6d, network.decode(said.latent))
        move = placement.photo_translation(said.camera, box_tensor)
        body = SmplLayer(golden_body[0])(pose, said.shape, move)
    rows = [SMPL_JOINTS.index(name) for name in JOINT_NAMES]
    np.testing.assert_allclose(fit.joints, body.joints[0, rows].numpy(), rtol=1e-3)
    np.testing.assert_allclose(fit.translation, body.joints[0, 12].numpy(), rtol=1e-3)
    np.testing.assert_allclose(fit.principal, [box[0] + box[2] / 2, box[1] + box[3] / 2], rtol=1e-6)
    numbers = pose[0].numpy()
    np.testing.assert_allclose(fit.root_orient, numbers[:3], atol=1e-3)
    np.testing.assert_allclose(fit.neck_head_pose, np.r_[numbers[36:39], numbers[45:48]], atol=1e-3)
    assert fit.focal == 5000.0 and fit.converged


def test_a_persons_fit_does_not_depend_on_the_batch(fitter):
    people = [request(seed) for seed in range(3)]
    together = fitter.fit(people)
    for person, fit in zip(people, together, strict=True):
        alone = fitter.fit([person])[0]
        np.testing.assert_allclose(fit.joints, alone.joints, rtol=1e-4)
        np.testing.assert_allclose(fit.residual, alone.residual, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_fits_of_a_cpu(fitter, network, golden_body):
    there = CrowdNetFitter(
        copy.deepcopy(network), golden_body[0], "0" * 64, CrowdNetConfig(batch=2, device="cuda")
    )
    people = [request(seed) for seed in range(3)]
    for fit, wanted in zip(there.fit(people), fitter.fit(people), strict=True):
        np.testing.assert_allclose(fit.joints, wanted.joints, rtol=1e-3)
        np.testing.assert_allclose(fit.root_orient, wanted.root_orient, atol=1e-3)
        np.testing.assert_allclose(fit.residual, wanted.residual, rtol=1e-2)


def test_hopeless_people_say_so_and_do_not_stop_the_others(fitter):
    good, vague = request(0), request(1)
    keypoints = vague.keypoints.copy()
    keypoints[:, 2] = 0.001
    lost = dataclasses.replace(vague, keypoints=keypoints)
    fits = fitter.fit([lost, good])
    assert np.isnan(fits[0].joints).all() and fits[0].residual == UNSEEN and not fits[0].converged
    np.testing.assert_allclose(fits[1].joints, fitter.fit([good])[0].joints, rtol=1e-4)


def test_one_person_detected_twice_is_fitted_once(fitter):
    first = request(0)
    near = dataclasses.replace(first, keypoints=first.keypoints + np.array([4.0, 4.0, 0.0]))
    elsewhere = dataclasses.replace(request(0), keypoints=near.keypoints)  # the same place in another photo
    fits = fitter.fit([first, near, elsewhere])
    assert [np.isfinite(fit.joints).all() for fit in fits] == [True, False, True]


def test_residuals_are_distances_in_shoulder_breadths(fitter, golden_body):
    arrays = golden_body[0]
    rest = arrays.regressor30 @ arrays.v_template
    left, right = (rest[SMPL_JOINTS.index(f"{side}_shoulder")] for side in ("left", "right"))
    breadth = np.linalg.norm(left - right)
    joints = np.random.default_rng(5).uniform(-0.3, 0.3, (30, 3)) + np.array([0, 0, 40.0])
    joints[:, 2] = 40.0
    centre = np.array([100.0, 80.0])
    pixels = 5000 / 40.0 * joints[INPUT_TO_SMPL[:17], :2] + centre
    off = 0.25 * breadth * 5000 / 40.0  # a quarter of a breadth
    keypoints = np.concatenate([pixels + np.array([off, 0]), np.ones((17, 1))], axis=1)
    keypoints[7, 2] = 0.0
    person = fitter.prepare([dataclasses.replace(request(0), keypoints=keypoints)])[0]
    residuals, mean = fitter._residuals(person, joints, centre)
    assert np.isnan(residuals[7])
    np.testing.assert_allclose(np.delete(residuals, 7), 0.25, rtol=1e-6)
    np.testing.assert_allclose(mean, 0.25, rtol=1e-6)


def test_the_fingerprint_tells_weights_body_and_thresholds_apart(network, golden_body, fitter):
    body = golden_body[0]
    other = dataclasses.replace(body, v_template=body.v_template + 0.01)
    strict = CrowdNetConfig(thresholds=boxes.UPSTREAM)
    prints = {
        fitter.fingerprint,
        CrowdNetFitter(network, body, "1" * 64).fingerprint,
        CrowdNetFitter(network, other, "0" * 64).fingerprint,
        CrowdNetFitter(network, body, "0" * 64, strict).fingerprint,
    }
    assert len(prints) == 4
    assert CrowdNetFitter(network, body, "0" * 64, CrowdNetConfig(batch=7)).fingerprint == fitter.fingerprint
