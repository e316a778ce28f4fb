"""Settings reach the models."""

from __future__ import annotations

import pytest

from phq_data import config as configs
from phq_data.models.movenet.detector import MoveNetConfig, MoveNetDetector
from phq_data.pipeline.model_set import Models


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("detect.flip_tta=true", MoveNetConfig()),
        ("detect.flip_tta=doubtful", MoveNetConfig(flip_tta="doubtful")),
        ("detect.flip_tta=false", MoveNetConfig(flip_tta=False)),
        ("detect.second_pass=false", MoveNetConfig(second_pass_proposals=0)),
    ],
)
def test_detector_settings_reach_movenet(setting: str, wanted: MoveNetConfig) -> None:
    detector = Models(configs.default().replace_setting(setting)).detector
    assert isinstance(detector, MoveNetDetector)
    assert detector.config == wanted
