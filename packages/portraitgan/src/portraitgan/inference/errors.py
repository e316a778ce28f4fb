"""What can go wrong while using a model, in words for its user."""

from __future__ import annotations

import importlib.util

from phq_data.errors import PhqError


class InferenceError(PhqError, ValueError):
    """A request that cannot be met; the message says what was wrong and what to do."""


def need(module: str, extra: str) -> None:
    """Raise `InferenceError` unless an optional dependency is installed."""
    if importlib.util.find_spec(module) is None:
        raise InferenceError(f"this needs '{module}', which is not installed: install portraitgan[{extra}]")
