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


def test_what_waits_after_an_apply_is_applied_too(client, monkeypatch):
    state = client.app.state.phq
    waits, asked = [True], []
    monkeypatch.setattr(corrections, "any_wait", lambda workspace: waits[0])
    monkeypatch.setattr(state.applying, "wait", lambda: asked.append(1))
    state._applied()
    assert asked == [1]
    waits[0] = False
    state._applied()
    assert asked == [1]


def test_corrections_that_a_busy_workspace_took_late_are_applied(client, monkeypatch):
    state = client.app.state.phq
    asked, tried, real = [], [], corrections.synchronise

    def busy(*_):
        tried.append(1)
        raise WorkspaceBusyError("a build is at work")

    monkeypatch.setattr(corrections, "synchronise", busy)
    monkeypatch.setattr(state.applying, "wait", lambda: asked.append(1))
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
