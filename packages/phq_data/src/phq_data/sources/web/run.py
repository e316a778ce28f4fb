"""The running of a scrape: search, download and plan side by side, resumable at every page and file.

Photos are planned in the order in which the searches found them, whatever order the downloads end in, and
queries take turns page by page. So an interrupted scrape and an uninterrupted one end with equal plans, and a
limit takes from all queries alike.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from typing import Any

from phq_data.config import IngestConfig
from phq_data.sources import SourceError
from phq_data.sources.licenses import normalise
from phq_data.sources.plan import REMOVED, TAKEN_OUT, Plan
from phq_data.sources.terms import COLLECTING, Permission, cover, objections
from phq_data.sources.web import Candidate, FetchError, Page, PermanentError, TransientError, WebSource
from phq_data.sources.web.fetch import Fetched, Fetcher
from phq_data.sources.web.http import Web
from phq_data.sources.web.journal import File, Journal
from phq_data.sources.web.options import ScrapeOptions, ScrapeProgress, ScrapeReport
from phq_data.sources.web.planning import Planner, Store
from phq_data.sources.web.robots import RobotsPolicy
from phq_data.workspace import Workspace, WorkspaceError

GIVE_UP = 20
"""Downloads that fail one after another for reasons that may pass: then it is the host or the network, not
the files. A host that fails so often is not asked again in this run."""
_NO_NETWORK, _UNREACHED = frozenset({"NameNotFound", "ConnectionFailed"}), 2
"""What a search says when there is no network, and after how many in a row no other is tried."""
_HOSTS = 5
"""So many hosts that fail in one row without any that does well are the network."""


class Run:
    """One scrape, from its first page to its last plan part. Use it once."""

    def __init__(
        self,
        workspace: Workspace,
        source: WebSource,
        web: Web,
        journal: Journal,
        options: ScrapeOptions,
        config: IngestConfig,
        progress: ScrapeProgress,
        on_part: Callable[[int], None],
    ) -> None:
        self._source, self._web, self._journal, self._options = source, web, journal, options
        self._progress, self._on_part = progress, on_part
        self._store = Store(workspace)
        self._fetcher = Fetcher(web, RobotsPolicy(web), self._store.folder, config.max_bytes)
        self._planner = Planner(Plan(workspace), journal, source.provider, options.permissions)
        self._report = ScrapeReport()
        self._pending: dict[Future[Fetched], File] = {}
        self._order: deque[int] = deque()  # seqs in the order they were found, not yet planned
        self._ready: dict[int, File] = {}  # of these, the ones that have their outcome
        self._in_a_row: list[str] = []  # hosts of the downloads that failed since one did well
        self._down: Counter[str] = Counter()  # host -> failures since one did well there
        self._unreached = 0  # searches in a row that came to no server
        self._one_host = source.provider not in ("urls", "openverse")
        self._seen = 0  # candidates on the pages of this run
        self._stop = threading.Event()

    def run(self) -> ScrapeReport:
        """Run to the end, or to where it has to stop."""
        began = time.perf_counter()
        self._planner.reconcile(self._options.queries)
        with ThreadPoolExecutor(self._options.connections, thread_name_prefix="fetch") as pool:
            try:
                provider, queries = self._source.provider, self._options.queries
                if self._options.retry_failed:
                    self._mend(pool, self._journal.transient_failures(provider, queries))
                else:
                    self._collect(pool)
                    self._restate()
            except BaseException:
                self._stop.set()
                self._web.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._report.seconds = time.perf_counter() - began
        return self._report

    # ---- what failed, once more --------------------------------------------------------------------------

    def _mend(self, pool: ThreadPoolExecutor, again: list[File]) -> None:
        """Try files `again` that are in plan parts, part by part: a part is mended in the plan before the
        journal says so, so a kill loses nothing.
        """
        parts: dict[int, list[File]] = {}
        for file in again:
            parts.setdefault(-1 if file.part is None else file.part, []).append(file)
        for part, files in sorted(parts.items()):
            if self._stop.is_set():
                return
            for file in files:
                self._submit(pool, replace(file, state="waiting"))
            tried: list[File] = []
            while self._pending:
                wait(self._pending, return_when=FIRST_COMPLETED)
                tried += self._finished()
            tried = [file for file in tried if file.state != "waiting"]
            mended = [file for file in tried if not file.transient]
            if part >= 0 and mended:
                self._planner.amend(part, mended)
                self._part(part)
            for file in tried:
                self._journal.record(file)

    def _restate(self) -> None:
        """Write rights that are stated otherwise now into the plan, then tell the journal that it is done."""
        files = self._journal.restated(self._source.provider)
        for part in self._planner.restate(files):
            self._part(part)
        for file in files:
            self._journal.record(replace(file, state="done"))
        self._report.restated = len(files)

    # ---- search and download -----------------------------------------------------------------------------

    def _collect(self, pool: ThreadPoolExecutor) -> None:
        provider, queries = self._source.provider, self._options.queries
        had = self._journal.had(provider, queries)
        if self._options.refresh:
            for query in queries:
                self._journal.restart(provider, query)
        permissions = self._options.permissions
        if permissions:  # they may cover what was refused without them
            self._journal.reconsider(
                provider, queries, lambda refused: judged(_unjudged(refused), provider, permissions)
            )
        self._progress.begin(len(had), self._options.limit)
        turns = deque(queries)
        refresh = self._options.refresh  # then the first page goes before what earlier pages left
        fresh: deque[File] = deque()
        last = 0  # seq of the newest file taken from the journal
        searching: Future[tuple[str, Page]] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="search") as searcher:
            try:
                while True:
                    if not fresh:
                        fresh.extend(self._journal.unplanned(provider, queries, last))
                        last = fresh[-1].seq if fresh else last
                    stopped = self._stop.is_set()
                    full = self._enough(had) or stopped
                    opened = not refresh or self._report.pages > 0 or not turns
                    while fresh and opened and not stopped and self._room():
                        if full and not fresh[0].again:
                            if not refresh:
                                break
                            fresh.popleft()  # a new one beyond the limit: later ones may be known
                            continue
                        self._take(pool, fresh.popleft())
                        full = self._enough(had)
                    self._flush(last_one=False)
                    more = not stopped and (not full or (refresh and self._seen < self._options.limit))
                    if more and len(fresh) < 64 and turns and searching is None:
                        searching = self._next_search(searcher, turns)
                    waiting: list[Future[object]] = [*self._pending]  # type: ignore[list-item]
                    if searching is not None and more:
                        waiting.append(searching)  # type: ignore[arg-type]
                    if not waiting:
                        going = not stopped and (refresh or not full)
                        if fresh and going:
                            continue
                        if going and self._journal.unplanned(provider, queries, last, 1):
                            continue
                        break
                    wait(waiting, return_when=FIRST_COMPLETED)
                    if searching is not None and searching.done():
                        self._page_in(searching, turns)
                        searching = None
                    for file in self._finished():
                        self._record(file)
                        if file.key:
                            had.add(file.sha256)
            finally:
                if searching is not None:  # it may be waiting for an hour to pass
                    self._web.stop()
                searcher.shutdown(wait=False, cancel_futures=True)
        self._flush(last_one=True)
        reopened = self._journal.reopened(provider, queries)
        limit = self._options.limit
        self._mend(pool, reopened[: max(0, limit - len(had))] if limit else reopened)

    def _enough(self, had: set[str]) -> bool:
        limit = self._options.limit
        return bool(limit) and len(had) + sum(not f.again for f in self._pending.values()) >= limit

    def _room(self) -> bool:
        return (
            len(self._pending) < 2 * self._options.connections
            and len(self._order)
            < 4 * self._planner.room(self._options.part_size) + 2 * self._options.connections
        )

    def _take(self, pool: ThreadPoolExecutor, file: File) -> None:
        self._order.append(file.seq)
        if file.state == "waiting":
            self._submit(pool, file)
        else:  # refused by its license, or finished by a run that was killed before it was planned
            self._ready[file.seq] = file
            if file.state == "refused":
                self._report.refused[file.reason] += 1
            self._progress.file(file, 0)

    def _submit(self, pool: ThreadPoolExecutor, file: File) -> None:
        self._pending[pool.submit(self._download, file)] = file

    def _download(self, file: File) -> Fetched:
        if self._stop.is_set():
            raise TransientError("QuotaUsed", "the scrape was stopped")
        candidate, host = file.candidate, _host(file)
        if not self._one_host and self._down[host] >= GIVE_UP:
            raise TransientError("HostDown", f"{host} failed {GIVE_UP} times in a row: not asked again")
        self._source.before_download(candidate)
        return self._fetcher.fetch(candidate.url, etag=file.etag, modified=file.modified, sha1=candidate.sha1)

    def _next_search(
        self, searcher: ThreadPoolExecutor, turns: deque[str]
    ) -> Future[tuple[str, Page]] | None:
        while turns:
            state = self._journal.query(self._source.provider, turns[0])
            if not state.finished:
                return searcher.submit(_search, self._source, turns[0], state.cursor)
            turns.popleft()
        return None

    def _page_in(self, searching: Future[tuple[str, Page]], turns: deque[str]) -> None:
        """Record a page; a query whose page cannot be had rests until the next run."""
        query = turns[0]
        try:
            _, page = searching.result()
        except FetchError as error:
            turns.popleft()
            text = f"the search '{query}' stopped: {error}"
            self._unreached = self._unreached + 1 if error.reason in _NO_NETWORK else 0
            if error.reason == "QuotaUsed":
                turns.clear()
                text = str(error)
            elif self._unreached == _UNREACHED and turns:
                text += (
                    f"; the {len(turns)} other searches wait: run the same command when the network is well"
                )
                turns.clear()
            self._report.stopped.append(text)
            self._progress.say(text)
            return
        self._unreached = 0
        provider, permissions = self._source.provider, self._options.permissions
        found = [judged(candidate, provider, permissions) for candidate in page.candidates]
        self._report.pages += 1
        self._seen += len(page.candidates)
        self._report.found += self._journal.add_page(provider, query, found, page.next, self._options.queries)
        state = self._journal.query(provider, query)
        self._progress.page(query, state, page.total)
        turns.rotate(-1)

    # ---- outcomes ----------------------------------------------------------------------------------------

    def _finished(self) -> list[File]:
        """The files that had their outcome meanwhile; `waiting` ones were left for another run."""
        done = [future for future in self._pending if future.done()]
        return [self._settle(self._pending.pop(future), future) for future in done]

    def _settle(self, file: File, future: Future[Fetched]) -> File:
        """What became of a download."""
        try:
            fetched = future.result()
        except FetchError as error:
            return self._lost(file, error)
        except (WorkspaceError, SourceError):  # the disk, the settings: nobody's file
            raise
        except Exception as error:  # what no client foresaw costs this file, not the run
            kind = type(error).__name__
            return self._lost(file, PermanentError("unexpected", f"{kind}: {error}"))
        self._in_a_row.clear()
        self._down.pop(_host(file), None)
        seen = json.dumps(fetched.seen, sort_keys=True)
        if fetched.path is None or fetched.sha256 == file.sha256:
            if fetched.path is not None:
                fetched.path.unlink(missing_ok=True)
            self._report.unchanged += 1
            done = replace(file, state="done", part=-1, etag=fetched.etag, modified=fetched.modified)
            self._progress.file(done, fetched.bytes)
            return done
        if self._planner.taken_out(file.candidate.uri, fetched.sha256):
            fetched.path.unlink(missing_ok=True)
            if not file.again:  # else it is what it was
                file = replace(file, sha256=fetched.sha256, bytes=fetched.bytes, seen=seen)
            return self._lost(file, PermanentError(REMOVED, TAKEN_OUT))
        key = self._store.keep(fetched)
        self._report.downloaded += 1
        self._report.bytes += fetched.bytes
        done = replace(
            file, state="done", transient=False, reason="", message="", sha256=fetched.sha256, key=key,
            bytes=fetched.bytes, etag=fetched.etag, modified=fetched.modified, seen=seen,
            attempts=file.attempts + 1,
        )  # fmt: skip
        self._progress.file(done, fetched.bytes)
        return done

    def _lost(self, file: File, error: FetchError) -> File:
        if error.reason == "QuotaUsed":  # not the file's fault: it waits for the next run
            if not self._stop.is_set():
                self._report.stopped.append(str(error))
                self._progress.say(str(error))
            self._stop.set()
            self._order = deque(seq for seq in self._order if seq < file.seq)
            return file
        if file.again:  # the photo that is here stays
            self._report.failed[error.reason] += 1
            return replace(file, state="done", part=-1, message=str(error))
        refused = error.reason in ("robots", "opt_out", "terms", REMOVED)
        lost = replace(
            file, state="refused" if refused else "failed", transient=error.transient, reason=error.reason,
            message=str(error), attempts=file.attempts + 1,
        )  # fmt: skip
        (self._report.refused if refused else self._report.failed)[error.reason] += 1
        self._report.transient += error.transient
        if not error.transient:
            self._in_a_row.clear()
            self._down.pop(_host(file), None)
        elif error.reason != "HostDown":
            self._in_a_row.append(_host(file))
            self._down[_host(file)] += 1
        many = self._one_host or len(set(self._in_a_row)) >= _HOSTS
        if len(self._in_a_row) >= GIVE_UP and many and not self._stop.is_set():
            text = (
                f"stopped: the last {len(self._in_a_row)} downloads failed, the last one because {error}. "
                "When the network is well again, run the same command with --retry-failed, then without"
            )
            self._report.stopped.append(text)
            self._progress.say(text)
            self._stop.set()
        self._progress.file(lost, 0)
        return lost

    def _record(self, file: File) -> None:
        """Tell the journal, and the plan if the file needs a row there (part -1: an earlier one stands)."""
        if file.state == "waiting":
            return
        self._journal.record(file)
        if file.part == -1:
            with contextlib.suppress(ValueError):  # gone already when the scrape is stopping
                self._order.remove(file.seq)
        else:
            self._ready[file.seq] = file

    # ---- the plan ----------------------------------------------------------------------------------------

    def _flush(self, *, last_one: bool) -> None:
        """Write the plan parts whose files all have their outcome; with `last_one` a smaller last part."""
        while self._order:
            size, head = self._planner.room(self._options.part_size), list[File]()
            for seq in self._order:
                if seq not in self._ready or len(head) == size:
                    break
                head.append(self._ready[seq])
            if not head or (len(head) < size and not last_one):
                return
            for file in head:
                self._order.popleft()
                del self._ready[file.seq]
            self._part(self._planner.append(head))

    def _part(self, part: int) -> None:
        self._report.parts.append(part)
        self._journal.save()
        self._on_part(part)


def _host(file: File) -> str:
    return file.candidate.url.split("/")[2].lower() if "://" in file.candidate.url else ""


def _search(source: WebSource, query: str, cursor: str) -> tuple[str, Page]:
    return query, source.search(query, cursor)


def _unjudged(candidate: Candidate) -> Candidate:
    """A candidate that a provider's terms refused, with what its license says instead."""
    if candidate.refusal != "terms":
        return candidate
    license = normalise(candidate.provenance.license, candidate.provenance.license_url)
    return replace(candidate, refusal=license.reason, message=license.message)


def _writable(candidate: Candidate) -> Candidate:
    """`candidate` with half letters (lone surrogates, which no table can hold) written out; with one in its
    address there is none.
    """
    text = json.dumps(asdict(candidate), ensure_ascii=False)
    if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text):
        return candidate

    def written(value: Any) -> Any:
        return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

    values = {name: written(getattr(candidate, name)) for name in ("uri", "url", "version", "sha1", "notify")}
    bad = values["url"] != candidate.url
    return replace(
        candidate,
        **values,
        provenance=replace(
            candidate.provenance, **{k: written(v) for k, v in asdict(candidate.provenance).items()}
        ),
        stated={written(k): written(v) for k, v in candidate.stated.items()},
        refusal="bad_url" if bad else candidate.refusal,
        message="it is no address: it holds half a letter" if bad else written(candidate.message),
    )


def judged(candidate: Candidate, provider: str, permissions: Sequence[Permission]) -> Candidate:
    """`candidate` after the gates: the terms of the host it is on, and its license.

    A permission of this provider to store and train stands in for a license that is missing or not free.
    """
    candidate = _writable(candidate)
    row = {"provider": provider, "file_url": candidate.url}
    against = objections(row, COLLECTING, permissions)
    if candidate.refusal == "bad_url":
        return candidate
    if against:
        return replace(candidate, refusal="terms", message=next(iter(against.values())))
    # They must name the provider: a blanket statement is no license for files that others refuse to license.
    named = [permission for permission in permissions if permission.provider]
    if candidate.refusal and cover(named, row, ("store", "train")):
        return replace(candidate, refusal="", message="")
    return candidate
