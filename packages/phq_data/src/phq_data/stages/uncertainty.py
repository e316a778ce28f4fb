"""Label uncertainty: how likely a label is wrong, as a probability that was measured.

What is known of a label beside itself (how sure the detector was, how well the fit explains what was
seen, what other explanations cost, whether the orientation prior agrees) enters a logistic model with a dozen
weights, and a second one of the same form for the size of the error. `tools/calibrate_error_probability.py`
fits both on rendered people, whose errors are known, and writes them to `data/error_probability.json`.

    wrong      probability that the yaw is off by more than 15 degrees
    expected_yaw_error  radians; half of such labels are off by less

Every piece of evidence speaks against the label, and no weight but those of the view itself is negative: more
evidence against a label never lowers its probability of error. What a fitter does not tell counts as average.
Calibrated for the embedded models; for others the probability orders labels, but is not measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from phq_data.arrays import FloatArray
from phq_data.compatibility import LABEL_EVIDENCE
from phq_data.foreign import parse_json
from phq_data.models.keypoints import head_score
from phq_data.models.orientation.keypoint_prior import load_keypoint_prior
from phq_data.records import Fit
from phq_data.rig import rotation_matrix
from phq_data.stages.crop import LabelledCrop

DATA_FILE = Path(__file__).parents[1] / "data" / "error_probability.json"
DATA_FILE_2 = DATA_FILE.with_name("error_probability_2.json")
"""For labels of smplify2; the other for all others."""
WRONG = 15.0
"""Degrees of yaw from which on a label is called wrong."""

EVIDENCE: tuple[str, ...] = (
    "label_residual", "uncovered", "fit_residual", "head_unseen", "shoulders_unseen", "shoulder_unseen",
    "other_side", "elsewhere", "yaw_open", "prior_std", "prior_angle", "head_turned", "unfinished",
    "points_std", "points_angle", "hips_unseen", "cut_off",
)  # fmt: skip
"""The larger, the less certain the label; see `evidence`."""
VIEW: tuple[str, ...] = ("behind", "sideways", "steep")
"""Where the label says the camera is: some views are harder than others."""


@dataclass(frozen=True)
class LabelUncertainty:
    """What is to be expected of a label."""

    wrong: float  # probability that the yaw is off by more than `WRONG` degrees
    expected_yaw_error: float  # radians: the median error of labels with this evidence


VOUCHED = LabelUncertainty(wrong=0.0, expected_yaw_error=float("nan"))
"""Of a label that a person corrected: by how much people are off is not known."""


@dataclass(frozen=True)
class UncertaintyModel:
    """Two linear models of standardised evidence."""

    names: tuple[str, ...]
    mean: FloatArray  # [D]
    deviation: FloatArray  # [D]
    wrong: FloatArray  # [D + 1] weights of the log odds, constant last
    error: FloatArray  # [D + 1] weights of the logarithm of the median error in degrees, constant last
    steepest: float = (
        90.0  # degrees: of labels steeper than all that was measured nobody knows how good they are
    )

    @property
    def digest(self) -> str:
        """Hex digest of all numbers: equal models have equal digests."""
        first = {new: old for old, new in LABEL_EVIDENCE.items()}
        names = [first.get(name, name) for name in self.names]
        numbers = [array.tolist() for array in (self.mean, self.deviation, self.wrong, self.error)]
        told = [names, numbers, *([self.steepest] if self.steepest < 90 else [])]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    @classmethod
    def load(cls, path: Path = DATA_FILE) -> UncertaintyModel:
        """The model that `tools/calibrate_error_probability.py` wrote."""
        table = parse_json(path.read_text())
        rows = table["evidence"]

        def column(name: str, *last: float) -> FloatArray:
            return np.array([row[name] for row in rows] + list(last), np.float64)

        return cls(
            names=tuple(row["name"] for row in rows),
            mean=column("mean"),
            deviation=column("deviation"),
            wrong=column("wrong", table["constant"]["wrong"]),
            error=column("error", table["constant"]["error"]),
            steepest=float(table.get("steepest_deg", 90.0)),
        )

    def rescaled(self, scale: float, offset: float, error: float) -> UncertaintyModel:
        """With log odds times `scale` plus `offset`, and expected errors times `error`."""
        wrong, expected = self.wrong * scale, self.error.copy()
        wrong[-1] += offset
        expected[-1] += np.log(error)
        return replace(self, wrong=wrong, error=expected)

    def assess(self, found: Mapping[str, float]) -> LabelUncertainty:
        """What `evidence` says of a label; what is missing or nan counts as average."""
        values = np.array([found.get(name, np.nan) for name in self.names])
        standard = np.nan_to_num((values - self.mean) / self.deviation, nan=0.0, posinf=4.0, neginf=-4.0)
        # Beyond what was ever seen in training, the odds stay where they were there.
        standard = np.append(np.clip(standard, -4.0, 4.0), 1.0)
        odds, error = float(standard @ self.wrong), float(standard @ self.error)
        if found.get("steep", 0.0) > np.sin(np.radians(self.steepest)):
            odds = max(odds, 0.0)
        return LabelUncertainty(
            float(1.0 / (1.0 + np.exp(-np.clip(odds, -30, 30)))),
            float(np.radians(np.exp(np.clip(error, -5, 5.2)))),
        )


def evidence(
    keypoints: FloatArray,  # [17, 3] with scores
    residual: float,  # label to keypoints, share of the image
    coverage: float,  # share of the label's body that lies on the person
    crop: LabelledCrop,
    fit: Fit | None,
    padding: float = float("nan"),  # share of the image that lies outside the photo
) -> dict[str, float]:
    """What is known of a label, by the names in `EVIDENCE` and `VIEW`; nan where nothing is known."""
    shoulders = np.clip(keypoints[5:7, 2], 0, 1)
    direction = crop.camera[:3, 3] / np.linalg.norm(crop.camera[:3, 3])
    turned = rotation_matrix(crop.pose[:3]) @ rotation_matrix(crop.pose[3:])
    found = {
        "label_residual": float(np.log(residual + 0.01)),
        "uncovered": float(np.sqrt(max(0.0, 1.0 - coverage))),
        "head_unseen": 1.0 - min(1.0, head_score(keypoints)),
        "shoulders_unseen": 1.0 - float(shoulders.mean()),
        "shoulder_unseen": 1.0 - float(shoulders.min()),
        "hips_unseen": 1.0 - float(np.clip(keypoints[11:13, 2].max(), 0, 1)),
        "cut_off": float(np.sqrt(padding)),
        "head_turned": float(np.arccos(np.clip((np.trace(turned) - 1.0) / 2.0, -1.0, 1.0))),
        "behind": float(-direction[2]),
        "sideways": float(abs(direction[0])),
        "steep": float(abs(direction[1])),
    }
    found |= _of_points(keypoints, direction)
    return found | (_of_fit(fit, direction) if fit is not None else {})


def _of_points(keypoints: FloatArray, direction: FloatArray) -> dict[str, float]:
    """What the keypoint prior says: it knows exchanged shoulders, and nothing of the image."""
    directions, deviation = load_keypoint_prior().predict(np.nan_to_num(keypoints)[None])
    return {
        "points_std": float(np.log(deviation[0, 0] + 0.01)),
        "points_angle": _angle(directions[0, 0], direction),
    }


def _angle(towards: FloatArray, direction: FloatArray) -> float:
    """The root of the angle between two directions: from 5 to 10 degrees means as much as from 40 to 60."""
    cosine = towards @ direction / max(float(np.linalg.norm(towards)), 1e-6)
    return float(np.sqrt(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _of_fit(fit: Fit, direction: FloatArray) -> dict[str, float]:
    found = {
        "fit_residual": float(np.log(fit.residual + 0.01)),
        "unfinished": float(not fit.converged),
        "other_side": float(np.exp(-cost_gap(fit.hypotheses, np.pi / 2) / 8.0)),
        "elsewhere": float(np.exp(-cost_gap(fit.hypotheses, np.pi / 9) / 8.0)),
    }
    if fit.yaw_std is not None and np.isfinite(fit.yaw_std):
        found["yaw_open"] = float(np.log(fit.yaw_std + 0.01))
    if fit.orientation_prior is not None:
        towards = fit.orientation_prior[:3]
        found["prior_std"] = float(np.log(fit.orientation_prior[6] + 0.01))
        found["prior_angle"] = _angle(towards, direction)
    return found


def cost_gap(pairs: FloatArray, apart: float) -> float:
    """How much more the best explanation cost whose yaw is `apart` radians or more away; inf when none did.

    `pairs` [K, 2] are yaws in radians and costs, best first. Costs are -2 log likelihoods.
    """
    if len(pairs) < 2 or not np.isfinite(pairs[0, 1]):
        return float("inf")
    away = np.abs(np.angle(np.exp(1j * (pairs[1:, 0] - pairs[0, 0])))) >= apart
    costs = pairs[1:, 1][away]
    costs = costs[np.isfinite(costs)]
    return float(max(0.0, costs.min() - pairs[0, 1])) if len(costs) else float("inf")


@lru_cache(maxsize=4)
def load_model(fitter: str = "smplify2", calibration: str = "") -> UncertaintyModel:
    """The shipped model for a fitter's labels, rescaled by a file of `phq calibrate`; read once a process.

    Raises `CalibrationError`.
    """
    model = UncertaintyModel.load(DATA_FILE_2 if fitter == "smplify2" else DATA_FILE)
    if not calibration:
        return model
    from phq_data.models.calibration import load  # the fitters with it, which others do without

    own = load(calibration)
    return model.rescaled(own.odds_scale, own.odds_offset, own.error_scale)


def known(names: tuple[str, ...], found: Mapping[str, Any]) -> FloatArray:
    """Evidence as an array [D], nan where nothing is known."""
    return np.array([found.get(name, np.nan) for name in names], np.float64)
