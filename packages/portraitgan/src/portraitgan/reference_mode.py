"""Running the networks in their plain forms: what the fast paths are measured and checked against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PLAIN: ContextVar[bool] = ContextVar("portraitgan_plain_forms", default=False)


def is_plain() -> bool:
    """Whether the definitions' forms are asked for."""
    return _PLAIN.get()


@contextmanager
def plain_forms() -> Iterator[None]:
    """Within this block every network uses the form nearest to its definition, fast or not."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)
