"""Corrected labels: what can be one, the same view through other cameras, and the portrait made of one."""

from __future__ import annotations

import dataclasses
import json

import bodyworks as works
import numpy as np
import pytest
from align_crop_bench import CONFIG, RIG, Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from phq_data import camera
from phq_data.records import Portrait
from phq_data.stages.align import camera_on_sphere
from phq_data.stages.crop import Window
from phq_data.stages.relabel import AppliedCorrection, PlacedLabel, RelabelError, corrected_fit, through

angle = st.floats(-3.1, 3.1)
small = st.floats(-0.4, 0.4)
labels = st.builds(
    lambda yaw, pitch, roll, near, right, down, pose, x, y, side: _label(
        camera.from_angles(yaw, pitch, roll), near, right, down, pose, (x, y, side)
    ),
    angle, st.floats(-1.2, 1.2), angle, st.floats(0.7, 1.5), small, small,
    st.lists(small, min_size=6, max_size=6), st.floats(-500, 4000), st.floats(-500, 4000),
    st.floats(60, 3000),
)  # fmt: skip


def _label(cam2world, near, right, down, pose, window) -> PlacedLabel:
    """As the page makes one: the camera goes nearer and to the side, the intrinsics stay."""
    moved = cam2world.copy()
    moved[:3, 3] = near * moved[:3, 3] + right * moved[:3, 0] + down * moved[:3, 1]
    return PlacedLabel.of([*moved.ravel(), *camera.INTRINSICS.ravel()], pose, window)


def label_of(portrait):
    return PlacedLabel.of(portrait.camera, portrait.pose, portrait.window.tolist())


@settings(deadline=None, max_examples=100)
@given(labels, st.floats(200, 8000), st.floats(-1000, 5000), st.floats(-1000, 5000))
def test_the_same_view_through_another_camera(label: PlacedLabel, focal: float, cx: float, cy: float) -> None:
    R, n = through(label, focal, [cx, cy])
    assert np.allclose(R @ R.T, np.eye(3), atol=1e-9) and np.linalg.det(R) > 0
    pixel = focal * n[:2] / n[2] + [cx, cy]
    assert np.allclose(pixel, label.to_photo(np.zeros((1, 3)))[0], atol=1e-6 * label.window.side)
    assert np.isclose(focal / n[2], label.focal / label.neck[2])
    # Far from the middle of a photo with a wide lens nobody can be upright in both: only what can be seen.
    if np.abs(pixel - [cx, cy]).max() < focal:
        assert np.allclose(camera_on_sphere(R, n), label.on_sphere, atol=1e-6)


@settings(deadline=None, max_examples=100)
@given(labels)
def test_a_label_survives_json_and_another_window(label: PlacedLabel) -> None:
    again = PlacedLabel.of(*json.loads(json.dumps(label.columns())))
    assert np.array_equal(again.camera, label.camera) and again.window == label.window
    other = label.seen_in(Window(label.window.x + 0.1 * label.window.side, label.window.y, label.window.side))
    assert np.allclose(other.on_sphere, label.on_sphere, atol=1e-6)
    assert np.allclose(other.intrinsics, camera.INTRINSICS)
    camera.check_label(camera.to_label(label.on_sphere))


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=64), st.sampled_from([0.0, 1.0, -1.0, 1e300])
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(numbers, min_size=25, max_size=25),
    st.lists(numbers, min_size=6, max_size=6),
    st.lists(numbers, min_size=3, max_size=3),
)
def test_any_numbers_are_a_label_or_a_sentence(
    cam: list[float], pose: list[float], window: list[float]
) -> None:
    try:
        label = PlacedLabel.of(cam, pose, window)
    except RelabelError as error:
        assert str(error)
    else:
        camera.check_label(camera.to_label(label.on_sphere))


@settings(deadline=None, max_examples=100)
@given(labels, st.integers(0, 33), numbers)
def test_one_wrong_number_is_told_or_harmless(label: PlacedLabel, place: int, value: float) -> None:
    columns = [list(values) for values in label.columns()]
    for values in columns:
        if place < len(values):
            values[place] = value
            break
        place -= len(values)
    try:
        spoilt = PlacedLabel.of(*columns)
    except RelabelError as error:
        assert str(error)
    else:
        fit = works.fit_record(works.facing(0.1, 0.1), np.array([0.0, 0.0, 3.0]))
        made = corrected_fit(spoilt, fit, np.zeros((17, 3)), RIG, works.TEMPLATE)
        assert np.isfinite(made.joints).all() and made.residual == 1.0


def corrected(portrait: Portrait, label: PlacedLabel) -> AppliedCorrection:
    return AppliedCorrection(
        portrait.person_id, portrait.photo_id, portrait.portrait_id, "C1", "ann",
        *(tuple(values) for values in label.columns()),
    )  # fmt: skip


def test_a_corrected_portrait_has_the_corrected_label_and_the_others_stay() -> None:
    bench = Bench()
    before = bench.run().records
    old = label_of(before[0])
    turned = np.eye(4)
    turned[:3, :3] = camera.from_angles(0.5, 0.1)[:3, :3] @ camera.from_angles(0.0, 0.0)[:3, :3].T
    moved = turned @ old.camera
    moved[:3, 3] += 0.05 * moved[:3, 0]
    label = PlacedLabel(moved, old.intrinsics, old.pose + 0.1, old.window)
    after = bench.run(corrections={"p0": corrected(before[0], label)}).records
    assert after[1:] == before[1:]
    made = after[0]
    assert made.portrait_id != before[0].portrait_id
    assert (made.corrected_from, made.corrected_by, made.correction) == (before[0].portrait_id, "ann", "C1")
    assert np.allclose(made.camera[:16], label.on_sphere.ravel(), atol=1e-6)
    assert np.allclose(made.pose, label.pose)
    # The rig lies in the photo where the person put it; the normal camera stands elsewhere by a little.
    points = RIG.posed_landmarks(label.pose)
    apart = label_of(made).to_photo(points) - label.to_photo(points)
    assert np.abs(apart).max() < 0.01 * made.window[2]


def test_a_label_that_was_right_is_the_same_portrait_vouched_for() -> None:
    bench = Bench()
    before = bench.run().records[2]
    label = label_of(before)
    made = bench.run(corrections={"p2": corrected(before, label)}).records[2]
    assert made.portrait_id == before.portrait_id and made.image == before.image
    assert made.corrected_from == before.portrait_id
    plain = dataclasses.replace(
        made, corrected_from=None, corrected_by=None, correction=None, camera=before.camera,
        window=before.window, landmark_error=before.landmark_error, shoulder_error=before.shoulder_error,
        keypoints=before.keypoints, yaw=before.yaw, pitch=before.pitch, roll=before.roll,
        effective_resolution=before.effective_resolution, padding=before.padding,
    )  # fmt: skip
    assert plain == before
    assert np.allclose(made.camera, before.camera, atol=1e-5) and np.allclose(
        made.window, before.window, atol=1e-3
    )


@pytest.mark.parametrize("mode", ["fit", "reference"])
def test_the_window_follows_the_label_in_every_mode(mode: str) -> None:
    bench = Bench()
    config = CONFIG.replace_setting(f"crop.mode={mode}")
    before = bench.run(config=config).records[0]
    label = label_of(bench.run().records[0])
    far = PlacedLabel(label.camera, label.intrinsics, label.pose, Window(9.0, 8.0, label.window.side))
    made = bench.run(config=config, corrections={"p0": corrected(before, far)}).records[0]
    assert made.crop_mode == "fit" and made.window[:2] == pytest.approx([9.0, 8.0], abs=0.05)
