"""A scrape of a web source, or a look at what it would bring.

`run` does the work; see there.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from phq_data.config import IngestConfig
from phq_data.sources import SourceError
from phq_data.sources.terms import require
from phq_data.sources.web import Page, WebSource
from phq_data.sources.web.http import Web
from phq_data.sources.web.journal import KEY, Journal
from phq_data.sources.web.options import ScrapeOptions, ScrapeProgress, ScrapeReport
from phq_data.sources.web.run import Run, judged
from phq_data.workspace import Workspace, explained


def scrape(
    workspace: Workspace,
    source: WebSource,
    web: Web,
    journal: Journal,
    options: ScrapeOptions,
    config: IngestConfig,
    *,
    progress: ScrapeProgress,
    on_part: Callable[[int], None] = lambda part: None,
) -> ScrapeReport:
    """Search, download, plan. The caller holds `workspace.lock()`.

    `on_part` is told of every plan part that is ready for ingest. Raises `TermsError` when the provider's
    terms stand against it, `SourceError` for what a user can mend, `WorkspaceError` for a full disk.
    """
    require(source.provider, options.permissions)
    try:
        return Run(workspace, source, web, journal, options, config, progress, on_part).run()
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        raise explained(OSError(errno.ENOSPC, str(error)), workspace.path(KEY)) from error


def preview(source: WebSource, options: ScrapeOptions) -> Iterator[tuple[str, Page]]:
    """The first page of every query, judged as `scrape` would; nothing is written or downloaded."""
    require(source.provider, options.permissions)
    for query in options.queries:
        page = source.search(query, "")
        found = tuple(judged(one, source.provider, options.permissions) for one in page.candidates)
        yield query, replace(page, candidates=found)


def check_queries(queries: Sequence[str]) -> tuple[str, ...]:
    """The queries without blanks and repetitions. Raises `SourceError` when none is left."""
    found = tuple(dict.fromkeys(" ".join(query.split()) for query in queries if query.strip()))
    if not found:
        raise SourceError("name at least one --query, or none at all for the default ones")
    return found
