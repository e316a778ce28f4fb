"""The Streamlit app behind the service: what comes under `/app`, WebSockets included, goes on to its process.

The app listens at a Unix socket in a folder of this user alone, so whoever reaches it came through the
service: under one of its names, from its own pages, with a login. A process of its own, because its charts
would else take turns with the decisions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from urllib.parse import quote

import httpx
from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from starlette.requests import HTTPConnection
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from annotator_app.service.security import APP, COOKIE, current_reviewer

_SECONDS = 60.0
_OWN = frozenset({"host", "origin", "connection", "upgrade", "content-length", "transfer-encoding"})
"""Headers of one connection alone."""
_AWAY = "<p>The app is not running. The review page at <a href='/'>/</a> does not need it.</p>"


class AppProxy:
    """Passes requests on to the app at a Unix socket."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=socket, verify=False), base_url="http://app",
            timeout=_SECONDS, trust_env=False,
        )  # fmt: skip

    def add(self, app: FastAPI) -> None:
        """Put the app under `/app`."""
        app.add_api_route(APP, lambda: RedirectResponse(f"{APP}/"), include_in_schema=False)
        app.add_api_route(
            f"{APP}/{{path:path}}", self.page, methods=["GET", "HEAD"], include_in_schema=False,
            response_model=None,
        )  # fmt: skip
        app.add_api_websocket_route(f"{APP}/{{path:path}}", self.stream)

    async def close(self) -> None:
        """End what is open."""
        await self._client.aclose()

    async def page(self, request: Request) -> Response:
        """A page, script or file of the app; without a login, the way to it."""
        place = _place(request)
        if not await _knows(request):
            return RedirectResponse(f"/login?next={quote(place, safe='')}", 303)
        asked = self._client.build_request(request.method, place, headers=_passed_on(request))
        try:
            answer = await self._client.send(asked, stream=True)
        except httpx.HTTPError:
            return Response(_AWAY, 502, media_type="text/html")
        passed = StreamingResponse(_bytes(answer), answer.status_code)
        hops = (b"connection", b"transfer-encoding")
        passed.raw_headers = [one for one in answer.headers.raw if one[0].lower() not in hops]
        return passed

    async def stream(self, websocket: WebSocket) -> None:
        """A WebSocket of the app, until one side ends it."""
        if not await _knows(websocket):
            await websocket.close(1008, "log in first")
            return
        asked = websocket.headers.get("sec-websocket-protocol", "")
        headers = [one for one in _passed_on(websocket) if not one[0].startswith("sec-websocket")]
        try:
            async with unix_connect(
                self._socket, f"ws://app{_place(websocket)}", compression=None, max_size=None,
                subprotocols=[one.strip() for one in asked.split(",")] if asked else None,
                additional_headers=headers, user_agent_header=None, ping_interval=None, proxy=None,
            ) as app:  # fmt: skip
                await websocket.accept(app.subprotocol)
                await _first_of(_to_app(websocket, app), _to_browser(app, websocket))
                if app.close_code is not None:
                    with contextlib.suppress(RuntimeError):
                        await websocket.close(1001)
        except (OSError, WebSocketException):
            with contextlib.suppress(RuntimeError):  # the browser has gone in this moment
                await websocket.close(1013, "the app is not running")


async def _knows(connection: HTTPConnection) -> bool:
    try:
        await to_thread.run_sync(current_reviewer, connection, connection.cookies.get(COOKIE), None)
    except HTTPException:
        return False
    return True


def _place(connection: HTTPConnection) -> str:
    path = quote(connection.scope["path"], safe="/-._~!$&'()*+,;=:@")
    query = connection.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _passed_on(connection: HTTPConnection) -> list[tuple[str, str]]:
    return [(name, value) for name, value in connection.headers.items() if name not in _OWN]


async def _bytes(answer: httpx.Response) -> AsyncIterator[bytes]:
    """As they come; whoever leaves in between leaves no connection open."""
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        await answer.aclose()


async def _first_of(*ways: Awaitable[None]) -> None:
    """Until one of these ends; the others are cancelled."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _to_app(browser: WebSocket, app: ClientConnection) -> None:
    async for message in _messages(browser):
        await app.send(message)


async def _messages(browser: WebSocket) -> AsyncIterator[str | bytes]:
    while True:
        message = await browser.receive()
        if message["type"] != "websocket.receive":
            return
        data = message.get("bytes")
        yield message["text"] if data is None else data


async def _to_browser(app: ClientConnection, browser: WebSocket) -> None:
    try:
        async for message in app:
            await (browser.send_text(message) if isinstance(message, str) else browser.send_bytes(message))
    except ConnectionClosed:
        return
