"""What an inversion minimises: how different two images look, and how far noise images are from noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from portraitgan.inference.errors import InferenceError

ImageDistance = Callable[[Tensor], Tensor]
"""Images [V, 3, H, W] in -1..1 to their mean distance from the targets, a scalar."""
LARGEST = 256
"""Images are compared at no more than this many pixels a side, as the official projector does."""


def comparable(image: Tensor) -> Tensor:
    """[V, 3, H, W] averaged down to at most `LARGEST` pixels a side."""
    if image.shape[-1] <= LARGEST:
        return image
    return functional.interpolate(image, (LARGEST, LARGEST), mode="area")


def pixel_distance(target: Tensor) -> ImageDistance:
    """The substitute for a perceptual distance from `target` [V, 3, H, W]: colors and gradients by scale.

    At every scale from full size down to 8 pixels: mean squared difference of colors, and of the differences
    between neighbours, which weigh edges more than flat areas.
    """
    scales = _pyramid(comparable(target))

    def distance(image: Tensor) -> Tensor:
        total = image.new_zeros(())
        for seen, wanted in zip(_pyramid(comparable(image)), scales, strict=True):
            off = seen - wanted
            total = total + off.square().mean()
            total = total + off.diff(dim=2).square().mean() + off.diff(dim=3).square().mean()
        return total

    return distance


def within(mask: Tensor, distance: ImageDistance) -> ImageDistance:
    """`distance`, made for a target times `mask` [V, 1, H, W] in 0..1, of images times the same: what is
    behind a person does not count."""
    return lambda image: distance(image * mask)


def perceptual_distance(target: Tensor, file: str | Path, device: torch.device) -> ImageDistance:
    """Squared difference of LPIPS features from `target` [V, 3, H, W]; `file` is StyleGAN2's `vgg16.pt`.

    The file's program is run: name only one that you trust. Raises `InferenceError`.
    """
    try:
        network = torch.jit.load(str(file), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        first = str(error).splitlines()[0]
        raise InferenceError(
            f"{file} is no TorchScript network ({first}): give StyleGAN2's vgg16.pt"
        ) from None

    def features(image: Tensor) -> Tensor:
        bytes_ = (comparable(image) + 1) * 127.5
        try:
            found = network(bytes_, resize_images=False, return_lpips=True)
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            raise InferenceError(f"{file} does not give LPIPS features: {last}") from None
        assert isinstance(found, Tensor)
        return found

    with torch.no_grad():
        wanted = features(target)
    return lambda image: (features(image) - wanted).square().sum() / len(target)


def noise_correlation(images: list[Tensor]) -> Tensor:
    """How much noise images [S, S] repeat themselves: squared mean products with the neighbours.

    Shifts by one pixel in both directions, on the image and its halvings down to 8 pixels (spec section 7).
    """
    total = images[0].new_zeros(())
    for image in images:
        level = image[None, None]
        while True:
            for axis in (2, 3):
                total = total + (level * level.roll(1, dims=axis)).mean().square()
            if level.shape[-1] <= 8:
                break
            level = functional.avg_pool2d(level, 2)
    return total


@torch.no_grad()
def renormalise(images: list[Tensor]) -> None:
    """Give noise images [S, S] mean 0 and power 1 again, in place."""
    for image in images:
        image.sub_(image.mean())
        image.mul_(image.square().mean().clamp(min=1e-12).rsqrt())


def _pyramid(image: Tensor) -> list[Tensor]:
    levels = [image]
    while levels[-1].shape[-1] >= 16:
        levels.append(functional.avg_pool2d(levels[-1], 2))
    return levels
