"""Reference mode: networks run as they are defined, which fast ones are measured and checked against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_REFERENCE: ContextVar[bool] = ContextVar("portraitgan_reference_mode", default=False)


def in_reference_mode() -> bool:
    """Whether reference mode is on."""
    return _REFERENCE.get()


@contextmanager
def reference_mode() -> Iterator[None]:
    """Within this block every network runs as it is defined, fast or not."""
    token = _REFERENCE.set(True)
    try:
        yield
    finally:
        _REFERENCE.reset(token)
