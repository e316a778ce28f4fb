"""How often a run is taken up again after a crash."""

from __future__ import annotations

from phq_data.errors import PhqError

MOST = 5


class CrashingError(PhqError, RuntimeError):
    """A run that crashes whenever it is taken up."""


def check() -> None:
    """Called by a flow as it begins. Raises `CrashingError` in a run that was taken up `MOST` times: it fails
    then, and nobody takes it up any more.
    """
    from prefect.runtime import flow_run

    if (flow_run.run_count or 0) > MOST:
        raise CrashingError(
            f"this run was taken up {MOST} times and ended without a word each time: look at the worker's "
            "memory and disk, then start another run; what is done is kept"
        )
