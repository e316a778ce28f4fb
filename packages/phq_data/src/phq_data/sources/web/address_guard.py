"""Which addresses may be asked: http and https, no passwords inside, and no machine of a private network.

A list of addresses or a redirect could point at a router, a cloud's metadata service or a program on this
machine. The name is resolved before the request, and the address that really answered is checked again,
because a name may point elsewhere a moment later.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from phq_data.sources.web import PermanentError, TransientError

Resolve = Callable[[str, int], list[str]]
_KEPT = 300.0  # seconds that a name's verdict is trusted


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name. Raises `OSError`."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class AddressGuard:
    """Says no to addresses that a public photo cannot have."""

    def __init__(
        self, allow_private: bool = False, now: Callable[[], float] = lambda: 0.0, names: Resolve = resolve
    ) -> None:
        self._allow, self._now, self._names = allow_private, now, names
        self._proxies = urllib.request.getproxies()
        self._known: dict[tuple[str, int], float] = {}
        self._lock = threading.Lock()

    def check(self, url: str) -> str:
        """`url` itself. Raises `PermanentError` (`bad_url`, `private_host`); `TransientError` when the name
        cannot be resolved now.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise PermanentError("bad_url", f"it is no address: {error}") from None
        if parts.scheme not in ("http", "https") or not host:
            raise PermanentError("bad_url", f"only http and https are asked, not '{parts.scheme}'")
        if parts.username or parts.password:
            raise PermanentError("bad_url", "an address with a password inside is not asked")
        _require_sendable(url, host)
        literal = _literal(host)
        if literal:
            self._require(literal, host)
        elif not self._through_proxy(parts.scheme, host):
            self._check_name(host, port)
        return url

    def check_peer(self, url: str, stream: Any) -> None:
        """Check the address that answered (`network_stream` of an httpx answer)."""
        if stream is None:
            return
        parts = urlsplit(url)
        if self._through_proxy(parts.scheme, parts.hostname or ""):
            return
        peer = stream.get_extra_info("server_addr")
        if peer:
            self._require(str(peer[0]), parts.hostname or "")

    def _require(self, address: str, host: str) -> None:
        """Refuse a private address unless they are allowed, and one of the link always: clouds answer there
        with the keys of the machine, and no photo lies there.
        """
        found = _plain(address)
        if found.is_link_local:
            raise PermanentError(
                "private_host",
                f"{host} is {found}, an address of this link (a cloud's metadata): never asked",
            )
        if not self._allow and (not found.is_global or found.is_multicast or found.is_reserved):
            raise PermanentError(
                "private_host",
                f"{host} is {found}, an address of a private network; allow it in the settings",
            )

    def _check_name(self, host: str, port: int) -> None:
        with self._lock:
            if self._now() < self._known.get((host, port), -1.0):
                return
        try:
            found = self._names(host, port)
        except UnicodeError as error:
            raise PermanentError("bad_url", f"{host} is no name of a host: {error}") from None
        except OSError as error:
            raise TransientError("NameNotFound", f"the name {host} cannot be resolved: {error}") from None
        for address in found:
            self._require(address, host)
        with self._lock:
            self._known[host, port] = self._now() + _KEPT

    def _through_proxy(self, scheme: str, host: str) -> bool:
        return scheme in self._proxies and not urllib.request.proxy_bypass(host)


def _literal(host: str) -> str:
    """`host` if it is an address in any form that systems understand (also 127.1 and 0x7f.1), else ""."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    if host.lower().replace(".", "").replace("x", "").strip("0123456789abcdef") == "":
        try:
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            return ""
    return ""


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that an IPv6 one stands for, where it holds one of IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        return found.ipv4_mapped or found.sixtofour or found
    return found


def _require_sendable(url: str, host: str) -> None:
    """Refuse what httpx or the resolver could only stumble over. Raises `PermanentError` (`bad_url`)."""
    try:
        known = httpx.URL(url)
        name = known.host and known.raw_host.decode("ascii").removesuffix(".")  # both forms must exist
    except (httpx.InvalidURL, ValueError) as error:
        raise PermanentError("bad_url", f"it is no address: {error}") from None
    if ":" not in host and (len(name) > 253 or any(not 0 < len(part) < 64 for part in name.split("."))):
        raise PermanentError(
            "bad_url", f"'{host[:40]}' is no name of a host: a part of it is empty or too long"
        )
