"""Prefect, quiet and offline: no account, no telemetry, unless the user configured a server."""

from __future__ import annotations

import os

HEARTBEAT_SECONDS = 30
"""Between two signs of life of a flow; the least that Prefect allows."""

_DEFAULTS = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),  # of 180 a team's server takes notice late
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 is too short on a busy laptop
    "PREFECT_API_REQUEST_TIMEOUT": "300",  # so is 60 for an answer
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else it starts one Ray after another when a cluster is lost
}


def prepare() -> None:
    """Set what is not set. Call before the first import of prefect."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
