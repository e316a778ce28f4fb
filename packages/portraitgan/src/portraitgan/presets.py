"""Whole model configs: the paper's sizes, its baselines, its ablations.

A preset is a function that returns a `ModelConfig`; `dataclasses.replace` changes a part of it. The paper's
ablations and baselines are values of these fields (see `ABLATIONS`), so that its tables can be rerun on
anyone's data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from portraitgan.config import (
    CompatibilityConfig,
    DecoderConfig,
    DeformationConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    ModelConfig,
    PosePredictorConfig,
    RenderConfig,
    SuperResolutionConfig,
    SynthesisConfig,
    TriGridConfig,
)


def paper_512() -> ModelConfig:
    """The released 512x512 models."""
    return ModelConfig()


def paper_256() -> ModelConfig:
    """The paper's configuration: 256x256 training images."""
    base = paper_512()
    return replace(
        base,
        name="paper_256",
        generator=replace(
            base.generator, image_resolution=256, superresolution=SuperResolutionConfig(128, (128, 64))
        ),
        discriminator=replace(base.discriminator, image_resolution=256),
    )


def paper_128() -> ModelConfig:
    """The smallest official super-resolution variant (64 to 128)."""
    base = paper_512()
    return replace(
        base,
        name="paper_128",
        generator=replace(
            base.generator,
            image_resolution=128,
            background=SynthesisConfig(64, 16384, 512),
            superresolution=SuperResolutionConfig(64, (128, 64)),
        ),
        discriminator=replace(base.discriminator, image_resolution=128),
    )


def middle() -> ModelConfig:
    """Between `tiny` and `paper_128`: a few million weights, 128x128 images, for CPU measurements."""
    base = paper_128()
    generator = replace(
        base.generator,
        backbone=SynthesisConfig(128, 4096, 128),
        background=SynthesisConfig(64, 2048, 64),
        render=replace(base.generator.render, coarse_samples=24, fine_samples=24, resolution=32),
        superresolution=SuperResolutionConfig(64, (32, 16)),
    )
    discriminator = replace(base.discriminator, channel_base=4096, channel_max=128)
    return replace(base, name="middle", generator=generator, discriminator=discriminator)


def tiny() -> ModelConfig:
    """The whole architecture at toy size: forward and backward in about a second on one CPU core."""
    generator = GeneratorConfig(
        image_resolution=32,
        z_dim=32,
        w_dim=32,
        backbone=SynthesisConfig(32, 512, 32),
        grid=TriGridConfig(features=8),
        decoder=DecoderConfig(hidden=16),
        render=RenderConfig(coarse_samples=8, fine_samples=8, resolution=8),
        background=SynthesisConfig(16, 256, 16),
        superresolution=SuperResolutionConfig(16, (16, 8)),
        pose_predictor=PosePredictorConfig((32, 16)),
        deformation=DeformationConfig(table_resolution=32),
    )
    discriminator = DiscriminatorConfig(
        image_resolution=32,
        channel_base=512,
        channel_max=32,
        condition_dim=32,
        mapping_layers=2,
        pose_predictor=PosePredictorConfig((64, 32)),
    )
    return ModelConfig("tiny", generator, discriminator)


def panohead(base: ModelConfig | None = None) -> ModelConfig:
    """The baseline PanoHead: tri-grid, mask, background, learned camera offset; no poses, no deformation."""
    config = without_pose(base or paper_256())
    return replace(
        config,
        name="panohead",
        generator=replace(config.generator, camera_offset=True),
        loss=replace(config.loss, camera_offset=10.0),
    )


def eg3d(base: ModelConfig | None = None) -> ModelConfig:
    """The baseline EG3D: tri-plane, dual discriminator without mask, density regulariser, no background."""
    config = without_pose(base or paper_256())
    generator = replace(
        config.generator,
        grid=replace(config.generator.grid, depth=1),
        decoder=replace(config.generator.decoder, activation="sigmoid"),
        background=None,
        raw_rgb="first_channels",
    )
    discriminator = replace(config.discriminator, use_mask=False)
    loss = replace(config.loss, density=0.25)
    return replace(config, name="eg3d", generator=generator, discriminator=discriminator, loss=loss)


def official(config: ModelConfig) -> ModelConfig:
    """`config` with the official code's bugs that released weights depend on switched on."""
    return replace(config, compatibility=CompatibilityConfig(True, True))


def without_pose(config: ModelConfig) -> ModelConfig:
    """No poses at all: not predicted, not conditioned on, not rendered."""
    generator = replace(
        config.generator,
        pose_conditioning=False,
        pose_predictor=None,
        deformation=replace(config.generator.deformation, mode="none"),
    )
    discriminator = replace(config.discriminator, pose_conditioning=False, pose_predictor=None)
    return replace(config, name=f"{config.name}-no-pose", generator=generator, discriminator=discriminator)


def without_pose_predictors(config: ModelConfig) -> ModelConfig:
    """The coarse poses of the dataset are used directly."""
    return replace(
        config,
        name=f"{config.name}-coarse-poses",
        generator=replace(config.generator, pose_predictor=None),
        discriminator=replace(config.discriminator, pose_predictor=None),
    )


def without_deformation(config: ModelConfig) -> ModelConfig:
    """Poses are predicted and conditioned on, but points are not moved."""
    deformation = replace(config.generator.deformation, mode="none")
    generator = replace(config.generator, deformation=deformation)
    return replace(config, name=f"{config.name}-no-deformation", generator=generator)


def without_mask(config: ModelConfig) -> ModelConfig:
    """The discriminator does not see the mask."""
    discriminator = replace(config.discriminator, use_mask=False)
    return replace(config, name=f"{config.name}-no-mask", discriminator=discriminator)


def with_tri_plane(config: ModelConfig) -> ModelConfig:
    """A tri-plane instead of a tri-grid."""
    generator = replace(config.generator, grid=replace(config.generator.grid, depth=1))
    return replace(config, name=f"{config.name}-tri-plane", generator=generator)


def with_rignerf_field(config: ModelConfig) -> ModelConfig:
    """RigNeRF's deformation field (equation 10, figure 10)."""
    deformation = replace(config.generator.deformation, mode="rignerf")
    generator = replace(config.generator, deformation=deformation)
    return replace(config, name=f"{config.name}-rignerf", generator=generator)


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "paper_512": paper_512,
    "paper_256": paper_256,
    "paper_128": paper_128,
    "middle": middle,
    "tiny": tiny,
    "panohead": panohead,
    "eg3d": eg3d,
}
ABLATIONS: dict[str, Callable[[ModelConfig], ModelConfig]] = {
    "tri-plane": with_tri_plane,
    "no-mask": without_mask,
    "coarse-poses": without_pose_predictors,
    "no-deformation": without_deformation,
    "rignerf": with_rignerf_field,
}
