"""A detector that puts shoulders elsewhere is learned from people whose truth is known."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from phq_data import camera
from phq_data.bodies.anny import load_body
from phq_data.evaluation import calibrate
from phq_data.evaluation.calibrate import Known
from phq_data.models import calibration as own
from phq_data.models.calibration import Calibration, CalibrationError, Held
from phq_data.models.orientation.image_prior import load_image_prior
from phq_data.models.protocols import FitRequest
from phq_data.models.registry import body_fitter
from phq_data.models.smplify import Smplify2Config, SmplifyFitter
from phq_data.models.smplify.skeleton import ANGLES, COCO_ROWS, Skeleton
from phq_data.stages.uncertainty import load_model

SIZE = (800, 1000)
NOTHING = Held(0.0, 0.0, 0.0, 0.0)
PLAIN = Calibration(1, 1, NOTHING, NOTHING)


def people(count: int, shoulders_up: float, nod: float) -> list[Known]:
    """Seen by a detector that puts shoulders `shoulders_up` metres higher than usual, necks bent by `nod`."""
    usual, rng = Smplify2Config(), np.random.default_rng(3)
    offset = (usual.shoulder_offset[0], usual.shoulder_offset[1] + shoulders_up, usual.shoulder_offset[2])
    offsets = {"nose": usual.nose_offset, "left_shoulder": offset, "left_hip": usual.hip_offset}
    skeleton = Skeleton.of(load_body(), usual.shape_directions, offsets)
    angles = np.zeros((count, ANGLES))
    angles[:, 0], angles[:, 3] = np.radians(nod) / 2, -np.radians(nod) / 2
    points, _ = skeleton.place(angles, np.zeros((count, usual.shape_directions)))
    yaw, pitch = rng.uniform(-np.pi, np.pi, count), rng.uniform(-0.4, 0.6, count)
    root = np.swapaxes(camera.from_angles(yaw, pitch, np.zeros(count))[:, :3, :3], -1, -2)
    placed = points @ np.swapaxes(root, -1, -2) + [0, 0, 3.0]
    focal = usual.focal_long_sides * max(SIZE)
    pixels = focal * placed[..., :2] / placed[..., 2:] + np.array(SIZE) / 2
    keypoints = np.zeros((count, 17, 3))
    keypoints[:, COCO_ROWS] = np.concatenate([pixels, np.full((count, 9, 1), 0.9)], axis=-1)
    truth = -(np.swapaxes(root, -1, -2) @ np.array([0, 0, 1.0]))
    vague = truth + rng.normal(0, 0.15, truth.shape)
    return [
        Known(
            group=str(i),
            request=FitRequest(keypoints[i], np.zeros(4), SIZE),
            prior=np.r_[vague[i], truth[i], 0.25, 0.6],
            truth=truth[i],
            probability=0.3,
            expected=0.05,
        )
        for i in range(count)
    ]


def test_a_detector_of_other_habits_is_learned() -> None:
    found = calibrate.learn(people(36, shoulders_up=0.03, nod=24.0))
    assert found.labels_helped and found.probability_helped
    moved = found.calibration.shoulder_offset[1] - Smplify2Config.shoulder_offset[1]
    assert 0.012 < moved < 0.04  # drawn to the usual place, and what it does is shared with the neck
    assert np.median(calibrate._apart(found.truth, found.after)) < 0.8 * np.median(
        calibrate._apart(found.truth, found.before)
    )
    assert found.calibration.odds_offset < 0  # no label was wrong, and each was said to be so by 0.3


def test_nothing_is_said_to_help_where_the_constants_are_right() -> None:
    found = calibrate.learn(people(30, shoulders_up=0.0, nod=24.0))
    assert not found.labels_helped
    assert found.calibration.shoulder_offset == Smplify2Config.shoulder_offset
    assert found.probability_helped and found.calibration.odds_offset < 0  # nobody was off, 0.3 was said


def test_people_who_correct_what_looks_wrong_say_nothing_about_how_often_it_is() -> None:
    given = [replace(one, probability=0.02) for one in people(30, shoulders_up=0.03, nod=24.0)]
    labels = np.roll(np.stack([one.truth for one in given]), 1, axis=0)
    assert calibrate._scales(given, labels, True)[0] != (1.0, 0.0)
    found = calibrate.learn(given, representative=False)
    known = found.calibration
    assert (known.odds_scale, known.odds_offset, known.error_scale) == (1.0, 0.0, 1.0)
    assert not found.probability_helped


def test_too_few_labels() -> None:
    with pytest.raises(calibrate.TooFewError, match="3 labels with a known truth are too few: 30"):
        calibrate.learn(people(3, 0.0, 24.0))


def test_the_prior_is_corrected_only_where_it_helps_others() -> None:
    rng, some = np.random.default_rng(0), people(1, 0.0, 24.0)[0]
    hidden = rng.normal(0, 1, (240, 2, 8))
    weights = rng.normal(0, 0.05, (8, 3))
    mirror = np.array([-1.0, 1.0, 1.0])
    missing = (hidden[:, 0] @ weights + hidden[:, 1] @ weights * mirror) / 2
    truth = rng.normal(0, 1, (240, 3))

    def with_error(error: np.ndarray) -> list[Known]:
        priors = np.concatenate([truth - error, np.zeros((240, 3)), np.full((240, 2), 0.2)], axis=1)
        return [
            replace(some, prior=prior, truth=true, hidden=seen)
            for prior, true, seen in zip(priors, truth, hidden, strict=True)
        ]

    learned = calibrate._prior_weights(with_error(missing))
    assert np.abs(learned - weights).max() < 0.03
    assert len(calibrate._prior_weights(with_error(rng.normal(0, 0.05, (240, 3))))) == 0


def test_a_build_reads_the_file(tmp_path: Path) -> None:
    prior = load_image_prior(Smplify2Config.PRIOR)
    correction = np.zeros((prior.last.shape[1], 3)).tolist()
    correction[0][0] = 0.5
    made = Calibration(
        labels=40, groups=40, before=NOTHING, after=NOTHING, hip_offset=(0.0, 0.01, 0.0), odds_offset=1.0,
        prior=tuple((a, b, c) for a, b, c in correction), prior_digest=prior.digest,
    )  # fmt: skip
    path = tmp_path / "calibration.json"
    own.write(path, made)
    assert own.load(str(path)) == made
    fitter = body_fitter("smplify2", calibration=str(path))
    assert isinstance(fitter, SmplifyFitter)
    assert fitter.config.hip_offset == (0.0, 0.01, 0.0)  # type: ignore[attr-defined]
    assert fitter.fingerprint != body_fitter("smplify2").fingerprint
    np.testing.assert_allclose(made.corrected(prior).last[0, 0, 0] - prior.last[0, 0, 0], 0.5, rtol=1e-3)
    usual, rescaled = load_model(), load_model("smplify2", str(path))
    assert rescaled.assess({}).wrong > usual.assess({}).wrong
    assert rescaled.digest != usual.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "is no calibration"),
        ("[" * 5000, "is no calibration"),
        (json.dumps({**asdict(PLAIN), "hip_offset": [0, 9.0, 0]}), "that no calibration has"),
        (json.dumps({**asdict(PLAIN), "format": "x"}), "is no calibration"),
    ],
)  # fmt: skip
def test_other_files(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=said):
        own.load(str(path))
    with pytest.raises(CalibrationError, match="cannot be read"):
        own.load(str(tmp_path / "none.json"))
