"""Every fast path beside its plain form: equal values and equal gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from portraitgan.networks import filters
from portraitgan.networks.discriminator import Discriminator, Portraits, append_minibatch_deviation
from portraitgan.networks.layers import FullyConnected, SynthesisLayer, activate, activate_plain
from portraitgan.presets import tiny
from portraitgan.reference_mode import reference_mode


def agree(
    fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor, twice: bool = False
) -> None:
    """Values, gradients and (with `twice`) gradients of gradients, in float64."""
    results = []
    for form in (fast, plain):
        leaves = [value.detach().clone().requires_grad_() for value in inputs]
        output = form(*leaves)
        weights = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(7))
        grads = torch.autograd.grad((output * weights).sum(), leaves, create_graph=twice, allow_unused=True)
        found = [output, *grads]
        if twice:
            size = sum((g * g).sum() for g in grads if g is not None)
            assert isinstance(size, Tensor)
            found += torch.autograd.grad(size, leaves, allow_unused=True)
        results.append(found)
    for a, b in zip(*results, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-12, rtol=1e-10)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", ["linear", "lrelu"])
@pytest.mark.parametrize("gain", [1.0, 0.7])
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_activation(activation: str, gain: float, clamp: float | None) -> None:
    features, bias = random(2, 3, 4, 5), random(3, seed=1)
    agree(
        lambda x, b: activate(x, b, activation, gain, clamp),  # type: ignore[arg-type]
        lambda x, b: activate_plain(x, b, activation, gain, clamp),  # type: ignore[arg-type]
        features,
        bias,
        twice=activation == "lrelu",
    )


def test_activation_with_demodulation_and_noise() -> None:
    inputs = random(2, 3, 4, 5), random(3, seed=1), random(2, 3, seed=2), random(2, 1, 4, 5, seed=3)
    agree(
        lambda x, b, s, n: activate(x, b, gain=0.5, clamp=1.0, scale=s, offset=n),
        lambda x, b, s, n: activate_plain(x * s[:, :, None, None] + n, b, gain=0.5, clamp=1.0),
        *inputs,
        twice=True,
    )


def squared(linear: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Something to differentiate twice."""
    return lambda image: linear(image).square()


@pytest.mark.parametrize("large", [0, 10**9])
def test_upsampling_is_bilinear(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_LARGE", large)
    agree(squared(filters.upsample), squared(filters.upsample_plain), random(2, 3, 5, 5), twice=True)


@pytest.mark.parametrize(("pad", "stride"), [(2, 1), (1, 2), (1, 1), (0, 1)])
@pytest.mark.parametrize("size", [7, 8])
def test_the_low_pass_is_a_convolution(pad: int, stride: int, size: int) -> None:
    """Differentiated twice, too, and then without a call for every channel."""
    taps = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 4
    kernel = (taps[:, None] * taps).expand(3, 1, 4, 4)
    agree(
        squared(lambda image: filters.smooth(image, pad, 4.0, stride)),
        squared(lambda image: functional.conv2d(image, kernel, stride=stride, padding=pad, groups=3)),
        random(2, 3, size, size),
        twice=True,
    )
    image = random(1, 24, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(filters.smooth(image, 2).square().sum(), image, create_graph=True)
    with torch.profiler.profile() as seen:
        gradient.square().sum().backward()
    assert sum(one.count for one in seen.key_averages() if one.key == "aten::convolution") < 10


def test_large_layers_scale_their_inputs() -> None:
    torch.manual_seed(0)
    layer = FullyConnected(1100, 1000, "lrelu", lr_multiplier=0.5).double()
    values = random(3, 1100)

    def plain(given: Tensor) -> Tensor:
        with reference_mode():
            made: Tensor = layer(given)
        return made

    agree(layer, plain, values, twice=True)
    weights = []
    for form in (layer, plain):
        layer.zero_grad()
        form(values).square().sum().backward()
        weights.append(layer.weight.grad.clone())
    assert torch.allclose(weights[0], weights[1], rtol=1e-10)


def test_low_pass_keeps_constants_and_is_separable() -> None:
    ones = torch.ones(1, 2, 9, 9)
    assert torch.allclose(filters.smooth(ones, pad=2)[..., 2:-2, 2:-2], torch.ones(1, 2, 6, 6))
    assert torch.allclose(filters.upsample(ones)[..., 2:-2, 2:-2], torch.ones(1, 2, 14, 14))
    assert filters.downsample(torch.ones(1, 1, 8, 8)).shape == (1, 1, 4, 4)


def test_scaled_activations_equal_modulated_weights() -> None:
    """The layer never modulates weights; the definition does (one convolution a sample)."""
    torch.manual_seed(0)
    for up in (False, True):
        layer = SynthesisLayer(3, 4, 5, 8, up=up).double()
        features, style = random(2, 3, 4 if up else 8, 4 if up else 8), random(2, 5, seed=4)

        def definition(x: Tensor, w: Tensor, layer: SynthesisLayer = layer, up: bool = up) -> Tensor:
            outputs = []
            for image, scales in zip(x, layer.affine(w), strict=True):
                weight = layer.weight * scales[None, :, None, None]
                weight = weight * (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
                if up:
                    made = torch.nn.functional.conv_transpose2d(image[None], weight.transpose(0, 1), stride=2)
                    made = filters.smooth(made, pad=1, gain=4.0)
                else:
                    made = torch.nn.functional.conv2d(image[None], weight, padding=1)
                outputs.append(made)
            return activate_plain(torch.cat(outputs), layer.bias)

        agree(lambda x, w, layer=layer: layer(x, w, "none"), definition, features, style)


def judge(plain: bool, pose_gradient: bool, camera: Tensor, portraits: Portraits) -> list[Tensor | None]:
    torch.manual_seed(1)
    network = Discriminator(tiny().discriminator).double()
    output = network(portraits, camera, pose_gradient=pose_gradient, plain=plain)
    assert output.pose is not None
    loss = output.score.square().sum()
    if pose_gradient:
        loss = loss + output.pose.square().sum()
    grads = torch.autograd.grad(loss, [portraits.image, *network.parameters()], allow_unused=True)
    return [output.score, output.pose, *grads]


@pytest.mark.parametrize("sides", [(1, 1, 1, 1), (-1, -1, -1, -1), (1, -1, 1, -1), (-1, 1, 1)])
@pytest.mark.parametrize("pose_gradient", [False, True])
def test_second_trunk_pass_only_for_mirrored_samples(sides: tuple[int, ...], pose_gradient: bool) -> None:
    batch = len(sides)
    camera = random(batch, 25)
    camera[:, 3] = torch.tensor(sides, dtype=torch.float64)
    portraits = Portraits(
        random(batch, 3, 32, 32, seed=1).requires_grad_(),
        random(batch, 3, 8, 8, seed=2),
        random(batch, 1, 8, 8, seed=3).sigmoid(),
    )
    fast, plain = (judge(form, pose_gradient, camera, portraits) for form in (False, True))
    for a, b in zip(fast, plain, strict=True):
        zero = torch.zeros((), dtype=torch.float64)
        assert torch.allclose(zero if a is None else a, zero if b is None else b, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6, 8])
def test_minibatch_deviation(batch: int) -> None:
    features = random(batch, 5, 4, 4)
    extended = append_minibatch_deviation(features, 4)
    assert extended.shape == (batch, 6, 4, 4) and torch.equal(extended[:, :5], features)
    size = {1: 1, 2: 2, 3: 3, 4: 4, 6: 3, 8: 4}[batch]
    for sample in range(batch):
        group = features[sample % (batch // size) :: batch // size]
        deviation = (group.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        assert torch.allclose(extended[sample, 5], deviation.expand(4, 4))
