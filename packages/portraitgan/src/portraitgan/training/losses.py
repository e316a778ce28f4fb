"""The objective: equations 12-16 of the paper, R1, and the regularisers of early training.

Pure functions of networks and tensors. Per-sample losses have shape [B]; a step minimises their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from portraitgan.config import LossConfig
from portraitgan.networks import filters
from portraitgan.networks.discriminator import ONE_MICRO_BATCH, Arrangement, Discriminator, Portraits
from portraitgan.networks.generator import Generated, Generator
from portraitgan.networks.layers import NoiseMode
from portraitgan.rendering.random_numbers import Random, normal, uniform
from portraitgan.rendering.rays import RayDraws


@dataclass(frozen=True)
class Conditions:
    """What a generator pass starts from: a latent, and camera and coarse pose of one dataset entry."""

    z: Tensor  # [B, z_dim]
    camera: Tensor  # [B, 25]
    coarse_pose: Tensor  # [B, 6] radians
    arrangement: Arrangement = ONE_MICRO_BATCH


@dataclass(frozen=True)
class Swaps:
    """Which samples take another sample's conditioning or background ([B], bool)."""

    condition: Tensor
    background: Tensor


@dataclass(frozen=True)
class Schedule:
    """What changes during training, at one moment."""

    condition_swap: float = 0.7  # probability
    blur_sigma: float = 0.0  # pixels
    density_noise: float | Tensor = 0.0  # standard deviation
    pose_regulariser: float | Tensor = 0.0  # 0..1, multiplies `LossConfig.pose_regulariser`
    resolution: int | None = None  # neural rendering resolution; none: the generator's own
    blur_taps: Tensor | None = None  # [K]; none: those of `blur_sigma`


@dataclass(frozen=True)
class PassRandomness:
    """What is random in one generator pass; what is none is drawn."""

    swaps: Swaps | None = None
    draws: RayDraws | None = None
    noise_mode: NoiseMode = "random"
    random: Random = None


@dataclass(frozen=True)
class GeneratorLoss:
    """Equation 14, per sample."""

    adversarial: Tensor  # [B]
    pose_regulariser: Tensor  # [B], weight included
    camera_offset: Tensor  # [B], weight included; one number a micro-batch
    pose: Tensor  # [B, 6]
    generated: Generated
    score: Tensor  # [B, 1]

    @property
    def total(self) -> Tensor:
        """The number to minimise, []."""
        return (self.adversarial + self.pose_regulariser + self.camera_offset).mean()


@dataclass(frozen=True)
class FakeLoss:
    """The generated half of equation 12, per sample."""

    adversarial: Tensor  # [B]
    pose: Tensor  # [B], unweighted (equation 13)
    weight: float  # lambda_p
    generated_pose: Tensor  # [B, 6]
    predicted_pose: Tensor | None  # [B, 6]
    generated: Generated
    score: Tensor  # [B, 1]

    @property
    def total(self) -> Tensor:
        """The number to minimise, []."""
        return (self.adversarial + self.weight * self.pose).mean()


@dataclass(frozen=True)
class R1:
    """Squared gradient norms of the score, per sample [B]."""

    image: Tensor
    raw: Tensor
    mask: Tensor | None
    penalty: Tensor  # weighted sum


def fake_loss(score: Tensor) -> Tensor:
    """l(D(I_g)) of equation 12, per sample [B], for scores [B, 1]."""
    return functional.softplus(score)[:, 0]


def real_loss(score: Tensor) -> Tensor:
    """l(-D(I)) of equations 12 and 14, per sample [B], for scores [B, 1]."""
    return functional.softplus(-score)[:, 0]


def pose_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Sum of squared differences of poses [B, 6] per sample [B] (equations 13 and 15)."""
    return (predicted - target).square().sum(dim=1)


def offset_loss(offset: Tensor, micro: int | None = None) -> Tensor:
    """Squared length of the micro-batch's mean of camera offsets [B, 3], the same for all its samples [B].

    PanoHead's translation regulariser: offsets may differ between portraits, but not move all of them.
    """
    groups = offset.reshape(-1, micro or len(offset), 3)
    return groups.mean(dim=1).square().sum(dim=1).repeat_interleave(groups.shape[1])


def density_loss(
    generator: Generator,
    conditions: Conditions,
    schedule: Schedule,
    config: LossConfig,
    randomness: PassRandomness | None = None,
    points: int = 1000,
) -> Tensor:
    """EG3D's density regulariser [B], weight included: raw densities of near points should be near.

    `points` are uniform in a cube of twice the tri-grid's side, each beside one that is a normal step of
    `density_distance` away; canonical space, neither deformed nor cropped (EG3D, supplement section 1).
    """
    randomness = randomness or PassRandomness()
    z = conditions.z
    swaps = randomness.swaps or draw_swaps(len(z), schedule, config, z.device)
    with torch.no_grad():
        pose = rendered_pose(generator, conditions)
    ws = swapped_styles(generator, conditions, pose, swaps)
    planes = generator.planes(ws, randomness.noise_mode, randomness.random)
    shape, side = (len(z), points, 3), generator.config.render.box_size
    where = (uniform(shape, randomness.random, z.device) * 2 - 1) * side
    beside = where + config.density_distance * normal(shape, randomness.random, z.device)
    densities, _ = generator.sample_volume(planes, torch.cat([where, beside], dim=1))
    first, second = densities.chunk(2, dim=1)
    return config.density * (first - second).abs().mean(dim=1)


def pose_regulariser_strength(images: int, config: LossConfig) -> float:
    """1 for the first `pose_regulariser_images`, then down to 0 over as many again."""
    span = config.pose_regulariser_images
    return min(1.0, max(0.0, 2.0 - images / span)) if span > 0 else 0.0


def draw_swaps(batch: int, schedule: Schedule, config: LossConfig, device: torch.device) -> Swaps:
    """Fresh swap decisions."""
    return Swaps(
        torch.rand(batch, device=device) < schedule.condition_swap,
        torch.rand(batch, device=device) < config.background_swap,
    )


def predecessors(values: Tensor, micro: int | None = None) -> Tensor:
    """[B, ...] with every sample's predecessor in its micro-batch; the first one's is the last one."""
    if micro is None:
        return values.roll(1, 0)
    return values.reshape(-1, micro, *values.shape[1:]).roll(1, 1).flatten(0, 1)


@dataclass(frozen=True)
class GeneratorPass:
    """What a generator pass made."""

    generated: Generated
    pose: Tensor | None  # [B, 6] radians they were rendered in
    camera_offset: Tensor | None  # [B, 3] metres, of models that learn it


def run_generator(
    generator: Generator,
    conditions: Conditions,
    schedule: Schedule,
    config: LossConfig,
    randomness: PassRandomness | None = None,
    update_w_avg: bool = False,
) -> GeneratorPass:
    """Portraits and their poses with swapped conditioning and backgrounds (equations 5 and 6).

    A swapped sample is conditioned on the camera and pose of its predecessor in the micro-batch, so that the
    styles cannot encode what the camera will see; it is rendered with its own. Without a pose predictor the
    coarse poses are used, and none at all if the generator knows no poses.
    """
    randomness = randomness or PassRandomness()
    z, camera, micro = conditions.z, conditions.camera, conditions.arrangement.micro
    pose = rendered_pose(generator, conditions)
    swaps = randomness.swaps or draw_swaps(len(z), schedule, config, z.device)
    ws = swapped_styles(generator, conditions, pose, swaps, update_w_avg)
    background_ws = torch.where(swaps.background[:, None, None], predecessors(ws, micro), ws)
    rendered_from, offset = generator.moved_camera(z, camera)
    generated = generator.synthesis(
        ws,
        rendered_from,
        pose,
        background_ws=background_ws,
        resolution=schedule.resolution,
        noise_mode=randomness.noise_mode,
        draws=randomness.draws,
        random=randomness.random,
        density_noise=schedule.density_noise,
    )
    return GeneratorPass(generated, pose, offset)


def rendered_pose(generator: Generator, conditions: Conditions) -> Tensor | None:
    """Poses [B, 6] that `conditions` are rendered in; none if the generator knows no poses."""
    if generator.pose_branch is not None:
        return generator.predict_pose(conditions.z, conditions.camera)
    return conditions.coarse_pose if generator.config.pose_conditioning else None


def swapped_styles(
    generator: Generator,
    conditions: Conditions,
    pose: Tensor | None,  # [B, 6]
    swaps: Swaps,
    update_w_avg: bool = False,
) -> Tensor:
    """Styles [B, styles, w_dim], conditioned on the predecessor's camera and pose where `swaps` says so."""
    camera, micro = conditions.camera, conditions.arrangement.micro
    seen_camera = torch.where(swaps.condition[:, None], predecessors(camera, micro), camera)
    seen_pose = None
    if pose is not None:
        seen_pose = torch.where(swaps.condition[:, None], predecessors(pose, micro), pose)
    return generator.mapping(conditions.z, seen_camera, seen_pose, update_w_avg=update_w_avg)


def generator_loss(
    generator: Generator,
    discriminator: Discriminator,
    conditions: Conditions,
    schedule: Schedule,
    config: LossConfig,
    randomness: PassRandomness | None = None,
) -> GeneratorLoss:
    """Equation 14: fool the discriminator; stay near the coarse poses early on (equation 15)."""
    made = run_generator(generator, conditions, schedule, config, randomness)
    generated, pose = made.generated, made.pose
    seen = blurred_fake(generated.portraits, schedule)
    output = discriminator(
        seen,
        conditions.camera,
        _given(discriminator, pose),
        pose_gradient=False,
        arrangement=conditions.arrangement,
    )
    none = output.score.new_zeros(len(output.score))
    regulariser, offset = none, none
    if pose is not None:
        weight = config.pose_regulariser * schedule.pose_regulariser
        regulariser = weight * pose_loss(pose, conditions.coarse_pose)
    if made.camera_offset is not None:
        offset = config.camera_offset * offset_loss(made.camera_offset, conditions.arrangement.micro)
    shown = conditions.coarse_pose if pose is None else pose
    return GeneratorLoss(real_loss(output.score), regulariser, offset, shown, generated, output.score)


def discriminator_fake_loss(
    generator: Generator,
    discriminator: Discriminator,
    conditions: Conditions,
    schedule: Schedule,
    config: LossConfig,
    randomness: PassRandomness | None = None,
) -> FakeLoss:
    """The generated half of equation 12 with the pose loss (equation 13); the generator is constant.

    Updates the generator's running mean of styles.
    """
    with torch.no_grad():
        made = run_generator(generator, conditions, schedule, config, randomness, update_w_avg=True)
    generated, pose = made.generated, made.pose
    seen = blurred_fake(generated.portraits, schedule)
    output = discriminator(
        seen, conditions.camera, _given(discriminator, pose), arrangement=conditions.arrangement
    )
    error = output.score.new_zeros(len(output.score))
    if output.pose is not None and pose is not None:
        error = pose_loss(output.pose, pose)
    shown = conditions.coarse_pose if pose is None else pose
    return FakeLoss(fake_loss(output.score), error, config.pose, shown, output.pose, generated, output.score)


def discriminator_real_loss(
    discriminator: Discriminator,
    real: Portraits,
    camera: Tensor,
    coarse_pose: Tensor | None = None,
    arrangement: Arrangement = ONE_MICRO_BATCH,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(the real half of equation 12 [B], scores [B, 1], predicted poses [B, 6]) of prepared portraits."""
    output = discriminator(
        real.detach(),
        camera,
        _given(discriminator, coarse_pose),
        pose_gradient=False,
        arrangement=arrangement,
    )
    return real_loss(output.score), output.score, output.pose


def r1_penalty(
    discriminator: Discriminator,
    real: Portraits,
    camera: Tensor,
    config: LossConfig,
    coarse_pose: Tensor | None = None,
    arrangement: Arrangement = ONE_MICRO_BATCH,
) -> R1:
    """gamma / 2 times the squared gradient norm of the score at real portraits; image and raw, and mask.

    camera [B, 25], coarse_pose [B, 6] radians (where the discriminator predicts none itself).

    A lazy regulariser multiplies the mean by its interval. Differentiable twice: no compiled or fused path.
    """
    image = real.image.detach().requires_grad_()
    raw = real.raw.detach().requires_grad_()
    mask = None if real.mask is None else real.mask.detach().requires_grad_()
    output = discriminator(
        Portraits(image, raw, mask),
        camera,
        _given(discriminator, coarse_pose),
        pose_gradient=False,
        arrangement=arrangement,
    )
    inputs = [image, raw] if mask is None or not discriminator.config.use_mask else [image, raw, mask]
    gradients = torch.autograd.grad(output.score.sum(), inputs, create_graph=True)
    sums = [gradient.square().sum(dim=(1, 2, 3)) for gradient in gradients]
    penalty = config.r1_gamma / 2 * (sums[0] + sums[1])
    if len(sums) == 3:
        penalty = penalty + config.r1_gamma_mask / 2 * sums[2]
    return R1(sums[0], sums[1], sums[2] if len(sums) == 3 else None, penalty)


def blurred_fake(portraits: Portraits, schedule: Schedule) -> Portraits:
    """Generated portraits as the discriminator sees them early on: only the image is blurred."""
    taps = schedule.blur_taps
    if taps is None:
        taps = filters.blur_taps(schedule.blur_sigma, portraits.image.device)
    return Portraits(filters.blur_with(portraits.image, taps), portraits.raw, portraits.mask)


def prepare_real(image: Tensor, mask: Tensor | None, resolution: int, blur_sigma: float) -> Portraits:
    """Dataset portraits as the discriminator sees them.

    image [B, 3, H, H] in -1..1, mask [B, 1, H, H] in 0..1. The raw image is the unblurred one, resized to
    `resolution` and then blurred by as many of its own pixels; masks are never blurred.
    """
    raw = filters.blur(filters.resize(image, resolution), blur_sigma)
    small = None if mask is None else filters.resize(mask, resolution)
    return Portraits(filters.blur(image, blur_sigma), raw, small)


def _given(discriminator: Discriminator, pose: Tensor | None) -> Tensor | None:
    """The pose to condition on where the discriminator predicts none itself."""
    return pose if discriminator.pose_branch is None else None
