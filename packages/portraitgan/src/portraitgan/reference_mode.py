"""Reference mode: networks run in their plain forms, which the fast ones are measured and checked against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_REFERENCE: ContextVar[bool] = ContextVar("portraitgan_reference_mode", default=False)


def in_reference_mode() -> bool:
    """Whether plain forms are asked for."""
    return _REFERENCE.get()


@contextmanager
def reference_mode() -> Iterator[None]:
    """Within this block every network uses the form nearest to its definition, fast or not."""
    token = _REFERENCE.set(True)
    try:
        yield
    finally:
        _REFERENCE.reset(token)
