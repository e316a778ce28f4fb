"""Ends what a task runner left running when its build was killed (on Linux: it looks in /proc).

Ray's agents see that their node has gone, and then wait minutes for a server that has gone too; they hide the
environment they were started with, so that nothing but the tree of processes says whose they are.

`python -m phq_flows.leftovers PARENT` remembers the processes below PARENT, and ends them soon after it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_SECONDS = 3.0
"""For what ends by itself."""
_EVERY_SECONDS = 1.0


@functools.cache
def watch() -> None:
    """From now on, what this program starts ends soon after it, also when it is killed."""
    if Path("/proc/self/stat").exists():
        subprocess.Popen(
            [sys.executable, "-m", "phq_flows.leftovers", str(os.getpid())],
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip


def below(parent: int) -> dict[int, str]:
    """Processes that `parent` started, directly or through others, and when each began."""
    began, children = {}, dict[int, list[int]]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            process = int(path.parent.name)
            began[process] = fields[19]
            children.setdefault(int(fields[1]), []).append(process)
    found, left = {}, [parent]
    while left:
        for process in children.get(left.pop(), []):
            found[process] = began[process]
            left.append(process)
    return found


def main() -> None:
    """Wait for the parent's end, and end what is left of it."""
    parent, known = int(sys.argv[1]), dict[int, str]()
    while os.getppid() == parent:
        known |= below(parent)
        time.sleep(_EVERY_SECONDS)
    time.sleep(GRACE_SECONDS)
    known.pop(os.getpid(), None)
    for process, began in known.items():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19] == began:
                os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
