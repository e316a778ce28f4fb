"""The service on a real PostgreSQL: the same contract, and kills."""

import os

import httpx
import postgres_server as postgres
import pytest
from served import Served

from phq_data.workspace import Workspace

from .conftest import HEADERS, decide, decision, queue


@pytest.fixture(scope="module")
def url():
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if postgres.unprivileged() is None and os.getuid() == 0:
        pytest.skip("PostgreSQL does not run as root, and there is no other user")
    with postgres.server() as (address, admin):
        admin.execute("CREATE DATABASE review")
        yield f"{address}/review"


@pytest.mark.slow
def test_two_services_share_a_queue_and_a_log_and_survive_a_kill(url, folder, start):
    """One in this process, one that is killed; the workspace's tables hold what both saved."""
    here = start(database=url)
    with Served(folder, database=url) as other:
        there = httpx.Client(base_url=other.url, headers=HEADERS, timeout=30, trust_env=False)
        there.post("/api/login", json={"name": "bo"}).raise_for_status()
        mine = [item["portrait_id"] for item in queue(here, 10)]
        theirs = [item["portrait_id"] for item in queue(there, 10)]
        overlap = {p for p in mine if p in theirs}
        two = {p for p in overlap if required(here, p) == 2}
        assert overlap == two  # only what two are asked about anyway
        saved = [decide(here, portrait) for portrait in mine]
        saved += [decide(there, portrait, "reject") for portrait in theirs if portrait not in overlap]
        other.kill()
        other.start()
        again = there.post("/api/decisions", json={"decisions": [saved[-1]]}).json()
        assert again["known"] == [saved[-1]["decision_id"]]
        there.close()
    here.app.state.phq.publish()
    table = Workspace.open(folder).table("decisions")
    assert sorted(table["decision_id"].to_pylist()) == sorted(one["decision_id"] for one in saved)
    assert set(table["reviewer"].to_pylist()) == {"ann", "bo"}


def test_a_database_that_goes_away_is_a_clear_message_and_comes_back(url, folder, start):
    client = start(database=url)
    portrait = queue(client, 1)[0]["portrait_id"]
    database = client.app.state.store.database
    good = database.engine
    import sqlalchemy as sa

    database.engine = sa.create_engine(
        good.url.set(port=1), connect_args={"connect_timeout": 2}, pool_pre_ping=True
    )
    one = decision(portrait)
    answer = client.post("/api/decisions", json={"decisions": [one]})
    assert answer.status_code == 503 and "does not answer" in answer.json()["detail"]
    database.engine = good
    assert client.post("/api/decisions", json={"decisions": [one]}).json()["saved"] == [one["decision_id"]]


def required(client, portrait):
    import sqlalchemy as sa

    statement = sa.text("SELECT required FROM items WHERE portrait_id = :p")
    with client.app.state.store.database.read() as connection:
        return connection.execute(statement, {"p": portrait}).scalar()
