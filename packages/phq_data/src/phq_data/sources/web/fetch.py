"""Downloading a photo: checked on the way in, hashed on the way, never whole in memory.

The bytes stream into a temporary file; its first bytes must be those of an image, its size within the limit,
its end there, and it must not forbid data mining. Only then it gets its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from phq_data.files import TEMPORARY
from phq_data.images import self_stated
from phq_data.images.formats import PhotoError, check_whole, sniff
from phq_data.sources.web import PermanentError, RefusedError, TransientError
from phq_data.sources.web.http import Reply, Web
from phq_data.sources.web.robots import RobotsPolicy
from phq_data.workspace import explained

_HEAD = 64
_CHUNK_HEADERS = {"Accept": "image/jpeg,image/png,image/webp,image/*;q=0.8,*/*;q=0.5"}


@dataclass(frozen=True)
class Fetched:
    """A photo that is here; `path` is None when the server says it has not changed since."""

    path: Path | None  # a temporary file: the caller renames or removes it
    sha256: str = ""
    kind: str = ""  # as `images.sniff` names it
    bytes: int = 0
    etag: str = ""
    modified: str = ""
    url: str = ""  # where it came from in the end
    seen: dict[str, str] = field(default_factory=dict)  # robots, x_robots_tag, tdm, photo: what it says


class Fetcher:
    """Downloads photos into `folder`. Threads may share it."""

    def __init__(self, web: Web, robots: RobotsPolicy, folder: Path, max_bytes: int) -> None:
        self._web, self._robots, self._folder, self._limit = web, robots, folder, max_bytes

    def fetch(self, url: str, *, etag: str = "", modified: str = "", sha1: str = "") -> Fetched:
        """The photo at `url`, with as many tries as it takes.

        With the `etag` or `modified` of an earlier download the server is asked whether anything changed.
        `sha1` is what the provider says of the bytes, if it does. Raises `FetchError`.
        """
        return self._web.retrying(url, lambda: self._once(url, etag, modified, sha1))

    def _once(self, url: str, etag: str, modified: str, sha1: str) -> Fetched:
        seen: dict[str, str] = {}
        headers = dict(_CHUNK_HEADERS)
        if etag:
            headers["If-None-Match"] = etag
        if modified:
            headers["If-Modified-Since"] = modified

        def hop(address: str) -> None:
            seen.update(self._robots.ask(address))

        accept = frozenset({304}) if etag or modified else frozenset()
        with self._web.open(url, headers=headers, hop=hop, accept=accept) as reply:
            seen.update(self._robots.heed(reply.url, reply.headers, reply.header_lines("x-robots-tag")))
            if reply.status == 304:
                return Fetched(None, etag=etag, modified=modified, url=reply.url, seen=seen)
            length = reply.length
            if length is not None and length > self._limit:
                raise PermanentError("too_many_bytes", f"{length:,} bytes; the limit is {self._limit:,}")
            with _temporary(self._folder) as path:
                sha256, kind, size = self._save(reply, path, sha1)
                seen.update(_check(path, kind, length is not None))
                return Fetched(
                    path, sha256, kind, size, reply.headers.get("etag", ""),
                    reply.headers.get("last-modified", ""), reply.url, seen,
                )  # fmt: skip

    def _save(self, reply: Reply, path: Path, sha1: str) -> tuple[str, str, int]:
        """(sha256, format, bytes) of the body, which is at `path` then."""
        digest, other = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        head, kind, size = b"", "", 0
        with path.open("wb") as file:
            for chunk in reply.chunks(self._limit):
                if not kind:
                    head += chunk
                    if len(head) < _HEAD:
                        continue
                    kind, chunk = _kind(head, reply), head
                file.write(chunk)
                digest.update(chunk)
                if sha1:
                    other.update(chunk)
                size += len(chunk)
            if not head:
                raise PermanentError("empty", "the file is empty")
            if not kind:
                _kind(head, reply)
                raise PermanentError("truncated", f"an image of {len(head)} bytes")
            file.flush()
            os.fsync(file.fileno())
        if sha1 and other.hexdigest() != sha1.lower():
            raise TransientError("Changed", "its bytes are not those that the search told of")
        return digest.hexdigest(), kind, size


def _kind(head: bytes, reply: Reply) -> str:
    kind = sniff(head[:_HEAD])
    if kind is None:
        stated = reply.headers.get("content-type", "").split(";")[0][:60]
        raise PermanentError(
            "not_an_image", f"its first bytes are those of no image; the server calls it '{stated}'"
        )
    return kind


def _check(path: Path, kind: str, complete: bool) -> dict[str, str]:
    """See that the file has its end; what it says of itself, for the record. The map is of the file: nothing
    is copied into memory. Raises `RefusedError` (`opt_out`), as for robots.txt.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        try:
            check_whole(view, kind)
        except PhotoError as error:
            reason, message = error.reason, str(error)
        else:
            stated = self_stated.read(view, kind)
            if stated.opt_out:
                raise RefusedError("opt_out", stated.opt_out)
            said = stated.to_json()
            return {"photo": said} if said else {}
    if complete:  # the server sent what it said: this is how it has the file
        raise PermanentError(reason, message)
    raise TransientError("BrokenTransfer", f"the transfer broke off: {message}")


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A path to write; removed when the block raises. `WorkspaceError` when it cannot be written."""
    path = folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield path
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):  # the net's own are `FetchError` by now
            raise explained(error, str(folder)) from error
        raise
