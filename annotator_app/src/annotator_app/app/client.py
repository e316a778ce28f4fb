"""The app's view of the service: HTTP with the login of whoever looks at the app.

The app itself may do nothing: it passes on the browser's cookie. Without a login on loopback, the service
knows this computer's user; whoever came to the app through a proxy is told to it as such.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import streamlit as st

from annotator_app.service.security import API_VERSION, COOKIE, is_proxied
from phq_data.errors import PhqError
from phq_data.report.links import portrait_link

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
    proxied: bool = False  # the browser came through a proxy: it is not this computer's user

    @classmethod
    def of_this_page(cls) -> Service:
        """The service beside this app, under the name by which the browser found the app."""
        url = os.environ.get("PHQ_SERVICE_URL", "http://127.0.0.1:8765")
        page = urlsplit(st.context.url or url)
        public = os.environ.get("PHQ_SERVICE_PUBLIC_URL") or f"{page.scheme}://{page.netloc}"
        return cls(url, public, st.context.cookies.get(COOKIE), is_proxied(st.context.headers.keys()))

    def link(self, portrait_id: str) -> str:
        """Address of the review page with this portrait."""
        return portrait_link(self.public, portrait_id)

    def get(self, path: str, **parameters: Any) -> Any:
        """JSON of a GET; parameters that are None are left out. Raises `ServiceError`."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("GET", path, params=given)

    def post(self, path: str, body: Any) -> Any:
        """JSON of a POST. Raises `ServiceError`."""
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        headers = {"X-PHQ": API_VERSION} | ({"Via": "1.1 phq-app"} if self.proxied else {})
        try:
            answer = httpx.request(
                method, self.url + path, timeout=_SECONDS, trust_env=False, headers=headers,
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


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the service answered {answer.status_code}"
