"""Whether the error probability is calibrated, and what a threshold on it buys, on constructed errors."""

import numpy as np
import pytest

from phq_data.evaluation import calibration, tables
from phq_data.evaluation.accuracy import PersonError


def people(
    count: int, error_probability: float, wrong: float, reasons: str = "", kept: bool = True
) -> list[PersonError]:
    """`count` labels of one error probability, a share of which is off by 40 degrees and the others by 4."""
    off = np.where(np.arange(count) < round(wrong * count), 40.0, 4.0)
    return [
        PersonError(
            "photo", i, 0, 0.0, 0.0, 100.0, person_id="p", portrait_id="q", kept=kept, reasons=reasons,
            yaw=0.0, yaw_deg=float(value), pitch_deg=1.0, error_probability=error_probability,
            expected_yaw_error_deg=5.0,
            confused=value > 100,
        )
        for i, value in enumerate(off)
    ]  # fmt: skip


def test_bins_tell_the_share_that_is_wrong() -> None:
    errors = people(100, 0.03, 0.02) + people(50, 0.3, 0.3) + people(20, 0.9, 0.8)
    errors.append(PersonError("photo", 0, 1, 0.0, 0.0, 50.0))  # not detected: no label, no probability
    found = calibration.reliability(errors)
    assert [level.count for level in found] == [100, 50, 20]
    np.testing.assert_allclose([level.predicted for level in found], [0.03, 0.3, 0.9])
    np.testing.assert_allclose([level.wrong for level in found], [0.02, 0.3, 0.8])
    assert found[1].margin == pytest.approx(np.sqrt(0.3 * 0.7 / 50))
    assert [level.error for level in found] == [4.0, 4.0, 40.0]


def test_thresholds_keep_less_and_better() -> None:
    errors = people(100, 0.03, 0.0) + people(60, 0.25, 0.3) + people(40, 0.9, 0.8, "uncertain", kept=False)
    errors += people(10, 0.03, 1.0, "blurry", kept=False)  # another check's
    found = {at.limit: at for at in calibration.thresholds(errors)}
    assert found[0.1].kept == pytest.approx(100 / 210) and found[0.1].wrong == 0
    assert found[0.3].kept == pytest.approx(160 / 210) and found[0.3].wrong == pytest.approx(18 / 160)
    assert found[1.0].kept == pytest.approx(200 / 210) and found[1.0].wrong == pytest.approx(50 / 200)
    assert found[0.3].yaw_p95 == 40.0 and found[0.1].yaw_p95 == 4.0


def test_text_says_whether_the_probability_tells_wrong_from_right() -> None:
    text = calibration.text(people(50, 0.1, 0.0) + people(50, 0.8, 1.0))
    assert "Brier score 0.025; 0.250" in text and "100% of the time" in text
    assert text in tables.accuracy_table(people(50, 0.1, 0.0) + people(50, 0.8, 1.0))
    assert calibration.text([PersonError("photo", 0, 1, 0.0, 0.0, 50.0)]) == ""
