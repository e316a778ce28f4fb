"""The objective: equations 12-16 of the paper, R1, and the regularisers of early training.

Pure functions of networks and tensors. Per-sample losses have shape [B]; a step minimises their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from portraitgan.config import LossConfig
from portraitgan.networks import filters
from portraitgan.networks.discriminator import (
    ONE_MICRO_BATCH,
    Arrangement,
    Discriminator,
    DiscriminatorOutput,
    Portraits,
)
from portraitgan.networks.generator import Generated, Generator
from portraitgan.rendering.random_numbers import normal, uniform
from portraitgan.training.generator_pass import (
    Conditions,
    PassRandomness,
    Schedule,
    draw_swaps,
    predecessors,
    rendered_pose,
    run_generator,
    swapped_styles,
)

LOOKING = slice(2, 11, 4)
"""Entries of a camera label that are the direction it looks in."""
WRONG_DEGREES = 30.0
"""From here on another camera is a wrong one."""


@dataclass(frozen=True)
class GeneratorLoss:
    """Equation 14, per sample."""

    adversarial: Tensor  # [B]
    pose_regulariser: Tensor  # [B], weight included
    mean_pose: Tensor  # [B], weight included; one number a micro-batch
    camera_offset: Tensor  # [B], the same
    pose: Tensor  # [B, 6]
    generated: Generated
    score: Tensor  # [B, 1]

    @property
    def total(self) -> Tensor:
        """The number to minimise, []."""
        regularisers = self.pose_regulariser + self.mean_pose + self.camera_offset
        return (self.adversarial + regularisers).mean()


@dataclass(frozen=True)
class FakeLoss:
    """The generated half of equation 12, per sample."""

    adversarial: Tensor  # [B]
    pose: Tensor  # [B], unweighted (equation 13)
    weight: float  # lambda_p
    wrong_condition: Tensor  # [B], weight included
    generated_pose: Tensor  # [B, 6]
    predicted_pose: Tensor | None  # [B, 6]
    generated: Generated
    score: Tensor  # [B, 1]

    @property
    def total(self) -> Tensor:
        """The number to minimise, []."""
        return (self.adversarial + self.weight * self.pose + self.wrong_condition).mean()


@dataclass(frozen=True)
class RealLoss:
    """The real half of equation 12, per sample."""

    adversarial: Tensor  # [B]
    wrong_condition: Tensor  # [B], weight included
    predicted_pose: Tensor | None  # [B, 6]
    score: Tensor  # [B, 1]

    @property
    def total(self) -> Tensor:
        """The number to minimise, []."""
        return (self.adversarial + self.wrong_condition).mean()


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


def squared_mean(values: Tensor, micro: int | None = None) -> Tensor:
    """Squared length of a micro-batch's mean of values [B, K], the same for all its samples [B].

    Of camera offsets it is PanoHead's translation regulariser. Of n samples it is on average the squared
    length of the true mean and, besides, an n-th of their spread, which it holds down, too.
    """
    groups = values.reshape(-1, micro or len(values), values.shape[1])
    return groups.mean(dim=1).square().sum(dim=1).repeat_interleave(groups.shape[1])


def squared_mean_alone(values: Tensor, micro: int | None = None) -> Tensor:
    """`squared_mean` of `values` [N, D] without the spread: on average the squared length of the true mean.

    Below 0 by chance.

    (|sum|^2 - sum of |value|^2) / (n (n - 1)) of a micro-batch of n values; 0 where n is 1. Of poses less the
    labels' it keeps the canonical body where the labels have it: neck and head cannot lean against each other
    in all portraits, while it asks nothing of how poses differ from their labels otherwise.
    """
    groups = values.reshape(-1, micro or len(values), values.shape[1])
    count = groups.shape[1]
    products = groups.sum(dim=1).square().sum(dim=1) - groups.square().sum(dim=(1, 2))
    return (products / max(count * (count - 1), 1)).repeat_interleave(count) * (count > 1)


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
    """1 for the first `pose_regulariser_images`, then down to the floor (0 in the paper) over as many."""
    span, floor = config.pose_regulariser_images, config.pose_regulariser_floor
    return min(1.0, max(floor, 2.0 - images / span)) if span > 0 else floor


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
    regulariser, mean_pose, offset = none, none, none
    micro = conditions.arrangement.micro
    if pose is not None:
        weight = config.pose_regulariser * schedule.pose_regulariser
        regulariser = weight * pose_loss(pose, conditions.coarse_pose)
        mean_pose = config.mean_pose * squared_mean_alone(pose - conditions.coarse_pose, micro)
    if made.camera_offset is not None:
        offset = config.camera_offset * squared_mean(made.camera_offset, micro)
    shown = conditions.coarse_pose if pose is None else pose
    return GeneratorLoss(
        real_loss(output.score), regulariser, mean_pose, offset, shown, generated, output.score
    )


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
    wrong = wrong_condition_loss(discriminator, output, conditions.camera, config, conditions.arrangement)
    shown = conditions.coarse_pose if pose is None else pose
    return FakeLoss(
        fake_loss(output.score), error, config.pose, wrong, shown, output.pose, generated, output.score
    )


def discriminator_real_loss(
    discriminator: Discriminator,
    real: Portraits,
    camera: Tensor,
    config: LossConfig,
    coarse_pose: Tensor | None = None,
    arrangement: Arrangement = ONE_MICRO_BATCH,
) -> RealLoss:
    """The real half of equation 12 of prepared portraits; camera [B, 25], coarse_pose [B, 6] radians."""
    output = discriminator(
        real.detach(),
        camera,
        _given(discriminator, coarse_pose),
        pose_gradient=False,
        arrangement=arrangement,
    )
    wrong = wrong_condition_loss(discriminator, output, camera, config, arrangement)
    return RealLoss(real_loss(output.score), wrong, output.pose, output.score)


def wrong_condition_loss(
    discriminator: Discriminator,
    output: DiscriminatorOutput,
    camera: Tensor,  # [B, 25]
    config: LossConfig,
    arrangement: Arrangement = ONE_MICRO_BATCH,
) -> Tensor:
    """Portraits with the camera and pose of their predecessor in the micro-batch count as fake, [B].

    Weight included. So the score cannot come from the image alone, and a face seen from behind does not pass
    as a view from the front (after SphereHead's view-image consistency). Cameras that look in nearly the same
    direction are no wrong ones: such pairs do not count.
    """
    if not config.wrong_condition:
        return output.score.new_zeros(len(output.score))
    other = predecessors(camera, arrangement.micro)
    pose = None if output.seen_pose is None else predecessors(output.seen_pose, arrangement.micro)
    score = discriminator.score(output.features, other, pose)
    cosine = (camera[:, LOOKING] * other[:, LOOKING]).sum(dim=1)
    return config.wrong_condition * fake_loss(score) * (cosine < math.cos(math.radians(WRONG_DEGREES)))


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
