"""Random numbers of several micro-batches that go through the networks together.

Each micro-batch has a torch generator of its own and gets the numbers it would have had alone, so how many go
together changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Random = torch.Generator | Sequence[torch.Generator] | None
"""One generator for a whole batch; one for each of its equal consecutive parts; or torch's own."""


def normal(shape: tuple[int, ...], random: Random, device: torch.device) -> Tensor:
    """Normal float32 numbers [shape]; the first axis is the batch."""
    return _drawn(torch.randn, shape, random, device)


def uniform(shape: tuple[int, ...], random: Random, device: torch.device) -> Tensor:
    """Uniform float32 numbers in 0..1 [shape]; the first axis is the batch."""
    return _drawn(torch.rand, shape, random, device)


def _drawn(
    draw: Callable[..., Tensor], shape: tuple[int, ...], random: Random, device: torch.device
) -> Tensor:
    if random is None or isinstance(random, torch.Generator):
        return draw(shape, generator=random, device=device, dtype=torch.float32)
    size, rest = divmod(shape[0], len(random))
    if rest:
        raise ValueError(f"a batch of {shape[0]} cannot be drawn by {len(random)} generators in equal parts")
    part = (size, *shape[1:])
    return torch.cat([draw(part, generator=one, device=device, dtype=torch.float32) for one in random])
