"""Pexels, through its API. Its terms ask for a permission before photos are collected (`terms`).

200 requests an hour and 20,000 a month by our own count, kept over restarts, because its answers tell what
is left only while all is well.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from phq_data.sources import Provenance, SourceError
from phq_data.sources.web import Candidate, Page, PermanentError
from phq_data.sources.web.http import KeyAuth, Secret, Web
from phq_data.sources.web.limits import HostPolicy, Quota

API = "https://api.pexels.com"
PER_PAGE = 80


def policies(api: str = API) -> dict[str, HostPolicy]:
    """What one may ask of its hosts."""
    quotas = (Quota(200, 3600.0), Quota(20_000, 30 * 86400.0, stated=True))
    return {
        urlsplit(api).netloc.lower(): HostPolicy(connections=1, quotas=quotas),
        "images.pexels.com": HostPolicy(connections=8),
    }


class Pexels:
    """The client of Pexels."""

    provider = "pexels"

    def __init__(self, web: Web, key: Secret, api: str = API) -> None:
        self._web, self._auth, self._api = web, KeyAuth(key), api.rstrip("/")

    def search(self, query: str, cursor: str) -> Page:
        """Page number `cursor` of `query`."""
        number = int(cursor or "1")
        params = {"query": query, "per_page": str(PER_PAGE), "page": str(number)}
        try:
            document = self._web.document(f"{self._api}/v1/search", params, auth=self._auth).json()
        except PermanentError as error:
            raise refused("Pexels", "PEXELS_API_KEY", error) from None
        candidates = tuple(_candidate(photo) for photo in document.get("photos", []))
        more = bool(document.get("next_page")) and bool(candidates)
        return Page(candidates, str(number + 1) if more else None, document.get("total_results"))

    def before_download(self, candidate: Candidate) -> None:
        """Nothing is asked for."""


def refused(name: str, variable: str, error: PermanentError) -> SourceError:
    """The `SourceError` for an interface that says no."""
    if error.reason in ("unauthorized", "forbidden"):
        return SourceError(f"{name} does not take the key: look at {variable} ({error})")
    return SourceError(f"{name} refuses the search: {error}")


def _candidate(photo: dict[str, Any]) -> Candidate:
    url = photo["src"]["original"]
    return Candidate(
        uri=f"pexels:{photo['id']}",
        url=url,
        provenance=Provenance(
            page_url=photo.get("url"),
            file_url=url,
            title=photo.get("alt") or None,
            author=photo.get("photographer"),
            author_url=photo.get("photographer_url"),
            license="Pexels",
            license_url="https://www.pexels.com/license/",
        ),
        version=str(photo["id"]),  # a photo's bytes never change there
        stated={"from": "Pexels API"},
    )
