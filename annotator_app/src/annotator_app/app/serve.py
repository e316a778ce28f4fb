"""The app as a process, `python -m annotator_app.app.serve SOCKET`: Streamlit behind the review service.

It listens at a Unix socket; the service passes on to it what may come (`service/app_proxy.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from annotator_app.limits import serve
from annotator_app.service.security import APP

OPTIONS = {
    "server.baseUrlPath": APP.strip("/"),
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


def main() -> None:
    """Serve until told to stop."""
    from streamlit import config
    from streamlit.starlette import App

    for name, value in OPTIONS.items():
        config.set_option(name, value)
    serve(App(Path(__file__).with_name("main.py")), "", 0, socket=sys.argv[1])


if __name__ == "__main__":
    main()
