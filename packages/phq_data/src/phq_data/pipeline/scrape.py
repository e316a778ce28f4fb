"""`phq scrape` without the terminal: from what a user asks for to photos in a workspace.

A web source searches and downloads (`sources.web.scrape`), a folder is gathered (`gather`); either way the
photos' provenance is in the plan, and the parts go through the ingest stage at once.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from phq_data.config import PipelineConfig
from phq_data.pipeline.engine import PartReport, load_config, run_part
from phq_data.pipeline.gather import gather
from phq_data.sources import Provenance, RefusedFileError, SourceError, SourceFile
from phq_data.sources.folder import FolderSource
from phq_data.sources.licenses import normalise
from phq_data.sources.queries import default_queries
from phq_data.sources.terms import Permission, cover, record_of, recorded
from phq_data.workspace import Workspace

if TYPE_CHECKING:
    from phq_data.sources.web import WebSource
    from phq_data.sources.web.http import Web
    from phq_data.sources.web.journal import File, QueryState
    from phq_data.sources.web.options import ScrapeOptions, ScrapeProgress, ScrapeReport
    from phq_data.sources.web.settings import WebSettings

SOURCES = ("wikimedia", "openverse", "urls", "folder", "unsplash-lite", "pexels", "unsplash")


def default_limit(source: str) -> int:
    """How many photos to have when nobody says: searches have no natural end, lists and folders have."""
    return 0 if source in ("urls", "folder") else 1000


@dataclass(frozen=True)
class ScrapeRequest:
    """What a user asks for, as plain values: a flow's parameters."""

    source: str
    path: str = ""  # of urls, folder and unsplash-lite
    queries: tuple[str, ...] = ()  # none = the default ones
    limit: int = 0
    permissions: tuple[str, ...] = ()  # paths of statements
    retry_failed: bool = False
    refresh: bool = False
    connections: int = 8


@dataclass
class ScrapeOutcome:
    """What a scrape came to, with the ingest of its parts."""

    scrape: ScrapeReport
    ingest: list[PartReport] = field(default_factory=list)


class Progress(Protocol):
    """Who wants to see it go on."""

    @property
    def web(self) -> ScrapeProgress:
        """The part of it that watches a web source."""
        ...

    def file_seen(self, new: bool) -> None:
        """A file of a folder was listed."""
        ...

    def part_done(self, report: PartReport) -> None:
        """A part went through ingest."""
        ...

    def waiting(self, host: str, seconds: float) -> None:
        """A host wants us to wait."""
        ...

    def say(self, text: str) -> None:
        """Something that a person should read."""
        ...


class SilentScrape:
    """The `Progress` of deployments and of callers that show nothing."""

    @property
    def web(self) -> ScrapeProgress:
        """This one watches web sources too."""
        return self

    def begin(self, had: int, limit: int) -> None:
        """Ignore."""

    def page(self, query: str, state: QueryState, total: int | None) -> None:
        """Ignore."""

    def file(self, file: File, size: int) -> None:
        """Ignore."""

    def file_seen(self, new: bool) -> None:
        """Ignore."""

    def part_done(self, report: PartReport) -> None:
        """Ignore."""

    def waiting(self, host: str, seconds: float) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""


class Pending(Protocol):
    """The ingest of a part, somewhere."""

    def done(self) -> bool:
        """Is it over?"""
        ...

    def result(self) -> PartReport:
        """What it came to, when it is over."""
        ...


Submit = Callable[[int], Pending]
"""Runs the ingest of a part somewhere."""


def scrape_into(
    url: str,
    request: ScrapeRequest,
    *,
    progress: Progress,
    wait: bool = True,
    submit: Submit | None = None,
    settings: WebSettings | None = None,
) -> ScrapeOutcome:
    """Scrape into the workspace at `url`. `submit` runs ingest elsewhere than in a thread of this process.

    Raises `SourceError`, `TermsError`, `WorkspaceError` for what a user can mend.
    """
    _web_packages()
    options, make = _prepared(request, settings)
    workspace = Workspace.open(url, create=True)
    with workspace.lock(wait=wait, on_wait=progress.say):
        config = load_config(workspace)
        with ThreadPoolExecutor(1, thread_name_prefix="ingest") as pool:
            run = submit or partial(_submit_here, pool, url, config)
            return _scrape(workspace, config, request, options, make, progress, run)


def preview_lines(request: ScrapeRequest, settings: WebSettings | None = None) -> Iterator[str]:
    """What a scrape would do, in lines; asks for the first page of every query and writes nothing."""
    from phq_data.sources.terms import TERMS
    from phq_data.sources.web.http import Web
    from phq_data.sources.web.scrape import preview

    options, make = _prepared(request, settings)
    terms = TERMS.get(request.source)
    if terms:
        for use, (verdict, why) in terms.uses.items():
            yield f"{terms.name}, {use}: {verdict} ({why})"
    if request.source == "folder":
        yield from _folder_preview(Path(request.path))
        return
    web, source = make(Web)
    try:
        for query, page in preview(source, options):
            total = f" of {page.total:,}" if page.total is not None else ""
            taken = [candidate for candidate in page.candidates if not candidate.refusal]
            reasons = Counter(candidate.refusal for candidate in page.candidates if candidate.refusal)
            refused = "".join(f", {count} refused ({reason})" for reason, count in reasons.most_common())
            yield f"{query}: first page {len(page.candidates)}{total}, {len(taken)} to download{refused}"
            for candidate in taken[:2]:
                yield f"    {candidate.provenance.license}  {candidate.url}"
    finally:
        web.close()


MakeWeb = Callable[..., "tuple[Web, WebSource]"]


def _prepared(request: ScrapeRequest, settings: WebSettings | None) -> tuple[ScrapeOptions, MakeWeb]:
    """Options and a maker of the client; everything that a user may have got wrong is told here."""
    from phq_data.sources.terms import require
    from phq_data.sources.web import clients
    from phq_data.sources.web import settings as web_settings
    from phq_data.sources.web.options import ScrapeOptions
    from phq_data.sources.web.scrape import check_queries

    permissions = tuple(Permission.load(path) for path in request.permissions)
    needs_path = request.source in ("urls", "folder", "unsplash-lite")
    if needs_path and not request.path:
        raise SourceError(f"phq scrape {request.source} wants a path: phq scrape {request.source} PATH")
    if not needs_path and request.path:
        raise SourceError(f"{request.source} takes no path; did you mean --query {request.path!r}?")
    if request.source in ("urls", "folder") and request.queries:
        raise SourceError(f"{request.source} is read whole: it takes no --query")
    require(request.source, permissions)
    chosen = settings or web_settings.load()
    if request.source == "folder":
        queries: tuple[str, ...] = ()
    elif request.retry_failed and not request.queries and request.source != "urls":
        queries = ()  # of every query that ever failed
    elif request.source == "urls":
        queries = (clients.url_list(Path(request.path)).query,)
    else:
        queries = check_queries(request.queries or default_queries())
    options = ScrapeOptions(
        queries=queries,
        limit=request.limit,
        permissions=permissions,
        retry_failed=request.retry_failed,
        refresh=request.refresh,
        connections=request.connections,
    )
    return options, partial(clients.make, request.source, request.path, chosen, request.connections)


def _scrape(
    workspace: Workspace,
    config: PipelineConfig,
    request: ScrapeRequest,
    options: ScrapeOptions,
    make: MakeWeb,
    progress: Progress,
    submit: Submit,
) -> ScrapeOutcome:
    from phq_data.sources.web.http import Web
    from phq_data.sources.web.journal import Journal
    from phq_data.sources.web.options import ScrapeReport
    from phq_data.sources.web.scrape import scrape

    running: list[Pending] = []
    outcome = ScrapeOutcome(ScrapeReport())

    def ingest(part: int) -> None:
        running.append(submit(part))
        while running and running[0].done():
            _done(running.pop(0))

    def _done(future: Pending) -> None:
        report = future.result()
        outcome.ingest.append(report)
        progress.part_done(report)

    for part in workspace.parts("plan"):  # planned by a run that was killed before it ingested them
        if workspace.part_info("ledger/ingest", part) is None:
            ingest(part)
    if request.source == "folder":
        source = RightsFolder(request.path, options.permissions)
        before = set(workspace.parts("plan"))
        for part in gather(
            workspace, [source], config.ingest, config.part_size, progress.file_seen, progress.say
        ):
            ingest(part)
        outcome.scrape.parts = sorted(set(workspace.parts("plan")) - before)
    else:
        journal = Journal.open(workspace)
        web, client = make(Web, book=journal.quota_book(), on_wait=progress.waiting)
        try:
            outcome.scrape = scrape(
                workspace, client, web, journal, dataclasses.replace(options, part_size=config.part_size),
                config.ingest, progress=progress.web, on_part=ingest,
            )  # fmt: skip
        finally:
            web.close()
            journal.close()
    for future in running:
        _done(future)
    return outcome


def _submit_here(pool: ThreadPoolExecutor, url: str, config: PipelineConfig, part: int) -> Future[PartReport]:
    return pool.submit(run_part, url, config, "ingest", part)


class RightsFolder:
    """A folder whose photos are taken only with a free license in its rights file, or a permission."""

    provider = "folder"

    def __init__(self, path: str, permissions: Sequence[Permission] = ()) -> None:
        self._folder = FolderSource(path)
        self._permissions = permissions
        self.spec = self._folder.spec

    def files(self) -> Iterator[SourceFile]:
        """The files of the folder, with the permissions in their provenance where some were given."""
        given = record_of(self._permissions)
        for file in self._folder.files():
            if given is None or file.provenance.permission:
                yield file
            else:
                provenance = dataclasses.replace(file.provenance, permission=given)
                yield dataclasses.replace(file, provenance=provenance)

    def open(self, file: SourceFile) -> BinaryIO:
        """The bytes of a file. Raises `RefusedFileError` for one without a free license."""
        reason, message = self.refusal(file.provenance)
        if reason:
            raise RefusedFileError(reason, message)
        return self._folder.open(file)

    def refusal(self, provenance: Provenance) -> tuple[str, str]:
        """(reason, sentence) why a file with this provenance is not taken; ("", "") when it is."""
        license = normalise(provenance.license or provenance.license_url)
        row = {"provider": self.provider, "permission": provenance.permission}
        given = [*self._permissions, *recorded(row)]
        if license.free or cover(given, row, ("store", "train")):
            return "", ""
        advice = "say it in a rights.json beside the files, or give --permission"
        return license.reason, f"{license.message}: {advice}"


def _folder_preview(path: Path) -> Iterator[str]:
    folder = RightsFolder(str(path))
    counted = Counter(folder.refusal(file.provenance)[0] or "to take" for file in folder.files())
    for word, count in counted.most_common():
        yield f"{count} files: {word}"


def _web_packages() -> None:
    try:
        import httpx  # noqa: F401
        import protego  # noqa: F401
    except ImportError as error:
        raise SourceError(f"scraping needs {error.name}: pip install 'phq-data[scrape]'") from error
