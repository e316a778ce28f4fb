"""Ends what a task runner left running when its build was killed.

Ray's agents see that their node has gone, and then wait minutes for a server that has gone too. Every process
that a runner starts inherits a mark in its environment, by which it is found (on Linux, in /proc).

`python -m phq_flows.leftovers MARK PARENT` waits for the end of the process PARENT.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from phq_data.process_pool import end_with_parent

MARK = "PHQ_BUILD_MARK"
GRACE_SECONDS = 3.0
"""For what ends by itself."""


def watch() -> None:
    """From now on, what this program starts ends soon after it, also when it is killed."""
    if MARK in os.environ or not Path("/proc/self/environ").exists():
        return
    mark = secrets.token_hex(8)
    subprocess.Popen(
        [sys.executable, "-m", "phq_flows.leftovers", mark, str(os.getpid())],
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.environ[MARK] = mark


def marked(mark: str) -> list[int]:
    """Processes of this user that inherited `mark`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def main() -> None:
    """Wait for the parent's end, and end what is left of it."""
    mark, parent = sys.argv[1], int(sys.argv[2])
    gone = threading.Event()
    end_with_parent(parent, gone.set)
    gone.wait()
    time.sleep(GRACE_SECONDS)
    for process in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
