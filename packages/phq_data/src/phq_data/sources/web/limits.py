"""How fast one may ask each host: connections, requests a second, bytes a second, requests an hour or month.

A `Gate` a host is passed by every request to it. It keeps our own limits and what the host says in its
answers (`Retry-After`, `X-Ratelimit-Remaining`). Time comes from a `Clock`, so tests need not wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Protocol

from phq_data.sources.web import TransientError

_UNITS = {"second": 1.0, "sec": 1.0, "min": 60.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
SLOTS = 60
"""Parts of a quota's window that are counted apart."""


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Seconds that never go back."""
        ...

    def wall(self) -> float:
        """Seconds since 1970."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Quota:
    """At most `count` requests in any `seconds`."""

    count: int
    seconds: float
    stated: bool = False  # the host's X-Ratelimit-Limit speaks of this one and may raise or lower it


@dataclass(frozen=True)
class HostPolicy:
    """What one may ask of a host. 0 = no limit."""

    connections: int = 4
    per_second: float = 0.0
    bytes_per_second: float = 0.0
    quotas: tuple[Quota, ...] = ()


@dataclass
class QuotaBook:
    """How much of every quota is used: (host, window seconds) -> slot -> requests. Outlives the program when
    somebody saves what `on_spend` says and fills `used` again.
    """

    used: dict[tuple[str, float], dict[int, int]] = field(default_factory=dict)
    on_spend: Callable[[str, float, int, int], None] = lambda host, window, slot, count: None

    def wait(self, host: str, quota: Quota, wall: float) -> float:
        """Seconds until another request fits into `quota`; 0 = now."""
        length = quota.seconds / SLOTS
        oldest = int(wall / length) - SLOTS
        slots = self.used.setdefault((host, quota.seconds), {})
        for slot in [slot for slot in slots if slot < oldest]:
            del slots[slot]
        surplus = sum(slots.values()) - quota.count + 1
        for slot in sorted(slots):
            if surplus <= 0:
                break
            surplus -= slots[slot]
            if surplus <= 0:
                return max(0.0, (slot + SLOTS + 1) * length - wall)
        return 0.0

    def spend(self, host: str, quota: Quota, wall: float) -> None:
        """Count a request."""
        slot = int(wall / (quota.seconds / SLOTS))
        slots = self.used.setdefault((host, quota.seconds), {})
        slots[slot] = slots.get(slot, 0) + 1
        self.on_spend(host, quota.seconds, slot, slots[slot])


class Gate:
    """Whoever asks `host` passes here, in any number of threads."""

    def __init__(
        self,
        host: str,
        policy: HostPolicy,
        clock: Clock,
        book: QuotaBook | None = None,
        max_wait: float = 3900.0,
        on_wait: Callable[[str, float], None] = lambda host, seconds: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.host, self.policy, self._stopped = host, policy, stopped
        self._clock, self._book, self._max_wait, self._on_wait = clock, book or QuotaBook(), max_wait, on_wait
        self._quotas = policy.quotas
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(policy.connections) if policy.connections else None
        self._pause = 1.0 / policy.per_second if policy.per_second else 0.0
        self._next = 0.0  # when the next request may start
        self._told = 0.0  # until when somebody was told that we wait
        self._paid = 0.0  # when the bytes received so far are paid for

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Wait for our turn and hold one of the host's connections.

        Raises `TransientError` (`QuotaUsed`) when the wait would be longer than `max_wait`.
        """
        if self._places:
            self._places.acquire()
        try:
            self._turn()
            yield
        finally:
            if self._places:
                self._places.release()

    def _turn(self) -> None:
        while True:
            with self._lock:
                now, wall = self._clock.now(), self._clock.wall()
                wait = max(0.0, self._next - now, self._paid - now)
                for quota in self._quotas:
                    wait = max(wait, self._book.wait(self.host, quota, wall))
                if wait <= 0:
                    for quota in self._quotas:
                        self._book.spend(self.host, quota, wall)
                    self._next = now + self._pause
                    return
            if self._stopped():
                raise TransientError("QuotaUsed", "the work was stopped")
            if wait > self._max_wait:
                raise TransientError(
                    "QuotaUsed", f"{self.host} may be asked again in {for_people(wait)}: go on then", wait
                )
            self._tell(now, wait)
            self._clock.sleep(min(wait, 1.0))  # in pieces, to hear when the work is stopped

    def _tell(self, now: float, wait: float) -> None:
        """Say once that we wait, however many threads do."""
        with self._lock:
            news = wait > 5 and now >= self._told
            if news:
                self._told = now + wait
        if news:
            self._on_wait(self.host, wait)

    def hold(self, seconds: float) -> None:
        """Let nobody pass for so long."""
        with self._lock:
            self._next = max(self._next, self._clock.now() + seconds)

    def slow_down(self, seconds: float) -> None:
        """At least so long between two requests (a crawl delay)."""
        with self._lock:
            self._pause = max(self._pause, seconds)

    def pay(self, count: int) -> None:
        """Count received bytes against the limit of bytes a second; the next request waits for it, and so do
        long downloads here.
        """
        if not self.policy.bytes_per_second:
            return
        with self._lock:
            now = self._clock.now()
            self._paid = max(self._paid, now) + count / self.policy.bytes_per_second
            ahead = self._paid - now
        if ahead > 2.0:
            self._clock.sleep(ahead - 1.0)

    def learn(self, headers: Mapping[str, str]) -> None:
        """Stop in time when an answer's headers say that nothing is left; keep to the limit they state."""
        stated = _number(headers.get("x-ratelimit-limit"))
        if stated and stated >= 1:
            with self._lock:
                self._quotas = tuple(
                    replace(quota, count=int(stated)) if quota.stated else quota for quota in self._quotas
                )
        for name, value in headers.items():  # Openverse: x-ratelimit-available-anon_burst, one a window
            key = name.lower()
            if key.startswith("x-ratelimit-available-") and _number(value) == 0:
                unit = headers.get(key.replace("available", "limit", 1), "").rpartition("/")[2].strip()
                self.hold(_UNITS.get(unit, 60.0))
        remaining = _number(headers.get("x-ratelimit-remaining"))
        if remaining is None or remaining > 0:
            return
        reset = _number(headers.get("x-ratelimit-reset"))
        if reset is None:
            wait = next((quota.seconds for quota in self._quotas if quota.stated), 60.0)
        else:
            wait = reset - self._clock.wall() if reset > 1e9 else reset
        self.hold(max(0.0, wait))


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds that an answer's `Retry-After` (seconds or a date) asks for; None without one."""
    value = headers.get("retry-after", "").strip()
    number = _number(value)
    if number is not None:
        return max(0.0, number)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - wall)
    except (TypeError, ValueError):
        return None


def for_people(seconds: float) -> str:
    """A span of time in words."""
    for size, unit in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{max(1, round(seconds))} seconds"


def _number(text: str | None) -> float | None:
    try:
        found = float((text or "").split(",")[0])
    except ValueError:
        return None
    return found if found == found and abs(found) != float("inf") else None
