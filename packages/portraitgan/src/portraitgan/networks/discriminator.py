"""The pose-aware, mask-aware dual discriminator (equations 1-4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from portraitgan.config import CAMERA_SIZE, DiscriminatorConfig
from portraitgan.networks import filters
from portraitgan.networks.layers import Convolution, FullyConnected, in_precision
from portraitgan.networks.mapping import MappingNetwork
from portraitgan.networks.pose import DiscriminatorPosePredictor, mirrored_rows, needs_mirror
from portraitgan.reference_mode import in_reference_mode


@dataclass(frozen=True)
class Portraits:
    """The discriminator's input."""

    image: Tensor  # [B, 3, H, H] in -1..1
    raw: Tensor  # [B, 3, R, R] in -1..1
    mask: Tensor | None = None  # [B, 1, R, R] in 0..1

    def detach(self) -> Portraits:
        """The same images without gradient."""
        return Portraits(
            self.image.detach(), self.raw.detach(), None if self.mask is None else self.mask.detach()
        )


@dataclass(frozen=True)
class Arrangement:
    """What the host knows of the samples of a batch."""

    micro: int | None = None  # the batch is micro-batches of so many samples, one after another; none: one
    mirrored: Tensor | None = None  # [M] `mirrored_rows` of the cameras; none: asked for, a GPU waits for it
    padded: bool = False  # `mirrored` goes on with numbers beyond the batch, see `pose.padded_rows`


ONE_MICRO_BATCH = Arrangement()


@dataclass(frozen=True)
class DiscriminatorOutput:
    """What the discriminator says of portraits, and what its score is made of (`Discriminator.score`)."""

    score: Tensor  # [B, 1] realism, logits
    pose: Tensor | None  # [B, 6] predicted, radians; none without a pose predictor
    features: Tensor  # [B, condition_dim] of the images
    seen_pose: Tensor | None  # [B, 6] that the score is conditioned on, without gradient


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a skip, halving the resolution."""

    def __init__(
        self, inputs: int, outputs: int, image_channels: int, clamp: float | None, half: torch.dtype
    ) -> None:
        super().__init__()
        self.half_type = half
        if image_channels:
            self.fromrgb = Convolution(image_channels, inputs, 1, clamp=clamp)
        self.conv0 = Convolution(inputs, inputs, 3, clamp=clamp)
        self.conv1 = Convolution(inputs, outputs, 3, down=True, clamp=clamp)
        self.skip = Convolution(inputs, outputs, 1, activation="linear", down=True, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B, inputs (or image channels), H, H] to [B, outputs, H/2, H/2]."""
        features = in_precision(features, self.half_type)
        if hasattr(self, "fromrgb"):
            features = self.fromrgb(features)
        skipped = self.skip(features, gain=math.sqrt(0.5))
        output: Tensor = skipped + self.conv1(self.conv0(features), gain=math.sqrt(0.5))
        return output


class Epilogue(nn.Module):
    """From 4x4 features to the flat feature vector, and from there to the score vector."""

    def __init__(self, channels: int, outputs: int, group: int, clamp: float | None) -> None:
        super().__init__()
        self.group = group
        self.conv = Convolution(channels + 1, channels, 3, clamp=clamp)
        self.fc = FullyConnected(channels * 16, channels, "lrelu")
        self.out = FullyConnected(channels, outputs)

    def flat(self, features: Tensor, micro: int | None = None) -> Tensor:
        """[B, C, 4, 4] to [B, 16 C]: the tap that the pose branch reads too."""
        extended = append_minibatch_deviation(in_precision(features), self.group, micro)
        output: Tensor = self.conv(extended).flatten(1)
        return output

    def forward(self, flat: Tensor) -> Tensor:
        """[B, 16 C] to [B, outputs]."""
        output: Tensor = self.out(self.fc(flat))
        return output


def append_minibatch_deviation(features: Tensor, group: int, micro: int | None = None) -> Tensor:
    """[B, C, H, W] with a channel that tells how much a sample's group varies: [B, C + 1, H, W].

    The batch is one micro-batch, or several of `micro` samples one after another. A group has
    min(group, micro) samples of one of them, or the next smaller divisor. The only place where samples meet.
    """
    batch, channels, height, width = features.shape
    micro = batch if micro is None else micro
    size = next(n for n in range(min(group, micro), 0, -1) if micro % n == 0)
    grouped = features.reshape(-1, size, micro // size, channels, height, width)
    deviation = (grouped.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=(2, 3, 4))
    channel = deviation.repeat(1, size).reshape(batch, 1, 1, 1).expand(-1, 1, height, width)
    return torch.cat([features, channel], dim=1)


class Discriminator(nn.Module):
    """Scores portraits given their camera and predicts their poses."""

    def __init__(
        self,
        config: DiscriminatorConfig,
        pose_camera_unmirrored: bool = False,  # quirk Q1, see CompatibilityConfig
        half: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config
        top = config.image_resolution
        self.resolutions = [2**power for power in range(top.bit_length() - 1, 2, -1)]
        for index, resolution in enumerate(self.resolutions):
            block = DiscriminatorBlock(
                config.channels(resolution),
                config.channels(resolution // 2),
                config.input_channels if index == 0 else 0,
                config.clamp,
                half if index < config.half_resolutions else torch.float32,
            )
            setattr(self, f"b{resolution}", block)
        channels = config.channels(4)
        self.b4 = Epilogue(channels, config.condition_dim, config.minibatch_group, config.clamp)
        self.mapping = MappingNetwork(
            0, config.condition_size, config.condition_dim, config.mapping_layers, None
        )
        self.pose_branch: DiscriminatorPosePredictor | None = None
        if config.pose_predictor is not None:
            self.pose_branch = DiscriminatorPosePredictor(
                channels * 16, CAMERA_SIZE, config.pose_predictor.hidden, pose_camera_unmirrored
            )

    def forward(
        self,
        portraits: Portraits,
        camera: Tensor,  # [B, 25]
        pose: Tensor | None = None,  # [B, 6] given pose: replaces the predicted one as condition
        pose_gradient: bool = True,
        plain: bool = False,
        arrangement: Arrangement = ONE_MICRO_BATCH,
    ) -> DiscriminatorOutput:
        """Score and pose. The score is conditioned on the pose without gradient (equation 3).

        `pose_gradient=False` says that no loss uses the predicted pose, so that the mirrored pass needs no
        graph. `plain` runs the trunk twice on everything, as the definition says; otherwise only mirrored
        samples get a second pass, since the others' features are the same until the minibatch deviation.
        """
        image = self.assemble(portraits)
        trunk, mirrored_trunk = self._both_trunks(image, camera, arrangement, pose_gradient, plain)
        predicted: Tensor | None = None
        if self.pose_branch is not None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and (pose_gradient or in_reference_mode())):
                assert mirrored_trunk is not None
                predicted = self.pose_branch(self.b4.flat(mirrored_trunk, arrangement.micro), camera)
        seen_pose: Tensor | None = None
        if self.config.pose_conditioning:
            used = predicted if pose is None else pose
            if used is None:
                raise ValueError("this discriminator predicts no poses: pass the portraits' coarse poses")
            seen_pose = used.detach()
        features = self.b4(self.b4.flat(trunk, arrangement.micro))
        return DiscriminatorOutput(self.score(features, camera, seen_pose), predicted, features, seen_pose)

    def score(self, features: Tensor, camera: Tensor, pose: Tensor | None) -> Tensor:
        """Scores [B, 1] of image features [B, condition_dim] given cameras [B, 25] and poses [B, 6].

        Equation 3: their product with a mapping of the label. Another label costs no pass of the trunk.
        """
        embedding = self.mapping(None, camera if pose is None else torch.cat([camera, pose], dim=1))
        product: Tensor = features * embedding
        return product.sum(dim=1, keepdim=True) / math.sqrt(self.config.condition_dim)

    def predict_pose(self, portraits: Portraits, camera: Tensor) -> Tensor:
        """Poses [B, 6] only. A batch shares one minibatch deviation; released weights were used singly."""
        if self.pose_branch is None:
            raise ValueError("this discriminator was built without a pose predictor")
        image = _mirror_where(self.assemble(portraits), needs_mirror(camera))
        output: Tensor = self.pose_branch(self.b4.flat(self.trunk(image)), camera)
        return output

    def assemble(self, portraits: Portraits) -> Tensor:
        """The network's input [B, 7 (6 without mask), H, H]: image, raw image, mask in -1..1 (equation 1)."""
        size = self.config.image_resolution
        parts = [portraits.image, filters.resize(portraits.raw, size)]
        if self.config.use_mask:
            if portraits.mask is None:
                raise ValueError("this discriminator takes masks, but the portraits have none")
            parts.append(filters.resize(portraits.mask, size) * 2 - 1)
        return torch.cat(parts, dim=1)

    def trunk(self, image: Tensor) -> Tensor:
        """[B, channels, H, H] to features [B, C, 4, 4]; samples do not interact here."""
        for resolution in self.resolutions:
            image = getattr(self, f"b{resolution}")(image)
        return image

    def _both_trunks(
        self, image: Tensor, camera: Tensor, arrangement: Arrangement, pose_gradient: bool, plain: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Trunk features of the images, and of the images mirrored where their camera needs it."""
        if self.pose_branch is None:
            return self.trunk(image), None
        if plain or in_reference_mode():
            return self.trunk(image), self.trunk(_mirror_where(image, needs_mirror(camera)))
        rows = mirrored_rows(camera) if arrangement.mirrored is None else arrangement.mirrored
        if len(rows) == 0:
            trunk = self.trunk(image)
            return trunk, trunk
        read = rows.clamp(max=len(image) - 1) if arrangement.padded else rows
        flipped = image.index_select(0, read).flip(dims=[3])
        if pose_gradient:
            together = self.trunk(torch.cat([image, flipped]))
            trunk, extra = together[: len(image)], together[len(image) :]
        else:
            trunk = self.trunk(image)
            with torch.no_grad():
                extra = self.trunk(flipped)
        if not arrangement.padded:
            return trunk, trunk.index_copy(0, rows, extra)
        # What the padding made goes into a row that nobody reads.
        return trunk, torch.cat([trunk, trunk[:1]]).index_copy(0, rows, extra)[:-1]


def _mirror_where(image: Tensor, mirrored: Tensor) -> Tensor:
    """[B, C, H, W] flipped left-right in the samples where `mirrored` [B]."""
    return torch.where(mirrored[:, None, None, None], image.flip(dims=[3]), image)
