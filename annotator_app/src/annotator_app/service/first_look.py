"""What a service does with a store and its workspace when it starts, beside the requests where it takes long.

The whole store is checked, and the index of portraits follows the workspace. Both are waited for, for some
seconds: small workspaces are checked and read before anybody is answered. Of a large one the service answers
meanwhile; damage that is found then ends its use of the store, as it would have before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from phq_data.errors import PhqError
from phq_data.review import corrections, decisions, integrity, items
from phq_data.review.database import DamagedStoreError
from phq_data.review.store import Store
from phq_data.workspace import Workspace

SECONDS = 4.0
"""How long a starting service waits for its first look; an index without portraits longer, for the first."""
_SHARE = 0.5  # of the time that the check leaves to whoever reviews meanwhile
_log = logging.getLogger(__name__)


class _StoppedError(Exception):
    """The service ends."""


class FirstLook:
    """Begins when it is made, and holds `following` as long as it reads the workspace."""

    def __init__(
        self, store: Store, workspace: Workspace, stopping: threading.Event, following: threading.Lock
    ) -> None:
        self._store, self._workspace = store, workspace
        self._stopping, self._following = stopping, following
        self._some = threading.Event()  # the index has portraits
        self._errors: list[PhqError] = []
        self._answering = False  # nobody waits for errors any more
        self._guard = threading.Lock()
        self._worked = time.monotonic()
        self._threads = [self._begun("phq-check", self._check), self._begun("phq-index", self._index)]

    def wait(self, seconds: float) -> None:
        """Return when all is done or after so many seconds, but not before there is something to be asked.

        Raises what the check or the index raised until then; later errors go to the log, and those of a
        damaged store to everybody who uses it.
        """
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._some.wait()
        with self._guard:
            if self._errors:
                raise self._errors[0]
            self._answering = True

    def end(self, seconds: float) -> None:
        """Wait for the end of what is still done; `stopping` is set."""
        for thread in self._threads:
            thread.join(seconds)

    def _begun(self, name: str, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(work,), daemon=True, name=name)
        thread.start()
        return thread

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _StoppedError:
            pass
        except PhqError as error:
            with self._guard:
                self._errors.append(error)
                if isinstance(error, DamagedStoreError):
                    self._store.database.refuse(error)
                if self._answering:
                    _log.error("%s", error)
            self._some.set()  # whoever waits for portraits is told
        except BaseException:
            self._some.set()
            raise

    def _check(self) -> None:
        integrity.ensure(self._store, self._workspace, pause=self._pause)
        recovered = decisions.recover(self._workspace, self._store)
        if recovered:
            _log.warning(
                "the database lacked %d decisions of tables/decisions: they are taken over", recovered
            )
        corrections.recover(self._workspace, self._store)

    def _index(self) -> None:
        with self._following:
            if items.any_read(self._store):
                self._some.set()
            items.sync(self._store, self._workspace, go_on=self._go_on)
            self._some.set()  # or none is there

    def _go_on(self, seconds: float) -> bool:
        self._some.set()
        return not self._stopping.wait(seconds if self._answering else 0)

    def _pause(self) -> None:
        worked = time.monotonic() - self._worked
        if self._stopping.wait(_SHARE / (1 - _SHARE) * worked if self._answering else 0):
            raise _StoppedError
        self._worked = time.monotonic()
