"""What a site asks of programs: robots.txt, X-Robots-Tag, and TDM reservations. Honoured, and written down.

* robots.txt (RFC 9309): no file = everything may be fetched; one that cannot be had = nothing may, for now.
* `X-Robots-Tag` of the answer: noai, noimageai, noml, noindex, noimageindex, none; for all or for us by name.
* TDM Reservation Protocol (W3C community report, 2024-05-10): the header `tdm-reservation` of the answer, and
  where it says nothing, the site's `/.well-known/tdmrep.json`.

They are about the photos; a provider's documented interface has terms of its own (`terms`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from protego import Protego

from phq_data.foreign import parse_json
from phq_data.sources.web import FetchError, RefusedError, TransientError
from phq_data.sources.web.http import AGENT, Document, Web
from phq_data.text import wildcard

OPT_OUT = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
_ROBOTS_BYTES = 512_000  # RFC 9309 asks for at least 500 KiB; what comes after is not read
_KEPT = 24 * 3600.0  # seconds that a site's word is remembered
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_NONE = frozenset({400, 401, 402, 403, 404, 405, 406, 410, 451})


@dataclass(frozen=True)
class _Site:
    until: float
    robots: Protego | None  # None = everything may be fetched
    robots_word: str  # for the record
    rules: tuple[tuple[re.Pattern[str], bool], ...]  # tdmrep.json: path pattern, reserved
    rules_word: str


class RobotsPolicy:
    """Remembers what sites ask for. Threads may share it."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._sites: dict[str, _Site] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def ask(self, url: str) -> dict[str, str]:
        """What robots.txt and tdmrep.json say of `url`, for the record: `robots` and `tdm`.

        Raises `RefusedError` (`robots`) where it may not be fetched; `TransientError` where the site cannot
        be asked now. A reservation in tdmrep.json is judged in `heed`: the answer's header goes before it.
        """
        site = self._site(url)
        if site.robots is not None and not site.robots.can_fetch(url, AGENT):
            raise RefusedError("robots", f"robots.txt of {urlsplit(url).netloc} keeps programs out")
        return {"robots": site.robots_word}

    def heed(self, url: str, headers: Mapping[str, str], tags: Iterable[str]) -> dict[str, str]:
        """What the answer's headers (and else tdmrep.json) say, for the record: `x_robots_tag` and `tdm`.

        `tags` are all lines of X-Robots-Tag. Raises `RefusedError` (`opt_out`).
        """
        lines = [line for line in tags if line.strip()]
        for line in lines:
            word = opted_out(line)
            if word:
                raise RefusedError("opt_out", f"its X-Robots-Tag says {word}")
        site = self._site(url, known=True)
        stated = headers.get("tdm-reservation", "").strip()
        if stated == "1":
            raise RefusedError("opt_out", "its header tdm-reservation reserves text and data mining")
        word = site.rules_word
        if stated == "0":
            word = "header: not reserved"
        elif _reserved(site.rules, url):
            raise RefusedError("opt_out", "the site's tdmrep.json reserves text and data mining")
        return {"x_robots_tag": "; ".join(lines)[:200] or "none", "tdm": word}

    def _site(self, url: str, *, known: bool = False) -> _Site:
        """What the site of `url` asks for; with `known` what it said before, however long ago: while an
        answer is open its connection is taken, and asking again could wait for it for ever.
        """
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc.lower()}"
        with self._lock:
            lock = self._locks.setdefault(origin, threading.Lock())
        with lock:
            site = self._sites.get(origin)
            if site is None or (not known and site.until < self._web.clock.now()):
                site = self._sites[origin] = self._ask(origin)
            return site

    def _ask(self, origin: str) -> _Site:
        robots, word = self._robots(origin)
        rules, rules_word = self._tdm(origin)
        delay = robots.crawl_delay(AGENT) if robots else None
        if delay:
            self._web.gate(origin).slow_down(float(delay))
        return _Site(self._web.clock.now() + _KEPT, robots, word, rules, rules_word)

    def _robots(self, origin: str) -> tuple[Protego | None, str]:
        try:
            found = self._read(f"{origin}/robots.txt")
        except TransientError as error:
            raise TransientError(
                "RobotsUnreachable", f"robots.txt of {origin} cannot be read: {error}", error.retry_after
            ) from None
        except FetchError as error:
            return None, f"no robots.txt ({error.reason})"
        if found.status != 200:
            return None, f"no robots.txt ({found.status})"
        return Protego.parse(found.body.decode("utf-8", "replace")), "robots.txt allows it"

    def _tdm(self, origin: str) -> tuple[tuple[tuple[re.Pattern[str], bool], ...], str]:
        try:
            found = self._read(f"{origin}/.well-known/tdmrep.json")
        except TransientError as error:
            raise TransientError(
                "RobotsUnreachable", f"tdmrep.json of {origin} cannot be read: {error}", error.retry_after
            ) from None
        except FetchError as error:
            return (), f"no tdmrep.json ({error.reason})"
        if found.status != 200:
            return (), f"no tdmrep.json ({found.status})"
        rules = parse_tdmrep(found.body)
        return rules, "tdmrep.json: not reserved" if rules else "no tdmrep.json (no rules in it)"

    def _read(self, url: str) -> Document:
        def once() -> Document:
            with self._web.open(url, accept=_NONE) as reply:
                body, left = bytearray(), _ROBOTS_BYTES
                if reply.status == 200:
                    for chunk in reply.chunks(1 << 40):
                        body += chunk[:left]
                        left -= len(chunk)
                        if left <= 0:
                            break
                return Document(reply.url, reply.status, reply.headers, bytes(body))

        return self._web.retrying(url, once, attempts=3)


def opted_out(line: str) -> str:
    """The word of an X-Robots-Tag line that keeps us out; "" when none does.

    `noai, noimageai` is for all; `otherbot: noai` is for others; `phq-data: noai` is for us.
    """
    ours = True
    for part in line.split(","):
        name, colon, rest = part.partition(":")
        word = part
        if colon and name.strip().lower() not in _VALUED:
            ours = name.strip().lower() in ("*", AGENT)
            word = rest
        if ours and word.strip().lower() in OPT_OUT:
            return word.strip().lower()
    return ""


def parse_tdmrep(body: bytes) -> tuple[tuple[re.Pattern[str], bool], ...]:
    """(path pattern, reserved) of a tdmrep.json in its order; nothing when it is not one."""
    try:
        document: Any = parse_json(body)
    except ValueError:
        return ()
    rules = []
    for entry in document if isinstance(document, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("location"), str):
            rules.append((_pattern(entry["location"]), str(entry.get("tdm-reservation", "0")) == "1"))
    return tuple(rules)


def _pattern(location: str) -> re.Pattern[str]:
    """A path pattern: `*` is anything, `$` the end, otherwise what begins so."""
    text = location if location.startswith(("/", "*")) else f"/{location}"
    whole = text.removesuffix("$") if text.endswith("$") else f"{text}*"
    return wildcard([re.escape(part) for part in whole.split("*")])


def _reserved(rules: Iterable[tuple[re.Pattern[str], bool]], url: str) -> bool:
    """The first rule that fits the path decides."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return next((reserved for pattern, reserved in rules if pattern.fullmatch(path)), False)
