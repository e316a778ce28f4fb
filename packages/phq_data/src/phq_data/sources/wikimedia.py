"""Wikimedia Commons: free files, no key. The default source.

Search through the MediaWiki API (generator=search over files, imageinfo with extmetadata), one request at a
time with `maxlag`, as its etiquette asks; photos from upload.wikimedia.org over two connections at 25 Mbit/s,
as its robot policy asks. Every file's license is read from its extmetadata, which people write by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from phq_data.sources import Provenance, SourceError
from phq_data.sources.licenses import License, license_url, normalise, plain
from phq_data.sources.web import Candidate, Page, TransientError
from phq_data.sources.web.http import Document, Web
from phq_data.sources.web.limits import HostPolicy, retry_after

API = "https://commons.wikimedia.org/w/api.php"
PER_PAGE = 50
DEEPEST = 10_000
"""Results that the search gives of one query."""
FORMATS = frozenset({"image/jpeg", "image/png", "image/webp", "image/tiff"})
_BUSY = frozenset({"maxlag", "ratelimited", "readonly"})
_STATED = ("LicenseShortName", "License", "LicenseUrl", "UsageTerms", "Restrictions", "Permission")


def policies(api: str = API) -> dict[str, HostPolicy]:
    """What one may ask of its hosts."""
    return {
        urlsplit(api).netloc.lower(): HostPolicy(connections=1, per_second=5),
        "upload.wikimedia.org": HostPolicy(connections=2, bytes_per_second=25e6 / 8),
    }


class Wikimedia:
    """The client of Wikimedia Commons, or of another MediaWiki whose API is at `api`."""

    provider = "wikimedia"

    def __init__(self, web: Web, api: str = API) -> None:
        self._web, self._api = web, api

    def search(self, query: str, cursor: str) -> Page:
        """The page of `query` at `cursor`, the API's own `continue` as JSON."""
        params = {
            "generator": "search",
            "gsrsearch": f"{query} filetype:bitmap",
            "gsrnamespace": "6",
            "gsrlimit": str(PER_PAGE),
            "gsrinfo": "totalhits",
        }
        if cursor:
            params.update({str(key): str(value) for key, value in json.loads(cursor).items()})
        document = self._ask(params)
        pages = document.get("query", {}).get("pages", [])
        found = sorted(pages, key=lambda page: page.get("index", 0))
        candidates = tuple(candidate for page in found if (candidate := self._candidate(page)))
        following = document.get("continue")
        if following and int(following.get("gsroffset", 0)) + PER_PAGE > DEEPEST:
            following = None
        total = document.get("query", {}).get("searchinfo", {}).get("totalhits")
        return Page(candidates, json.dumps(following, sort_keys=True) if following else None, total)

    def look_up(self, pageids: Iterable[str] = (), titles: Iterable[str] = ()) -> dict[str, Candidate]:
        """What Commons says of files by page id or by title (`File:...`), 50 at most of one kind; those
        that are there, under what they were asked by.
        """
        ids = list(pageids)
        asked = {"pageids": "|".join(ids)} if ids else {"titles": "|".join(titles)}
        query = self._ask(asked).get("query", {})
        renamed = {entry["to"]: entry["from"] for entry in query.get("normalized", [])}
        found = {}
        for page in query.get("pages", []):
            candidate = self._candidate(page)
            if candidate:
                found[str(page["pageid"]) if ids else renamed.get(page["title"], page["title"])] = candidate
        return found

    def before_download(self, candidate: Candidate) -> None:
        """Nothing is asked for."""

    def _ask(self, params: Mapping[str, str]) -> dict[str, Any]:
        common = {
            "action": "query",
            "prop": "imageinfo",
            "iiprop": "url|size|mime|sha1|user|extmetadata",
            "iiextmetadatalanguage": "en",
            "format": "json",
            "formatversion": "2",
            "maxlag": "5",
        }
        document = self._web.document(self._api, {**common, **params}, judge=self._judge).json()
        if not isinstance(document, dict):
            raise SourceError(f"{self._api} is no MediaWiki API")
        error = document.get("error")
        if error:
            raise SourceError(f"Wikimedia refuses the search: {error.get('info') or error.get('code')}")
        return document

    def _judge(self, document: Document) -> None:
        """A busy server says so in an answer that looks well."""
        content = document.json()
        error = content.get("error", {}) if isinstance(content, dict) else {}
        if error.get("code") in _BUSY:
            pause = retry_after(document.headers, self._web.clock.wall())
            raise TransientError(
                "Busy", f"Wikimedia is busy: {error.get('info', '')[:200]}", pause, host=True
            )

    def _candidate(self, page: Mapping[str, Any]) -> Candidate | None:
        """The file of a page; None when the page is missing or no image format."""
        info = (page.get("imageinfo") or [{}])[0]
        if not info.get("url") or info.get("mime") not in FORMATS:
            return None
        meta = {
            name: plain(str(entry.get("value", "")))
            for name, entry in (info.get("extmetadata") or {}).items()
        }
        license = _license(meta)
        stated = {name: meta[name][:300] for name in _STATED if meta.get(name)}
        provenance = Provenance(
            page_url=info.get("descriptionurl"),
            file_url=info["url"],
            title=meta.get("ObjectName") or page.get("title", "").removeprefix("File:"),
            author=meta.get("Artist") or info.get("user"),
            author_url=_user_page(info),
            license=license.name,
            license_url=meta.get("LicenseUrl") or license_url(license.name),
        )
        return Candidate(
            uri=f"wikimedia:{page['pageid']}",
            url=info["url"],
            provenance=provenance,
            refusal=license.reason,
            message=license.message,
            version=info.get("sha1", ""),
            sha1=info.get("sha1", ""),
            size=int(info.get("size", -1)),
            stated={"from": "extmetadata of the file's page", **stated},
        )


def _license(meta: Mapping[str, str]) -> License:
    if meta.get("NonFree", "").lower() in ("1", "true", "yes"):
        return License(None, "license_nonfree", "its page says that it is not free")
    return normalise(meta.get("LicenseUrl"), meta.get("LicenseShortName"), meta.get("License"))


def _user_page(info: Mapping[str, Any]) -> str | None:
    """The page of who uploaded it."""
    user, page = info.get("user"), info.get("descriptionurl") or ""
    base = page.partition("/wiki/")[0]
    return f"{base}/wiki/User:{user.replace(' ', '_')}" if user and "/wiki/" in page else None
