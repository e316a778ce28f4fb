"""Applying corrected labels while the review goes on, some time after the last one came."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Applying:
    """Starts `annotator_app.apply` as a child when corrections wait and none came for `quiet` seconds."""

    def __init__(self, workspace: str, quiet: float, on_done: Callable[[], None]) -> None:
        self._command = [sys.executable, "-m", "annotator_app.child", str(os.getpid()), "annotator_app.apply"]
        self._command.append(workspace)
        self._quiet = quiet
        self._on_done = on_done
        self._guard = threading.Lock()
        self._timer: threading.Timer | None = None
        self._child: subprocess.Popen[str] | None = None
        self._again = False  # the quiet time of later corrections ended while the child ran
        self._stopped = False

    def wait(self) -> None:
        """Corrections were saved: apply them after a while without others. 0 seconds: never."""
        with self._guard:
            if self._stopped or self._quiet <= 0:
                return
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(self._quiet, self._run)
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        """End it. What was not applied is applied by the next build or review."""
        with self._guard:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()
            if self._child is not None:
                self._child.terminate()

    def _run(self) -> None:
        with self._guard:
            if self._stopped:
                return
            if self._child is not None:
                self._again = True
                return
            self._child = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
            child = self._child
        told = child.communicate()[1].strip()
        with self._guard:
            self._child = None
            again, self._again = self._again, False
        if child.returncode != 0 and not self._stopped:
            log.warning("corrected labels are not applied yet: %s", told[-500:])
        if again or child.returncode != 0:
            self.wait()
        if child.returncode == 0:
            self._on_done()
