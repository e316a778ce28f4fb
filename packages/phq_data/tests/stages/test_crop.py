from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import bodyworks as works
import numpy as np
import pytest

from phq_data import camera
from phq_data.bodies import JOINT_NAMES, SMPL_JOINT_INDEX
from phq_data.config import AlignConfig
from phq_data.records import Fit
from phq_data.stages import crop
from phq_data.stages.align import Alignment, align, posed_template
from phq_data.stages.crop import LabelledCrop, Window

GOLDEN = Path(os.environ.get("PHQ_GOLDEN", Path(__file__).parents[4] / "tests" / "golden"))
RIG = works.make_rig()


def far_fit() -> Fit:
    """A fit that missed every keypoint: what it adds to a result shows at once."""
    return works.fit_record(works.facing(0.4), np.array([2.0, 1.0, 9.0]), residuals=np.full(17, 0.9))


@pytest.mark.parametrize("rule", ["head", "shoulder"])
def test_golden_crop_windows_align(rule: str) -> None:
    with np.load(GOLDEN / "golden_phq_align.npz") as file:
        golden = dict(file)
    index = [SMPL_JOINT_INDEX[name] for name in JOINT_NAMES]
    template = dict(zip(JOINT_NAMES, golden["template_joints_neck_origin"][index], strict=True))
    for k in range(6):
        joints = golden["joints_cam_no_trans"][k, index] + golden["cam_trans"][k]
        fit = works.fit_record(np.zeros(3), joints[1], np.zeros(6), body="smpl", joints=joints)
        aligned = align(fit, AlignConfig("reference"), template)
        box = golden["head_bbox"][k] if rule == "head" else None
        window = crop.reference_window(aligned, template, golden["coco_shoulders"][k], box, 5000.0)
        expected = golden[f"crop_bbox_{rule}"][k]
        assert np.abs(np.array([window.x, window.y, window.side]) - expected[:3]).max() < 1e-2


def test_fit_window_is_exact_for_points_seen_through_a_window() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        label = camera.from_angles(rng.uniform(-3, 3), rng.uniform(-0.8, 0.8), rng.uniform(-0.3, 0.3))
        pose = rng.normal(size=6) * 0.2
        window = Window(rng.uniform(-300, 900), rng.uniform(-300, 900), rng.uniform(60, 2000))
        points = works.rig_keypoints(RIG, label, pose, window)
        aligned = Alignment(label, pose, np.array([0.0, 0, 3]), np.eye(3))
        found = crop.fit_window(aligned, RIG, points, far_fit())
        assert np.abs([found.x - window.x, found.y - window.y, found.side - window.side]).max() < 1e-6


def test_fit_window_is_exact_for_a_body_seen_through_a_window() -> None:
    """The fitted body is the rig, seen by the label's camera: its joints give the window, whatever the
    detector says, as long as the fit explains it."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        label = camera.from_angles(rng.uniform(-3, 3), rng.uniform(-0.8, 0.8), rng.uniform(-0.3, 0.3))
        pose = rng.normal(size=6) * 0.2
        window = Window(rng.uniform(-300, 900), rng.uniform(-300, 900), rng.uniform(60, 2000))
        fit = seen_through(label, pose, window)
        points = works.rig_keypoints(RIG, label, pose, window)
        points[5:7] = points[[6, 5]]  # left taken for right
        points[:5, :2] += rng.normal(size=(5, 2)) * 0.02 * window.side
        aligned = Alignment(label, pose, np.array([0.0, 0, 3]), np.eye(3))
        found = crop.fit_window(aligned, RIG, points, fit)
        error = np.abs([found.x - window.x, found.y - window.y, found.side - window.side]).max()
        assert error < 1e-6 * window.side  # the rig is stored in float32


def seen_through(label: np.ndarray, pose: np.ndarray, window: Window, error: float = 0.05) -> Fit:
    """The fit of the template before the label's own camera, cut by `window`."""
    posed = posed_template(works.TEMPLATE, pose)
    joints = (np.stack([posed[name] for name in JOINT_NAMES]) - label[:3, 3]) @ label[:3, :3]
    x, y = window.to_photo([0.5, 0.5])
    return works.fit_record(
        np.zeros(3), joints[1], joints=joints, focal=camera.FOCAL * window.side, principal=(x, y),
        residuals=np.full(17, error),
    )  # fmt: skip


def test_fit_window_follows_sure_keypoints_that_the_fit_missed() -> None:
    """Face points that lie elsewhere pull the window only if the detector is sure and the fit off."""
    fit = works.fit_record(works.facing(0.2), np.array([0.1, 0.2, 3.0]), np.zeros(6))
    aligned = align(fit, AlignConfig(), works.TEMPLATE)
    points = works.keypoints_of(fit)
    expected = crop.fit_window(aligned, RIG, points, fit)
    points[:5, :2] += 5

    def moved(score: float, error: float) -> float:
        given = points.copy()
        given[:5, 2] = score
        missed = dataclasses.replace(fit, residuals=np.array([error] * 5 + [0.02] * 12))
        found = crop.fit_window(aligned, RIG, given, missed)
        return float(np.hypot(found.x - expected.x, found.y - expected.y)) / expected.side

    assert moved(0.9, 0.1) < 1e-9  # explained
    assert moved(0.08, 0.9) < 1e-9  # missed, but only a guess
    assert moved(0.9, 0.9) > 0.005
    assert moved(0.9, 0.2) < moved(0.9, 0.3) < moved(0.9, 0.9)


def test_landmark_errors_add_up_shape_and_misfit() -> None:
    label, pose, window = camera.from_angles(0.3, 0.1), works.ONE, Window(100.0, 50.0, 400.0)
    labelled = LabelledCrop(label, pose, window, 512)
    points = works.rig_keypoints(RIG, label, pose, window)
    exact = crop.landmark_errors(labelled, RIG, points, seen_through(label, pose, window, 0.0))
    assert max(exact) < 1e-6
    # Shoulders are 0.346 m apart, a picture shows 2.7 / 6.51 m: 0.1 of the person is 0.083 of the picture.
    fit = seen_through(label, pose, window, 0.1)
    everywhere, shoulders = crop.landmark_errors(labelled, RIG, points, fit)
    assert everywhere == pytest.approx(shoulders)
    assert shoulders == pytest.approx(0.1 * 0.346 / (2.7 / camera.FOCAL), rel=0.03)
    shifted = dataclasses.replace(labelled, window=Window(100.0 + 40.0, 50.0, 400.0))
    everywhere, _ = crop.landmark_errors(shifted, RIG, points, fit)
    assert everywhere == pytest.approx(np.hypot(0.1, shoulders), rel=1e-3)
    unused = dataclasses.replace(fit, residuals=np.full(17, np.nan))
    assert crop.landmark_errors(labelled, RIG, points, unused) == (1.0, 1.0)


def test_one_wrong_head_point_is_outvoted() -> None:
    label, pose, window = camera.from_angles(0.3, 0.1), works.ONE, Window(100.0, 50.0, 400.0)
    aligned = Alignment(label, pose, np.array([0.0, 0, 3]), np.eye(3))
    points = works.rig_keypoints(RIG, label, pose, window)
    points[3, :2] += [150, -90]  # an ear
    found = crop.fit_window(aligned, RIG, points, far_fit())
    assert np.abs([found.x - window.x, found.y - window.y, found.side - window.side]).max() < 2.0


def test_broad_shoulders_pull_the_window_more_than_the_head() -> None:
    """A body half broader than the rig: the shoulders' misfit is smaller than the head's."""
    label, window = camera.from_angles(0.0, 0.0), Window(0.0, 0.0, 400.0)
    points = works.rig_keypoints(RIG, label, np.zeros(6), window)
    middle = points[5:7, :2].mean(axis=0)
    points[5:7, :2] = middle + (points[5:7, :2] - middle) * 1.15
    aligned = Alignment(label, np.zeros(6), np.array([0.0, 0, 3]), np.eye(3))
    found = crop.fit_window(aligned, RIG, points, far_fit())
    assert 410 < found.side < 460
    seen = camera.project(RIG.posed_landmarks(np.zeros(6)), label)[0]
    face = [RIG.landmark(n) for n in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]
    head = np.linalg.norm(found.to_image(points[:5, :2]) - seen[face], axis=1).mean()
    rows = [RIG.landmark(n) for n in ("left_shoulder", "right_shoulder")]
    shoulders = np.linalg.norm(found.to_image(points[5:7, :2]) - seen[rows], axis=1).mean()
    assert shoulders < head


@pytest.mark.parametrize("mode", ["fit", "reference"])
def test_mirrored_person_gives_the_mirrored_window(mode: str) -> None:
    fit = works.fit_record(works.facing(0.5, 0.2, 0.1), np.array([0.3, 0.1, 2.5]))
    points = works.keypoints_of(fit, 0.4)
    points[:5, :2] += np.random.default_rng(0).normal(size=(5, 2)) * 4
    other = works.mirror_fit(fit, 640)
    one = crop.choose_window(
        mode, align(fit, AlignConfig(), works.TEMPLATE), RIG, works.TEMPLATE, points, fit
    )
    two = crop.choose_window(
        mode,
        align(other, AlignConfig(), works.TEMPLATE),
        RIG,
        works.TEMPLATE,
        works.mirror_keypoints(points, 640),
        other,
    )
    assert two.side == pytest.approx(one.side, abs=1e-6)
    assert two.y == pytest.approx(one.y, abs=1e-6)
    assert two.x == pytest.approx(640 - one.x - one.side, abs=1e-6)


def test_both_modes_see_an_ordinary_person_alike() -> None:
    fit = works.fit_record(works.facing(0.2), np.array([0.0, 0.1, 3.0]), np.zeros(6))
    aligned, points = align(fit, AlignConfig(), works.TEMPLATE), works.keypoints_of(fit)
    one = crop.choose_window("fit", aligned, RIG, works.TEMPLATE, points, fit)
    points[:5, 2] = 0.2  # no face: the shoulder rule
    two = crop.choose_window("reference", aligned, RIG, works.TEMPLATE, points, fit)
    assert one.side == pytest.approx(two.side, rel=0.15)
    assert one.x == pytest.approx(two.x, abs=0.1 * one.side)


def test_head_box_needs_two_sure_face_points() -> None:
    points = works.keypoints_of(works.fit_record(works.facing(), np.array([0.0, 0, 3.0])))
    x, y, w, h = crop.head_box(points)  # type: ignore[misc]
    spread = np.ptp(points[:5, :2], axis=0).max()
    assert w == h == pytest.approx(1.3 * spread)
    assert (x + w / 2, y + h / 2) == pytest.approx(tuple(points[:5, :2].mean(axis=0)))
    points[1:5, 2] = 0.5
    assert crop.head_box(points) is None


def test_nothing_known_is_an_error() -> None:
    fit = far_fit()
    aligned = align(fit, AlignConfig(), works.TEMPLATE)
    blind = dataclasses.replace(fit, joints=np.full((13, 3), np.nan))
    with pytest.raises(crop.CropError):
        crop.fit_window(aligned, RIG, np.zeros((17, 3)), blind)


def test_window_positions() -> None:
    window = Window(10.0, -5.0, 50.0)
    assert window.to_image([[10, -5], [60, 45]], 512).tolist() == [[0, 0], [512, 512]]
    assert window.to_photo(window.to_image([[3.0, 4.0]], 7.0), 7.0) == pytest.approx(np.array([[3.0, 4.0]]))
    assert window.scaled(0.5) == Window(22.5, 7.5, 25.0)
    assert window.outside_share(100, 100) == pytest.approx(0.1)
    assert Window(200, 0, 10).outside_share(100, 100) == 1.0
