"""Proof that training learns: rendered people of known truth, from noised labels to a model, measured."""

from __future__ import annotations

from dataclasses import replace

from portraitgan.config import (
    DecoderConfig,
    DiscriminatorConfig,
    PosePredictorConfig,
    RenderConfig,
    SuperResolutionConfig,
    SynthesisConfig,
    TriGridConfig,
)
from portraitgan.config import tiny as tiny_model
from portraitgan.training.config import (
    AverageConfig,
    BatchConfig,
    OutputConfig,
    ScheduleConfig,
    StageConfig,
    TrainConfig,
    tiny,
)


def learn_config(kimg: float) -> TrainConfig:
    """A `tiny`-like run for two CPU cores: 32x32 pictures, 16x16 rays, the last quarter with frozen poses."""
    model = tiny_model()
    generator = replace(
        model.generator,
        z_dim=64,
        w_dim=64,
        backbone=SynthesisConfig(32, 1024, 64),
        grid=TriGridConfig(features=12),
        decoder=DecoderConfig(hidden=24),
        render=RenderConfig(coarse_samples=10, fine_samples=10, resolution=16),
        background=SynthesisConfig(16, 512, 32),
        superresolution=SuperResolutionConfig(16, (32, 16)),
        pose_predictor=PosePredictorConfig((64, 32)),
    )
    discriminator = DiscriminatorConfig(
        image_resolution=32,
        channel_base=1024,
        channel_max=64,
        condition_dim=64,
        mapping_layers=2,
        pose_predictor=PosePredictorConfig((128, 32)),
    )
    loss = replace(model.loss, r1_gamma=0.05, r1_gamma_mask=0.05, pose_regulariser_images=round(kimg * 100))
    return replace(
        tiny(),
        name="learn",
        model=replace(model, name="learn", generator=generator, discriminator=discriminator, loss=loss),
        stages=(
            StageConfig("1", 0.75 * kimg, True, 16, 16),
            StageConfig("2", kimg, False, 16, 16),
        ),
        schedule=ScheduleConfig(
            condition_swap_kimg=0.3 * kimg, blur_sigma=1.0, blur_kimg=0.1 * kimg,
            density_noise_kimg=0.1 * kimg,
        ),
        average=AverageConfig(half_life=1000.0),
        batch=BatchConfig(8, 4),
        output=OutputConfig(0.5, 0.25 * kimg, 2.0, max(kimg / 8, 0.5), 4),
    )  # fmt: skip
