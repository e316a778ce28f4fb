"""3DCrowdNet layer by layer, with the parameter names of the official checkpoint.

The reference, person by person and joint by joint; `fast.FastCrowdNet` gives the same numbers
from stacked layers. Shapes and operations: 3DCrowdNet specification, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from phq_data.models.crowdnet.layout import (
    GRAPH_JOINTS,
    GRID,
    HEATMAP_SIZE,
    SIGMA,
    SMPL_JOINTS,
    graph_adjacency,
)

JOINTS = len(GRAPH_JOINTS)
FEATURES, HIDDEN, LATENT, SHAPE = 2048, 128, 32, 10
Observe = Callable[[str, Tensor], None]


@dataclass(frozen=True, eq=False)
class Regression:
    """What the network says of B people."""

    joint_coord: Tensor  # [B, 15, 3] x, y, z in cells of the 8-cell grid, 0..7
    joint_score: Tensor  # [B, 15, 1]
    root_6d: Tensor  # [B, 6] root rotation, crop camera
    latent: Tensor  # [B, 32] VPoser's code of the body pose
    shape: Tensor  # [B, 10] SMPL's coefficients
    camera: Tensor  # [B, 3]


def nobody(name: str, value: Tensor) -> None:
    """The observer that ignores every value [...]."""


class CrowdNet(nn.Module):
    """Image patch and joint maps to body parameters. Use in `eval` mode."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.pose2feat = Pose2Feat()
        self.position_net = PositionNet()
        self.rotation_net = RotationNet()
        self.vposer = VPoser()

    def forward(
        self,
        image: Tensor,  # [B, 3, 256, 256] RGB in 0..1, not normalised
        joints: Tensor,  # [B, 30, 2 or 3] x, y in heat-map pixels; a score is ignored
        mask: Tensor,  # [B, 30, 1]
        observe: Observe = nobody,  # is told every block's result by name
    ) -> Regression:
        """The regression of B people."""
        maps = heat_maps(joints, mask)
        observe("joint_heatmap", maps)
        early = self.backbone.early(image)
        observe("early_img_feat", early)
        mixed = self.pose2feat(early, maps)
        observe("pose_img_feat", mixed)
        feature = self.backbone.late(mixed, observe)
        observe("pose_guided_img_feat", feature)
        logits = self.position_net(feature)
        observe("position_logits", logits)
        coord, score = find_joints(logits)
        observe("joint_coord", coord)
        observe("joint_score", score)
        nodes = torch.cat([sample_features(feature, coord), coord, score], dim=2)
        observe("graph_input", nodes)
        root, latent, shape, camera = self.rotation_net(nodes, observe)
        return Regression(coord, score, root, latent, shape, camera)

    def decode(self, latent: Tensor) -> Tensor:
        """VPoser's 126 numbers [B, 126] of a latent code [B, 32]."""
        decoded: Tensor = self.vposer.vposer(latent)
        return decoded


def heat_maps(joints: Tensor, mask: Tensor) -> Tensor:
    """A Gaussian of height 1 around every known joint [B, 30, 64, 64]; maps of unknown joints are 0."""
    grid = torch.arange(HEATMAP_SIZE, dtype=joints.dtype, device=joints.device)
    across = (grid - joints[..., 0:1]) ** 2  # [B, 30, 64]
    down = (grid - joints[..., 1:2]) ** 2
    distance = across[..., None, :] + down[..., :, None]
    return torch.exp(-distance / (2 * SIGMA**2)) * mask[..., None]


def find_joints(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(coordinates [B, 15, 3] in cells, scores [B, 15, 1]) from logits [B, 120, 8, 8].

    Channels are joint-major, then depth. Coordinates are expectations of the softmax over the volume, scores
    the volume's value there.
    """
    batch = logits.shape[0]
    volume = logits.reshape(batch, JOINTS, -1).softmax(dim=2).reshape(batch, JOINTS, GRID, GRID, GRID)
    cells = torch.arange(GRID, dtype=logits.dtype, device=logits.device)
    x = (volume.sum(dim=(2, 3)) * cells).sum(dim=2)
    y = (volume.sum(dim=(2, 4)) * cells).sum(dim=2)
    z = (volume.sum(dim=(3, 4)) * cells).sum(dim=2)
    coord = torch.stack([x, y, z], dim=2)
    where = (coord / (GRID - 1) * 2 - 1).reshape(batch * JOINTS, 1, 1, 1, 3)
    stacked = volume.reshape(batch * JOINTS, 1, GRID, GRID, GRID)
    score = F.grid_sample(stacked, where, align_corners=True).reshape(batch, JOINTS, 1)
    return coord, score


def sample_features(feature: Tensor, coord: Tensor) -> Tensor:
    """Features [B, 15, C] of the map [B, C, 8, 8] at the joints' x and y (bilinear, cell centres at 0..7)."""
    where = (coord[:, None, :, :2] / (GRID - 1)) * 2 - 1
    return F.grid_sample(feature, where, align_corners=True)[:, :, 0].transpose(1, 2)


class Backbone(ResNet):
    """ResNet-50 without its classifier, in two halves: the joint maps join in between."""

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])
        del self.fc

    def early(self, image: Tensor) -> Tensor:
        """[B, 3, 256, 256] to [B, 64, 64, 64]."""
        pooled: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        return pooled

    def late(self, mixed: Tensor, observe: Observe = nobody) -> Tensor:
        """[B, 64, 64, 64] to [B, 2048, 8, 8]."""
        for name in ("layer1", "layer2", "layer3", "layer4"):
            mixed = getattr(self, name)(mixed)
            observe(f"backbone_{name}", mixed)
        return mixed


class Pose2Feat(nn.Module):
    """Mixes the image's features with the joint maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(64 + len(SMPL_JOINTS), 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()
        )

    def forward(self, early: Tensor, maps: Tensor) -> Tensor:
        """[B, 64, 64, 64] and [B, 30, 64, 64] to [B, 64, 64, 64]."""
        mixed: Tensor = self.conv(torch.cat([early, maps], dim=1))
        return mixed


class PositionNet(nn.Module):
    """One volume of logits for each of the 15 joints."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(FEATURES, JOINTS * GRID, 1))

    def forward(self, feature: Tensor) -> Tensor:
        """[B, 2048, 8, 8] to [B, 120, 8, 8]."""
        logits: Tensor = self.conv(feature)
        return logits


class GraphConv(nn.Module):
    """A linear layer and batch norm of its own for every joint, then a mix over the skeleton, then ReLU."""

    adjacency: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fcbn_list = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)) for _ in range(JOINTS)
        )
        self.register_buffer("adjacency", torch.from_numpy(graph_adjacency()), persistent=False)

    def forward(self, nodes: Tensor) -> Tensor:
        """[B, 15, inputs] to [B, 15, outputs]."""
        own = torch.stack([layer(nodes[:, j]) for j, layer in enumerate(self.fcbn_list)], dim=1)
        return torch.relu(self.adjacency @ own)


class GraphResidual(nn.Module):
    """Two graph convolutions around a residual connection."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.graph_block1 = GraphConv(size, size)
        self.graph_block2 = GraphConv(size, size)

    def forward(self, nodes: Tensor) -> Tensor:
        """[B, 15, size] to the same."""
        changed: Tensor = nodes + self.graph_block2(self.graph_block1(nodes))
        return changed


class RotationNet(nn.Module):
    """The graph network and its four heads."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [GraphConv(FEATURES + 4, HIDDEN)]
        blocks += [GraphResidual(HIDDEN) for _ in range(4)]
        self.graph_block = nn.Sequential(*blocks)
        flat = JOINTS * HIDDEN
        self.root_pose_out = nn.Sequential(nn.Linear(flat, 6))
        self.pose_out = nn.Sequential(nn.Linear(flat, LATENT))
        self.shape_out = nn.Sequential(nn.Linear(flat, SHAPE))
        self.cam_out = nn.Sequential(nn.Linear(flat, 3))

    def forward(self, nodes: Tensor, observe: Observe = nobody) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[B, 15, 2052] to root [B, 6], latent [B, 32], shape [B, 10] and camera [B, 3]."""
        for number, block in enumerate(self.graph_block):
            nodes = block(nodes)
            observe(f"graph_block{number}", nodes)
        flat = nodes.flatten(1)
        return self.root_pose_out(flat), self.pose_out(flat), self.shape_out(flat), self.cam_out(flat)


class VPoser(nn.Module):
    """The holder of the decoder, for the checkpoint's names."""

    def __init__(self) -> None:
        super().__init__()
        self.vposer = VPoserDecoder()


class VPoserDecoder(nn.Module):
    """VPoser's decoder (version 1): a latent code to 21 rotations of six numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.bodyprior_dec_fc1 = nn.Linear(LATENT, 512)
        self.bodyprior_dec_fc2 = nn.Linear(512, 512)
        self.bodyprior_dec_out = nn.Linear(512, 126)

    def forward(self, latent: Tensor) -> Tensor:
        """[B, 32] to [B, 126]."""
        hidden = F.leaky_relu(self.bodyprior_dec_fc1(latent), 0.2)
        hidden = F.leaky_relu(self.bodyprior_dec_fc2(hidden), 0.2)
        numbers: Tensor = self.bodyprior_dec_out(hidden)
        return numbers
