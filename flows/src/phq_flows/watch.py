"""Who watches the flows of this process. Held here, not beside the flow: task runners pickle a flow together
with the globals it names, and a terminal cannot be pickled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from phq_data.pipeline.local import Progress, SilentProgress
from phq_data.pipeline.scrape import Progress as ScrapeProgress
from phq_data.pipeline.scrape import SilentScrape

T = TypeVar("T")


class Watch(Generic[T]):
    """The watchers of one kind of flow; `silent` watches when nobody does (a deployment, say)."""

    def __init__(self, silent: T) -> None:
        self._watchers = [silent]

    def current(self) -> T:
        """Whom to tell."""
        return self._watchers[-1]

    @contextmanager
    def watching(self, progress: T | None) -> Iterator[None]:
        """Let `progress` watch the flows that run inside the block."""
        self._watchers.append(self._watchers[0] if progress is None else progress)
        try:
            yield
        finally:
            self._watchers.pop()


builds: Watch[Progress] = Watch(SilentProgress())
scrapes: Watch[ScrapeProgress] = Watch(SilentScrape())
