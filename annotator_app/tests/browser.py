"""Helpers that drive the review page in a real Chromium as a person would."""

import time

from chromium import CHROMIUM as CHROMIUM
from chromium import FLAGS as FLAGS

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 390, "height": 844}


def until(page, condition, argument=None, timeout=90.0):
    """Wait until a JavaScript condition holds. (The page's policy forbids Playwright's own waiting.)"""
    deadline = time.monotonic() + timeout
    while not page.evaluate(condition, argument):
        assert time.monotonic() < deadline, f"never became true: {condition}"
        page.wait_for_timeout(15)


def wait_ready(page, other_than=""):
    """Wait until a portrait is painted (another one than that of this id); returns its id."""
    until(page, "before => document.body.dataset.ready && document.body.dataset.ready !== before", other_than)
    return page.evaluate("document.body.dataset.ready")


def decide(page, *keys):
    """Press the keys of one decision and wait for the next portrait; returns the id that was decided."""
    before = wait_ready(page)
    for key in keys:
        page.keyboard.press(key)
    until(
        page,
        "before => document.body.dataset.ready !== before || !document.getElementById('finish').hidden",
        before,
    )
    return before


def wait_saved(page, timeout=90.0):
    """Wait until the page says that everything is saved."""
    until(
        page,
        "() => window.phqReview && window.phqReview.waiting() === 0"
        " && document.getElementById('saving').dataset.state === 'saved'",
        timeout=timeout,
    )
