"""Worker processes that do not outlive the program that started them."""

from __future__ import annotations

import os
import threading
import time


def end_with_parent() -> None:
    """Initialiser of a pool's workers: they end soon after a killed parent, instead of waiting forever.

    A killed program cannot end its workers, and each of them holds the pipe open on which all of them wait.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True, name="parent-watch").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
