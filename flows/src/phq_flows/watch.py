"""Who watches the flow of this process. Held here, not beside the flow: task runners pickle a flow together
with the globals it names, and a terminal cannot be pickled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from phq_data.runner import Progress, SilentProgress

_watchers: list[Progress] = [SilentProgress()]


def current() -> Progress:
    """The `Progress` to tell; one that stays silent when nobody watches (a deployment, say)."""
    return _watchers[-1]


@contextmanager
def watching(progress: Progress | None) -> Iterator[None]:
    """Let `progress` watch the flows that run inside the block."""
    _watchers.append(progress or SilentProgress())
    try:
        yield
    finally:
        _watchers.pop()
