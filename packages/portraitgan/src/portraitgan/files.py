"""Output files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from phq_data.errors import PhqError


class OutputError(PhqError, ValueError):
    """A file that cannot be written; the message names it and says why."""


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` with its suffix; renamed on success, removed on any error.

    Raises `OutputError` when the folder or the disk does not take it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        raise
