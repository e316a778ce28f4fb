"""Doubt: more evidence against a label never makes it look better, and what is unknown counts as average."""

from __future__ import annotations

import json
from typing import Any

import bodyworks as works
import numpy as np
import pytest

from phq_data import camera, schema
from phq_data.stages import uncertainty
from phq_data.stages.crop import LabelledCrop, Window


def pairs(*numbers: float) -> np.ndarray:
    """(yaw, cost) pairs [K, 2]."""
    return np.array(numbers, np.float64).reshape(-1, 2)


@pytest.fixture(scope="module")
def model() -> uncertainty.UncertaintyModel:
    return uncertainty.load_model()


GUESS = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.1, 0.1])
KNOWN: dict[str, Any] = {
    "hypotheses": pairs(0.0, 4.0, 3.1, 40.0),
    "yaw_std": 0.1,
    "orientation_prior": GUESS,
    "converged": True,
}


def assess(
    model: uncertainty.UncertaintyModel,
    residual: float = 0.02,
    score: float = 0.8,
    coverage: float = 0.98,
    yaw: float = 0.0,
    fitted: bool = True,
    **more: Any,
) -> uncertainty.LabelUncertainty:
    fit = works.fit_record(works.facing(), np.array([0.0, 0.0, 3.0]), **KNOWN | more)
    points = works.keypoints_of(fit)
    points[:, 2] = score
    crop = LabelledCrop(camera.from_angles(yaw, 0.0), np.zeros(6), Window(0.0, 0.0, 512.0), 512)
    found = uncertainty.evidence(points, residual, coverage, crop, fit if fitted else None)
    return model.assess(found)


@pytest.mark.parametrize(
    "worse",
    [
        {"residual": 0.06},
        {"score": 0.4},
        {"coverage": 0.7},
        {"hypotheses": pairs(0.0, 4.0, 3.1, 5.0)},
        {"yaw_std": 0.4},
        {"orientation_prior": np.array([*GUESS[:6], 0.5, 0.5])},
        {"orientation_prior": np.array([1.0, 0.0, 0.0, *GUESS[3:]])},
        {"converged": False},
    ],
)
def test_worse_evidence_never_lowers_the_error_probability(
    model: uncertainty.UncertaintyModel, worse: dict[str, Any]
) -> None:
    good, bad = assess(model), assess(model, **worse)
    assert 0 < good.wrong <= bad.wrong < 1
    assert 0 < good.expected_yaw_error <= bad.expected_yaw_error


def test_all_evidence_together_tells_good_labels_from_bad(model: uncertainty.UncertaintyModel) -> None:
    good = assess(model)
    bad = assess(
        model, residual=0.07, score=0.35, coverage=0.7, hypotheses=pairs(0.0, 4.0, 3.1, 4.5),
        yaw_std=0.5, orientation_prior=np.array([-1.0, 0.0, 0.2, 0.0, 0.0, 1.0, 0.5, 0.4]),
    )  # fmt: skip
    assert good.wrong < 0.2 and bad.wrong > 0.6
    assert bad.expected_yaw_error > 2 * good.expected_yaw_error


def test_no_weight_of_evidence_is_negative(model: uncertainty.UncertaintyModel) -> None:
    assert model.names == uncertainty.EVIDENCE + uncertainty.VIEW
    count = len(uncertainty.EVIDENCE)
    assert (model.wrong[:count] >= 0).all() and (model.error[:count] >= 0).all()
    assert (model.deviation > 0).all()
    table = json.loads(uncertainty.DATA_FILE.read_text())
    assert table["made_by"] == "tools/calibrate_error_probability.py" and table["labels"] >= 300


def test_what_is_not_known_counts_as_average(model: uncertainty.UncertaintyModel) -> None:
    average = dict(zip(model.names, model.mean, strict=True))
    assert model.assess({}) == model.assess(average) == model.assess({"prior_angle": float("nan")})
    bare = assess(model, yaw_std=None, orientation_prior=None)  # a fitter that tells no more
    unfitted = assess(model, fitted=False)
    assert 0 < bare.wrong < 1 and 0 < unfitted.wrong < 1


def test_evidence_beyond_all_experience_stays_finite(model: uncertainty.UncertaintyModel) -> None:
    found = model.assess(dict.fromkeys(model.names, 1e12))
    assert 0.5 < found.wrong <= 1 and np.isfinite(found.expected_yaw_error)


def test_model_is_the_formula_that_the_page_states(model: uncertainty.UncertaintyModel) -> None:
    """By hand: one deviation above the mean in one piece of evidence adds its weight to the log odds."""
    name = model.names[int(np.argmax(model.wrong[: len(uncertainty.EVIDENCE)]))]
    place = model.names.index(name)
    found = model.assess({name: model.mean[place] + model.deviation[place]})
    odds = model.wrong[-1] + model.wrong[place]
    assert found.wrong == pytest.approx(1 / (1 + np.exp(-odds)))
    assert found.expected_yaw_error == pytest.approx(np.radians(np.exp(model.error[-1] + model.error[place])))


def test_gap_to_another_explanation() -> None:
    assert uncertainty.cost_gap(pairs(0.0, 4.0, 3.1, 9.0), np.pi / 2) == pytest.approx(5.0)
    assert uncertainty.cost_gap(pairs(3.0, 1.0, -3.0, 2.0, 0.5, 4.0), np.pi / 2) == pytest.approx(3.0)
    assert uncertainty.cost_gap(pairs(0.0, 1.0, 0.3, 1.0), np.pi / 2) == np.inf
    assert uncertainty.cost_gap(pairs(0.0, 1.0), 0.1) == np.inf
    assert uncertainty.cost_gap(pairs(0.0, 1.0, 0.5, 3.0, 3.0, 2.0), 0.4) == pytest.approx(1.0)


def test_a_table_without_the_new_columns_is_completed_with_null() -> None:
    """Workspaces of earlier versions are still read."""
    import pyarrow as pa

    wanted = schema.SCHEMAS["screened"]
    older = wanted.empty_table().drop_columns(["expected_yaw_error"])
    assert schema.complete(older, wanted).schema.equals(wanted)
    with pytest.raises((pa.ArrowInvalid, KeyError)):
        schema.complete(older.drop_columns(["error_probability"]), wanted)
