"""Serving by uvicorn with limits: on the time that a request's headers take, and on connections at once."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_SECONDS = 15.0
CONNECTIONS = 512


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """uvicorn's protocol, which closes a connection whose request has no whole head after `HEADER_SECONDS`.

    By itself uvicorn waits for it forever, so that a few hundred dripping connections use up what a program
    may have open.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected, and owes a request."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request's head or body."""
        self._expect()
        super().data_received(data)
        if self._is_answering():
            self._stop_expecting()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._stop_expecting()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect(self) -> None:
        if self._deadline is None and not self._is_answering():
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self._is_answering() and self.transport.get_protocol() is self:  # not a WebSocket by now
            self.transport.close()


def serve(app: Any, host: str, port: int, *, socket: str | None = None) -> None:
    """Serve an ASGI application until told to stop; at a Unix socket instead of host and port if given."""
    uvicorn.run(
        app, host=host, port=port, uds=socket, http=PatientProtocol, limit_concurrency=CONNECTIONS,
        log_level="warning", access_log=False, timeout_graceful_shutdown=3,
    )  # fmt: skip
