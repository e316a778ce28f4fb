"""Makes the client of a source, with the web connection that its hosts want."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phq_data.sources import SourceError, openverse, pexels, unsplash, wikimedia
from phq_data.sources.unsplash_lite import UnsplashLite
from phq_data.sources.unsplash_lite import policies as lite_policies
from phq_data.sources.urls import UrlList
from phq_data.sources.web import WebSource
from phq_data.sources.web.http import Web
from phq_data.sources.web.limits import HostPolicy
from phq_data.sources.web.settings import WebSettings

COMMONS_RATE = wikimedia.policies()


def url_list(path: Path) -> UrlList:
    """The list of addresses in a file."""
    return UrlList(path)


def make(
    source: str,
    path: str,
    settings: WebSettings,
    connections: int,
    make_web: type[Web] = Web,
    **web_options: Any,  # of `Web`
) -> tuple[Web, WebSource]:
    """The client called `source` and the connection it uses. Raises `SourceError` for a missing key, contact
    or file.
    """
    api = {
        "wikimedia": wikimedia.API, "openverse": openverse.API,
        "pexels": pexels.API, "unsplash": unsplash.API,
        **settings.api,
    }  # fmt: skip
    contact = settings.require_contact()
    policies: dict[str, HostPolicy] = dict(COMMONS_RATE)
    token = settings.keys.get("openverse")
    if source == "pexels":
        policies.update(pexels.policies(api["pexels"]))
    elif source == "unsplash":
        policies.update(unsplash.policies(api["unsplash"]))
    elif source == "unsplash-lite":
        policies.update(lite_policies())
    elif source in ("wikimedia", "openverse"):
        policies.update(wikimedia.policies(api["wikimedia"]))
        if source == "openverse":
            policies.update(openverse.policies(api["openverse"], token=bool(token)))
    web_options.setdefault("default", HostPolicy(connections=4, per_second=10))
    web = make_web(
        contact,
        policies=policies,
        allow_private=settings.allow_private,
        connections=connections,
        **web_options,
    )
    if source == "pexels":
        return web, pexels.Pexels(web, settings.key("pexels"), api["pexels"])
    if source == "unsplash":
        return web, unsplash.Unsplash(web, settings.key("unsplash"), api["unsplash"])
    if source == "unsplash-lite":
        return web, UnsplashLite(Path(path))
    if source == "urls":
        return web, url_list(Path(path))
    commons = wikimedia.Wikimedia(web, api["wikimedia"])
    if source == "openverse":
        return web, openverse.Openverse(web, commons, token, api["openverse"])
    if source == "wikimedia":
        return web, commons
    raise SourceError(f"there is no web source '{source}'")
