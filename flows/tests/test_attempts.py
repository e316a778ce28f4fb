"""A run that crashes whenever it is taken up fails at last."""

import pytest

from phq_flows import attempts


@pytest.mark.parametrize("count", [None, 0, 1, attempts.MOST])
def test_a_run_may_be_taken_up_some_times(monkeypatch, count):
    monkeypatch.setattr("prefect.runtime.flow_run.run_count", count, raising=False)
    attempts.check()


def test_the_next_time_it_fails_and_says_what_to_look_at(monkeypatch):
    monkeypatch.setattr("prefect.runtime.flow_run.run_count", attempts.MOST + 1, raising=False)
    with pytest.raises(attempts.CrashingError, match=r"taken up 5 times .* memory and disk"):
        attempts.check()
