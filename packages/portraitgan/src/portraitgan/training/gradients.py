"""Gradients that are not finite are mended before an optimiser sees them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

LARGEST_GRADIENT = 1e5
"""What an infinite gradient becomes; NaN becomes 0."""


def mend_plain(parameters: Iterable[nn.Parameter]) -> None:
    """Make every gradient finite, one after another: the definition that `mend` must equal."""
    for parameter in parameters:
        if parameter.grad is not None:
            mend_flat(parameter.grad)


def mend(parameters: Iterable[nn.Parameter]) -> None:
    """`mend_plain` in one go: all gradients become views of one tensor, laid out in memory as they were."""
    owners = [parameter for parameter in parameters if parameter.grad is not None]
    laid_out = [_as_stored(parameter.grad) for parameter in owners if parameter.grad is not None]
    flat = torch.cat([gradient.as_strided((gradient.numel(),), (1,)) for gradient in laid_out])
    mend_flat(flat)
    parts = flat.split([gradient.numel() for gradient in laid_out])
    for owner, gradient, part in zip(owners, laid_out, parts, strict=True):
        owner.grad = part.as_strided(gradient.shape, gradient.stride())


def mend_flat(values: Tensor) -> None:
    """Make every number of `values` [...] finite, in place."""
    torch.nan_to_num(values, nan=0.0, posinf=LARGEST_GRADIENT, neginf=-LARGEST_GRADIENT, out=values)


def count_bad(parameters: Iterable[nn.Parameter]) -> Tensor:
    """How many tensors have a gradient that is not finite, []; a GPU is not waited for."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    largest = torch.stack(torch._foreach_norm(gradients, float("inf")))
    return (~largest.isfinite()).sum().float()


def _as_stored(gradient: Tensor) -> Tensor:
    """The gradient if it fills its memory without gaps, in whatever order; otherwise a copy that does."""
    dense = gradient.is_contiguous() or (
        gradient.ndim == 4 and gradient.is_contiguous(memory_format=torch.channels_last)
    )
    return gradient if dense else gradient.contiguous()
