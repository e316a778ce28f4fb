"""MoveNet: agreement with the original runtime, and people found in real and made pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from phq_data.models import registry
from phq_data.models.movenet_decode import decode_multipose, decode_thunder
from phq_data.models.protocols import COCO_KEYPOINTS

GOLDEN = (
    Path(os.environ.get("PHQ_GOLDEN", Path(__file__).parents[4] / "tests" / "golden")) / "golden_movenet.npz"
)
LEFT_EYE, RIGHT_EYE, LEFT_SHOULDER, RIGHT_SHOULDER = (
    COCO_KEYPOINTS.index(name) for name in ("left_eye", "right_eye", "left_shoulder", "right_shoulder")
)


def golden_cases(network: str) -> list[str]:
    with np.load(GOLDEN) as golden:
        return sorted({key.split("/")[1] for key in golden.files if key.startswith(network)})


def run_network(name: str, image: np.ndarray) -> dict[str, np.ndarray]:
    session = registry.open_session(name)
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, {"image": image}), strict=True))


@pytest.mark.parametrize("case", golden_cases("thunder"))
def test_golden_movenet_thunder(case: str) -> None:
    with np.load(GOLDEN) as golden:
        image, expected = golden[f"thunder/{case}/image"], golden[f"thunder/{case}/output"]
    found = decode_thunder(run_network("movenet-thunder", image[None]))[0]
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("case", golden_cases("multipose"))
def test_golden_movenet_multipose(case: str) -> None:
    with np.load(GOLDEN) as golden:
        image, expected = golden[f"multipose/{case}/image"], golden[f"multipose/{case}/output"]
    found = decode_multipose(run_network("movenet-multipose", image[None]))
    expected = expected[np.argsort(-expected[:, 55], kind="stable")]
    people = int((expected[:, 55] > 0.2).sum())
    assert people > 0
    for index in range(people):
        np.testing.assert_allclose(found.keypoints[index].ravel(), expected[index, :51], atol=2e-3, rtol=0)
        np.testing.assert_allclose(found.boxes[index], expected[index, 51:55], atol=2e-3, rtol=0)
        assert abs(float(found.scores[index]) - expected[index, 55]) < 2e-3
    assert people == len(found.scores) or found.scores[people] < 0.2
