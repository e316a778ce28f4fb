"""Worker processes that do not outlive the program that started them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable


def end_with_parent(parent: int | None = None, end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """Watch the process `parent` (default: who started this one), and call `end` soon after it has gone.

    As initializer of a pool it ends the workers of a killed parent, instead of letting them wait forever: a
    killed program cannot end its workers, and each of them holds the pipe open on which all of them wait.
    """
    watched = os.getppid() if parent is None else parent
    threading.Thread(target=_watch, args=(watched, end), daemon=True, name="parent-watch").start()


def _watch(parent: int, end: Callable[[], object]) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    end()
