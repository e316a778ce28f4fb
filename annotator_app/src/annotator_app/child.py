"""Runs a module as `python -m` does, and ends when the program that started it has gone.

`python -m annotator_app.child PARENT MODULE [ARGUMENT…]`: a launcher that was killed cannot end its children,
so they look after themselves.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time


def main() -> None:
    """Watch the parent, and become the module."""
    parent, module, *arguments = sys.argv[1:]
    threading.Thread(target=_watch, args=(int(parent),), daemon=True, name="parent-watch").start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
