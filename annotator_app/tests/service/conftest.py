import shutil
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from annotator_app.service import ServiceSettings, create_app
from annotator_app.service.security import API_VERSION
from benchmarks.review_fixtures import make_workspace
from phq_data.review.decisions import ulid

HEADERS = {"X-PHQ": API_VERSION}


@pytest.fixture(scope="session")
def made_workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "workspace"
    make_workspace(folder, 40, images=3, size=96)
    return folder


@pytest.fixture
def folder(made_workspace, tmp_path):
    """A workspace of 40 portraits, of the test's own."""
    shutil.copytree(made_workspace, tmp_path / "workspace")
    return tmp_path / "workspace"


@pytest.fixture
def start(folder):
    """Start a service; returns a client. Keyword arguments are settings."""
    running = []

    def started(base_url="http://127.0.0.1:8765", **settings):
        app = create_app(ServiceSettings(str(folder), reviewer="ann", **settings))
        client = TestClient(app, base_url=base_url, headers=HEADERS)
        client.__enter__()
        running.append(client)
        return client

    yield started
    for client in running:
        client.__exit__(None, None, None)


@pytest.fixture
def client(start):
    return start()


@pytest.fixture(scope="module")
def shared(made_workspace, tmp_path_factory):
    """A client of a service that the tests of a file share: for what leaves nothing behind."""
    folder = tmp_path_factory.mktemp("shared") / "workspace"
    shutil.copytree(made_workspace, folder)
    app = create_app(ServiceSettings(str(folder), reviewer="ann"))
    with TestClient(app, base_url="http://127.0.0.1:8765", headers=HEADERS) as client:
        yield client


@pytest.fixture
def store(client):
    return client.app.state.store


def decision(portrait, verdict="accept", /, **more):
    """A decision as the page sends it."""
    found = {
        "decision_id": ulid(), "portrait_id": portrait, "verdict": verdict, "reason": "", "note": None,
        "time": datetime.now(UTC).isoformat(), "seconds": 1.25, "rules": "shoulders-1", "client": "test",
        "order": "error_probability",
    }  # fmt: skip
    return {**found, **more}


def decide(client, portrait, verdict="accept", /, **more):
    """Send one decision that must be saved; returns it."""
    one = decision(portrait, verdict, **more)
    answer = client.post("/api/decisions", json={"decisions": [one]})
    assert answer.status_code == 200 and answer.json()["saved"] == [one["decision_id"]], answer.text
    return one


def queue(client, count=5, **more):
    """Ask for portraits; returns the items."""
    answer = client.post("/api/queue/next", json={"count": count, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]
