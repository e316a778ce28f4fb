"""One process at a time in a folder of this machine, and who it is."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from phq_data.workspace.errors import WorkspaceBusyError, explained

_OWNER = "lock-owner.json"
_GUARD = ".lock"
FILES = (_OWNER, _GUARD)
"""What lies in a folder that is or was held."""


@contextlib.contextmanager
def held(
    folder: Path, name: str, *, wait: bool = True, on_wait: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Hold `folder`, the workspace that the user calls `name`; a process that ends lets go of it.

    A second holder waits (telling `on_wait` who is in) or, with `wait=False`, gets a `WorkspaceBusyError`.
    Raises `WorkspaceError` where no lock can be written.
    """
    from filelock import FileLock, Timeout

    owner = folder / _OWNER
    guard = FileLock(folder / _GUARD)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        holder = _described(owner)
        if not wait:
            raise WorkspaceBusyError(f"the workspace {name} is in use by {holder}: wait for it") from None
        on_wait(f"the workspace {name} is in use by {holder}; waiting until it is free (Ctrl-C to stop)")
        guard.acquire()
    except OSError as error:
        raise explained(error, str(folder / _GUARD)) from error
    try:
        about = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "token": secrets.token_hex(8),
        }
        try:
            owner.write_text(json.dumps(about), encoding="utf-8")
        except OSError as error:
            raise explained(error, str(owner)) from error
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink()
        guard.release()


def holder(folder: Path) -> str:
    """What tells whoever holds `folder` (or was killed holding it) from all others; "" where nobody does.

    Raises `WorkspaceError` where that cannot be read.
    """
    try:
        return (folder / _OWNER).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise explained(error, str(folder / _OWNER)) from error


def _described(owner: Path) -> str:
    try:
        about = json.loads(owner.read_text())
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
