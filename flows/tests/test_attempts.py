"""A run that crashes whenever it is taken up fails at last."""

import pytest
from prefect.runtime import flow_run

from phq_flows import attempts


@pytest.mark.parametrize("count", [None, 0, 1, attempts.MOST])
def test_a_run_may_be_taken_up_some_times(monkeypatch, count):
    monkeypatch.setitem(flow_run.FIELDS, "run_count", lambda: count)
    attempts.check()


def test_the_next_time_it_fails_and_says_what_to_look_at(monkeypatch):
    monkeypatch.setitem(flow_run.FIELDS, "run_count", lambda: attempts.MOST + 1)
    with pytest.raises(attempts.CrashingError, match=r"taken up 5 times .* memory and disk"):
        attempts.check()
