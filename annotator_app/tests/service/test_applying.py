"""Applying corrected labels while more of them come: no correction is forgotten."""

import sys
import time

import pytest

from annotator_app.service.applying import Applying
from phq_data.review import corrections
from phq_data.workspace import WorkspaceBusyError

from .conftest import queue
from .test_correct import correction, label_of, send


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("code", [0, 1])
def test_corrections_that_come_while_a_long_apply_runs_are_applied_after_it(tmp_path, code):
    began, go_on = tmp_path / "began", tmp_path / "go-on"
    child = (
        "import pathlib, sys, time\n"
        f"with open({str(began)!r}, 'a') as file: file.write('x')\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.02)\n"
        f"sys.exit({code} if pathlib.Path({str(began)!r}).read_text() == 'x' else 0)\n"
    )
    done = []
    applying = Applying("unused", 0.1, lambda: done.append(1))
    applying._command = [sys.executable, "-c", child]
    applying.wait()
    until(lambda: began.exists() and began.read_text() == "x")
    applying.wait()  # the quiet time ends long before the child does
    time.sleep(0.5)
    go_on.touch()
    until(lambda: began.read_text() == "xx")
    until(lambda: len(done) == 2 - code)
    applying.stop()


@pytest.fixture
def looks(start, monkeypatch):
    """A service whose look for corrections that wait finds what a test says (None: what is there).

    Its first look is over.
    """
    waits, looked, asked, real = [False], [], [], corrections.any_wait

    def any_wait(workspace):
        looked.append(1)
        return real(workspace) if waits[0] is None else waits[0]

    monkeypatch.setattr(corrections, "any_wait", any_wait)
    client = start()
    until(lambda: looked)
    monkeypatch.setattr(client.app.state.phq.applying, "wait", lambda: asked.append(1))
    return client, waits, looked, asked


def test_what_waits_after_an_apply_is_applied_too(looks):
    client, waits, looked, asked = looks
    waits[0] = True
    client.app.state.phq._applied()
    until(lambda: asked == [1])
    waits[0] = False
    client.app.state.phq._applied()
    until(lambda: len(looked) == 3)
    assert asked == [1]


def test_corrections_that_a_busy_workspace_took_late_are_applied(looks, monkeypatch):
    client, waits, _, asked = looks
    state, waits[0] = client.app.state.phq, None
    tried, real = [], corrections.synchronise

    def busy(*_):
        tried.append(1)
        raise WorkspaceBusyError("a build is at work")

    monkeypatch.setattr(corrections, "synchronise", busy)
    portrait = queue(client, 1)[0]["portrait_id"]
    one = correction(portrait, label_of(client, portrait)["label"])
    assert send(client, one)["saved"] == [one["correction_id"]]
    until(lambda: tried and state._unapplied.is_set())
    state.publish()
    assert asked == [] and state._unwritten.is_set()
    monkeypatch.setattr(corrections, "synchronise", real)
    state.publish()
    assert asked == [1]
    state.publish()
    assert asked == [1]  # once is enough
