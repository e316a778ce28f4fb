"""Exponential moving averages (EMA) of weights (both networks have one; spec section 5.7)."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def averaged_copy(network: Network) -> Network:
    """A copy of `network` to average into: in evaluation mode, without gradients.

    A generator's deformation holds no weights; the copy shares it.
    """
    shared = getattr(network, "deformation", None)
    copied = copy.deepcopy(network, {id(shared): shared})
    return copied.eval().requires_grad_(False)


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * weights; buffers are copied."""
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    pairs = zip(average.buffers(), network.buffers(), strict=True)
    apart = [(kept, current) for kept, current in pairs if kept is not current]
    if apart:
        torch._foreach_copy_([kept for kept, _ in apart], [current for _, current in apart])
