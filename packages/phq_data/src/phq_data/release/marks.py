"""What stands on the list of taken-down portraits for a request: an id, or the sha256 of a URL or a name.

One photo has its address in many spellings, and one person a name: letters in one or two code points, cases,
escapes, ports. A mark is made of a form in which these are equal; accents stay, as they tell people apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import unicodedata
from urllib.parse import unquote

_TRACKING = re.compile(
    r"(utm_\w+|fbclid|gclid|gclsrc|dclid|msclkid|yclid|igshid|mc_cid|mc_eid|_ga)(=|$)", re.IGNORECASE
)
"""Parameters that say where a reader came from, never which photo it is."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_PORT = re.compile(r":(80|443)$")


def mark(kind: str, text: str) -> str:
    """What stands in a tombstone for a request: an id itself, or the digest of a normal form.

    A URL keeps its query, in the order of its names: many sites tell photos apart by nothing else. What only
    says where a reader came from (utm_source, fbclid) is dropped. An author may be given by a page.
    """
    if kind == "id":
        return text
    plain = _plain(text)
    if kind == "url" or _SCHEME.match(plain) or plain.startswith("www."):
        plain = _address(plain)
    return _digest({"url": "url3", "author": "author2"}.get(kind, kind), plain)


def marks(kind: str, text: str) -> tuple[str, ...]:
    """All marks that mean `text`, a URL or author of a row: its own, and those of earlier versions of PHQ.

    Their marks are still on lists and mean what they meant then (the first ones dropped the whole query of a
    URL). Each kind has another prefix under the digest, so that none of now means more than it says.
    """
    plain = " ".join(text.split())
    if kind != "url":
        return mark(kind, text), _digest(kind, plain.casefold())
    path, _, query = plain.partition("#")[0].partition("?")
    kept = sorted(part for part in query.split("&") if part and not _TRACKING.match(part))
    second = _bare(path.casefold()) + (f"?{'&'.join(kept)}" if kept else "")
    return mark(kind, text), _digest("url2", second.casefold()), _digest("url", _bare(path.casefold()))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", text).split()).casefold())


def _address(plain: str) -> str:
    path, _, query = plain.partition("#")[0].partition("?")
    host, slash, rest = _bare(path).partition("/")
    name = _PORT.sub("", host)
    with contextlib.suppress(UnicodeError):
        name = name.encode("idna").decode("ascii")
    kept = sorted(_decoded(part) for part in query.split("&") if part and not _TRACKING.match(part))
    return name + slash + _decoded(rest) + (f"?{'&'.join(kept)}" if kept else "")


def _decoded(text: str) -> str:
    return _plain(unquote(text))


def _bare(address: str) -> str:
    return address.rstrip("/").removeprefix("https://").removeprefix("http://").removeprefix("www.")


def _digest(kind: str, plain: str) -> str:
    return hashlib.sha256(f"{kind}:{plain}".encode("utf-8", "surrogatepass")).hexdigest()
