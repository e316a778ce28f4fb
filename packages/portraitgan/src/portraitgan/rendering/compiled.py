"""The renderer's elementwise parts through `torch.compile`, for whoever asks: `portraitgan train --compile`.

The decoder's hidden layer with its density, and ray marching, are many small operations on large tensors.
Nothing there is differentiated twice, which `torch.compile` cannot do: R1 is the discriminator's. The
functions as they are written are the reference. Off by default: neither on a CPU nor on the one GPU tried
did it bring anything (docs/benchmarks.md).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from portraitgan.reference_mode import in_reference_mode

log = logging.getLogger(__name__)
Function = Callable[..., tuple[Tensor, ...]]
_used = False


def use(on: bool = True) -> None:
    """Compile from now on, or no longer, in this process."""
    global _used
    _used = on


def is_used() -> bool:
    """Whether `compilable` functions are compiled: asked for, and no compiler has failed."""
    return _used


def compilable(function: Function) -> Function:
    """`function` of tensors, compiled where asked for; a failing compiler is told and done without."""
    compiled: Function | None = None

    @functools.wraps(function)
    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        nonlocal compiled
        if not _used or in_reference_mode():
            return function(*tensors)
        compiled = compiled or torch.compile(function)
        try:
            return compiled(*tensors)
        except RuntimeError as error:
            result = function(*tensors)  # what is wrong with the arguments themselves is raised here
            use(False)
            log.warning("torch.compile failed (%s): rendering goes on without it", str(error).split("\n")[0])
            return result

    return call
