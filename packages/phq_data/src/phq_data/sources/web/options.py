"""What a scrape is asked for, what it came to, and who watches it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from phq_data.sources.terms import Permission
from phq_data.sources.web.journal import File, QueryState


@dataclass(frozen=True)
class ScrapeOptions:
    """What a user asks for."""

    queries: tuple[str, ...]
    limit: int = 0  # photos of these queries, those of earlier runs included; 0 = as many as there are
    permissions: tuple[Permission, ...] = ()
    retry_failed: bool = False  # only what failed for a reason that may have passed
    refresh: bool = False  # begin with the first page again and ask known photos whether they changed
    connections: int = 8
    part_size: int = 64


@dataclass
class ScrapeReport:
    """What a scrape came to."""

    pages: int = 0
    found: int = 0  # new files in the search results
    downloaded: int = 0
    bytes: int = 0
    unchanged: int = 0
    twins: int = 0  # downloads with the bytes of a photo that was here
    restated: int = 0  # photos that were here, of which other rights are stated now
    refused: Counter[str] = field(default_factory=Counter)  # reason -> files
    failed: Counter[str] = field(default_factory=Counter)
    transient: int = 0  # failures that another try may mend
    parts: list[int] = field(default_factory=list)  # plan parts written or mended
    stopped: list[str] = field(default_factory=list)  # why it ended before everything was asked
    seconds: float = 0.0


class ScrapeProgress(Protocol):
    """Who wants to see a scrape go on. Called from the thread that called `scrape`, `say` from any."""

    def begin(self, had: int, limit: int) -> None:
        """So many photos of the queries are here, and so many are to be (0 = as many as there are)."""
        ...

    def page(self, query: str, state: QueryState, total: int | None) -> None:
        """A page of results came in."""
        ...

    def file(self, file: File, size: int) -> None:
        """A file had its outcome; `size` bytes were downloaded for it."""
        ...

    def say(self, text: str) -> None:
        """Something that a person should read."""
        ...
