"""Runs a module as `python -m` does, and ends when the program that started it has gone.

`python -m annotator_app.child PARENT MODULE [ARGUMENT…]`: a launcher that was killed cannot end its children,
so they look after themselves.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys

from phq_data.process_pool import end_with_parent


def main() -> None:
    """Watch the parent, and become the module."""
    parent, module, *arguments = sys.argv[1:]
    end_with_parent(int(parent), lambda: os.kill(os.getpid(), signal.SIGTERM))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
