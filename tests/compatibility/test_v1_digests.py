"""A renamed setting changes no id and no fingerprint: both are what version 0.1.0 made of it."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from phq_data import config as configs
from phq_data.compatibility import RenamedWarning
from phq_data.config import PipelineConfig
from phq_data.pipeline.model_set import models_for

FINGERPRINTS = json.loads((Path(__file__).parent / "v1" / "fingerprints.json").read_text())
CHANGES = sorted(name for name in FINGERPRINTS if "=" in name)


def digests(chosen: PipelineConfig) -> list[str]:
    groups = (
        chosen.ingest, chosen.detect, chosen.fit, chosen.align, chosen.crop, chosen.mask, chosen.screen,
    )  # fmt: skip
    of_stages = [configs.digest("stage", 1, [group], ["content"]) for group in groups]
    return [*of_stages, configs.digest(chosen.dedup)]


def of_version_1(chosen: PipelineConfig) -> PipelineConfig:
    """With the fitter that was the default then; what a workspace was built with, it keeps."""
    return chosen if chosen.fit.model == "3dcrowdnet" else chosen.replace_setting("fit.model=smplify")


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_presets(preset: str) -> None:
    assert digests(of_version_1(configs.PRESETS[preset]())) == FINGERPRINTS[preset]


@pytest.mark.parametrize("setting", ["", *CHANGES])
def test_settings_and_the_embedded_models(setting: str) -> None:
    chosen = of_version_1(configs.default())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenamedWarning)
        if setting:
            chosen = chosen.replace_setting(setting)
    models = models_for(chosen)
    made = [models.detector.fingerprint, models.fitter.fingerprint, models.segmenter.fingerprint]
    assert [*made, *digests(chosen)] == FINGERPRINTS[setting or "models"]


def test_networks_that_a_user_brings() -> None:
    from torch import nn

    from phq_data.models.deeplab import DeepLabConfig, DeepLabSegmenter
    from phq_data.models.yolo import YoloConfig, YoloDetector

    wanted = FINGERPRINTS["networks"]
    segmenter = DeepLabSegmenter(nn.Identity(), "0" * 64, DeepLabConfig(include_bystanders=False))
    assert segmenter.fingerprint == wanted["deeplab"]
    assert YoloDetector(None, "0" * 64, replace(YoloConfig(), size=320)).fingerprint == wanted["yolo"]
