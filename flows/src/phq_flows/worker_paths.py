"""Paths among a flow's parameters.

A pool's worker runs every flow in a new folder, which it deletes afterwards: what a relative path leads to
is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phq_data.typed_json import ConfigError

_PATHS = ("workspace", "releases", "push_to", "out", "path", "permission", "sources")


def check(parameters: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for a relative path among the parameters of a flow, which a worker is to run."""
    for name in _PATHS:
        value = parameters.get(name) or ()
        for text in (value,) if isinstance(value, str) else value:
            if not (_absolute(text) or (name == "sources" and _made(text))):
                raise ConfigError(
                    f"{name} '{text}' is a relative path, and workers have other working directories: give "
                    "an absolute path or a URL"
                )


def check_run() -> None:
    """Called by a flow as it begins: `check` of the parameters of this run, where a pool's worker runs it."""
    from prefect.context import FlowRunContext

    running = FlowRunContext.get()
    if running is not None and running.flow_run is not None and running.flow_run.work_pool_name:
        check(running.parameters or {})


def _absolute(text: str) -> bool:
    place = text.removeprefix("file://")
    return "://" in place or Path(place).is_absolute()


def _made(source: str) -> bool:
    """Whether a source is none of files."""
    return source in ("samples", "synthetic") or source.startswith("synthetic:")
