"""A limit on a whole exchange with a server.

httpx limits each read of a socket. A server that sends its headers a byte at a time, or one interim answer
(1xx) after another, never comes to that limit, and holds a worker and its host for as long as it likes. Here
every read, write and handshake gets the time that is left of the whole.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import httpx


class Deadline:
    """The time that the exchange of each thread has left. One watches all connections of a client."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What this thread asks inside ends after `seconds` with `httpx.ReadTimeout` or its like."""
        before = getattr(self._thread, "end", None)
        self.extend(seconds)
        try:
            yield
        finally:
            self._thread.end = before

    def extend(self, seconds: float) -> None:
        """From now on there are `seconds` left."""
        self._thread.end = time.monotonic() + seconds

    def left(self, timeout: float | None, error: type[Exception]) -> float | None:
        """The shorter of `timeout` and what is left, in seconds. Raises `error` when nothing is."""
        end = getattr(self._thread, "end", None)
        if end is None:
            return timeout
        left = float(end) - time.monotonic()
        if left <= 0:
            raise error("the whole exchange took too long")
        return left if timeout is None else min(timeout, left)

    def watch(self, client: httpx.Client) -> None:
        """Have all connections of `client` keep it, those through proxies, too."""
        for transport in (client._transport, *client._mounts.values()):
            pool: Any = getattr(transport, "_pool", None)  # httpx has no other way to its connections
            if pool is not None:
                pool._network_backend = _Backend(pool._network_backend, self)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        stream = self._inner.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(stream, self._deadline)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
