"""How the passes of a phase become one gradient.

`EagerPasses` runs them as they are written; several processes average by torch's `DistributedDataParallel`.
`StaticPasses` (static_passes.py) runs them in memory that stays in place, which a CUDA graph can repeat.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from portraitgan.training import gradients
from portraitgan.training.distributed import World
from portraitgan.training.phases import PassInputs

_NAMES = inspect.signature(DistributedDataParallel).parameters
_OWN_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False
}
"""Buffers are not exchanged: `Stepper` does that. Newer versions of torch renamed the argument."""


class Passes(Protocol):
    """The passes of a phase in one iteration: `begin`, `add` for each, `finish`."""

    def begin(self) -> None:
        """Forget the last iteration's gradient."""

    def add(self, inputs: PassInputs, share: float, last: bool) -> dict[str, Tensor]:
        """Add the gradient of `share` times the loss of a pass. Returns what the phase saw, by name."""

    def finish(self) -> Tensor:
        """The gradients, averaged over processes and finite, are the parameters' from now on.

        Returns how many tensors had a gradient that was not finite, [].
        """


class EagerPasses:
    """One operation after another, as the phase is written."""

    def __init__(self, phase: nn.Module, trained: nn.Module, world: World) -> None:
        self.trained, self.world = trained, world
        self.phase = phase
        if world.size > 1:
            # Which weights get no gradient depends on the phase: super-resolution's noise, R1's pose branch.
            self.phase = DistributedDataParallel(phase, **_OWN_BUFFERS, find_unused_parameters=True)

    def begin(self) -> None:
        """See `Passes`."""
        self.trained.zero_grad(set_to_none=True)

    def add(self, inputs: PassInputs, share: float, last: bool) -> dict[str, Tensor]:
        """See `Passes`; processes exchange gradients with the last pass only."""
        found: dict[str, Tensor] = {}
        quiet: AbstractContextManager[Any] = nullcontext()
        if isinstance(self.phase, DistributedDataParallel) and not last:
            quiet = self.phase.no_sync()
        with quiet:
            (self.phase(inputs, found) * share).backward()
        return {name: value.detach().float().mean() for name, value in found.items()}

    def finish(self) -> Tensor:
        """See `Passes`: the number of tensors []."""
        bad = gradients.count_bad(self.trained.parameters())
        # On a GPU asking would wait for it; there all are mended unasked.
        if self.world.device.type != "cpu" or bad > 0:
            gradients.mend(self.trained.parameters())
        return bad
