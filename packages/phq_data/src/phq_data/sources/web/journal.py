"""What a scrape has done so far: pages asked, files found, had, refused and failed. It survives a kill.

One SQLite file, `scrape/journal.sqlite` in the workspace. Every page of results is one transaction together
with the cursor of the next one, every file's outcome another, so a run that is killed goes on where it was:
no page is asked twice, no file downloaded twice. For a workspace that is no folder of this machine the file
lies in a temporary folder and is saved there with every part.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from phq_data.compatibility import REASONS, upgrade_provenance
from phq_data.sources import Provenance, SourceError
from phq_data.sources.web import Candidate
from phq_data.sources.web.limits import QuotaBook
from phq_data.workspace import Workspace

KEY = "scrape/journal.sqlite"
State = Literal["waiting", "done", "refused", "failed", "restated"]
"""`restated`: done and planned, and its rights are stated otherwise since: the plan does not say so yet."""

_VERSION = 1
_TABLES = """
create table if not exists queries (
    provider text, query text, cursor text, pages integer, found integer, finished integer,
    primary key (provider, query));
create table if not exists files (
    seq integer primary key, uri text unique, provider text, query text, candidate text, state text,
    transient integer default 0, reason text default '', message text default '', attempts integer default 0,
    sha256 text default '', key text default '', bytes integer default -1, etag text default '',
    modified text default '', seen text default '{}', part integer, again integer default 0);
create index if not exists files_open on files (provider, query, part, seq);
create table if not exists quotas (
    host text, seconds real, slot integer, count integer, primary key (host, seconds, slot));
"""


@dataclass(frozen=True)
class File:
    """A photo that a search found, and what became of it."""

    seq: int
    candidate: Candidate
    query: str
    state: State = "waiting"
    transient: bool = False  # of a failure
    reason: str = ""
    message: str = ""
    attempts: int = 0
    sha256: str = ""
    key: str = ""  # where the bytes lie in the workspace
    bytes: int = -1
    etag: str = ""
    modified: str = ""
    seen: str = "{}"  # JSON: what the site said when it was downloaded
    part: int | None = None  # of the plan
    again: bool = False  # had before, asked anew


@dataclass(frozen=True)
class QueryState:
    """How far a query is."""

    query: str
    cursor: str
    pages: int
    found: int
    finished: bool


class Journal:
    """Open it with `Journal.open`. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection, workspace: Workspace, path: Path) -> None:
        self._db, self._workspace, self._path = connection, workspace, path

    @classmethod
    def open(cls, workspace: Workspace) -> Journal:
        """The journal of a workspace, a new one if need be. Raises `SourceError` for a damaged one."""
        if workspace.is_local:
            path = Path(workspace.path(KEY))
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            path = Path(tempfile.mkdtemp(prefix="phq-scrape-")) / "journal.sqlite"
            if workspace.exists(KEY):
                path.write_bytes(workspace.read_bytes(KEY))
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("pragma locking_mode = exclusive")
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            version = connection.execute("pragma user_version").fetchone()[0]
            if version > _VERSION:
                raise SourceError(f"{path} was written by a newer PHQ: use that one")
            connection.executescript(_TABLES)
            connection.execute(f"pragma user_version = {_VERSION}")
        except sqlite3.DatabaseError as error:
            raise SourceError(
                f"the journal {path} cannot be used ({error}). Delete it to search anew: photos that are in "
                "the workspace are known by their bytes and not taken twice"
            ) from error
        return cls(connection, workspace, path)

    def close(self) -> None:
        """Close it; a journal of a distant workspace is saved there."""
        self.save()
        self._db.close()

    def save(self) -> None:
        """Copy the journal of a distant workspace there."""
        if self._workspace.is_local:
            return
        copy = self._path.with_suffix(".copy")
        copy.unlink(missing_ok=True)
        target = sqlite3.connect(copy)
        self._db.backup(target)
        target.close()
        self._workspace.write_bytes(KEY, copy.read_bytes())

    # ---- queries -----------------------------------------------------------------------------------------

    def query(self, provider: str, query: str) -> QueryState:
        """How far a query is; a fresh one has cursor "" and no pages."""
        row = self._db.execute(
            "select * from queries where provider = ? and query = ?", (provider, query)
        ).fetchone()
        if row is None:
            return QueryState(query, "", 0, 0, False)
        return QueryState(query, row["cursor"], row["pages"], row["found"], bool(row["finished"]))

    def restart(self, provider: str, query: str) -> None:
        """Let a query begin with its first page again."""
        self._db.execute("delete from queries where provider = ? and query = ?", (provider, query))

    def add_page(
        self,
        provider: str,
        query: str,
        candidates: Sequence[Candidate],
        following: str | None,
        queries: Sequence[str] = (),
    ) -> int:
        """Record a page and where the next one is (None = that was the last); the number of new files.

        A file that is known already stays as it is, unless the provider now says that its bytes are others,
        or it still waits for a run with a query that is not among `queries`, those of this run.
        """
        new = 0
        with self._transaction():
            for candidate in candidates:
                new += self._add(provider, query, candidate, queries or (query,))
            self._db.execute(
                "insert into queries values (?, ?, ?, 1, ?, ?) on conflict (provider, query) do update set "
                "cursor = excluded.cursor, pages = pages + 1, found = found + excluded.found, "
                "finished = excluded.finished",
                (provider, query, following or "", new, int(following is None)),
            )
        return new

    def _add(self, provider: str, query: str, candidate: Candidate, queries: Sequence[str]) -> int:
        known = self._db.execute(
            "select state, candidate, part, provider, query, again from files where uri = ?",
            (candidate.uri,),
        ).fetchone()
        if known is not None and known["state"] == "waiting" and known["part"] is None:
            if known["again"] or (known["provider"] == provider and known["query"] in queries):
                return 0
            self._db.execute("delete from files where uri = ?", (candidate.uri,))
        elif known is not None:
            before = _candidate(known["candidate"])
            if known["state"] == "refused" and before.refusal and not candidate.refusal:
                self._reopen(candidate, provider, query)
                return 1
            if known["state"] not in ("done", "restated") or known["part"] is None:
                return 0
            now = restatement(before, candidate, provider) if known["provider"] == provider else None
            if now is not None:  # the bytes that are here stay; what is recorded of them does not
                self._db.execute(
                    "update files set state = 'restated', candidate = ? where uri = ?",
                    (_json(now), candidate.uri),
                )
            if before.version and before.version == candidate.version:
                return 0
            if candidate.refusal or known["state"] == "restated" or now is not None:
                return 0  # no new bytes without a license; restated ones are asked next time
            # Had and planned; now it may have other bytes: ask, and plan it anew if so.
            self._db.execute(
                "update files set state = 'waiting', candidate = ?, query = ?, part = null, again = 1, "
                "seq = (select max(seq) + 1 from files) where uri = ?",
                (_json(candidate), query, candidate.uri),
            )
            return 1
        state = "refused" if candidate.refusal else "waiting"
        self._db.execute(
            "insert into files (uri, provider, query, candidate, state, reason, message) "
            "values (?, ?, ?, ?, ?, ?, ?)",
            (candidate.uri, provider, query, _json(candidate), state, candidate.refusal, candidate.message),
        )
        return 1

    def _reopen(self, candidate: Candidate, provider: str, query: str) -> None:
        self._db.execute(
            "update files set state = 'waiting', reason = '', message = '', provider = ?, query = ?, "
            "candidate = ? where uri = ?",
            (provider, query, _json(candidate), candidate.uri),
        )

    def reconsider(
        self, provider: str, queries: Sequence[str], judge: Callable[[Candidate], Candidate]
    ) -> int:
        """Judge anew what these queries found and was refused; how many files wait again."""
        found = 0
        with self._transaction():
            for file in self._some("state = 'refused'", provider, queries):
                if file.candidate.refusal and not (now := judge(file.candidate)).refusal:
                    self._reopen(now, provider, file.query)
                    found += 1
        return found

    # ---- files -------------------------------------------------------------------------------------------

    def unplanned(self, provider: str, queries: Sequence[str], after: int, count: int = 256) -> list[File]:
        """The next files of these queries that are in no plan part yet, in the order they were found."""
        marks = ",".join("?" * len(queries))
        rows = self._db.execute(
            f"select * from files where provider = ? and query in ({marks}) and part is null and seq > ? "
            "order by seq limit ?",
            (provider, *queries, after, count),
        )
        return [_file(row) for row in rows]

    def transient_failures(self, provider: str, queries: Sequence[str]) -> list[File]:
        """What failed for a reason that may have passed; of every query where none is named."""
        return self._some("state = 'failed' and transient", provider, queries)

    def reopened(self, provider: str, queries: Sequence[str]) -> list[File]:
        """Files that a plan part has as refused, and that may be taken now."""
        return self._some("state = 'waiting' and part >= 0", provider, queries)

    def restated(self, provider: str) -> list[File]:
        """Photos of which the plan does not say yet what is stated of their rights."""
        return self._some("state = 'restated'", provider, ())

    def _some(self, condition: str, provider: str, queries: Sequence[str]) -> list[File]:
        marks = ",".join("?" * len(queries))
        some = f"and query in ({marks})" if queries else ""
        rows = self._db.execute(
            f"select * from files where provider = ? and {condition} {some} order by seq",
            (provider, *queries),
        )
        return [_file(row) for row in rows]

    def had(self, provider: str, queries: Sequence[str]) -> set[str]:
        """The sha256 of the photos of these queries that are here."""
        marks = ",".join("?" * len(queries))
        rows = self._db.execute(
            f"select sha256 from files where provider = ? and query in ({marks}) and key != ''",
            (provider, *queries),
        )
        return {row["sha256"] for row in rows}

    def record(self, file: File) -> None:
        """Write down what became of a file."""
        self._db.execute(
            "update files set state = ?, transient = ?, reason = ?, message = ?, attempts = ?, sha256 = ?, "
            "key = ?, bytes = ?, etag = ?, modified = ?, seen = ?, part = ?, again = ? where seq = ?",
            (
                file.state, int(file.transient), file.reason, file.message, file.attempts, file.sha256,
                file.key, file.bytes, file.etag, file.modified, file.seen, file.part, int(file.again),
                file.seq,
            ),
        )  # fmt: skip

    def planned(self, files: Sequence[File], part: int) -> None:
        """These files are in a plan part now."""
        with self._transaction():
            self._db.executemany("update files set part = ? where seq = ?", [(part, f.seq) for f in files])

    def unplan(self, parts: Collection[int]) -> None:
        """Files of other plan parts than these are in none any more: they are planned again."""
        there = self._db.execute("select distinct part from files where part >= 0")
        lost = [(row["part"],) for row in there if row["part"] not in parts]
        with self._transaction():
            self._db.executemany("update files set part = null where part = ?", lost)

    def counts(self, provider: str) -> dict[str, int]:
        """Files by state, over all queries; `transient` are the failures that may have passed."""
        rows = self._db.execute(
            "select state, count(*) as n from files where provider = ? group by state", (provider,)
        )
        found = {row["state"]: row["n"] for row in rows}
        found["transient"] = self._db.execute(
            "select count(*) from files where provider = ? and state = 'failed' and transient", (provider,)
        ).fetchone()[0]
        return found

    # ---- quotas ------------------------------------------------------------------------------------------

    def quota_book(self) -> QuotaBook:
        """What is used of the hosts' quotas, also by earlier runs; what is spent from now on is saved."""
        book = QuotaBook()
        for row in self._db.execute("select * from quotas"):
            book.used.setdefault((row["host"], row["seconds"]), {})[row["slot"]] = row["count"]
        book.on_spend = self._spent
        return book

    def _spent(self, host: str, seconds: float, slot: int, count: int) -> None:
        self._db.execute("insert or replace into quotas values (?, ?, ?, ?)", (host, seconds, slot, count))

    def _transaction(self) -> Any:
        return _Transaction(self._db)


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("begin immediate")

    def __exit__(self, kind: object, *rest: object) -> None:
        self._db.execute("rollback" if kind else "commit")


_STATED = ("page_url", "title", "author", "author_url", "license", "license_url", "rights_evidence")


def restatement(before: Candidate, now: Candidate, provider: str) -> Candidate | None:
    """`before` with the rights that `now` states, when they are others; else None.

    A list that is silent on something does not take back what an earlier one said; a provider's silence does.
    """
    old, new = before.provenance, now.provenance
    stated = {name: getattr(new, name) for name in _STATED}
    if provider == "urls":
        license = ("license", "license_url") if new.license else ()
        stated = {name: value for name, value in stated.items() if value or name in license}
        if new.license == old.license and not new.license_url:
            stated.pop("license_url", None)
    if all(getattr(old, name) == value for name, value in stated.items()):
        return None
    changed = replace(old, **stated, rights_checked_at=new.rights_checked_at)
    return replace(before, provenance=changed, stated=now.stated)


def finished(file: File, **changes: Any) -> File:
    """`file` with another outcome."""
    return replace(file, **changes)


def _json(candidate: Candidate) -> str:
    return json.dumps(asdict(candidate), ensure_ascii=False, separators=(",", ":"))


def _candidate(text: str) -> Candidate:
    values = json.loads(text)
    provenance = Provenance(**upgrade_provenance(values["provenance"]))
    refusal = REASONS.get(values["refusal"], values["refusal"])
    return Candidate(**{**values, "provenance": provenance, "refusal": refusal})


def _file(row: sqlite3.Row) -> File:
    return File(
        seq=row["seq"],
        candidate=_candidate(row["candidate"]),
        query=row["query"],
        state=row["state"],
        transient=bool(row["transient"]),
        again=bool(row["again"]),
        reason=REASONS.get(row["reason"], row["reason"]),
        **{
            name: row[name]
            for name in (
                "message", "attempts", "sha256", "key", "bytes", "etag", "modified", "seen", "part",
            )
        },
    )  # fmt: skip
