"""What the pages of the app say about numbers."""

import pytest

from annotator_app.app import page_dashboard, page_triage


@pytest.mark.parametrize(
    ("remaining", "per_minute", "told"),
    [
        (90, 10.0, "about 9 min at your 10 per minute"),
        (1500, 10.0, "about 2 h 30 min at your 10 per minute"),
        (0, 10.0, None),
        (90, None, None),
        (10**7, 1.0, None),
    ],
)
def test_the_time_left_is_told_at_ones_own_pace_in_minutes(remaining, per_minute, told):
    assert page_dashboard._time_left(remaining, per_minute) == told


def test_a_kappa_is_called_by_a_word_once_there_are_enough_portraits():
    assert page_dashboard._interpretation(0.7, 50) == "good"
    assert page_dashboard._interpretation(0.7, 12) == "too early to say: 12 of 50 portraits"
    assert page_dashboard._interpretation(None, 50) is None


def test_a_triage_that_reaches_no_threshold_says_the_best_it_reached():
    held = {"target": 0.97, "sides": [{"side": "accept", "best": 0.912}, {"side": "reject", "best": None}]}
    assert "97.0 %: the best reached 91.2 %" in page_triage._short_of(held, "accept")
    assert "decided already" in page_triage._short_of(held, "reject")


def test_a_ruling_begins_with_the_reason_that_most_gave():
    reasons = ["shoulders", "blur", "other"]

    def likely(*given):
        return reasons[page_dashboard._likely([{"reason": one} for one in given], reasons)]

    assert likely("blur", "", "shoulders", "blur") == "blur"
    assert likely("", "") == likely() == likely("no longer a reason") == "other"
