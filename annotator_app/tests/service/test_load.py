import pytest

from benchmarks import review_load


@pytest.mark.slow
def test_twenty_reviewers_for_five_seconds_without_error_or_loss(tmp_path):
    found = review_load.run(tmp_path, people=20, seconds=5.0, portraits=600, size=64, images=False)
    assert (found["errors"], found["lost"], found["twice"], found["missing"]) == (0, 0, 0, 0)
    assert found["decisions"] > 0
