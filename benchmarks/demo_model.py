"""Trains the model that `portraitgan demo` shows: rendered people in a studio, 64x64 pixels, on CPU cores."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.synthetic import Coarse, make_release
from portraitgan.config import (
    DecoderConfig,
    PosePredictorConfig,
    RenderConfig,
    SuperResolutionConfig,
    SynthesisConfig,
    TriGridConfig,
)
from portraitgan.presets import tiny as tiny_model
from portraitgan.training.config import (
    BatchConfig,
    DataConfig,
    EmaConfig,
    OutputConfig,
    ScheduleConfig,
    StageConfig,
    TrainConfig,
    tiny,
)

PIXELS = 64
PORTRAITS = 8000
KIMG = 400.0


def demo_config(kimg: float = KIMG) -> TrainConfig:
    """64x64 images from 24x24 rays, 1.2 million weights."""
    model = tiny_model()
    generator = replace(
        model.generator,
        image_resolution=PIXELS,
        z_dim=64,
        w_dim=64,
        backbone=SynthesisConfig(64, 4096, 64),
        grid=TriGridConfig(features=12),
        decoder=DecoderConfig(hidden=32),
        render=RenderConfig(coarse_samples=12, fine_samples=12, resolution=24),
        background=SynthesisConfig(32, 512, 32),
        superresolution=SuperResolutionConfig(32, (32, 16)),
        pose_predictor=PosePredictorConfig((64, 32)),
    )
    discriminator = replace(
        model.discriminator,
        image_resolution=PIXELS,
        channel_base=2048,
        channel_max=64,
        condition_dim=64,
        pose_predictor=PosePredictorConfig((128, 32)),
    )
    loss = replace(model.loss, r1_gamma=0.3, r1_gamma_mask=0.3, pose_regulariser_images=round(kimg * 1000))
    return replace(
        tiny(),
        name="demo",
        model=replace(model, name="demo", generator=generator, discriminator=discriminator, loss=loss),
        stages=(StageConfig("1", 0.5 * kimg, True, 24, 24), StageConfig("2", kimg, False, 24, 24)),
        schedule=ScheduleConfig(
            condition_swap_kimg=30.0, blur_sigma=1.5, blur_kimg=10.0, density_noise_kimg=10.0
        ),
        ema=EmaConfig(half_life=2500.0),
        batch=BatchConfig(8, 4),
        output=OutputConfig(0.5, 40.0, 2.0, 4.0, 6),
        data=DataConfig(workers=0),
    )  # fmt: skip


def draw(folder: Path, count: int = PORTRAITS) -> Path:
    """The release of rendered people, drawn if it is not there."""
    release = folder / "releases" / "1.0.0"
    if not release.exists():
        make_release(folder, count, PIXELS, seed=64, coarse=Coarse(0.0, 0.0), studio=True)
    return release


if __name__ == "__main__":
    where = Path(sys.argv[1])
    print(draw(where, int(sys.argv[2]) if len(sys.argv) > 2 else PORTRAITS))
    (where / "config.json").write_text(demo_config().to_json())
