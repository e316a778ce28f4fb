"""A pass as a CUDA graph: its thousands of kernels start in one call instead of one by one from Python.

`Graphed` trusts nothing: the first pass of a form runs as it is written (kernels are chosen, constants made),
the second is captured, the third replays the graph, runs as written and compares. Only then does the graph do
it alone. What cannot be captured, or gives other numbers, goes on as written, which the log says once. All of
this is plain Python that runs on a CPU; `CudaCapture` alone touches CUDA's graphs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from phq_data.errors import PhqError
from portraitgan.training.static_passes import Run

log = logging.getLogger(__name__)
GraphMode = Literal["auto", "on", "off"]
Capture = Callable[[Run, Sequence[torch.Generator]], Run]
"""From a pass that ran before, and what it draws from, to something that repeats its kernels."""
_CLOSE = 1e-2
"""Of their own size, by which numbers of a replay may differ: atomic additions have no order."""


class GraphError(PhqError, RuntimeError):
    """A pass that cannot be a CUDA graph, where that was asked for."""


class Graphed:
    """The `Repeater` of `StaticPasses` that captures; a `strict` one raises `GraphError`, not giving up."""

    def __init__(self, capture: Capture, strict: bool = False) -> None:
        self.capture, self.strict = capture, strict
        self.failed = False  # one failure is enough: no further pass is tried
        self.captured = 0

    def __call__(self, run: Run, changed: Sequence[Tensor], random: Sequence[torch.Generator]) -> Run:
        """See `static_passes.Repeater`; `changed` [...] are what a pass writes to."""
        return _Graph(self, run, changed, random)

    def fail(self, why: str) -> None:
        """Go on without graphs, and say so."""
        if self.strict:
            raise GraphError(f"{why}; train with --graphs auto or off")
        self.failed = True
        log.warning("%s: training goes on without CUDA graphs", why)


class _Graph:
    """What repeats one form of a pass."""

    def __init__(
        self, graphed: Graphed, run: Run, changed: Sequence[Tensor], random: Sequence[torch.Generator]
    ) -> None:
        self.graphed, self.run, self.changed, self.random = graphed, run, changed, random
        self.passes = 0
        self.replay: Run | None = None

    def __call__(self) -> None:
        self.passes += 1
        if self.graphed.failed or self.passes == 1:
            self.run()
        elif self.passes == 2:
            self._capture()
            self.run()
        elif self.passes == 3:
            self._compare()
        elif self.replay is not None:
            self.replay()

    def _capture(self) -> None:
        try:
            self.replay = self.graphed.capture(self.run, self.random)
        except RuntimeError as error:  # CUDA's, also of memory
            self.graphed.fail(f"a training pass cannot be captured ({str(error).splitlines()[0]})")
        else:
            self.graphed.captured += 1

    def _compare(self) -> None:
        """Replay, put everything back, run as written; waits for the GPU, once a form."""
        assert self.replay is not None
        before = [one.clone() for one in self.changed]
        states = [one.get_state() for one in self.random]
        self.replay()
        replayed = [one.clone() for one in self.changed]
        torch._foreach_copy_(list(self.changed), before)
        for one, state in zip(self.random, states, strict=True):
            one.set_state(state)
        self.run()
        for found, wanted in zip(replayed, self.changed, strict=True):
            apart = float((found - wanted).norm() / wanted.norm().clamp(min=1e-12))
            if not apart <= _CLOSE and bool(wanted.isfinite().all()):
                self.graphed.fail(f"a captured training pass gives other numbers (by {apart:.1%})")
                return


class CudaCapture:
    """Captures passes of one GPU; all its graphs share their memory, since one runs after another."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run, random: Sequence[torch.Generator]) -> Run:
        """See `Capture`. Raises `RuntimeError` for what cannot be captured; nothing has run then."""
        graph = torch.cuda.CUDAGraph()
        for one in random:  # a replay draws from where they stand by then
            graph.register_generator_state(one)
        drawing = [*random, torch.cuda.default_generators[self.device.index or 0]]
        states = [one.clone_state() for one in drawing]
        try:
            # Other threads (the loader's) may copy and allocate meanwhile.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                run()
        except RuntimeError:
            for one, state in zip(
                drawing, states, strict=True
            ):  # a capture that broke off leaves them locked
                one.graphsafe_set_state(state)
            raise
        replay: Run = graph.replay
        return replay


def repeater(mode: GraphMode, device: torch.device) -> Graphed | None:
    """What `Stepper.use_graphs` takes. Raises `GraphError` where graphs are asked for and there is no GPU."""
    if mode == "on" and device.type != "cuda":
        raise GraphError("--graphs on needs a GPU: leave it out, or say --graphs auto")
    if mode == "off" or device.type != "cuda":
        return None
    return Graphed(CudaCapture(device), strict=mode == "on")
