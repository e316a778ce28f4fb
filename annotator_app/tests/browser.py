"""A real Chromium for tests, and helpers that drive the review page as a person would."""

import shutil
import time
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 390, "height": 844}


@contextmanager
def chromium():
    """A started browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


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
