"""The page's files: read once, when the service starts, and served from memory.

An upgrade of the package under a running service changes nothing of what it serves, and the digest of all of
them in their addresses keeps a browser from mixing old and new ones. Pages are there in every language of
`static/texts/`: `{{key}}` in them stands for a text of that language.
"""

from __future__ import annotations

import hashlib
import html
import json
import mimetypes
import re
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response
from starlette.requests import HTTPConnection

_STATIC = Path(__file__).parent.parent / "static"
_PAGES = ("index.html", "login.html")
_WORKER = "worker.js"
_ENGLISH = "en"
LANGUAGE = "phq_language"
"""The cookie with the language that somebody chose; without it the browser's languages decide."""

_ANEW = {"cache-control": "no-cache"}
_FOR_EVER = {"cache-control": "public, max-age=31536000, immutable"}


class PageFiles:
    """What is in a folder of pages, scripts, styles and texts, as it is now."""

    def __init__(self, folder: Path = _STATIC) -> None:
        found = sorted(one for one in folder.rglob("*") if one.is_file())
        files = {one.relative_to(folder).as_posix(): one.read_bytes() for one in found}
        digest = hashlib.sha256()
        for name, data in files.items():
            digest.update(name.encode() + b"\0" + data)
        self.version = digest.hexdigest()[:12]
        self.texts = {
            Path(name).stem: json.loads(data) for name, data in files.items() if name.startswith("texts/")
        }
        self._pages = {
            (name, language): self._page(files[name].decode(), language, texts)
            for name in _PAGES
            for language, texts in self.texts.items()
        }
        shells = {f"index.{language}.html": self._pages["index.html", language] for language in self.texts}
        self._files = {name: data for name, data in files.items() if name not in (*_PAGES, _WORKER)} | shells
        listed = [f"/assets/{self.version}/{name}" for name in sorted(self._files) if "texts/" not in name]
        worker = files[_WORKER].decode().replace("{{version}}", self.version)
        self._worker = worker.replace('"{{files}}"', json.dumps(listed))

    def add(self, app: FastAPI) -> None:
        """Serve them."""

        @app.get("/", include_in_schema=False)
        def index(request: Request) -> Response:
            return self._answer("index.html", request)

        @app.get("/login", include_in_schema=False)
        def login(request: Request) -> Response:
            return self._answer("login.html", request)

        @app.get("/worker.js", include_in_schema=False)
        def worker() -> Response:
            return Response(self._worker, media_type="text/javascript", headers=_ANEW)

        @app.get("/assets/{version}/{name:path}", include_in_schema=False)
        def asset(version: str, name: str) -> Response:
            if version != self.version or name not in self._files:
                raise HTTPException(404, "this version of the page has no such file: reload the page")
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            kind = "text/javascript" if name.endswith(".js") else kind  # whatever this system calls it
            return Response(self._files[name], media_type=kind, headers=_FOR_EVER)

    def language(self, connection: HTTPConnection) -> str:
        """The language of a request: the chosen one, else the browser's first that is there, else English."""
        chosen = connection.cookies.get(LANGUAGE)
        if chosen in self.texts:
            return chosen
        wanted = []
        for place, one in enumerate(connection.headers.get("accept-language", "")[:500].split(",")):
            name, _, share = one.partition(";q=")
            weight = float(share) if re.fullmatch(r"[01](\.\d{1,3})?", share.strip()) else float(not share)
            wanted.append((-weight, place, name.strip().partition("-")[0].lower()))
        return next((name for weight, _, name in sorted(wanted) if weight and name in self.texts), _ENGLISH)

    def _answer(self, name: str, request: Request) -> Response:
        language = self.language(request)
        headers = {**_ANEW, "content-language": language, "vary": "accept-language, cookie"}
        return Response(self._pages[name, language], media_type="text/html", headers=headers)

    def _page(self, text: str, language: str, texts: dict[str, str]) -> bytes:
        told = json.dumps(texts, ensure_ascii=False).replace("<", "\\u003c")
        known = {"texts": told, "lang": language, "langs": " ".join(self.texts)}

        def filled(found: re.Match[str]) -> str:
            name = found[1]
            return known[name] if name in known else _marked(texts[name])

        made = re.sub(r"\{\{([\w.]+)\}\}", filled, text)
        return made.replace('"/assets/', f'"/assets/{self.version}/').encode()


def _marked(text: str) -> str:
    """A text as HTML: `**bold**`, and `[[action]]` for the key of an action."""
    bold = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(text))
    return re.sub(r"\[\[(\w+)\]\]", r'<kbd data-key="\1"></kbd>', bold)
