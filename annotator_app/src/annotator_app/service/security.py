"""Who may ask what: hosts, origins, sizes of requests, logins and roles.

A browser is made to do another site's bidding in three ways, and each is closed here: a name that points to
this computer (the Host header must be one of ours), a form or script of another page (changes need the header
`X-PHQ`, which other sites cannot send, and an Origin of our own), and a cookie that is sent along
(SameSite=Strict).

`X-PHQ` is also the version of the API. A page of version 1 that is still open after an upgrade may deliver
what it holds, and is told for everything else that it must be reloaded.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import threading
import time
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annotator_app.service.settings import LOOPBACK_NAMES, ServiceSettings, is_loopback
from phq_data.review import reviewers
from phq_data.review.reviewers import Reviewer

COOKIE = "phq_session"
APP = "/app"
"""Where the app is, in all addresses of the service."""
HEADER = "x-phq"
API_VERSION = "2"
_UNCHANGED = ("/api/decisions", "/api/queue/release", "/api/login", "/api/logout")
"""What version 1 of the API may still ask: these requests mean the same today."""
_SAFE = ("GET", "HEAD", "OPTIONS")
_TRIES, _MINUTE = 10, 60.0
_PROXIED = re.compile(
    r"via|cdn-loop|forwarded|max-forwards|front-end-https|(.*[-_])?forwarded([-_].*)?"
    r"|(.*[-_])?(client|connecting|real)[-_]ip"
    r"|x-(original|real|forward|envoy|varnish|amzn|arr|remote|scheme|proxy|cluster|proto|host|url|rewrite|appengine"
    r"|azure|ms|amz)([-_].*)?"
    r"|(tailscale|cf|ngrok|fly|fastly|akamai|x-vercel|x-nf|remote)[-_].*"
)
"""Headers that reverse proxies, tunnels and delivery networks add; no browser sends one."""
_BROWSERS_HTTP = ("1.1", "2", "3")
"""What browsers speak. nginx asks by HTTP/1.0 unless it is told otherwise."""

_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="Set by POST /api/login")
_bearer = HTTPBearer(auto_error=False, description="The token of an invitation")


_OURS = b"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
_POLICY = b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; " + _OURS
_APP_POLICY = (  # Streamlit compiles its charts in the browser
    b"default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    b"style-src 'self' 'unsafe-inline'; " + _OURS
)


LOG_IN = "log in first: open the link of your invitation"
_OLD_PAGE = "PHQ was upgraded after this page was opened: reload it. Decisions that wait in it are kept"


class Gate:
    """The first thing a request meets. Refuses foreign hosts and origins and bodies that are too large."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "websocket" and not self._is_ours(Headers(scope=scope)):
            await send({"type": "websocket.close", "code": 1008, "reason": "not from our own pages"})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            headers = Headers(scope=scope)
            send = _guarded(send, _APP_POLICY if scope["path"].startswith(f"{APP}/") else _POLICY)
            problem = self._problem(scope, headers)
            if problem is not None:
                status, text = problem
                await JSONResponse({"detail": text}, status)(scope, receive, send)
                return
            await self.app(scope, self._limited(receive), send)

    def _is_ours(self, headers: Headers) -> bool:
        """May this WebSocket be opened? Browsers always tell whose page asks."""
        host = headers.get("host", "")
        return host_allowed(host, self.settings) and same_origin(
            headers.get("origin", ""), host, self.settings
        )

    def _problem(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not host_allowed(host, self.settings):
            return 421, "this service does not go by that name; start it with --name NAME to allow it"
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError:
            return 400, "the Content-Length is no number"
        if length > self.settings.max_body or length < 0:
            return 413, f"a request has at most {self.settings.max_body:,} bytes"
        site = headers.get("sec-fetch-site", "none")
        if scope["method"] in _SAFE:
            # Another site may lead people to our pages, but not make their browser work for it.
            foreign = site == "cross-site" and scope["path"].startswith(("/api/", "/img/", f"{APP}/_stcore"))
            return (403, "only this service's own pages may ask this") if foreign else None
        origin = headers.get("origin")
        if origin is not None and not same_origin(origin, host, self.settings):
            return 403, "changes are only taken from this service's own pages"
        if site not in ("none", "same-origin"):
            return 403, "changes are only taken from this service's own pages"
        version = headers.get(HEADER)
        if version == "1" and scope["path"] not in _UNCHANGED:
            return (
                409,
                _OLD_PAGE,
            )
        if version not in ("1", API_VERSION):
            return 403, f"changes need the header X-PHQ: {API_VERSION}"
        return None

    def _limited(self, receive: Receive) -> Receive:
        """Count bodies that come without a length."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.settings.max_body:
                raise HTTPException(413, f"a request has at most {self.settings.max_body:,} bytes")
            return message

        return counted


def _guarded(send: Send, policy: bytes) -> Send:
    """`send` with the headers of every answer: not to be sniffed, nor framed beyond what `policy` says."""

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message["headers"],
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
                (b"cross-origin-resource-policy", b"same-site"),
                (b"content-security-policy", policy),
            ]
        await send(message)

    return send_guarded


def same_origin(origin: str, host: str, settings: ServiceSettings) -> bool:
    """Is this Origin header that of the pages under this Host header, or of the public URL?"""
    origin = origin.rstrip("/").lower()
    return origin.partition("://")[2] == host.lower() or origin == (settings.public_url.lower() or None)


def host_allowed(header: str, settings: ServiceSettings) -> bool:
    """Is this Host header one of ours? Addresses in digits always are: no foreign name points to them."""
    try:
        name = (urlsplit(f"//{header}").hostname or "").lower() if header else ""
    except ValueError:  # half an IPv6 address
        return False
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        public = urlsplit(settings.public_url).hostname or ""
        allowed = {settings.host.lower(), *(other.lower() for other in settings.names), public} - {""}
        return name in LOOPBACK_NAMES or name in allowed
    return not settings.loopback or address.is_loopback


class Tries:
    """Slows down guessing of the password: a few failures a minute from one address, or for one name from
    whatever addresses, then none.

    Tokens are too long to be guessed.
    """

    def __init__(self) -> None:
        self._failed: dict[str, list[float]] = {}
        self._guard = threading.Lock()

    def check(self, address: str, name: str | None) -> None:
        """Raises 429 after too many failures."""
        with self._guard:
            if any(len(self._recent(key)) >= _TRIES for key in _counted(address, name)):
                raise HTTPException(429, "too many failed logins: wait a minute")

    def failed(self, address: str, name: str | None) -> None:
        """Remember a failure."""
        with self._guard:
            if len(self._failed) > 10_000:
                self._failed = {key: self._recent(key) for key in self._failed if self._recent(key)}
            for key in _counted(address, name):
                self._failed[key] = [*self._recent(key), time.monotonic()]

    def _recent(self, address: str) -> list[float]:
        since = time.monotonic() - _MINUTE
        return [moment for moment in self._failed.get(address, []) if moment > since]


def _counted(address: str, name: str | None) -> tuple[str, ...]:
    """What failures are counted under: an address has no @ before it."""
    return (address, f"@{name.strip().casefold()}") if name else (address,)


def same_secret(given: str, wanted: str) -> bool:
    """Compare without telling by the time it takes how much was right."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def current_reviewer(
    request: HTTPConnection,
    cookie: Annotated[str | None, Security(_cookie)] = None,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
) -> Reviewer:
    """Who asks: by token, by cookie or, on loopback without logins, this computer's user. Else 401."""
    state = request.app.state
    settings: ServiceSettings = state.settings
    if bearer is not None:
        found = reviewers.by_token(state.store, bearer.credentials)
        if found is None:
            raise HTTPException(401, "this token is not, or no longer, valid")
        return found
    open_to_asker = is_open(request, settings)
    if cookie:
        found = reviewers.by_cookie(state.store, cookie)
        if found is not None and (settings.login or found.invited or open_to_asker):
            return found
    if open_to_asker:
        return Reviewer(settings.local_reviewer(), "lead")
    raise HTTPException(401, LOG_IN)


def is_open(request: HTTPConnection, settings: ServiceSettings) -> bool:
    """May whoever asks come in by a name alone? Only from this computer itself, not through a proxy on it.

    What gives a session and what takes one both ask this.
    """
    return not settings.login and _local(request)


def address_of(request: HTTPConnection, settings: ServiceSettings) -> str:
    """Who asks, to count failed logins by: behind a proxy of ours what it says, and nobody else's word."""
    client = request.client.host if request.client else ""
    told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return told[:64] if told and settings.public_url and is_loopback(client) else client


def is_proxied(headers: Iterable[str]) -> bool:
    """Is one of these names a header that only proxies add?"""
    return any(_PROXIED.fullmatch(name.lower()) for name in headers)


def _local(request: HTTPConnection) -> bool:
    """Does this computer itself ask? A proxy on it that adds no header and speaks HTTP/1.1, or what passes a
    connection on as it is, cannot be told from a browser: docs/review.md says so.
    """
    if request.scope.get("http_version", "1.1") not in _BROWSERS_HTTP:
        return False
    if is_proxied(request.headers):
        return False
    return request.client is None or request.client.host == "testclient" or is_loopback(request.client.host)


def current_lead(reviewer: Annotated[Reviewer, Depends(current_reviewer)]) -> Reviewer:
    """Who asks, if a lead. Else 403."""
    if not reviewer.lead:
        raise HTTPException(403, "only a lead may do that")
    return reviewer


AnyReviewer = Annotated[Reviewer, Depends(current_reviewer)]
Lead = Annotated[Reviewer, Depends(current_lead)]
