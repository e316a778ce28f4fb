"""What image libraries warn of while one picture is read: kept with the picture, not printed.

Python's own `warnings.catch_warnings` changes the whole process, and parts of a build are read by threads:
here a hook is put in once, and each thread collects its own.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

_LONGEST, _MOST = 160, 5  # letters of a warning, and warnings of a picture that are kept
_thread = threading.local()
_lock = threading.Lock()
_show: Any = None


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """The warnings that this thread meets inside, each once, in the order that they came."""
    _install()
    before = getattr(_thread, "notes", None)
    notes: list[str] = []
    _thread.notes = notes
    try:
        yield notes
    finally:
        _thread.notes = before


def _install() -> None:
    global _show
    if warnings.showwarning is _collect:
        return
    with _lock:
        if warnings.showwarning is not _collect:
            _show = warnings.showwarning
            warnings.showwarning = _collect
            # Python shows a warning of a line once, and the next picture would go without it.
            warnings.filterwarnings("always", category=UserWarning, module=r"PIL\b|pillow_heif\b")


def _collect(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    notes = getattr(_thread, "notes", None)
    if notes is None:
        _show(message, category, filename, lineno, file, line)
        return
    text = " ".join(str(message).split())[:_LONGEST]
    if text not in notes and len(notes) < _MOST:
        notes.append(text)
