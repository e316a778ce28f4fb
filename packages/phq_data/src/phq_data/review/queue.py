"""Who is asked about which portrait next.

A reviewer leases the portraits he is about to see, so that nobody else gets them meanwhile; a lease ends with
the decision, when it is given back, or by itself. Portraits of the overlap share are leased to as many
reviewers as votes are wanted. A share of the queue are gold items.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import sqlalchemy as sa

from phq_data.review import rules
from phq_data.review.gallery import GalleryFilter, terms_of
from phq_data.review.records import KEPT
from phq_data.review.store import Store, now_ms, read_policy
from phq_data.review.tables import ITEMS, LEASES, STANDINGS

Order = Literal["error_probability", "source", "yaw", "random"]
ORDERS: tuple[str, ...] = get_args(Order)
MAX_COUNT = 100
_MANY, _STALE_SECONDS = 2000, 10.0  # how old a count of more than so many portraits may be


@dataclass(frozen=True)
class QueueRequest:
    """What a reviewer wants to be asked."""

    count: int = 20
    order: Order = "error_probability"
    source: str | None = None
    yaw_bin: int | None = None
    pool: int = KEPT
    seed: str = ""  # of the random order; "" = the reviewer's name
    exclude: tuple[str, ...] = ()  # what he has already before him
    more: GalleryFilter = field(default_factory=GalleryFilter)  # further conditions; not its state and order


@dataclass(frozen=True)
class Leased:
    """Portraits leased to a reviewer until `expires` (milliseconds since 1970), in the order to be seen."""

    portrait_ids: tuple[str, ...]
    remaining: int  # portraits that this reviewer could still be asked about
    expires: int
    total: int  # portraits of this queue, decided or not
    excluded: int  # portraits of `remaining` that the request excluded


class Queue:
    """Leases portraits of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._counts: dict[tuple[Any, ...], tuple[float, int]] = {}
        self._guard = threading.Lock()

    def lease(
        self, reviewer: str, request: QueueRequest = QueueRequest(), *, now: int | None = None
    ) -> Leased:
        """Lease the next portraits. Those leased to the reviewer already, and not excluded, come again.

        Raises `StoreError`.
        """
        moment = now or now_ms()
        database = self.store.database
        count = max(1, min(request.count, MAX_COUNT))
        with database.write(durable=False) as connection:
            database.only_one(connection, 1)
            policy = read_policy(connection)
            expires = moment + 1000 * policy.lease_seconds
            connection.execute(sa.delete(LEASES).where(LEASES.c.expires <= moment))
            gold = self._gold(connection, reviewer, request, count, policy)
            found = self._open(connection, reviewer, request, count - len(gold), set(gold))
            chosen = _mixed(found, gold)
            if chosen:
                connection.execute(
                    sa.delete(LEASES)
                    .where(LEASES.c.reviewer == reviewer)
                    .where(LEASES.c.portrait_id.in_(chosen))
                )
                leases = [{"portrait_id": p, "reviewer": reviewer, "expires": expires} for p in chosen]
                connection.execute(sa.insert(LEASES), leases)
            if request.exclude:  # still before the reviewer: keep them his
                connection.execute(
                    sa.update(LEASES)
                    .where(LEASES.c.reviewer == reviewer)
                    .where(LEASES.c.portrait_id.in_(request.exclude))
                    .values(expires=expires)
                )
        remaining, total = self.remaining(reviewer, request), self.total(request)
        return Leased(tuple(chosen), remaining, expires, total, self._excluded(reviewer, request))

    def claim(self, reviewer: str, portrait_ids: Sequence[str], *, now: int | None = None) -> list[str]:
        """Lease these portraits, for a batch; returns those that nobody else has."""
        if not portrait_ids:
            return []
        moment = now or now_ms()
        database = self.store.database
        with database.write(durable=False) as connection:
            database.only_one(connection, 1)
            expires = moment + 1000 * read_policy(connection).lease_seconds
            connection.execute(sa.delete(LEASES).where(LEASES.c.expires <= moment))
            held = sa.select(LEASES.c.portrait_id, LEASES.c.reviewer).where(
                LEASES.c.portrait_id.in_(list(portrait_ids))
            )
            owners = {row[0]: row[1] for row in connection.execute(held)}
            free = [key for key in portrait_ids if owners.get(key, reviewer) == reviewer]
            connection.execute(
                sa.delete(LEASES).where(LEASES.c.reviewer == reviewer).where(LEASES.c.portrait_id.in_(free))
            )
            if free:
                leases = [{"portrait_id": key, "reviewer": reviewer, "expires": expires} for key in free]
                connection.execute(sa.insert(LEASES), leases)
        return free

    def release(self, reviewer: str, portrait_ids: Collection[str]) -> int:
        """Give leases back; returns how many there were."""
        if not portrait_ids:
            return 0
        with self.store.database.write(durable=False) as connection:
            done = connection.execute(
                sa.delete(LEASES)
                .where(LEASES.c.reviewer == reviewer)
                .where(LEASES.c.portrait_id.in_(list(portrait_ids)))
            )
            return int(done.rowcount)

    def remaining(self, reviewer: str, request: QueueRequest = QueueRequest()) -> int:
        """How many portraits the reviewer could still be asked about; exact when they are few."""
        wanted = sa.select(sa.func.count()).select_from(ITEMS).where(*_wanted(request))
        waiting = wanted.where(ITEMS.c.votes > 0, _decided_by(reviewer))  # open, but he has voted
        with self.store.database.read() as connection:
            count = self._counted(connection, ("open", *_filters(request)), wanted)
            return max(0, count - int(connection.execute(waiting).scalar_one()))

    def total(self, request: QueueRequest = QueueRequest()) -> int:
        """How many portraits the queue has, decided or not; exact when they are few."""
        count = sa.select(sa.func.count()).select_from(ITEMS).where(*_wanted(request)[1:])
        # By an index alone, which does not know those that another build replaced: they are few.
        ever, replaced = count.where(ITEMS.c.open.in_((0, 1))), count.where(ITEMS.c.active == 0)
        with self.store.database.read() as connection:
            found = self._counted(connection, ("ever", *_filters(request)), ever)
            return found - int(connection.execute(replaced).scalar_one())

    def _excluded(self, reviewer: str, request: QueueRequest) -> int:
        if not request.exclude:
            return 0
        terms = [*_wanted(request), ITEMS.c.portrait_id.in_(request.exclude), ~_decided_by(reviewer)]
        with self.store.database.read() as connection:
            statement = sa.select(sa.func.count()).select_from(ITEMS).where(*terms)
            return int(connection.execute(statement).scalar_one())

    def _counted(self, connection: sa.Connection, key: tuple[Any, ...], statement: Any) -> int:
        with self._guard:
            moment, count = self._counts.get(key, (-1e9, 0))
        if count >= _MANY and time.monotonic() - moment <= _STALE_SECONDS:
            return count
        began = time.monotonic()
        count = int(connection.execute(statement).scalar_one())
        # A count that takes a second is not taken every ten.
        until = time.monotonic() + 20 * (time.monotonic() - began)
        with self._guard:
            if len(self._counts) > 1000:
                self._counts.clear()
            self._counts[key] = (until, count)
        return count

    def _open(
        self, connection: sa.Connection, reviewer: str, request: QueueRequest, count: int, taken: set[str]
    ) -> list[str]:
        if count <= 0:
            return []
        others = (
            sa.select(sa.func.count())
            .select_from(LEASES)
            .where(LEASES.c.portrait_id == ITEMS.c.portrait_id, LEASES.c.reviewer != reviewer)
            .scalar_subquery()
        )
        statement = (
            sa.select(ITEMS.c.portrait_id)
            .where(*_wanted(request))
            .where(~_decided_by(reviewer))
            .where(ITEMS.c.votes + others < ITEMS.c.required)
            .where(ITEMS.c.portrait_id.not_in([*request.exclude, *taken]))
            .limit(count)
        )
        if request.order != "random":
            return [row[0] for row in connection.execute(statement.order_by(*_sorted_by(request.order)))]
        # Ids are digests: their order is random, and a seed says where to start on their circle.
        start = hashlib.sha256((request.seed or reviewer).encode()).hexdigest()[:32]
        ordered = statement.order_by(ITEMS.c.portrait_id)
        found = [row[0] for row in connection.execute(ordered.where(ITEMS.c.portrait_id >= start))]
        if len(found) < count:
            rest = ordered.where(ITEMS.c.portrait_id < start).limit(count - len(found))
            found += [row[0] for row in connection.execute(rest)]
        return found

    def _gold(
        self,
        connection: sa.Connection,
        reviewer: str,
        request: QueueRequest,
        count: int,
        policy: rules.Policy,
    ) -> list[str]:
        draws = sum(random.random() < policy.gold_share for _ in range(count))
        if not draws:
            return []
        start = hashlib.sha256(reviewer.encode()).hexdigest()[:32]
        statement = (
            sa.select(ITEMS.c.portrait_id)
            .where(ITEMS.c.gold.in_(["accept", "reject"]), ITEMS.c.active + 0 == 1)  # + 0: no index of it
            .where(~_decided_by(reviewer))
            .where(ITEMS.c.portrait_id.not_in(list(request.exclude)))
            .order_by(ITEMS.c.portrait_id < start, ITEMS.c.portrait_id)
            .limit(draws)
        )
        return [row[0] for row in connection.execute(statement)]


def _filters(request: QueueRequest) -> tuple[Any, ...]:
    return (request.source, request.yaw_bin, request.pool, request.more)


def _wanted(request: QueueRequest) -> list[Any]:
    terms: list[Any] = [ITEMS.c.open == 1, ITEMS.c.pool == request.pool]
    if request.source is not None:
        terms.append(ITEMS.c.source == request.source)
    if request.yaw_bin is not None:
        terms.append(ITEMS.c.yaw_bin == request.yaw_bin)
    return [*terms, *terms_of(request.more)]


def _sorted_by(order: str) -> Sequence[Any]:
    probability = [ITEMS.c.error_probability.desc(), ITEMS.c.portrait_id.desc()]
    if order == "source":
        return [ITEMS.c.source.desc(), *probability]
    if order == "yaw":
        return [ITEMS.c.yaw_bin.desc(), *probability]
    return probability


def _decided_by(reviewer: str) -> Any:
    return sa.exists().where(STANDINGS.c.portrait_id == ITEMS.c.portrait_id, STANDINGS.c.reviewer == reviewer)


def _mixed(found: list[str], gold: list[str]) -> list[str]:
    """Gold items among the others, at places nobody can guess."""
    mixed = list(found)
    for portrait in gold:
        mixed.insert(random.randrange(len(mixed) + 1), portrait)
    return mixed
