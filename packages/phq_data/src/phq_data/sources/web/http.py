"""Asking the web: one client for interfaces, robots.txt and photos.

It says who it is, keeps every host's limits (`limits.Gate`), tells errors that may pass from those that will
not, tries the former again with growing random pauses, and follows redirects itself so that every address on
the way is checked. Keys travel in a header of the provider's own host only and are in no text we write.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from phq_data import __version__
from phq_data.foreign import parse_json
from phq_data.sources.web import FetchError, PermanentError, TransientError
from phq_data.sources.web.address_guard import AddressGuard
from phq_data.sources.web.deadline import Deadline
from phq_data.sources.web.limits import Clock, Gate, HostPolicy, QuotaBook, SystemClock, retry_after

AGENT = "phq-data"
"""The name that robots.txt and X-Robots-Tag may use for us."""
MAX_HOPS = 5
DOCUMENT_BYTES = 32 << 20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 421, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 527, 529})
_WORDS = {401: "unauthorized", 403: "forbidden", 404: "not_found", 410: "gone", 451: "legal_reasons"}
_PIECE = 1 << 18  # bytes that are unpacked at a time
_EXCHANGE = 3600.0  # seconds that an answer may take, whatever its pace
_SLOW = 60.0, 1024.0  # after so many seconds, fewer bytes a second than this is too slow

T = TypeVar("T")
Hop = Callable[[str], None]
"""Asked before every address of a download, the first one and redirects. Raises `FetchError`."""


class Secret:
    """A key. It shows itself to nobody but the request it is for."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise TypeError("a key is not written anywhere")

    def reveal(self) -> str:
        """The key itself."""
        return self._value


class KeyAuth(httpx.Auth):
    """Puts a key into the Authorization header (which httpx never shows)."""

    def __init__(self, key: Secret, prefix: str = "") -> None:
        self._key, self._prefix = key, prefix

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        """Called by httpx."""
        request.headers["Authorization"] = self._prefix + self._key.reveal()
        yield request


def agent(contact: str) -> str:
    """The User-Agent: who we are, whom to write to, what we are made of."""
    inside = f" ({contact})" if contact else ""
    return f"{AGENT}/{__version__}{inside} python-httpx/{httpx.__version__}"


@dataclass(frozen=True)
class Document:
    """A small answer, read whole."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises `TransientError` when it is none: a page of an overloaded server, say."""
        try:
            return parse_json(self.body, finite=False)
        except ValueError:
            raise TransientError("BadAnswer", f"{_shown(self.url)} did not answer in JSON") from None


class Reply:
    """An answer whose body is still on its way."""

    def __init__(self, response: httpx.Response, gate: Gate, clock: Clock, *, secret: bool = False) -> None:
        self._response, self._gate, self._clock, self._secret = response, gate, clock, secret
        self.url = str(response.url)
        self.status = response.status_code
        self.headers = response.headers

    def header_lines(self, name: str) -> list[str]:
        """Every line of a header that may come several times."""
        return self.headers.get_list(name)

    @property
    def length(self) -> int | None:
        """Bytes of the body as it was sent, where the server says."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdigit() else None

    def chunks(self, limit: int) -> Iterator[bytes]:
        """The body, unpacked, a piece at a time.

        Raises `PermanentError` (`too_many_bytes`) beyond `limit` bytes, unpacked too: a small file that
        grows without end is stopped. `TransientError` for a broken or much too slow transfer.
        """
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise PermanentError("unsupported_encoding", f"the body is packed with '{coding[:40]}'")
        unpack = None if coding in ("", "identity") else zlib.decompressobj(47)
        total, began = 0, self._clock.now()
        with _explained(self.url, self._secret):
            for raw in self._response.iter_raw():
                self._gate.pay(len(raw))
                for piece in _unpacked(unpack, raw):
                    total += len(piece)
                    if total > limit:
                        raise PermanentError("too_many_bytes", f"more than {limit:,} bytes")
                    yield piece
                spent = self._clock.now() - began
                if spent > _SLOW[0] and total < spent * _SLOW[1]:
                    raise TransientError("Timeout", f"only {total:,} bytes in {spent:.0f} seconds")
        if unpack is not None and not unpack.eof:
            raise TransientError("BrokenTransfer", "the packed body ends too early")


class Web:
    """Everything that is asked of the web goes through one of these. Threads may share it."""

    def __init__(
        self,
        contact: str = "",
        *,
        policies: Mapping[str, HostPolicy] | None = None,
        default: HostPolicy | None = None,
        allow_private: bool = False,
        attempts: int = 4,
        timeout: float = 30.0,
        max_wait: float = 3900.0,
        clock: Clock | None = None,
        book: QuotaBook | None = None,
        on_wait: Callable[[str, float], None] = lambda host, seconds: None,
        connections: int = 64,
        seed: int | None = None,
        guard: AddressGuard | None = None,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.attempts, self.max_wait, self._on_wait = attempts, max_wait, on_wait
        self._policies, self._default = dict(policies or {}), default or HostPolicy()
        self._book = book or QuotaBook()
        self._guard = guard or AddressGuard(allow_private, self.clock.now)
        self._random = random.Random(seed)
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._client = httpx.Client(
            headers={"User-Agent": agent(contact), "Accept": "*/*", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 15.0), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=connections),
            follow_redirects=False,
            event_hooks={"response": [_keep_location]},
        )
        self._timeout, self._deadline = timeout, Deadline()
        self._deadline.watch(self._client)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def stop(self) -> None:
        """Let whoever waits for a turn give up."""
        self._stopped.set()

    def gate(self, url: str) -> Gate:
        """The gate of the host of `url`."""
        host = urlsplit(url).netloc.lower()
        with self._lock:
            if host not in self._gates:
                policy = self._policies.get(host, self._default)
                self._gates[host] = Gate(
                    host, policy, self.clock, self._book, self.max_wait, self._on_wait, self._stopped.is_set
                )
            return self._gates[host]

    def document(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        *,
        auth: httpx.Auth | None = None,
        limit: int = DOCUMENT_BYTES,
        judge: Callable[[Document], None] = lambda document: None,
        accept: frozenset[int] = frozenset(),
        attempts: int = 0,
    ) -> Document:
        """A small document, with as many tries as it takes. `judge` may raise `TransientError` for an answer
        that only looks well. Statuses in `accept` are answers too. Raises `FetchError`.
        """
        whole = str(httpx.URL(url).copy_merge_params(dict(params))) if params else url

        def once() -> Document:
            headers = {"Accept-Encoding": "gzip"}
            with self.open(whole, headers=headers, auth=auth, accept=accept) as reply:
                body = b"".join(reply.chunks(limit))
                document = Document(reply.url, reply.status, reply.headers, body)
            judge(document)
            return document

        return self.retrying(url, once, attempts)

    def retrying(self, url: str, work: Callable[[], T], attempts: int = 0) -> T:
        """`work()`, again and again while its error may pass. Raises its last `FetchError`."""
        tries = attempts or self.attempts
        for attempt in range(1, tries + 1):
            try:
                return work()
            except TransientError as error:
                pause = error.retry_after
                if attempt == tries or (pause is not None and pause > self.max_wait):
                    raise
                if pause is None:
                    pause = self._random.uniform(0.5, 1.0) * min(60.0, 2.0 ** (attempt - 1))
                if error.host:
                    self.gate(url).hold(pause)
                else:
                    self.clock.sleep(pause)
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def open(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        hop: Hop | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Iterator[Reply]:
        """One try at `url`; the answer while the block lasts. Only 200 and statuses in `accept` are answers,
        everything else is a `FetchError`. `auth` stays with the first host.
        """
        current = url
        for _ in range(MAX_HOPS + 1):
            self._guard.check(current)
            if hop is not None:
                hop(current)
            gate = self.gate(current)
            own = auth if urlsplit(current)[:2] == urlsplit(url)[:2] else None
            with gate.enter(), self._sent(current, headers or {}, own) as response:
                self._guard.check_peer(current, response.extensions.get("network_stream"))
                location = response.extensions.get("location", "")
                if response.status_code in _REDIRECTS and location:
                    current = _target(current, location)
                    continue
                gate.learn(response.headers)
                if response.status_code != 200 and response.status_code not in accept:
                    raise self._failure(response, current)
                yield Reply(response, gate, self.clock, secret=own is not None)
                return
        raise PermanentError("redirects", f"more than {MAX_HOPS} redirects")

    @contextlib.contextmanager
    def _sent(
        self, url: str, headers: Mapping[str, str], auth: httpx.Auth | None
    ) -> Iterator[httpx.Response]:
        with self._deadline.within(self._timeout):  # until the headers are there
            with _explained(url, auth is not None):
                request = self._client.build_request("GET", url, headers=dict(headers))
                response = self._client.send(request, stream=True, auth=auth)
            self._deadline.extend(_EXCHANGE)
            try:
                yield response
            finally:
                response.close()

    def _failure(self, response: httpx.Response, url: str) -> FetchError:
        status, where = response.status_code, _shown(url)
        if status not in _TRANSIENT:
            return PermanentError(_WORDS.get(status, f"http_{status}"), f"{where} answered {status}")
        pause = retry_after(response.headers, self.clock.wall())
        reason = "TooManyRequests" if status == 429 else "Timeout" if status == 408 else "ServerError"
        asks = f" and asks to wait {pause:.0f} seconds" if pause else ""
        host = status == 429 or pause is not None
        return TransientError(reason, f"{where} answered {status}{asks}", pause, host=host)


@contextlib.contextmanager
def _explained(url: str, secret: bool) -> Iterator[None]:
    """httpx's errors as ours. Their texts may quote a header: with a key in it only the kind is told."""
    where = _shown(url)

    def told(error: Exception) -> str:
        return type(error).__name__ if secret else str(error)

    try:
        yield
    except httpx.TimeoutException:
        raise TransientError("Timeout", f"{where} did not answer in time") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
        raise PermanentError("bad_url", f"it is no address: {told(error)}") from None
    except httpx.LocalProtocolError as error:
        raise PermanentError("bad_request", f"{where} cannot be asked: {told(error)}") from None
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        raise TransientError("BrokenTransfer", f"{where}: the transfer broke off ({told(error)})") from None
    except (httpx.TransportError, ssl.SSLError, OSError) as error:
        raise TransientError("ConnectionFailed", f"{where} cannot be reached: {told(error)}") from None
    except zlib.error as error:
        raise TransientError("BrokenTransfer", f"{where}: the body cannot be unpacked ({error})") from None


def _unpacked(unpack: Any, raw: bytes) -> Iterator[bytes]:
    if unpack is None:
        yield raw
        return
    while raw:
        yield unpack.decompress(raw, _PIECE)
        raw = unpack.unconsumed_tail


def _keep_location(response: httpx.Response) -> None:
    """Take the place of a redirect out of the headers: httpx would read it, and call an unreadable one a
    transfer that broke off.
    """
    response.extensions["location"] = response.headers.pop("location", "")


def _target(current: str, location: str) -> str:
    try:
        target = urljoin(current, location)
        httpx.URL(target)
        if any(ord(character) < 32 or ord(character) == 127 for character in location):
            raise ValueError("it holds a control character")
    except (httpx.InvalidURL, ValueError) as error:
        raise PermanentError("bad_url", f"it redirects to no address: {error}") from None
    return target


def _shown(url: str) -> str:
    """An address for messages: without query and password, where secrets may be."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the address"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
