"""A server on this machine that speaks what the providers' documentation says, and misbehaves as told."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image


def jpeg(seed: int, side: int = 160) -> bytes:
    """A photo that is like no other seed's."""
    noise = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((side, side)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@dataclass
class Answer:
    """What the server says."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = -1  # send only so many bytes, then hang up
    pause: float = 0.0  # seconds before the body
    length: bool = True  # send Content-Length


@dataclass
class Request:
    """What the server heard."""

    path: str
    query: dict[str, str]
    headers: Message


class Site:
    """Paths to answers: bytes, JSON, an `Answer`, a list (its last one stays), or a function of `Request`."""

    def __init__(self) -> None:
        self.pages: dict = {}
        self.requests: list[Request] = []
        self.url = ""
        self._busy = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def asked(self, prefix: str = "/") -> list[str]:
        """The paths that were asked for, in order."""
        return [request.path for request in self.requests if request.path.startswith(prefix)]

    def counts(self, prefix: str = "/") -> Counter:
        return Counter(self.asked(prefix))

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            page = self.pages.get(request.path)
            if isinstance(page, list):
                page = page.pop(0) if len(page) > 1 else page[0]
        if callable(page):
            page = page(request)
        if page is None:
            return Answer(b"not here", 404)
        if isinstance(page, bytes):
            return Answer(page, headers={"Content-Type": "image/jpeg"})
        if isinstance(page, dict | list):
            return Answer(json.dumps(page).encode(), headers={"Content-Type": "application/json"})
        return page

    @contextmanager
    def counted(self):
        with self._lock:
            self._busy += 1
            self.most_at_once = max(self.most_at_once, self._busy)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1


@contextmanager
def serving(site: Site | None = None):
    """Serve a `Site` while the block lasts; its `url` says where."""
    site = site or Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            parts = urlsplit(self.path)
            query = {
                name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()
            }
            with site.counted():  # until the answer begins: who has it may send the next request
                answer = site.answer(Request(parts.path, query, self.headers))
                time.sleep(answer.pause)
            self._send(answer)

        def _send(self, answer: Answer):
            body = answer.body
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    for line in value.split("\n"):
                        self.send_header(name, line)
                if answer.length:
                    self.send_header("Content-Length", str(len(body)))
                else:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                if answer.cut >= 0:
                    body = body[: answer.cut]
                    self.close_connection = True
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, address):
            """A client that was killed is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


class FakeClock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        self.slept = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_700_000_000.0 + self.time

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.time += seconds
            self.slept += seconds
        time.sleep(0)


class Commons:
    """Files in a MediaWiki as Wikimedia Commons answers (formatversion 2), found by any query."""

    def __init__(self, site: Site, count: int, per_page: int = 5, license: str = "CC BY-SA 4.0") -> None:
        self.site, self.count, self.per_page = site, count, per_page
        self.licenses = dict.fromkeys(range(count), license)
        self.photos = {index: jpeg(index) for index in range(count)}
        for index, data in self.photos.items():
            site.pages[f"/photos/{index}.jpg"] = data
        site.pages["/w/api.php"] = self.api

    @property
    def api_url(self) -> str:
        return f"{self.site.url}/w/api.php"

    def api(self, request: Request):
        if "gsrsearch" not in request.query:
            wanted = [int(name) for name in request.query["pageids"].split("|")]
            return {"query": {"pages": [self.page(index) for index in wanted if index < self.count]}}
        start = int(request.query.get("gsroffset", "0"))
        chosen = range(start, min(start + self.per_page, self.count))
        # MediaWiki gives the pages of a generator in the order of their ids, with the rank in `index`.
        answer: dict[str, Any] = {
            "query": {
                "searchinfo": {"totalhits": self.count},
                "pages": [self.page(index) for index in sorted(chosen, reverse=True)],
            }
        }
        if start + self.per_page < self.count:
            answer["continue"] = {"gsroffset": start + self.per_page, "continue": "gsroffset||"}
        return answer

    def page(self, index: int) -> dict:
        data = self.photos[index]
        return {
            "pageid": index,
            "ns": 6,
            "title": f"File:Photo {index}.jpg",
            "index": index + 1,
            "imageinfo": [
                {
                    "user": "Ada Example",
                    "size": len(data),
                    "width": 160,
                    "height": 160,
                    "url": f"{self.site.url}/photos/{index}.jpg",
                    "descriptionurl": f"{self.site.url}/wiki/File:Photo_{index}.jpg",
                    "mime": "image/jpeg",
                    "sha1": hashlib.sha1(data).hexdigest(),
                    "extmetadata": {
                        "LicenseShortName": {"value": self.licenses[index], "source": "commons-desc-page"},
                        "Artist": {"value": '<a href="//example.org"><b>Ada</b>&nbsp;Example</a>'},
                        "ObjectName": {"value": f"Photo {index}"},
                        "Restrictions": {"value": "personality"},
                    },
                }
            ],
        }
