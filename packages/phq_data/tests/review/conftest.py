import dataclasses
import itertools
import os

import numpy as np
import postgres_server as postgres
import pytest

from phq_data import schema
from phq_data.review import items
from phq_data.review.database import Database
from phq_data.review.records import Item, ItemFacts, PhotoFacts
from phq_data.review.store import NewDecision, Store
from phq_data.review.workspace_items import overlap_draw

_COUNTER = itertools.count()


@pytest.fixture(scope="session")
def pg_server():
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if postgres.unprivileged() is None and os.getuid() == 0:
        pytest.skip("PostgreSQL does not run as root, and there is no other user")
    with postgres.server() as found:
        yield found


@pytest.fixture
def pg_url(pg_server):
    """The URL of a fresh database on a real PostgreSQL."""
    url, admin = pg_server
    name = f"review_{next(_COUNTER)}"
    admin.execute(f"CREATE DATABASE {name}")
    yield f"{url}/{name}"
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """Where a store may be: a file, a server."""
    if request.param == "sqlite":
        return tmp_path / "review.sqlite"
    return request.getfixturevalue("pg_url")


@pytest.fixture
def empty_store(where):
    store = Store(Database.open(where))
    yield store
    store.close()


@pytest.fixture
def store(empty_store):
    """A store that knows 40 portraits, in four parts."""
    return fill(empty_store, 40)


def fill(store, count, part_size=10, **changes):
    by_part = {}
    for number in range(count):
        by_part.setdefault(number // part_size, []).append(item(number, number // part_size, **changes))
    with store.database.write() as connection:
        items.apply(connection, by_part, {part: "fixture" for part in by_part}, [])
    store.ids = [one.portrait_id for part in by_part.values() for one in part]
    return store


def item(number, part=0, **changes):
    """An item of the index, as the workspace's tables would give it."""
    random = np.random.default_rng(number)
    portrait = schema.make_id("test portrait", number)
    names = ("blur", "landmark_error", "shoulder_error", "error_probability")
    numbers = {name: float(random.random()) for name in names}
    photo = PhotoFacts("photos/a.jpg", 100, 80, "folder", None, None, None, None, None, None, None)
    facts = ItemFacts(0.1, 0.0, (1.0, 2.0, 64.0), 64, "fit", {}, True, (), numbers, photo)
    found = Item(
        portrait_id=portrait, photo_id=schema.make_id("photo", number) * 2,
        person_id=schema.make_id("person", number), part=part, row=number % 10, active=True, pool=0,
        source=f"folder: {number % 3}", uri=f"file:///{number:06d}.jpg", yaw_bin=number % 12,
        yaw=float(np.radians(30 * (number % 12) - 150)), error_probability=numbers["error_probability"],
        overlap_draw=overlap_draw(portrait), facts=facts,
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def vote(store, reviewer, portrait, verdict="accept", **more):
    """Record one decision that must be saved; returns its id."""
    from phq_data.review.decisions import ulid

    one = NewDecision(ulid(), portrait, verdict, **more)
    done = store.record([one], reviewer)
    assert done.saved == (one.decision_id,), done
    return one.decision_id
