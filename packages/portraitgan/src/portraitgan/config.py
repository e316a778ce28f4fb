"""What a generator and a discriminator look like: typed, frozen, nested configs.

Presets are in presets.py. A config is written into every checkpoint as JSON and read back strictly: an
unknown or missing key is an error, never a silent default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any, Literal

from phq_data import typed_json
from phq_data.typed_json import ConfigError
from portraitgan.precision import PrecisionConfig

VERSION = 4

_SINCE_3: Mapping[str, Mapping[str, Any]] = {
    "generator": {"camera_conditioning": True, "camera_offset": False},
    "loss": {
        "pose_regulariser_floor": 0.0, "mean_pose": 0.0, "density": 0.0, "density_distance": 0.004,
        "camera_offset": 0.0, "wrong_condition": 0.0,
    },
}  # fmt: skip
"""What version 3 added, with the values that leave a model of version 2 as it was."""


def _to_3(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, **{name: {**data[name], **added} for name, added in _SINCE_3.items()}}


def _with_kind(generator: dict[str, Any]) -> dict[str, Any]:
    """Version 4 can cut planes otherwise than in channels, and keep poses from the mapping network."""
    return {
        **generator,
        "pose_in_mapping": True,
        "grid": {**generator["grid"], "kind": "channels", "sphere_center": [0.0, 0.13, 0.03]},
    }


MIGRATIONS: typed_json.Migrations = {
    1: lambda data: {**data, "precision": {**data["precision"], "synthesis_half_resolutions": 0}},
    2: _to_3,
    3: lambda data: {**data, "generator": _with_kind(data["generator"])},
}
"""From a config's version to the next one; files of version 1 do not state it."""

CAMERA_SIZE = 25
POSE_SIZE = 6

PlaneAxes = tuple[tuple[int, int, int], ...]
Point = tuple[float, float, float]
TRI_GRID_AXES: PlaneAxes = ((0, 1, 2), (0, 2, 1), (1, 2, 0))
"""Per plane, which world axes run along width, height and depth (spec section 2.4)."""
EG3D_AXES: PlaneAxes = ((0, 1, 2), (0, 2, 1), (2, 0, 1))
"""EG3D's planes, whose third one repeats the second's axes; only for converted EG3D checkpoints."""


@dataclass(frozen=True)
class SynthesisConfig:
    """A StyleGAN2 synthesis network: constant 4x4 input up to `resolution`, skip architecture."""

    resolution: int = 256
    channel_base: int = 32768
    channel_max: int = 512

    def channels(self, resolution: int) -> int:
        """Feature channels of the block at `resolution`."""
        return min(self.channel_base // resolution, self.channel_max)

    @property
    def styles(self) -> int:
        """How many w vectors the network takes (two per block, one block per power of two from 4)."""
        return 2 * (self.resolution.bit_length() - 1) - 2


@dataclass(frozen=True)
class TriGridConfig:
    """The volume: planes, each `depth` slices of `features` channels. Depth 1 is EG3D's tri-plane.

    `channels`: three planes are cut from the backbone's image in channels, as in the paper. `unified`: they
    are three quarters of an image with the channels of one, so that no channel sees two planes. `hybrid`: the
    last quarter is a map of the directions around the head, whose middle is the back (HyPlaneHead, 2025).
    """

    features: int = 32
    depth: int = 3
    axes: PlaneAxes = TRI_GRID_AXES
    kind: Literal["channels", "unified", "hybrid"] = "channels"
    sphere_center: Point = (0.0, 0.13, 0.03)  # of `hybrid`, canonical space, metres: within the head

    @property
    def channels(self) -> int:
        """Channels of the backbone's image."""
        return self.features * self.depth * (3 if self.kind == "channels" else 1)

    @property
    def planes(self) -> int:
        """How many maps of features there are."""
        return 4 if self.kind == "hybrid" else 3

    def sphere(self, scale: float) -> Point | None:
        """The sphere's centre in units of 1 / `scale` metres; none but of `hybrid`."""
        x, y, z = self.sphere_center
        return (x * scale, y * scale, z * scale) if self.kind == "hybrid" else None


@dataclass(frozen=True)
class DecoderConfig:
    """The small MLP from a tri-grid feature to density and color feature."""

    hidden: int = 64
    activation: Literal["none", "sigmoid"] = "none"  # sigmoid is EG3D's


@dataclass(frozen=True)
class RenderConfig:
    """Ray sampling and ray marching (metres along the ray)."""

    ray_start: float = 2.25
    ray_end: float = 3.3
    coarse_samples: int = 48
    fine_samples: int = 48
    box_size: float = 1.0  # side of the tri-grid cube, metres
    crop: float | None = 0.4  # canonical |x| or |z| beyond this has no density
    resolution: int = 64  # neural rendering resolution unless asked otherwise
    max_points: int = 2**21  # points decoded at once when no gradient is needed


@dataclass(frozen=True)
class SuperResolutionConfig:
    """Two StyleGAN2 blocks from `input_resolution` to the output resolution (2x or 4x)."""

    input_resolution: int = 128
    channels: tuple[int, int] = (128, 64)
    clamp: float | None = 256.0
    half_precision: bool = True  # both blocks run in `PrecisionConfig.half`


@dataclass(frozen=True)
class PosePredictorConfig:
    """An MLP to the six numbers of neck and head axis-angle; exactly left-right symmetric in the camera."""

    hidden: tuple[int, ...] = (128, 32)


@dataclass(frozen=True)
class DeformationConfig:
    """How sample points go from the posed body to the canonical one.

    `face` is the paper's equation 11, `smooth` inverse skinning at the closest surface point, `rignerf`
    equation 10, `none` no deformation.
    """

    mode: Literal["face", "smooth", "rignerf", "none"] = "face"
    max_distance: float = 0.25  # metres; farther points stay (`face` and `smooth`)
    fade: float = 0.0  # metres before max_distance over which the displacement fades out; 0 = hard switch
    search: Literal["auto", "tables", "bvh", "brute"] = "auto"
    table_resolution: int = 96


@dataclass(frozen=True)
class CompatibilityConfig:
    """Bugs of the official code that released weights were trained with. All off for new training."""

    discriminator_pose_camera_unmirrored: bool = False
    """Q1: the discriminator's pose branch sees mirrored images with the camera as given."""
    superresolution_overwrites_raw: bool = False
    """Q3: super-resolution adds its first RGB onto the raw image it was given when it need not resize it."""


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator G(z, camera, pose)."""

    image_resolution: int = 512
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 2
    camera_conditioning: bool = True  # the mapping network sees the camera
    pose_conditioning: bool = True  # portraits are rendered in poses
    pose_in_mapping: bool = True  # the mapping network sees them; a predicted pose tells of the camera, too
    camera_offset: bool = False  # PanoHead's: latent and camera say by how much the rendering camera is moved
    backbone: SynthesisConfig = SynthesisConfig()
    grid: TriGridConfig = TriGridConfig()
    decoder: DecoderConfig = DecoderConfig()
    render: RenderConfig = RenderConfig()
    background: SynthesisConfig | None = SynthesisConfig(128, 16384, 512)
    raw_rgb: Literal["to_rgb", "first_channels"] = "to_rgb"  # first_channels is EG3D's
    superresolution: SuperResolutionConfig = SuperResolutionConfig(128, (256, 128))
    pose_predictor: PosePredictorConfig | None = PosePredictorConfig()
    deformation: DeformationConfig = DeformationConfig()

    @property
    def maps_pose(self) -> bool:
        """Whether the mapping network sees poses."""
        return self.pose_conditioning and self.pose_in_mapping

    @property
    def condition_size(self) -> int:
        """Numbers the mapping network is conditioned on."""
        return CAMERA_SIZE * self.camera_conditioning + POSE_SIZE * self.maps_pose


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The dual (image + raw image), mask-aware, pose-aware discriminator."""

    image_resolution: int = 512
    use_mask: bool = True
    channel_base: int = 32768
    channel_max: int = 512
    condition_dim: int = 512
    mapping_layers: int = 8
    pose_conditioning: bool = True
    pose_predictor: PosePredictorConfig | None = PosePredictorConfig((2048, 512, 128, 32))
    minibatch_group: int = 4
    clamp: float | None = 256.0
    half_resolutions: int = 4  # how many of the largest resolutions run in `PrecisionConfig.half`

    def channels(self, resolution: int) -> int:
        """Feature channels at `resolution`."""
        return min(self.channel_base // resolution, self.channel_max)

    @property
    def input_channels(self) -> int:
        """Image, raw image and (with `use_mask`) mask."""
        return 6 + int(self.use_mask)

    @property
    def condition_size(self) -> int:
        """Numbers the score is conditioned on."""
        return CAMERA_SIZE + (POSE_SIZE if self.pose_conditioning else 0)


@dataclass(frozen=True)
class LossConfig:
    """Weights of equations 12-16 and of the regularisers (spec section 5)."""

    r1_gamma: float = 1.0  # image and raw image
    r1_gamma_mask: float = 1.0
    pose: float = 1.0  # lambda_p
    pose_regulariser: float = 0.5  # lambda_preg
    pose_regulariser_images: int = 200_000  # constant this long, then fades out over the same length
    pose_regulariser_floor: float = 0.0  # share of it that stays for good
    mean_pose: float = 0.0  # pulls the mean of the poses to that of the labels, for good
    background_swap: float = 0.2  # probability that a sample's background comes from another w
    density: float = 0.0  # EG3D's density regulariser, 0.25 there
    density_distance: float = 0.004  # standard deviation of the step between its points, metres
    camera_offset: float = 0.0  # PanoHead's translation regulariser, 10 there
    wrong_condition: float = 0.0  # portraits with another's camera and pose count as fake, with this weight


@dataclass(frozen=True)
class ModelConfig:
    """Everything that defines the two networks and their objective."""

    name: str = "paper_512"
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    loss: LossConfig = LossConfig()
    compatibility: CompatibilityConfig = CompatibilityConfig()
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)

    def __post_init__(self) -> None:
        _check(self)

    def to_json(self) -> str:
        """The config as JSON text."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Read `to_json`'s text, of this version or an older one. Raises `ConfigError` saying why not."""
        data = typed_json.parsed(text)
        if isinstance(data, dict):
            version = data.pop("version", 1)
            data = typed_json.upgraded(data, version, VERSION, MIGRATIONS)
        return typed_json.read(cls, data, complete=True)


_MOST = {
    **dict.fromkeys(("generator.mapping_layers", "discriminator.mapping_layers"), 64),
    **dict.fromkeys((
        "generator.z_dim", "generator.w_dim", "generator.backbone.resolution",
        "generator.backbone.channel_max", "generator.grid.features", "generator.grid.depth",
        "generator.decoder.hidden", "generator.render.resolution", "generator.image_resolution",
        "discriminator.channel_max", "discriminator.condition_dim",
    ), 8192),
}  # fmt: skip
"""Limits of a config that somebody else wrote: beyond them a network takes all memory before it is wrong."""


def _check(config: ModelConfig) -> None:
    """Raise `ConfigError` unless the networks can be built."""
    generator, discriminator = config.generator, config.discriminator
    sr = generator.superresolution
    sizes = {
        "generator.image_resolution": generator.image_resolution,
        "generator.backbone.resolution": generator.backbone.resolution,
        "generator.superresolution.input_resolution": sr.input_resolution,
    }
    for name, size in sizes.items():
        if size < 8 or size & (size - 1):
            raise ConfigError(f"{name} must be a power of two of at least 8, not {size}")
    for name, most in _MOST.items():
        number = attrgetter(name)(config)
        if not 1 <= number <= most:
            raise ConfigError(f"{name} must lie between 1 and {most}, not {number}")
    if len(generator.grid.axes) != 3 or any(sorted(plane) != [0, 1, 2] for plane in generator.grid.axes):
        raise ConfigError(
            f"generator.grid.axes are three orders of the axes 0, 1 and 2, not {list(generator.grid.axes)}"
        )
    if generator.image_resolution != discriminator.image_resolution:
        raise ConfigError(
            f"generator and discriminator disagree about the image: {generator.image_resolution} and "
            f"{discriminator.image_resolution} pixels"
        )
    if generator.image_resolution not in (2 * sr.input_resolution, 4 * sr.input_resolution):
        raise ConfigError(
            f"super-resolution goes from {sr.input_resolution} to 2 or 4 times that, "
            f"not to {generator.image_resolution} pixels"
        )
    if generator.background is not None and generator.background.resolution > generator.backbone.resolution:
        raise ConfigError("generator.background.resolution must not exceed the backbone's")
    if not 0 < generator.render.ray_start < generator.render.ray_end:
        raise ConfigError("generator.render.ray_start must lie between 0 and ray_end")
    if min(generator.render.coarse_samples, generator.render.fine_samples) < 4:
        raise ConfigError("generator.render needs at least 4 coarse and 4 fine samples a ray")
    if generator.grid.depth < 1 or generator.grid.features < 3:
        raise ConfigError("generator.grid needs a depth of at least 1 and at least 3 features")
    if config.precision.synthesis_half_resolutions < 0:
        raise ConfigError("precision.synthesis_half_resolutions must be at least 0")
    if config.precision.synthesis_half_resolutions and config.precision.half == "float16":
        raise ConfigError("precision.synthesis_half_resolutions needs half bfloat16: float16 would overflow")
    if generator.pose_predictor is not None and not generator.pose_conditioning:
        raise ConfigError("generator.pose_predictor needs generator.pose_conditioning")
    if discriminator.pose_predictor is not None and not discriminator.pose_conditioning:
        raise ConfigError("discriminator.pose_predictor needs discriminator.pose_conditioning")
    if not 0 <= config.loss.pose_regulariser_floor <= 1:
        floor = config.loss.pose_regulariser_floor
        raise ConfigError(f"loss.pose_regulariser_floor must lie between 0 and 1, not {floor}")
    for name in ("mean_pose", "density", "camera_offset", "wrong_condition"):
        if getattr(config.loss, name) < 0:
            raise ConfigError(f"loss.{name} must be at least 0, not {getattr(config.loss, name)}")
    if config.loss.camera_offset and not generator.camera_offset:
        raise ConfigError("loss.camera_offset needs generator.camera_offset")
    if generator.deformation.max_distance <= 0:
        raise ConfigError("generator.deformation.max_distance must be positive (metres)")
    if not 0 <= generator.deformation.fade <= generator.deformation.max_distance:
        raise ConfigError("generator.deformation.fade must lie between 0 and max_distance (metres)")
