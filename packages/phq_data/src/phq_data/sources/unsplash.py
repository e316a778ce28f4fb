"""Unsplash, through its API. Its guidelines stand against data sets (`terms`): only with a permission.

Every download is told to `links.download_location`, as the guidelines ask, and links to photographer and
photo carry the utm parameters of their attribution rule. 50 requests an hour by our own count, which is what
a demo key has, or whatever its answers state for a better one.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from phq_data.sources import Provenance
from phq_data.sources.pexels import refused
from phq_data.sources.web import Candidate, Page, PermanentError
from phq_data.sources.web.http import KeyAuth, Secret, Web
from phq_data.sources.web.limits import HostPolicy, Quota

API = "https://api.unsplash.com"
PER_PAGE = 30
_UTM = {"utm_source": "phq", "utm_medium": "referral"}


def policies(api: str = API) -> dict[str, HostPolicy]:
    """What one may ask of its hosts."""
    return {
        urlsplit(api).netloc.lower(): HostPolicy(connections=1, quotas=(Quota(50, 3600.0, stated=True),)),
        "images.unsplash.com": HostPolicy(connections=8),
    }


class Unsplash:
    """The client of Unsplash."""

    provider = "unsplash"

    def __init__(self, web: Web, key: Secret, api: str = API) -> None:
        self._web, self._auth, self._api = web, KeyAuth(key, "Client-ID "), api.rstrip("/")

    def search(self, query: str, cursor: str) -> Page:
        """Page number `cursor` of `query`."""
        number = int(cursor or "1")
        params = {"query": query, "per_page": str(PER_PAGE), "page": str(number), "content_filter": "high"}
        try:
            document = self._web.document(f"{self._api}/search/photos", params, auth=self._auth).json()
        except PermanentError as error:
            raise refused("Unsplash", "UNSPLASH_ACCESS_KEY", error) from None
        candidates = tuple(_candidate(photo) for photo in document.get("results", []))
        more = number < int(document.get("total_pages") or 0) and bool(candidates)
        return Page(candidates, str(number + 1) if more else None, document.get("total"))

    def before_download(self, candidate: Candidate) -> None:
        """Tell Unsplash of the download, as its guidelines ask. The key goes to its own interface only."""
        if candidate.notify and urlsplit(candidate.notify)[:2] == urlsplit(self._api)[:2]:
            self._web.document(candidate.notify, auth=self._auth)


def attributed(url: str | None) -> str | None:
    """A link to Unsplash with the parameters that its attribution rule asks for."""
    if not url:
        return None
    return f"{url}{'&' if '?' in url else '?'}{urlencode(_UTM)}"


def _candidate(photo: dict[str, Any]) -> Candidate:
    user, links = photo.get("user") or {}, photo.get("links") or {}
    url = photo["urls"]["full"]
    return Candidate(
        uri=f"unsplash:{photo['id']}",
        url=url,
        provenance=Provenance(
            page_url=attributed(links.get("html")),
            file_url=url,
            title=photo.get("description") or photo.get("alt_description"),
            author=user.get("name"),
            author_url=attributed((user.get("links") or {}).get("html")),
            license="Unsplash",
            license_url="https://unsplash.com/license",
        ),
        version=str(photo["id"]),
        notify=links.get("download_location") or "",
        stated={"from": "Unsplash API"},
    )
