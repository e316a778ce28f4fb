"""Openverse, as a finder: it knows where freely licensed photos are; the photos come from their own sites.

Without a token one may ask 20 times a minute and 200 times a day, 20 results a page and 240 a query; our own
count keeps to that over restarts, and the answers' headers are heeded. What Openverse says of a license is
its reading of an earlier day, so files on Wikimedia Commons are looked up there again; of others it is
recorded that the license is Openverse's word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from phq_data.sources import Provenance
from phq_data.sources.licenses import normalise
from phq_data.sources.pexels import refused
from phq_data.sources.web import Candidate, Page, PermanentError
from phq_data.sources.web.http import KeyAuth, Secret, Web
from phq_data.sources.web.limits import HostPolicy, Quota
from phq_data.sources.wikimedia import Wikimedia

API = "https://api.openverse.org"
PER_PAGE = 20
MAX_PAGES = 12
_LICENSES = "by,by-sa,cc0,pdm"
_COMMONS = re.compile(r"(^|\.)wikimedia\.org$")


def policies(api: str = API, *, token: bool = False) -> dict[str, HostPolicy]:
    """What one may ask of its host."""
    minute, day = (100, 10_000) if token else (20, 200)
    quotas = (Quota(minute, 60.0), Quota(day, 86400.0))
    return {urlsplit(api).netloc.lower(): HostPolicy(connections=1, per_second=1.0, quotas=quotas)}


class Openverse:
    """The client of Openverse; `commons` looks up what it finds there."""

    provider = "openverse"

    def __init__(self, web: Web, commons: Wikimedia, token: Secret | None = None, api: str = API) -> None:
        self._web, self._commons, self._api = web, commons, api.rstrip("/")
        self._auth = KeyAuth(token, "Bearer ") if token else None

    def search(self, query: str, cursor: str) -> Page:
        """Page number `cursor` of `query`."""
        number = int(cursor or "1")
        params = {
            "q": query, "page": str(number), "page_size": str(PER_PAGE), "license": _LICENSES,
            "category": "photograph", "mature": "false",
        }  # fmt: skip
        try:
            document = self._web.document(f"{self._api}/v1/images/", params, auth=self._auth).json()
        except PermanentError as error:
            raise refused("Openverse", "OPENVERSE_TOKEN", error) from None
        results = [result for result in document.get("results", []) if result.get("url")]
        candidates = self._rechecked([_candidate(result) for result in results])
        last = min(int(document.get("page_count") or 0), MAX_PAGES)
        more = number < last and bool(results)
        return Page(candidates, str(number + 1) if more else None, document.get("result_count"))

    def before_download(self, candidate: Candidate) -> None:
        """Nothing is asked for."""

    def _rechecked(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Files on Commons with what Commons itself says of them now; those it does not have are refused."""
        places = [_commons_file(candidate.provenance.page_url) for candidate in candidates]
        ids = [name for kind, name in places if kind == "id"]
        titles = [name for kind, name in places if kind == "title"]
        known: dict[tuple[str, str], Candidate] = {}
        if ids:
            known.update({("id", name): found for name, found in self._commons.look_up(pageids=ids).items()})
        if titles:
            known.update(
                {("title", name): found for name, found in self._commons.look_up(titles=titles).items()}
            )
        return tuple(
            self._at_commons(candidate, known.get(place)) if place[0] else candidate
            for candidate, place in zip(candidates, places, strict=True)
        )

    @staticmethod
    def _at_commons(candidate: Candidate, there: Candidate | None) -> Candidate:
        if there is None:
            return replace(
                candidate,
                refusal="license_unknown",
                message="Wikimedia Commons, where Openverse found it, has it no more",
            )
        return replace(there, stated={**there.stated, "found_by": "Openverse", **candidate.stated})


def _candidate(result: Mapping[str, Any]) -> Candidate:
    short = f"{result.get('license') or ''} {result.get('license_version') or ''}".strip()
    license = normalise(result.get("license_url"), _spelled(short))
    provider = str(result.get("source") or result.get("provider") or "")
    return Candidate(
        uri=f"openverse:{result['id']}",
        url=result["url"],
        provenance=Provenance(
            page_url=result.get("foreign_landing_url"),
            file_url=result["url"],
            title=result.get("title"),
            author=result.get("creator"),
            author_url=result.get("creator_url"),
            license=license.name,
            license_url=result.get("license_url"),
        ),
        refusal=license.reason,
        message=license.message,
        stated={"openverse": f"{short} from {provider}; Openverse's word, not looked up at the origin"},
    )


def _spelled(short: str) -> str:
    """`by-sa 2.0`, `cc0 1.0`, `pdm 1.0` as people write them."""
    return short if short.startswith(("cc", "pdm")) or not short else f"CC {short}"


def _commons_file(page: str | None) -> tuple[str, str]:
    """("id", page id) or ("title", `File:...`) of a page on Commons; ("", "") for pages elsewhere."""
    parts = urlsplit(page or "")
    if not _COMMONS.search(parts.hostname or ""):
        return "", ""
    ids = parse_qs(parts.query).get("curid")
    if ids:
        return "id", ids[0]
    name = unquote(parts.path.rpartition("/wiki/")[2]).replace("_", " ")
    return ("title", name) if name.startswith("File:") else ("", "")
