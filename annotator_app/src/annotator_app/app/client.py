"""The app's view of the service: HTTP with the login of whoever looks at the app.

The app itself may do nothing: it passes on the browser's cookie, which belongs to the host and so reaches
both ports. Without a login on loopback, the service knows this computer's user.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import streamlit as st

from annotator_app.service.security import API_VERSION, COOKIE
from phq_data.errors import PhqError

_SECONDS = 60.0


class ServiceError(PhqError, RuntimeError):
    """The service did not do what was asked; the message is for people."""


class LoginError(ServiceError):
    """Nobody is logged in."""


@dataclass(frozen=True)
class Service:
    """Requests to the service on behalf of the person at the browser."""

    url: str  # as this process reaches it
    public: str  # as the browser reaches it
    cookie: str | None

    @classmethod
    def of_this_page(cls) -> Service:
        """The service beside this app, under the name by which the browser found the app."""
        url = os.environ.get("PHQ_SERVICE_URL", "http://127.0.0.1:8765")
        given = os.environ.get("PHQ_SERVICE_PUBLIC_URL")  # behind a proxy
        page = urlsplit(st.context.url or "")
        host = page.hostname or "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        public = given or f"{page.scheme or 'http'}://{host}:{os.environ.get('PHQ_SERVICE_PORT', '8765')}"
        return cls(url, public.rstrip("/"), st.context.cookies.get(COOKIE))

    def link(self, portrait_id: str) -> str:
        """Address of the review page with this portrait."""
        return f"{self.public}/?portrait={portrait_id}"

    def get(self, path: str, **parameters: Any) -> Any:
        """JSON of a GET; parameters that are None are left out. Raises `ServiceError`."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("GET", path, params=given)

    def post(self, path: str, body: Any) -> Any:
        """JSON of a POST. Raises `ServiceError`."""
        return self._ask("POST", path, json=body)

    def images(self, paths: Sequence[str]) -> dict[str, str]:
        """Images as data URLs, for the paths that there is an image of.

        The app fetches them itself: a browser would not show another port's images beside a login.
        """
        wanted = [(self.url, path, self.cookie) for path in dict.fromkeys(paths)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda one: _image(*one), wanted))
        return {path: data for (_, path, _), data in zip(wanted, found, strict=True) if data}

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = httpx.request(
                method, self.url + path, timeout=_SECONDS, trust_env=False, headers={"X-PHQ": API_VERSION},
                cookies={COOKIE: self.cookie} if self.cookie else None, **options,
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise ServiceError(
                f"the review service at {self.url} does not answer. Decisions are safe; "
                "start `phq review` again if it has ended"
            ) from error
        if answer.status_code == 401:
            raise LoginError("log in first")
        if answer.is_error:
            raise ServiceError(_said(answer))
        return answer.json()


@st.cache_data(max_entries=3000, show_spinner=False)
def _image(url: str, path: str, cookie: str | None) -> str | None:
    # The cookie is part of the key: what one person may see, another may not.
    try:
        answer = httpx.get(
            url + path, timeout=_SECONDS, trust_env=False, cookies={COOKIE: cookie} if cookie else None
        )
    except httpx.HTTPError as error:
        raise ServiceError("the images cannot be fetched: the review service does not answer") from error
    if answer.status_code != 200:
        return None
    kind = answer.headers.get("content-type", "image/webp")
    return f"data:{kind};base64,{base64.b64encode(answer.content).decode()}"


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the service answered {answer.status_code}"
