"""Boxes, patches and joint tensors: closed forms and the reference's own numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from phq_data.models.crowdnet import boxes, inputs
from phq_data.models.crowdnet.layout import INPUT_TO_SMPL, SMPL_JOINTS

GOLDEN = Path(os.environ.get("PHQ_GOLDEN", Path(__file__).parents[5] / "tests" / "golden"))


@pytest.mark.parametrize("case", [0, 1, 2])
def test_golden_phq_align_boxes_and_patches(case):
    with np.load(GOLDEN / "golden_phq_align.npz") as golden:
        points = golden[f"bbox{case}_kps"]
        box = boxes.tight_box(points)
        np.testing.assert_allclose(box, golden[f"bbox{case}_get"], atol=1e-3)
        network = boxes.network_box(box, (640, 960))
        np.testing.assert_allclose(network, golden[f"bbox{case}_process_640x960"], atol=1e-3)
        affine = golden[f"bbox{case}_img2bb"]
    np.testing.assert_allclose(
        inputs.patch_coordinates(points, network), points @ affine[:, :2].T + affine[:, 2], atol=1e-3
    )


def test_a_box_without_area_or_outside_the_photo_is_none():
    assert boxes.network_box([10, 10, 0, 50], (640, 480)) is None
    assert boxes.network_box([700, 10, 50, 50], (640, 480)) is None


def test_pelvis_and_neck_are_means_with_product_scores():
    keypoints = np.zeros((17, 3))
    keypoints[[11, 12]] = [[0, 2, 0.5], [4, 6, 0.4]]
    keypoints[[5, 6]] = [[1, 1, 0.9], [3, 1, 1.0]]
    joints = boxes.with_pelvis_and_neck(keypoints)
    np.testing.assert_allclose(joints[17], [2, 4, 0.2])
    np.testing.assert_allclose(joints[18], [2, 1, 0.9])


def test_a_patch_of_the_photos_own_size_is_the_photo_and_black_outside():
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    np.testing.assert_array_equal(inputs.cut_patch(image, [0, 0, 256, 256]), image)
    moved = inputs.cut_patch(image, [-40, 30, 256, 256])
    np.testing.assert_array_equal(moved[:226, 40:], image[30:, :216])
    assert not moved[:, :40].any() and not moved[226:].any()


def test_a_patch_shows_what_patch_coordinates_say():
    ramp = np.zeros((300, 500, 3), np.uint8)
    ramp[..., 0] = np.arange(500) // 2
    ramp[..., 1] = np.arange(300)[:, None] // 2
    box = [101.5, 33.25, 200.0, 200.0]
    patch = inputs.cut_patch(ramp, box).astype(float)
    point = np.array([210.0, 140.0])
    u, v = inputs.patch_coordinates(point, box)
    np.testing.assert_allclose(patch[round(v), round(u), :2], point / 2, atol=1.5)


def test_joints_go_to_their_names_and_unsure_or_outside_ones_are_masked():
    joints = np.concatenate([np.full((19, 2), 128.0), np.ones((19, 1))], axis=1)
    joints[0, 2] = 0.05  # not above the threshold
    joints[1, :2] = 300.0  # outside the patch
    joints[18] = [64.0, 32.0, 0.7]
    placed, mask = inputs.joint_tensors(joints, [0, 0, 256, 256], 0.05)
    np.testing.assert_allclose(placed[SMPL_JOINTS.index("neck")], [16, 8, 0.7], atol=1e-6)
    names = {SMPL_JOINTS[i] for i in np.flatnonzero(mask[:, 0])}
    expected = {SMPL_JOINTS[i] for i in INPUT_TO_SMPL} - {"nose", "left_eye"}
    assert names == expected
    absent = sorted(set(range(30)) - set(INPUT_TO_SMPL.tolist()))
    assert len(absent) == 11 and not placed[absent].any()


def test_people_too_vague_or_too_small_get_no_box():
    joints = np.concatenate([np.random.default_rng(1).uniform(100, 300, (19, 2)), np.ones((19, 1))], axis=1)
    limits = boxes.Thresholds()
    assert boxes.box_of_person(joints, (640, 480), limits) is not None
    vague = joints * [1, 1, 0.01]
    assert boxes.box_of_person(vague, (640, 480), limits) is None
    small = joints * [0.1, 0.1, 1]
    assert boxes.box_of_person(small, (640, 480), limits) is None
    assert boxes.box_of_person(np.full((19, 3), np.nan), (640, 480), limits) is None


def test_the_second_of_two_detections_of_one_person_is_a_twin():
    rng = np.random.default_rng(2)
    a = np.concatenate([rng.uniform(0, 500, (19, 2)), np.ones((19, 1))], axis=1)
    near, far = a + np.array([5, 5, 0]), a + np.array([200, 0, 0])
    assert boxes.twins([a, near, far], boxes.Thresholds()) == [False, True, False]
