"""What the service holds while it runs: workspace, store, queue, images; and the two things it does by
itself: following the workspace, and writing the decisions to the workspace's tables.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from anyio import CapacityLimiter
from fastapi import Request

from annotator_app.service import first_look, models
from annotator_app.service.applying import Applying
from annotator_app.service.first_look import FirstLook
from annotator_app.service.security import Tries
from annotator_app.service.settings import ServiceSettings
from phq_data.config import ConfigError, ScreenConfig
from phq_data.errors import PhqError
from phq_data.pipeline.engine import load_config
from phq_data.review import corrections, decisions, items
from phq_data.review.correcting import Corrector
from phq_data.review.corrections import NewCorrection
from phq_data.review.images import PortraitImages
from phq_data.review.queue import Queue
from phq_data.review.reviewers import Reviewer
from phq_data.review.store import NewDecision, Recorded, Store
from phq_data.schema import make_id
from phq_data.workspace import Workspace

log = logging.getLogger(__name__)
_OVERLAP = 10_000
"""Log numbers that are looked at again: PostgreSQL may show a decision after one with a higher number."""


class State:
    """One per service."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.workspace = Workspace.open(settings.workspace)
        self.store = Store.open(self.workspace, settings.database)
        self.queue = Queue(self.store)
        self._stopping = threading.Event()
        self._following = threading.Lock()
        self._first_look = FirstLook(self.store, self.workspace, self._stopping, self._following)
        try:
            self._first_look.wait(first_look.SECONDS)
        except PhqError:
            self._stopping.set()
            self._first_look.end(30)
            self.store.close()
            raise
        self.images = PortraitImages(self.workspace, self.store)
        self.corrector = Corrector(self.workspace, self.store)
        self.applying = Applying(self.workspace.url, settings.apply_seconds, self._applied)
        self.image_threads = CapacityLimiter(6)
        self.photo_threads = CapacityLimiter(1)  # a whole photo may be 300 MB of pixels
        self.tries = Tries()
        self.screen = _screen(self.workspace)
        name = self.workspace.url.rstrip("/").rpartition("/")[2]
        self.workspace_name = f"{name}-{make_id(self.workspace.url)[:6]}"
        self._followed = time.monotonic()
        self._follow_seconds = 0.0  # that the last look took
        self._unwritten = threading.Event()
        self._unwritten.set()  # what an earlier service may have left
        self._unapplied = threading.Event()
        self._unapplied.set()  # whether corrections wait to be applied is to be looked at
        self._published = 0  # `seq` of the log up to which the tables have everything
        self._correcting = threading.Lock()  # one of the two writers brings corrections to the tables
        self._corrected = threading.Event()
        self._corrected.set()  # what waited when an earlier service ended is applied by this one
        self._writers = (
            threading.Thread(target=self._publish_on, daemon=True, name="phq-publish"),
            threading.Thread(target=self._publish_corrections_on, daemon=True, name="phq-corrections"),
        )

    @classmethod
    def of(cls, request: Request) -> State:
        """The state of the service that a request came to."""
        found: State = request.app.state.phq
        return found

    def start(self) -> None:
        """Begin what the service does by itself."""
        for writer in self._writers:
            writer.start()

    def stop(self) -> None:
        """Write what is left and close everything."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._corrected.set()
        self.applying.stop()
        for writer in self._writers:
            if writer.is_alive():
                writer.join(timeout=30)
        self._first_look.end(30)
        self._following.acquire(timeout=30)  # the look at the workspace has ended
        self.images.close()
        try:
            self.publish(all_of_them=True)
        finally:
            self.store.close()

    def record(self, given: Sequence[NewDecision], reviewer: Reviewer) -> models.DecisionsAnswer:
        """Save decisions; what became of each."""
        done = self.store.record(given, reviewer.name, lead=reviewer.lead)
        self._unwritten.set()
        return models.DecisionsAnswer(
            saved=list(done.saved),
            known=list(done.known),
            refused=[models.RefusedDecision(**vars(no)) for no in done.refused],
            gold=self._gold([one for one in given if one.decision_id in done.saved]),
        )

    def _gold(self, saved: Sequence[NewDecision]) -> list[models.GoldAnswer]:
        """What is known of the portraits just judged, if reviewers are to be told."""
        judged = [one for one in saved if one.verdict in ("accept", "reject")]
        if not judged or not self.store.policy().gold_feedback:
            return []
        known = items.gold_of(self.store, [one.portrait_id for one in judged])
        return [
            models.GoldAnswer(
                decision_id=one.decision_id, portrait_id=one.portrait_id, known=known[one.portrait_id],
                right=one.verdict == known[one.portrait_id],
            )
            for one in judged
            if one.portrait_id in known
        ]  # fmt: skip

    def correct(self, given: Sequence[NewCorrection], reviewer: Reviewer) -> Recorded:
        """Save corrections; what became of each. Soon they are in the tables, where a build finds them."""
        seen = self.corrector.seen(one.portrait_id for one in given)
        done = corrections.record(self.store, given, reviewer.name, seen, lead=reviewer.lead)
        if done.saved:
            self._unwritten.set()
            self._unapplied.set()
            self._corrected.set()
        return done

    def follow(self, *, at_once: bool = False) -> None:
        """Look for new portraits in the workspace now and then, beside the requests."""
        age = time.monotonic() - self._followed
        # At once, but not all the time: a look at a million portraits takes seconds.
        least = max(2.0, 10 * self._follow_seconds) if at_once else self.settings.sync_seconds
        if age < min(least, self.settings.sync_seconds) or not self._following.acquire(blocking=False):
            return
        self._followed = time.monotonic()
        threading.Thread(target=self._follow, daemon=True, name="phq-follow").start()

    def publish(self, *, all_of_them: bool = False) -> int:
        """Write new decisions to the workspace's tables; returns how many. Logs failures."""
        try:
            self._unwritten.clear()
            last = self.store.last()
            after = 0 if all_of_them else max(0, self._published - _OVERLAP)
            count = decisions.synchronise(self.workspace, self.store, after)
            self._write_corrections()
            self._published = last
            return count
        except PhqError as error:
            self._unwritten.set()
            log.warning("decisions are safe in the store but not yet in the workspace's tables: %s", error)
            return 0

    def _publish_corrections_on(self) -> None:
        while self._corrected.wait():
            self._corrected.clear()  # before the look at `_stopping`, which is set before this is
            if self._stopping.is_set():
                return
            try:
                self._write_corrections()
            except PhqError as error:
                self._unwritten.set()  # tried again with the decisions
                log.warning("corrections are in the store but not yet in the workspace's tables: %s", error)

    def _write_corrections(self) -> None:
        """Bring corrections to the tables, and have those that wait applied; what failed is to do again."""
        with self._correcting:
            asked = self._unapplied.is_set()
            self._unapplied.clear()  # before the log is read: a later correction asks anew
            try:
                corrections.synchronise(self.workspace, self.store)
                if asked and corrections.any_wait(self.workspace):
                    self.applying.wait()
            except BaseException:
                if asked:
                    self._unapplied.set()
                raise

    def _applied(self) -> None:
        """Show the portraits that corrected labels gave; others may have been corrected meanwhile."""
        self._following.acquire()
        self._follow()  # which releases it
        self._unapplied.set()
        self._corrected.set()

    def _publish_on(self) -> None:
        while not self._stopping.wait(self.settings.publish_seconds):
            if self._unwritten.is_set():
                self.publish()

    def _follow(self) -> None:
        began = time.monotonic()
        try:
            # Half of the time is for whoever reviews meanwhile.
            items.sync(self.store, self.workspace, go_on=lambda seconds: not self._stopping.wait(seconds))
            self._follow_seconds = time.monotonic() - began
            self.images.reload()
            self.screen = _screen(self.workspace)
        except PhqError as error:
            log.warning("new portraits are not looked for: %s", error)
        finally:
            self._following.release()


def _screen(workspace: Workspace) -> ScreenConfig:
    try:
        return load_config(workspace).screen
    except ConfigError as error:
        log.warning("the limits of the screening are shown as they come: %s", error)
        return ScreenConfig()
