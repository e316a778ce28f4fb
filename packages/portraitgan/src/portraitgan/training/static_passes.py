"""Passes in memory that stays in place: inputs are copied in, gradients add up in one flat tensor.

What a pass does then depends on its inputs' values alone, never on where they lie or on how many samples are
mirrored, so a CUDA graph can repeat it (cuda_graphs.py). The numbers are those of `EagerPasses` up to
rounding. Several processes average the flat gradient in one call after the last pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from portraitgan.training import gradients
from portraitgan.training.distributed import World
from portraitgan.training.phases import PassInputs

Run = Callable[[], None]
Repeater = Callable[[Run, Sequence[Tensor], Sequence[torch.Generator]], Run]
"""From a pass, what it changes and what it draws from, to something that does the same faster."""


_MOST_SEEN = 16
"""Numbers that a phase may want to show."""


_ALIGNED = 4
"""Numbers; kernels read 16 bytes at once where a tensor begins at a multiple of that."""


def as_written(run: Run, changed: Sequence[Tensor], random: Sequence[torch.Generator]) -> Run:
    """The `Repeater` that runs the pass itself, whatever it has `changed` [...]."""
    return run


class StaticPasses:
    """See the module."""

    def __init__(
        self,
        phase: nn.Module,
        trained: nn.Module,
        buffers: Sequence[Tensor],
        world: World,
        repeater: Repeater,
    ) -> None:
        """`buffers` [...] are changed by the phase besides the gradient (the running mean of styles)."""
        self.phase, self.trained, self.world = phase, trained, world
        self.buffers, self.repeater = buffers, repeater
        self.parameters = [one for one in trained.parameters() if one.requires_grad]
        self.gradient, self.parts = flat_gradient(self.parameters)
        self.used = [False] * len(self.parts)
        self._pass: _StaticPass | None = None

    def begin(self) -> None:
        """See `Passes`."""
        self.trained.zero_grad(set_to_none=True)
        self.gradient.zero_()

    def add(self, inputs: PassInputs, share: float, last: bool) -> dict[str, Tensor]:
        """See `Passes`. Inputs of a new form (rays, blur, samples) get memory of their own."""
        if not _is_static(inputs):
            found = self.backward(inputs, share)
            return {name: value.clone() for name, value in found.items()}
        form = (share, *_form(inputs))
        if self._pass is None or self._pass.form != form:
            self._pass = None  # its memory is free before more is taken
            self._pass = _StaticPass(self, form, inputs, share)
        return self._pass(inputs)

    def backward(self, inputs: PassInputs, share: float) -> dict[str, Tensor]:
        """Add a pass's gradient to the flat one. Returns what the phase saw."""
        found: dict[str, Tensor] = {}
        loss = self.phase(inputs, found) * share
        made = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        pairs = [(part, one) for part, one in zip(self.parts, made, strict=True) if one is not None]
        torch._foreach_add_([part for part, _ in pairs], [one for _, one in pairs])
        self.used = [one is not None for one in made]
        return {name: value.detach().float().mean() for name, value in found.items()}

    def finish(self) -> Tensor:
        """See `Passes`: the number of tensors []."""
        self.world.mean([self.gradient])
        for parameter, part, used in zip(self.parameters, self.parts, self.used, strict=True):
            parameter.grad = part if used else None
        bad = gradients.count_bad(self.parameters)
        if self.world.device.type != "cpu" or bad > 0:
            gradients.mend_flat(self.gradient)
        return bad


class _StaticPass:
    """One form of a pass: its inputs' memory, what it saw, and how it is repeated."""

    def __init__(
        self, passes: StaticPasses, form: tuple[object, ...], inputs: PassInputs, share: float
    ) -> None:
        self.form, self.passes, self.share = form, passes, share
        self.inputs: PassInputs = _copied(inputs)
        self.places = list(_tensors(self.inputs))
        self.names: list[str] = []
        self.seen = passes.gradient.new_zeros(_MOST_SEEN)
        random = inputs.draws.random
        generators = [random] if isinstance(random, torch.Generator) else list(random or ())
        self.repeat = passes.repeater(self.run, [passes.gradient, self.seen, *passes.buffers], generators)

    def run(self) -> None:
        found = self.passes.backward(self.inputs, self.share)
        self.names = list(found)
        self.seen[: len(found)].copy_(torch.stack(list(found.values())))

    def __call__(self, inputs: PassInputs) -> dict[str, Tensor]:
        torch._foreach_copy_(self.places, list(_tensors(inputs)))
        self.repeat()
        return dict(zip(self.names, self.seen[: len(self.names)].clone().unbind(), strict=True))


def flat_gradient(parameters: Sequence[nn.Parameter]) -> tuple[Tensor, list[Tensor]]:
    """(zeros [N] for all gradients, the parts [...] of it, each laid out in memory as its parameter is)."""
    rooms = [-(-one.numel() // _ALIGNED) * _ALIGNED for one in parameters]
    flat = parameters[0].new_zeros(sum(rooms))
    parts = flat.split(rooms)
    return flat, [
        part.as_strided(one.shape, one.stride(), part.storage_offset())
        for part, one in zip(parts, parameters, strict=True)
    ]


def _is_static(inputs: PassInputs) -> bool:
    """Whether the mirrored rows of all samples are padded: otherwise their number is a matter of chance."""
    arranged = [part.arrangement for part in (inputs.given, inputs.real) if part is not None]
    return all(one.padded for one in arranged)


def _tensors(value: object) -> Iterator[Tensor]:
    """All tensors [...] in dataclasses within dataclasses, in the order of their fields."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for one in fields(value):
            yield from _tensors(getattr(value, one.name))


def _copied(value: Any) -> Any:
    """The same with copies of its tensors."""
    if isinstance(value, Tensor):
        return value.clone()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _copied(getattr(value, one.name)) for one in fields(value)})
    return value


def _form(value: object) -> Iterator[object]:
    """What must be equal for two passes to be the same operations: shapes, and what is no tensor."""
    if isinstance(value, Tensor):
        yield (tuple(value.shape), value.dtype)
    elif is_dataclass(value):
        for one in fields(value):
            yield from _form(getattr(value, one.name))
    elif isinstance(value, list | tuple):
        yield tuple(id(one) for one in value)  # random generators
    else:
        yield value
