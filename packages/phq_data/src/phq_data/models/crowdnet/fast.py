"""The same numbers from fewer, larger operations.

`network.CrowdNet` runs 15 small linear layers and batch norms, one joint at a time, nine times over. Here a
layer's 15 matrices lie stacked and one batched product serves all joints of all people; batch norms are
folded into the layer before them; the four heads are one matrix; convolutions run channels-last.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck

from phq_data.models.crowdnet.network import (
    LATENT,
    SHAPE,
    Backbone,
    CrowdNet,
    GraphConv,
    GraphResidual,
    Observe,
    Regression,
    find_joints,
    heat_maps,
    nobody,
    sample_features,
)


class FastCrowdNet(nn.Module):
    """`CrowdNet` for inference on batches. Built from one; shares nothing with it."""

    def __init__(self, network: CrowdNet) -> None:
        super().__init__()
        if network.training:
            raise ValueError("batch norms fold only in eval mode: call network.eval() first")
        backbone = network.backbone
        self.first = fuse_conv_bn_eval(backbone.conv1, backbone.bn1)
        mix, norm = network.pose2feat.conv[0], network.pose2feat.conv[1]
        assert isinstance(mix, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        self.mix = fuse_conv_bn_eval(mix, norm)
        self.layers = nn.ModuleList(_folded_layer(backbone, f"layer{i}") for i in range(1, 5))
        self.position = network.position_net.conv
        net = network.rotation_net
        convolutions: list[GraphConv] = []
        for block in net.graph_block:
            if isinstance(block, GraphResidual):
                convolutions += [block.graph_block1, block.graph_block2]
            else:
                assert isinstance(block, GraphConv)
                convolutions.append(block)
        self.graph = nn.ModuleList(StackedGraphConv(c) for c in convolutions)
        heads = [head.state_dict() for head in (net.root_pose_out, net.pose_out, net.shape_out, net.cam_out)]
        self.head_weight = nn.Parameter(torch.cat([head["0.weight"] for head in heads]))
        self.head_bias = nn.Parameter(torch.cat([head["0.bias"] for head in heads]))
        self.vposer = network.vposer.vposer
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)
        self.eval()

    def forward(
        self,
        image: Tensor,  # [B, 3, 256, 256] RGB in 0..1
        joints: Tensor,  # [B, 30, 2 or 3] heat-map pixels
        mask: Tensor,  # [B, 30, 1]
        observe: Observe = nobody,
    ) -> Regression:
        """The regression of B people; block names as in `CrowdNet.forward`."""
        maps = heat_maps(joints, mask)
        observe("joint_heatmap", maps)
        image = image.contiguous(memory_format=torch.channels_last)
        early = F.max_pool2d(F.relu_(self.first(image)), 3, stride=2, padding=1)
        observe("early_img_feat", early)
        both = torch.cat([early, maps], dim=1).contiguous(memory_format=torch.channels_last)
        feature = F.relu_(self.mix(both))
        observe("pose_img_feat", feature)
        for number, layer in enumerate(self.layers, 1):
            feature = layer(feature)
            observe(f"backbone_layer{number}", feature)
        observe("pose_guided_img_feat", feature)
        return self.regress(feature, observe)

    def regress(self, feature: Tensor, observe: Observe = nobody) -> Regression:
        """Everything after the image network, from its feature map [B, 2048, 8, 8]."""
        logits = self.position(feature)
        observe("position_logits", logits)
        coord, score = find_joints(logits)
        observe("joint_coord", coord)
        observe("joint_score", score)
        nodes = torch.cat([sample_features(feature, coord), coord, score], dim=2)
        observe("graph_input", nodes)
        nodes = self.graph[0](nodes.transpose(0, 1))  # joints first, for the batched product
        observe("graph_block0", nodes.transpose(0, 1))
        for block in range(1, 5):
            nodes = nodes + self.graph[2 * block](self.graph[2 * block - 1](nodes))
            observe(f"graph_block{block}", nodes.transpose(0, 1))
        flat = nodes.transpose(0, 1).reshape(len(feature), -1)
        numbers = F.linear(flat, self.head_weight, self.head_bias)
        root, latent, shape, camera = numbers.split([6, LATENT, SHAPE, 3], dim=1)
        return Regression(coord, score, root, latent, shape, camera)

    def decode(self, latent: Tensor) -> Tensor:
        """VPoser's 126 numbers [B, 126] of a latent code [B, 32]."""
        decoded: Tensor = self.vposer(latent)
        return decoded


class StackedGraphConv(nn.Module):
    """`GraphConv` with its joints' matrices in one tensor and their batch norms folded in."""

    adjacency: Tensor

    def __init__(self, layer: GraphConv) -> None:
        super().__init__()
        weights, biases = [], []
        for own in layer.fcbn_list:
            assert isinstance(own, nn.Sequential)
            linear, norm = own[0], own[1]
            assert isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
            weights.append((linear.weight.double() * scale[:, None]).T)
            biases.append((linear.bias.double() - norm.running_mean.double()) * scale + norm.bias.double())
        self.weight = nn.Parameter(torch.stack(weights).float())  # [15, inputs, outputs]
        self.bias = nn.Parameter(torch.stack(biases).float()[:, None])  # [15, 1, outputs]
        self.register_buffer("adjacency", layer.adjacency.clone())

    def forward(self, nodes: Tensor) -> Tensor:
        """[15, B, inputs] to [15, B, outputs]."""
        own = torch.baddbmm(self.bias, nodes, self.weight)
        mixed = self.adjacency @ own.reshape(len(own), -1)
        return torch.relu(mixed).reshape(own.shape)


class FoldedBottleneck(nn.Module):
    """A ResNet bottleneck without batch norms."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1 = fuse_conv_bn_eval(block.conv1, block.bn1)
        self.conv2 = fuse_conv_bn_eval(block.conv2, block.bn2)
        self.conv3 = fuse_conv_bn_eval(block.conv3, block.bn3)
        self.shortcut: nn.Module | None = None
        if block.downsample is not None:
            self.shortcut = fuse_conv_bn_eval(block.downsample[0], block.downsample[1])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the block's output."""
        kept = x if self.shortcut is None else self.shortcut(x)
        y = F.relu_(self.conv2(F.relu_(self.conv1(x))))
        return F.relu_(self.conv3(y).add_(kept))


def _folded_layer(backbone: Backbone, name: str) -> nn.Sequential:
    return nn.Sequential(*(FoldedBottleneck(block) for block in getattr(backbone, name)))
