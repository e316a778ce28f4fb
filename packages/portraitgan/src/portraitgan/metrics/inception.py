"""The Inception network that FID is defined by: its 2,048 pooled features, from a file of weights.

Weights are those of TensorFlow's graph of 5 December 2015 under the names that torch-fidelity and pytorch-fid
give them (`Mixed_5b.branch5x5_1.conv.weight`, ...). The network is Inception-v3 with that graph's
peculiarities: averages over borders count pixels that are there, the last block's pooling branch takes the
maximum, images are enlarged to 299x299 by bilinear interpolation from the upper left corner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 299
FEATURES = 2048
_EPSILON = 1e-3


@dataclass(frozen=True)
class Conv:
    """A convolution, batch normalisation and ReLU."""

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)


def _conv(name: str, inputs: int, outputs: int, kernel: Sequence[int] = (1, 1), stride: int = 1) -> Conv:
    """Padded to keep the size, unless it strides."""
    height, width = kernel
    padding = (height // 2, width // 2) if stride == 1 else (0, 0)
    return Conv(name, inputs, outputs, (height, width), stride, padding)


Branch = tuple[Conv, ...]
STEM: Branch = (
    Conv("Conv2d_1a_3x3", 3, 32, (3, 3), 2),
    Conv("Conv2d_2a_3x3", 32, 32, (3, 3)),
    Conv("Conv2d_2b_3x3", 32, 64, (3, 3), 1, (1, 1)),
    Conv("Conv2d_3b_1x1", 64, 80),
    Conv("Conv2d_4a_3x3", 80, 192, (3, 3)),
)


def _block5(inputs: int, pooled: int) -> dict[str, Branch]:
    return {
        "1": (_conv("branch1x1", inputs, 64),),
        "5": (_conv("branch5x5_1", inputs, 48), _conv("branch5x5_2", 48, 64, (5, 5))),
        "3": (
            _conv("branch3x3dbl_1", inputs, 64),
            _conv("branch3x3dbl_2", 64, 96, (3, 3)),
            _conv("branch3x3dbl_3", 96, 96, (3, 3)),
        ),
        "average": (_conv("branch_pool", inputs, pooled),),
    }


def _block6(middle: int) -> dict[str, Branch]:
    m = middle
    return {
        "1": (_conv("branch1x1", 768, 192),),
        "7": (
            _conv("branch7x7_1", 768, m),
            _conv("branch7x7_2", m, m, (1, 7)),
            _conv("branch7x7_3", m, 192, (7, 1)),
        ),
        "77": (
            _conv("branch7x7dbl_1", 768, m),
            _conv("branch7x7dbl_2", m, m, (7, 1)),
            _conv("branch7x7dbl_3", m, m, (1, 7)),
            _conv("branch7x7dbl_4", m, m, (7, 1)),
            _conv("branch7x7dbl_5", m, 192, (1, 7)),
        ),
        "average": (_conv("branch_pool", 768, 192),),
    }


def _block7(inputs: int, pool: str) -> dict[str, Branch]:
    """Branches whose last two convolutions, `a` and `b`, lie side by side."""
    return {
        "1": (_conv("branch1x1", inputs, 320),),
        "3 fork": (
            _conv("branch3x3_1", inputs, 384),
            _conv("branch3x3_2a", 384, 384, (1, 3)),
            _conv("branch3x3_2b", 384, 384, (3, 1)),
        ),
        "33 fork": (
            _conv("branch3x3dbl_1", inputs, 448),
            _conv("branch3x3dbl_2", 448, 384, (3, 3)),
            _conv("branch3x3dbl_3a", 384, 384, (1, 3)),
            _conv("branch3x3dbl_3b", 384, 384, (3, 1)),
        ),
        pool: (_conv("branch_pool", inputs, 192),),
    }


BLOCKS: dict[str, dict[str, Branch]] = {
    "Mixed_5b": _block5(192, 32),
    "Mixed_5c": _block5(256, 64),
    "Mixed_5d": _block5(288, 64),
    "Mixed_6a": {
        "3": (_conv("branch3x3", 288, 384, (3, 3), 2),),
        "33": (
            _conv("branch3x3dbl_1", 288, 64),
            _conv("branch3x3dbl_2", 64, 96, (3, 3)),
            _conv("branch3x3dbl_3", 96, 96, (3, 3), 2),
        ),
        "halved": (),
    },
    "Mixed_6b": _block6(128),
    "Mixed_6c": _block6(160),
    "Mixed_6d": _block6(160),
    "Mixed_6e": _block6(192),
    "Mixed_7a": {
        "3": (_conv("branch3x3_1", 768, 192), _conv("branch3x3_2", 192, 320, (3, 3), 2)),
        "7": (
            _conv("branch7x7x3_1", 768, 192),
            _conv("branch7x7x3_2", 192, 192, (1, 7)),
            _conv("branch7x7x3_3", 192, 192, (7, 1)),
            _conv("branch7x7x3_4", 192, 192, (3, 3), 2),
        ),
        "halved": (),
    },
    "Mixed_7b": _block7(1280, "average"),
    "Mixed_7c": _block7(2048, "maximum"),
}


class Inception(nn.Module):
    """Images to features. Its weights are buffers: nothing here trains."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """Raises `KeyError` or `ValueError` naming the tensor that is missing or has another shape."""
        super().__init__()
        # Batch normalisation is a scale and a shift, which become part of the convolution.
        self._weights: dict[str, str] = {}
        named = [("", conv) for conv in STEM]
        named += [
            (f"{block}.", conv)
            for block, branches in BLOCKS.items()
            for branch in branches.values()
            for conv in branch
        ]
        for prefix, conv in named:
            self._fold(prefix + conv.name, conv, state)

    def _fold(self, name: str, conv: Conv, state: Mapping[str, Tensor]) -> None:
        weight = _take(state, f"{name}.conv.weight", (conv.outputs, conv.inputs, *conv.kernel))
        scale, shift, mean, variance = (
            _take(state, f"{name}.bn.{part}", (conv.outputs,))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / (variance + _EPSILON).sqrt()
        key = name.replace(".", "_")
        self._weights[name] = key
        self.register_buffer(f"{key}_weight", (weight * scale[:, None, None, None]).float())
        self.register_buffer(f"{key}_bias", (shift - mean * scale).float())

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Features [N, 2048] of images [N, 3, H, W], uint8 or 0..255."""
        x = resize_from_corner(pixels.float(), SIDE)
        x = (x - 128) / 128
        for conv in STEM:
            x = self._run("", conv, x)
            if conv.name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = functional.max_pool2d(x, 3, stride=2)
        for name, branches in BLOCKS.items():
            x = torch.cat([self._branch(f"{name}.", kind, branch, x) for kind, branch in branches.items()], 1)
        return x.mean(dim=(2, 3))

    def _branch(self, prefix: str, kind: str, branch: Branch, x: Tensor) -> Tensor:
        if kind == "halved":
            return functional.max_pool2d(x, 3, stride=2)
        if kind == "average":
            x = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        elif kind == "maximum":
            x = functional.max_pool2d(x, 3, stride=1, padding=1)
        if kind.endswith("fork"):
            for conv in branch[:-2]:
                x = self._run(prefix, conv, x)
            return torch.cat([self._run(prefix, conv, x) for conv in branch[-2:]], 1)
        for conv in branch:
            x = self._run(prefix, conv, x)
        return x

    def _run(self, prefix: str, conv: Conv, x: Tensor) -> Tensor:
        key = self._weights[prefix + conv.name]
        weight, bias = getattr(self, f"{key}_weight"), getattr(self, f"{key}_bias")
        return functional.conv2d(x, weight, bias, conv.stride, conv.padding).relu_()


def resize_from_corner(image: Tensor, side: int) -> Tensor:
    """[N, C, H, W] to [N, C, side, side]: output pixel i interpolates around input position i * H / side.

    That is TensorFlow 1's bilinear resizing, half a pixel off from everybody else's; FID depends on it.
    """
    rows, columns = (_interpolation(size, side, image) for size in image.shape[-2:])
    return rows @ image @ columns.transpose(0, 1)


def _interpolation(size: int, side: int, like: Tensor) -> Tensor:
    """[side, size] weights."""
    place = torch.arange(side, device=like.device, dtype=torch.float64) * (size / side)
    low = place.floor().long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    share = place - low
    matrix = torch.zeros(side, size, device=like.device, dtype=torch.float64)
    index = torch.arange(side, device=like.device)
    matrix.index_put_((index, low), 1 - share, accumulate=True)
    matrix.index_put_((index, high), share, accumulate=True)
    return matrix.to(like.dtype)


def _take(state: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    if key not in state:
        raise KeyError(key)
    value = state[key]
    if tuple(value.shape) != shape:
        raise ValueError(f"{key} is {tuple(value.shape)}, expected {shape}")
    return value.double()
