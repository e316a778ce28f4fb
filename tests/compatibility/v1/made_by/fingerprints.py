"""Print fingerprints.json: what version 0.1.0 called models and settings in ids and fingerprints of parts."""

import json
from dataclasses import replace

from torch import nn

from phq_data import config
from phq_data.loading import models_for
from phq_data.models.deeplab import DeepLabConfig, DeepLabSegmenter
from phq_data.models.yolo import YoloConfig, YoloDetector

SETTINGS = (
    "detect.mirror=false", "detect.search=false", "fit.starts=2", "fit.shape_directions=0",
    "fit.view=picture", "fit.view=keypoints", "fit.view=none", "mask.everybody=true",
    "crop.as_published=true", "screen.max_doubt=0.5", "screen.max_residual=0.1",
    "screen.max_shoulder_residual=0.2", "screen.min_source_pixels=0.5",
)  # fmt: skip


def digests(chosen):
    groups = (chosen.ingest, chosen.detect, chosen.fit, chosen.align, chosen.crop, chosen.mask, chosen.screen)
    return [config.digest("stage", 1, [group], ["content"]) for group in groups] + [
        config.digest(chosen.dedup)
    ]


found = {
    "default": digests(config.default()),
    "paper": digests(config.paper()),
    "networks": {
        "deeplab": DeepLabSegmenter(nn.Identity(), "0" * 64, DeepLabConfig(everybody=False)).fingerprint,
        "yolo": YoloDetector(None, "0" * 64, replace(YoloConfig(), size=320)).fingerprint,
    },
}
for setting in ("", *SETTINGS):
    chosen = config.default().replace_setting(setting) if setting else config.default()
    models = models_for(chosen)
    made = [models.detector.fingerprint, models.fitter.fingerprint, models.segmenter.fingerprint]
    found[setting or "models"] = made + digests(chosen)
print(json.dumps(found, indent=1))
