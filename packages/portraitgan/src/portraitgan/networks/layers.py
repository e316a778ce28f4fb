"""The layers of StyleGAN2: equalised linear and convolution layers, modulated convolution, ToRGB.

Activations and gains (spec section 2.1): bias, activation, gain, clamp, in that order. The usual activation
is a leaky ReLU with slope 0.2 and gain sqrt(2), which keeps the variance of a normal input.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitgan.networks import filters
from portraitgan.reference_mode import in_reference_mode
from portraitgan.rendering.random_numbers import Random, normal

Activation = Literal["linear", "lrelu"]
NoiseMode = Literal["random", "const", "none"]
SLOPE = 0.2
LRELU_GAIN = math.sqrt(2)
_LARGE = 2**20
"""Weights of a layer, beyond which a pass over them shows."""


def in_precision(features: Tensor, half: torch.dtype = torch.float32) -> Tensor:
    """`features` [...] in the format a part of the network works in: `half`, but float16 on GPUs only.

    CPUs that know a half format know bfloat16; float16 convolutions are emulated there.
    """
    if half == torch.bfloat16 or (half == torch.float16 and features.is_cuda):
        return features.to(half)
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def activate_plain(
    features: Tensor,  # [B, C, ...]
    bias: Tensor | None,  # [C]
    activation: Activation = "lrelu",
    gain: float = 1.0,  # on top of the activation's own
    clamp: float | None = None,  # before `gain`
) -> Tensor:
    """Bias, activation, gain, clamp: the definition that `activate` must equal."""
    if bias is not None:
        features = features + bias.to(features.dtype).reshape(-1, *[1] * (features.ndim - 2))
    if activation == "lrelu":
        features = functional.leaky_relu(features, SLOPE) * LRELU_GAIN
    features = features * gain
    return features if clamp is None else features.clamp(-clamp * gain, clamp * gain)


def activate(
    features: Tensor,  # [B, C, ...]
    bias: Tensor | None,  # [C]
    activation: Activation = "lrelu",
    gain: float = 1.0,
    clamp: float | None = None,
    scale: Tensor | None = None,  # [B, C], multiplies `features` first (demodulation)
    offset: Tensor | None = None,  # broadcastable to `features`, added with the bias (noise)
) -> Tensor:
    """`activate_plain(features * scale + offset, ...)` in two passes over memory instead of up to six.

    A leaky ReLU commutes with a positive factor, so all gains go into the small `scale` and `bias` tensors,
    one multiply-add makes the argument, and the activation works in place on that new tensor.
    """
    if in_reference_mode():
        scaled = (
            features
            if scale is None
            else features * scale.to(features.dtype).reshape(*scale.shape, *[1] * (features.ndim - 2))
        )
        offset_added = scaled if offset is None else scaled + offset.to(features.dtype)
        return activate_plain(offset_added, bias, activation, gain, clamp)
    total = gain * LRELU_GAIN if activation == "lrelu" else gain
    dims = [1] * (features.ndim - 2)
    shift: Tensor | None = None
    if bias is not None:
        shift = (bias * total).to(features.dtype).reshape(1, -1, *dims)
    if offset is not None:
        noise = (offset * total).to(features.dtype)
        shift = noise if shift is None else shift + noise
    if scale is not None:
        factor = (scale * total).to(features.dtype).reshape(*scale.shape, *dims)
        value = features * factor if shift is None else torch.addcmul(shift, features, factor)
    elif total != 1.0:
        value = features * total if shift is None else torch.add(shift, features, alpha=total)
    else:
        value = features + (0 if shift is None else shift)
    if activation == "lrelu":
        value = functional.leaky_relu(value, SLOPE, inplace=True)
    return value if clamp is None else value.clamp(-clamp * gain, clamp * gain)


class FullyConnected(nn.Module):
    """An equalised linear layer: weights are stored with standard deviation 1 / lr_multiplier."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation: Activation = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias_init / lr_multiplier))
        self.activation: Activation = activation
        self.lr_multiplier = lr_multiplier
        self.gain = lr_multiplier / math.sqrt(inputs)

    def forward(self, values: Tensor) -> Tensor:
        """[B, inputs] to [B, outputs]."""
        if not in_reference_mode() and values.numel() < self.weight.numel() > _LARGE:
            # The few inputs are scaled instead of the weights, which are not written anew in every call.
            bias = (self.bias * self.lr_multiplier).to(values.dtype)
            result = functional.linear(values * self.gain, self.weight.to(values.dtype), bias)
        else:
            result = functional.linear(values, *self.scaled(values.dtype))
        return functional.leaky_relu(result, SLOPE) * LRELU_GAIN if self.activation == "lrelu" else result

    def scaled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(weight [outputs, inputs], bias [outputs]) as they are used."""
        return (self.weight * self.gain).to(dtype), (self.bias * self.lr_multiplier).to(dtype)


class Convolution(nn.Module):
    """An equalised convolution of the discriminator: `kernel` 1 or 3, optionally halving the resolution."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        activation: Activation = "lrelu",
        down: bool = False,
        bias: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.activation: Activation = activation
        self.down = down
        self.clamp = clamp

    def forward(self, features: Tensor, gain: float = 1.0) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H, W], or half that size; `gain` multiplies the output."""
        kernel = self.weight.shape[-1]
        weight = (self.weight / math.sqrt(self.weight[0].numel())).to(features.dtype)
        if not self.down:
            features = functional.conv2d(features, weight, padding=kernel // 2)
        elif kernel == 1:
            features = functional.conv2d(filters.downsample(features), weight)
        else:
            features = functional.conv2d(filters.smooth(features, pad=2), weight, stride=2)
        return activate(features, self.bias, self.activation, gain, self.clamp)


class SynthesisLayer(nn.Module):
    """A modulated, demodulated 3x3 convolution with noise and activation, optionally doubling the size."""

    noise_const: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        resolution: int,
        up: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.up = up
        self.clamp = clamp

    def forward(
        self,
        features: Tensor,  # [B, inputs, H, W]
        style: Tensor,  # [B, w_dim]
        noise_mode: NoiseMode = "random",
        random: Random = None,
    ) -> Tensor:
        """[B, outputs, H, W], or [B, outputs, 2H, 2W] with `up`.

        Modulation scales the input and demodulation the output, so that the convolution itself has weights
        without a batch axis: equal to modulating the weights, and one ordinary convolution.
        """
        scales = self.affine(style)
        weight: Tensor = self.weight
        if features.dtype == torch.float16:
            # Neutral up to the 1e-8: keeps products of weights and styles inside float16's range.
            largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True)
            weight = weight / (largest * math.sqrt(weight[0].numel()))
            scales = scales / scales.abs().amax(dim=1, keepdim=True)
        power = torch.einsum("bi,oi->bo", scales.square(), weight.square().sum(dim=(2, 3)))
        demodulation = (power + 1e-8).rsqrt()
        features = features * scales.to(features.dtype)[:, :, None, None]
        weight = weight.to(features.dtype)
        if self.up:
            features = functional.conv_transpose2d(features, weight.transpose(0, 1), stride=2)
            features = filters.smooth(features, pad=1, gain=4.0)
        else:
            features = functional.conv2d(features, weight, padding=1)
        noise = self._noise(features, noise_mode, random)
        return activate(features, self.bias, clamp=self.clamp, scale=demodulation, offset=noise)

    def _noise(self, features: Tensor, mode: NoiseMode, random: Random) -> Tensor | None:
        """The noise image to add, [B or 1, 1, H, W], or none."""
        if mode == "none":
            return None
        if mode == "const":
            return self.noise_const[None, None] * self.noise_strength
        shape = (features.shape[0], 1, *features.shape[2:])
        return normal(shape, random, features.device) * self.noise_strength


class ToRGB(nn.Module):
    """A modulated 1x1 convolution without demodulation or activation, to image (or plane) channels."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.clamp = clamp

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """[B, inputs, H, W] and styles [B, w_dim] to [B, outputs, H, W]."""
        scales = self.affine(style) / math.sqrt(self.weight.shape[1])
        features = features * scales.to(features.dtype)[:, :, None, None]
        image = functional.conv2d(features, self.weight.to(features.dtype), self.bias.to(features.dtype))
        return image if self.clamp is None else image.clamp(-self.clamp, self.clamp)
