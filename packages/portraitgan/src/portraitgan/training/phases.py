"""The phases of an iteration: what a pass takes in, one loss out.

A pass is one micro-batch, or several one after another.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from portraitgan.config import ModelConfig
from portraitgan.networks.discriminator import Arrangement, Discriminator, Portraits
from portraitgan.networks.generator import Generator
from portraitgan.training import losses
from portraitgan.training.generator_pass import Conditions, PassRandomness, Schedule


@dataclass(frozen=True)
class RealPass:
    """Real portraits as the discriminator sees them, with their labels."""

    portraits: Portraits
    cameras: Tensor  # [B, 25]
    poses: Tensor  # [B, 6] radians, coarse
    arrangement: Arrangement


_ALL_DRAWN = PassRandomness()


@dataclass(frozen=True)
class PassInputs:
    """All that a pass of a phase takes, apart from weights."""

    schedule: Schedule
    given: Conditions | None = None  # none: the R1 penalty
    draws: PassRandomness = _ALL_DRAWN
    real: RealPass | None = None  # of the discriminator's phases
    density: bool = False  # of the generator's phase: the density regulariser instead of equation 14


class GeneratorPhase(nn.Module):
    """Equation 14, or EG3D's density regulariser.

    One module for both: several processes average by one `DistributedDataParallel`, which a second one of the
    same weights would disturb.
    """

    def __init__(self, generator: Generator, discriminator: Discriminator, config: ModelConfig) -> None:
        super().__init__()
        self.generator = generator
        self._others = (discriminator,)  # in a tuple: its weights are none of this module's
        self.config = config

    def forward(self, inputs: PassInputs, seen: dict[str, Tensor]) -> Tensor:
        """The loss []; what a status line shows goes into `seen`."""
        assert inputs.given is not None
        if inputs.density:
            density = losses.density_loss(
                self.generator, inputs.given, inputs.schedule, self.config.loss, inputs.draws
            )
            seen["density_regulariser"] = density
            return density.mean()
        loss = losses.generator_loss(
            self.generator, self._others[0], inputs.given, inputs.schedule, self.config.loss, inputs.draws
        )
        seen["loss_generator"] = loss.adversarial
        seen["pose_regulariser"] = loss.pose_regulariser
        seen["score_generated"] = loss.score
        if self.config.loss.mean_pose:
            seen["mean_pose"] = loss.mean_pose
        if loss.camera_offset.requires_grad:
            seen["camera_offset"] = loss.camera_offset
        seen["pose_size"] = loss.pose.norm(dim=1)
        seen["mask_share"] = loss.generated.mask.mean(dim=(1, 2, 3))
        return loss.total


class DiscriminatorPhase(nn.Module):
    """Equation 12, or the R1 penalty."""

    def __init__(self, discriminator: Discriminator, generator: Generator, config: ModelConfig) -> None:
        super().__init__()
        self.discriminator = discriminator
        self._others = (generator,)
        self.config = config

    def forward(self, inputs: PassInputs, seen: dict[str, Tensor]) -> Tensor:
        """The loss []; what a status line shows goes into `seen`."""
        real, given = inputs.real, inputs.given
        assert real is not None
        if given is None:
            r1 = losses.r1_penalty(
                self.discriminator,
                real.portraits,
                real.cameras,
                self.config.loss,
                real.poses,
                real.arrangement,
            )
            seen["r1"] = r1.penalty
            return r1.penalty.mean()
        fake = losses.discriminator_fake_loss(
            self._others[0], self.discriminator, given, inputs.schedule, self.config.loss, inputs.draws
        )
        true = losses.discriminator_real_loss(
            self.discriminator, real.portraits, real.cameras, self.config.loss, real.poses, real.arrangement
        )
        seen["loss_generated"], seen["loss_real"] = fake.adversarial, true.adversarial
        seen["loss_pose"], seen["score_real"] = fake.pose, true.score
        if self.config.loss.wrong_condition:
            seen["wrong_condition"] = fake.wrong_condition + true.wrong_condition
        if fake.predicted_pose is not None:
            error = (fake.predicted_pose - fake.generated_pose).detach()
            seen["pose_error_deg"] = error.square().mean(dim=1).sqrt().rad2deg()
        if true.predicted_pose is not None:
            offset = (true.predicted_pose - real.poses).detach()
            seen["pose_off_labels_deg"] = offset.square().mean(dim=1).sqrt().rad2deg()
        return fake.total + true.total
