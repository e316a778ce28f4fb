"""One writer at a time at an object store: an object says who is in, renewed while the work goes on.

The object is created, renewed, taken over and given back by conditional puts (`If-None-Match`, `If-Match`) on
S3, so that of two that try at once one wins. It counts until it has not been renewed for the seconds that it
names, by the store's own clock: the age is that of the object beside one that was written just now. The
clocks of the machines are never compared.

At a store without conditional puts every put first reads who is in. Where another may have put at the same
time, it is read once more a second later: of two the later one is in.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import fsspec

from phq_data.foreign import parse_json
from phq_data.workspace.errors import WorkspaceBusyError, WorkspaceError, explained

NAME = "lease.json"
SECONDS = 60.0
"""How long a lease counts without being renewed."""
_RENEWALS = 6  # within these seconds
_POLL = 2.0  # seconds between two looks of one who waits
_SETTLE = 1.0  # seconds, where a store has no conditional put
_HELD: dict[tuple[str, str], Lease] = {}
"""The leases of this process by protocol and path."""


class LeaseLostError(WorkspaceError):
    """Somebody else took over; nothing more is written."""


class Lease:
    """A lease that this process holds. Made by `held`."""

    def __init__(self, fs: fsspec.AbstractFileSystem, path: str, name: str) -> None:
        self._fs, self._path, self._name = fs, path, name
        self.token = secrets.token_hex(8)
        self.seconds = SECONDS
        self._about = {
            "pid": os.getpid(), "host": socket.gethostname(), "user": _user(), "seconds": self.seconds,
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }  # fmt: skip
        self._etag = ""
        self._renewed = _now()
        self._lost = ""
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="phq-lease")

    def check(self) -> None:
        """Raises `LeaseLostError` when the lease may be another's by now."""
        if self._ended.is_set():
            raise LeaseLostError(f"this process has let go of {self._name}: nothing more is written")
        if not self._lost and _now() - self._renewed > self.seconds / 2:
            self._renew()
        if self._lost:
            raise LeaseLostError(f"{self._lost}. Nothing more is written; run the same command again")

    def take(self, found: str | None) -> bool:
        """Write the object, if its version is `found` still (None: there is none); whether it was."""
        began = _now()
        contested = not self._etag or began - self._renewed > self.seconds / 2
        etag = _put(self._fs, self._path, self._text(self.token), found, contested=contested)
        if etag is None:
            now, etag = _read(self._fs, self._path)
            if now.get("token") != self.token:  # else the first try came off, and its answer was lost
                return False
        self._etag, self._renewed = etag, began
        return True

    def start(self) -> None:
        """Renew it from now on."""
        self._thread.start()

    def give_back(self) -> None:
        """Let others in at once."""
        self._ended.set()
        self._thread.join()
        if not self._lost:
            with contextlib.suppress(OSError):  # it runs out by itself
                _put(self._fs, self._path, self._text(""), self._etag)

    def _text(self, token: str) -> bytes:
        return json.dumps({"token": token, "nonce": secrets.token_hex(4), **self._about}).encode()

    def _keep(self) -> None:
        while not self._ended.wait(self.seconds / _RENEWALS):
            self._renew()

    def _renew(self) -> None:
        with self._guard:
            if self._lost or self._ended.is_set():
                return
            try:
                if not self.take(self._etag):
                    by = described(_read(self._fs, self._path)[0])
                    self._lost = f"{by} has taken over {self._name}, since this process stood still"
            except OSError as error:
                if _now() - self._renewed > self.seconds * 3 / 4:
                    self._lost = f"the hold on {self._name} could not be renewed ({error})"


@contextlib.contextmanager
def held(
    fs: fsspec.AbstractFileSystem,
    folder: str,
    name: str,
    *,
    wait: bool = True,
    on_wait: Callable[[str], None] = lambda text: None,
) -> Iterator[Lease]:
    """Hold `folder` at an object store, which the user calls `name`.

    A second holder waits (telling `on_wait` who is in) or, with `wait=False`, gets a `WorkspaceBusyError`.
    Raises `WorkspaceError` where the object cannot be written.
    """
    path = f"{folder}/{NAME}"
    lease = Lease(fs, path, name)
    try:
        _acquire(fs, path, lease, name, wait, on_wait)
    except OSError as error:
        raise explained(error, path) from error
    key = (str(fs.protocol), folder)
    _HELD[key] = lease
    lease.start()
    try:
        yield lease
    finally:
        _HELD.pop(key, None)
        lease.give_back()


def of_this_process(fs: fsspec.AbstractFileSystem, folder: str) -> Lease | None:
    """The lease of `folder` that this process holds, if it does."""
    return _HELD.get((str(fs.protocol), folder))


def holder(fs: fsspec.AbstractFileSystem, folder: str) -> str:
    """The token of the lease of `folder` as it stands there; "" where nobody is in. Raises `OSError`."""
    found, _ = _read(fs, f"{folder}/{NAME}")
    return str(found.get("token", ""))


def described(about: Mapping[str, Any]) -> str:
    """Who that is."""
    try:
        return f"process {about['pid']} of {about['user']} on {about['host']} since {about['since']}"
    except KeyError:
        return "another process"


def _acquire(
    fs: fsspec.AbstractFileSystem,
    path: str,
    lease: Lease,
    name: str,
    wait: bool,
    on_wait: Callable[[str], None],
) -> None:
    told = False
    while True:
        found, etag = _read(fs, path)
        if (not found.get("token") or _expired(fs, path, found)) and lease.take(etag or None):
            return
        if found.get("token"):
            if not wait:
                raise WorkspaceBusyError(f"{name} is in use by {described(found)}: wait for it")
            if not told:
                on_wait(f"{name} is in use by {described(found)}; waiting until it is free (Ctrl-C to stop)")
                told = True
        time.sleep(min(_POLL, float(found.get("seconds") or SECONDS) / _RENEWALS))


def _expired(fs: fsspec.AbstractFileSystem, path: str, found: Mapping[str, Any]) -> bool:
    """Has the lease `found` not been renewed for the seconds that it names? By the clock of the store."""
    probe = f"{path}.clock-{secrets.token_hex(4)}"
    fs.pipe_file(probe, b"")
    try:
        age: timedelta = fs.modified(probe) - fs.modified(path)
        return age.total_seconds() > float(found.get("seconds") or SECONDS)
    except (FileNotFoundError, NotImplementedError):  # given back meanwhile; a store without times
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(probe)


def _read(fs: fsspec.AbstractFileSystem, path: str) -> tuple[dict[str, Any], str]:
    """(what the lease says, which version that is or an older one); both empty where there is none."""
    etag = ""
    try:
        if hasattr(fs, "put_if"):
            etag = str(fs.info(path).get("ETag", ""))
        data = bytes(fs.cat_file(path))
        etag = etag or _digest(data)
        found = parse_json(data)
        return (dict(found), etag) if isinstance(found, dict) else ({}, etag)
    except FileNotFoundError:
        return {}, ""
    except ValueError:  # half an object, of a store without whole puts
        return {}, etag


def _put(
    fs: fsspec.AbstractFileSystem, path: str, data: bytes, found: str | None, *, contested: bool = False
) -> str | None:
    """Write the object if its version is `found` still (None: if there is none); the new version, or None.

    `contested`: another may be about to write it, too.
    """
    if hasattr(fs, "put_if"):
        version: str | None = fs.put_if(path, data, found)
        return version
    if (_read(fs, path)[1] or None) != found:
        return None
    fs.pipe_file(path, data)
    if contested:
        time.sleep(_SETTLE)
        if _read(fs, path)[1] != _digest(data):
            return None
    return _digest(data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _now() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f"user {os.getuid()}"
