"""Geometry of key points in front, profile and rear views."""

from __future__ import annotations

import numpy as np
import pytest

from phq_data.models.keypoints import (
    head_centre,
    head_score,
    keep_best,
    person_box,
    shoulder_score,
    similarity,
    upper_size,
)


def person(x: float = 300.0, y: float = 200.0, size: float = 100.0, view: str = "front") -> np.ndarray:
    """Key points of an average adult whose shoulders are `size` broad and whose head is at x, y."""
    head = np.array([(0, 0.06), (0.08, -0.04), (-0.08, -0.04), (0.19, 0), (-0.19, 0)])
    shoulders = np.array([(0.5, 0.6), (-0.5, 0.6)])
    scores = np.full(7, 0.8)
    if view == "profile":  # facing left: everything lies in a plane, the far side is hidden
        head = np.array([(-0.25, 0.06), (-0.18, -0.04), (-0.17, -0.04), (0, 0), (0, 0)])
        shoulders = np.array([(0.02, 0.6), (-0.02, 0.6)])
        scores[[2, 4, 6]] = 0.1
    if view == "rear":  # left and right exchanged, the face guessed
        head, shoulders = head * [-1, 1], shoulders * [-1, 1]
        scores[:3] = 0.3
    keypoints = np.zeros((17, 3))
    keypoints[:5, :2], keypoints[5:7, :2] = head * size + (x, y), shoulders * size + (x, y)
    keypoints[:7, 2] = scores
    return keypoints


@pytest.mark.parametrize("view", ["front", "profile", "rear"])
def test_size_hardly_depends_on_the_view(view: str) -> None:
    assert 70 < upper_size(person(view=view)) < 125
    assert upper_size(person(view=view, size=300)) == pytest.approx(3 * upper_size(person(view=view)))


@pytest.mark.parametrize("view", ["front", "profile", "rear"])
def test_every_view_has_head_and_shoulders(view: str) -> None:
    assert head_score(person(view=view)) > 0.5
    assert shoulder_score(person(view=view)) > 0.5
    assert np.hypot(*(head_centre(person(view=view)) - (300, 200))) < 20


def test_a_neighbours_shoulder_does_not_make_a_giant() -> None:
    strayed = person()
    strayed[5, 0] += 600
    assert upper_size(strayed) < 300  # 700 by its shoulders alone


def test_similarity_is_one_for_oneself_and_falls_with_distance() -> None:
    assert similarity(person(), person()) == pytest.approx(1)
    values = [similarity(person(), person(x=300 + shift)) for shift in (5, 20, 60, 200)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.95 and values[-1] < 0.01
    assert similarity(person(), person(x=320)) == pytest.approx(similarity(person(x=320), person()))


def test_similarity_does_not_depend_on_scale() -> None:
    small = similarity(person(size=50), person(x=310, size=50))
    large = similarity(person(size=500), person(x=400, size=500))
    assert small == pytest.approx(large)


def test_best_of_similar_people_stays_and_nobody_shares_a_head() -> None:
    same, other = person(x=304), person(x=420)
    shared = person()
    shared[5:7, :2] += (120, 40)  # somebody else's shoulders with the first one's head
    kept = keep_best([same, person(), other, shared], np.array([0.5, 0.9, 0.4, 0.6]), 0.45)
    assert kept == [1, 2]
    assert keep_best([], np.zeros(0), 0.45) == []


def test_box_holds_the_seen_points_and_stays_in_the_photo() -> None:
    keypoints = person(x=30, y=40)
    keypoints[15] = (900, 900, 0.1)  # an ankle nobody saw
    box = person_box(keypoints, (640, 480))
    assert box[0] == 0 and box[1] == pytest.approx(1, abs=2)
    assert 80 < box[2] < 130 and 100 < box[3] < 160
