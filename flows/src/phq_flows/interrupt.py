"""Ctrl-C while parts run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType


def stop_at_once_on_interrupt(close: Callable[[], None]) -> None:
    """Let Ctrl-C end the program there and then. `close` ends what draws on the terminal, which would else be
    drawn once more below the last words. Parts are written whole or not at all, so nothing is lost;
    Prefect, asked politely, would first wait more than a minute for its server, which Ctrl-C has ended too.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        close()
        sys.stderr.write("\nphq: stopped. Finished parts are kept: run the same command to go on.\n")
        sys.stderr.flush()
        os._exit(130)

    signal.signal(signal.SIGINT, stop)
