"""The low-pass filter of StyleGAN2's resampling, image resizing and the Gaussian blur of early training.

The filter is the outer product of [1, 3, 3, 1] / 8 with itself (spec section 2.1). It is separable and is
never learned, so it is a constant here and not a buffer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

from portraitgan.networks.constants import constant
from portraitgan.reference_mode import in_reference_mode

_TAPS = (1.0, 3.0, 3.0, 1.0)
_LARGE = 2**18
"""Numbers of an image from which on a gradient of its own pays, which is rounded unlike autograd's."""


def smooth(image: Tensor, pad: int, gain: float = 1.0, stride: int = 1) -> Tensor:
    """[B, C, H, W] zero-padded by `pad` on every side, filtered with the 4x4 low-pass, kept every `stride`.

    `gain` is the sum of the filter's taps: 1 keeps the mean, 4 follows a zero-insertion in both directions.
    """
    channels = image.shape[1]
    kernel = constant(_kernel(gain), image).reshape(4, 4).expand(channels, 1, 4, 4)
    output: Tensor = _Filter.apply(image, kernel, stride, pad)
    return output


class _Filter(torch.autograd.Function):
    """A convolution channel by channel with a kernel that is never learned.

    Differentiated twice, as R1 does, torch's own goes channel by channel too, in a call for each.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, kernel: Tensor, stride: int, pad: int) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.form = (image.shape, stride, pad)
        return functional.conv2d(image, kernel, stride=stride, padding=pad, groups=image.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _Transposed.apply(grads[0], *ctx.saved_tensors, *ctx.form), None, None, None


class _Transposed(torch.autograd.Function):
    """The transpose of `_Filter`, whose transpose is `_Filter`."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, kernel: Tensor, size: torch.Size, stride: int, pad: int) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.form = (stride, pad)
        output: Tensor = conv2d_input(size, kernel, image, stride, pad, groups=size[1])
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _Filter.apply(grads[0], *ctx.saved_tensors, *ctx.form), None, None, None, None


def upsample_plain(image: Tensor) -> Tensor:
    """[B, C, H, W] to [B, C, 2H, 2W] by its definition: insert zeros, pad (2, 1), filter with gain 4."""
    batch, channels, height, width = image.shape
    spread = image.new_zeros(batch, channels, 2 * height, 2 * width)
    spread[..., ::2, ::2] = image
    return smooth(functional.pad(spread, (2, 1, 2, 1)), pad=0, gain=4.0)


def upsample(image: Tensor) -> Tensor:
    """`upsample_plain` in one pass: this filter is bilinear interpolation of a padded image [B, C, H, W]."""
    if in_reference_mode():
        return upsample_plain(image)
    if image.device.type != "cpu" or image[0].numel() < _LARGE:
        return _interpolated(image)
    output: Tensor = _Upsample.apply(image)
    return output


def _interpolated(image: Tensor) -> Tensor:
    padded = functional.pad(image, (1, 1, 1, 1))
    return functional.interpolate(padded, scale_factor=2, mode="bilinear")[..., 2:-2, 2:-2]


class _Upsample(torch.autograd.Function):
    """Its transpose is the same filter at every second pixel: a third of the time of what autograd does."""

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        return _interpolated(image)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return smooth(grads[0], pad=1, gain=4.0, stride=2)


def downsample(image: Tensor) -> Tensor:
    """[B, C, H, W] to [B, C, H/2, W/2]: filtered, every second pixel."""
    return smooth(image, pad=1, stride=2)


def resize(image: Tensor, size: int) -> Tensor:
    """[B, C, H, W] to [B, C, size, size], bilinear with antialiasing; the same tensor if it has that size."""
    if image.shape[-1] == size and image.shape[-2] == size:
        return image
    return functional.interpolate(image, (size, size), mode="bilinear", antialias=True, align_corners=False)


def _kernel(gain: float) -> tuple[float, ...]:
    """The 16 numbers of the low-pass, row by row, which add up to `gain`."""
    return tuple(down * across * gain / 64 for down in _TAPS for across in _TAPS)


def blur_taps(sigma: float, device: torch.device | None = None) -> Tensor:
    """Normalised taps [2 * floor(3 sigma) + 1] of early training's blur, proportional to 2^-(i/sigma)^2."""
    half = math.floor(3 * sigma)
    if half < 1:
        return torch.ones(1, device=device)
    offset = torch.arange(-half, half + 1, device=device, dtype=torch.float32)
    taps = (offset / sigma).square().neg().exp2()
    return taps / taps.sum()


def blur(image: Tensor, sigma: float) -> Tensor:
    """[B, C, H, W] blurred with `blur_taps(sigma)` in both directions, zeros outside."""
    return blur_with(image, blur_taps(sigma, image.device))


def blur_with(image: Tensor, taps: Tensor) -> Tensor:
    """[B, C, H, W] blurred with `taps` [K], K odd, in both directions, zeros outside."""
    taps = taps.to(image.dtype)
    if len(taps) == 1:
        return image
    channels, half = image.shape[1], len(taps) // 2
    along = taps.expand(channels, 1, 1, -1)
    rows = functional.conv2d(image, along, padding=(0, half), groups=channels)
    return functional.conv2d(rows, along.transpose(2, 3), padding=(half, 0), groups=channels)
