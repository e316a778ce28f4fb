"""The app as a process, `python -m annotator_app.app.serve`; its host, port and names are in the environment.

Streamlit's own server would neither send the headers that keep other pages from framing the app, nor ask a
WebSocket where it comes from beyond its own list of hosts.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from annotator_app.limits import serve
from annotator_app.service.security import guarded, host_allowed, same_origin
from annotator_app.service.settings import ServiceSettings

VARIABLE = "PHQ_APP_SETTINGS"
_POLICY = b"frame-ancestors 'self'; object-src 'none'"

OPTIONS = {
    "server.fileWatcherType": "none",
    "server.runOnSave": False,
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "logger.level": "warning",
    "theme.light.primaryColor": "#1d6f93",
    "theme.light.backgroundColor": "#f7f7f5",
    "theme.light.secondaryBackgroundColor": "#efefeb",
    "theme.light.textColor": "#1c1e21",
    "theme.dark.primaryColor": "#5bb6d8",
    "theme.dark.backgroundColor": "#121316",
    "theme.dark.secondaryBackgroundColor": "#1b1d21",
    "theme.dark.textColor": "#e8e8e4",
}
"""Streamlit's settings: quiet, without telemetry or file watcher, in the colors of the house."""


class AppGate:
    """The first thing a request meets: only under our names, a WebSocket only from our own pages."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            allowed = host_allowed(Headers(scope=scope).get("host", ""), self.settings)
            app = self.app if allowed else PlainTextResponse("this app does not go by that name", 421)
            await app(scope, receive, guarded(send, _POLICY))
        elif scope["type"] == "websocket" and not self._is_ours(Headers(scope=scope)):
            await send({"type": "websocket.close", "code": 1008, "reason": "not from this app's own pages"})
        else:
            await self.app(scope, receive, send)

    def _is_ours(self, headers: Headers) -> bool:
        host = headers.get("host", "")
        return host_allowed(host, self.settings) and same_origin(headers.get("origin", ""), host)


def environment(settings: ServiceSettings) -> dict[str, str]:
    """What the process is to find in its environment."""
    given = {"host": settings.host, "port": settings.port, "names": settings.names}
    return {VARIABLE: json.dumps(given)}


def main() -> None:
    """Serve until told to stop."""
    from streamlit import config
    from streamlit.starlette import App

    for name, value in OPTIONS.items():
        config.set_option(name, value)
    given = json.loads(os.environ.pop(VARIABLE))
    settings = replace(ServiceSettings(""), **{**given, "names": tuple(given["names"])})
    app = App(Path(__file__).with_name("main.py"))
    serve(AppGate(app, settings), settings.host, settings.port)


if __name__ == "__main__":
    main()
