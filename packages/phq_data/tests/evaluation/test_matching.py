"""People are matched by place; angles are those of the circle and of rotations; percentiles leave nan out."""

from __future__ import annotations

import numpy as np
import pytest

from phq_data.evaluation import matching
from phq_data.rig import rotation_matrix


def test_two_people_are_matched_by_place_even_when_sides_are_swapped():
    def person(x: float, swap: bool = False) -> np.ndarray:
        points = np.zeros((17, 3))
        points[:5] = (x, 50, 0.8)
        points[5], points[6] = (x + 40, 120, 0.9), (x - 40, 120, 0.9)
        if swap:
            points[[5, 6]] = points[[6, 5]]
        return points

    truth, heads = [person(100), person(300)], [60.0, 60.0]
    right, far, left = person(305, swap=True), person(900), person(95)
    assert matching.match_people(truth, heads, [right, far, left]) == [2, 0]
    assert matching.match_people(truth, heads, [far]) == [None, None]


def test_somebody_far_away_is_nobody():
    near, far = np.zeros((2, 2)), np.full((2, 2), 100.0)
    assert matching.match([near], [far, near + 3], [10.0], 0.5) == [1]
    assert matching.match([near], [far], [10.0], 0.5) == [None]
    assert matching.match([near], [], [10.0], 0.5) == [None]


def test_angles_wrap_and_rotations_are_compared():
    assert matching.wrapped(np.pi + 0.1) == pytest.approx(0.1 - np.pi)
    assert matching.wrapped(350.0, 360.0) == -10.0 and matching.wrapped(180.0, 360.0) == -180.0
    one, other = rotation_matrix([0.0, 0.4, 0.0]), rotation_matrix([0.0, 1.1, 0.0])
    assert matching.angle_between(one, other) == pytest.approx(0.7)
    assert matching.angle_between(one, one) == 0.0


def test_percentiles_are_those_of_finite_values():
    assert matching.spread([1.0, float("nan"), 3.0]) == {"median": 2.0, "p95": 2.9}
    assert matching.spread([1.0, 3.0], low=True) == {"median": 2.0, "p05": 1.1}
    assert matching.spread([]) == {"median": None, "p95": None}
    assert matching.share([True, False, False]) == 0.3333 and matching.share([]) is None
