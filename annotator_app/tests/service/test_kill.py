"""The service is killed, as by a power cut, while people decide."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import httpx
import pytest
from served import Served

from .conftest import HEADERS, decision


@pytest.fixture
def served(folder):
    with Served(folder) as service:
        yield service


def log(service):
    return service.query("SELECT decision_id FROM decisions")


@pytest.mark.slow
def test_what_was_confirmed_survives_kills_and_nothing_is_there_twice(served):
    """Three clients send each decision until it is confirmed; the service is killed five times."""
    made, confirmed, stop = [], set(), threading.Event()
    draw = random.Random(7)

    def work(number):
        with httpx.Client(base_url=served.url, headers=HEADERS, timeout=5, trust_env=False) as http:
            portraits = None
            while not stop.is_set() and portraits is None:
                try:
                    portraits = [i["portrait_id"] for i in http.get("/api/gallery?limit=40").json()["items"]]
                except httpx.HTTPError:
                    time.sleep(0.05)
            count = 0
            while not stop.is_set():
                batch = [
                    decision(
                        portraits[(3 * count + k) % 40], ("accept", "reject")[k % 2], client=f"c{number}"
                    )
                    for k in range(draw.randint(1, 4))
                ]
                made.extend(one["decision_id"] for one in batch)
                count += 1
                while not stop.is_set():
                    try:
                        answer = http.post("/api/decisions", json={"decisions": batch})
                    except httpx.HTTPError:
                        time.sleep(0.02)
                        continue
                    if answer.status_code == 200:
                        told = answer.json()
                        assert not told["refused"], told
                        confirmed.update(told["saved"] + told["known"])
                        break

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    [worker.start() for worker in workers]
    for _ in range(5):
        before = len(confirmed)
        deadline = time.monotonic() + 60
        while len(confirmed) < before + 20 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.05)
        served.kill()
        there = [row[0] for row in log(served)]
        assert len(there) == len(set(there)) and confirmed <= set(there)
        served.start()
    stop.set()
    [worker.join() for worker in workers]
    there = [row[0] for row in log(served)]
    assert len(there) == len(set(there)) and len(confirmed) >= 100
    assert confirmed <= set(there) <= set(made)
    assert_consistent(served.database)
    # What the kills kept from the workspace's tables gets there in the end.
    served.end(signal.SIGTERM)
    from phq_data.workspace import Workspace

    assert sorted(Workspace.open(served.workspace).table("decisions")["decision_id"].to_pylist()) == sorted(
        there
    )


def assert_consistent(database):
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    names = "portrait_id, reviewer, verdict, decision_id"
    live = connection.execute(f"SELECT {names} FROM standings ORDER BY 1, 2").fetchall()
    assert live == connection.execute(f"SELECT {names} FROM standing_verdicts ORDER BY 1, 2").fetchall()
    votes = dict(connection.execute("SELECT portrait_id, count(*) FROM standings GROUP BY 1"))
    counts = connection.execute("SELECT portrait_id, votes FROM items").fetchall()
    assert all(votes.get(portrait, 0) == count for portrait, count in counts)
    connection.close()


def test_a_service_that_ends_tells_the_user_why_in_a_sentence(folder):
    (folder / "review").mkdir(exist_ok=True)
    (folder / "review" / "review.sqlite").write_bytes(b"not a database " * 1000)
    from annotator_app import serve
    from annotator_app.service import ServiceSettings

    done = subprocess.run(
        [sys.executable, "-m", "annotator_app.serve"], capture_output=True, text=True, check=False,
        env={**os.environ, **serve.environment(ServiceSettings(str(folder)))}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "review.sqlite is damaged" in done.stderr and "phq workspace verify --repair" in done.stderr
