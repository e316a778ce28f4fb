"""Time from a key press to the next portrait: `python -m benchmarks.review`, in a real browser.

A person is imitated: real key presses at a steady pace, against the service and the review page as they are.
Measured in the page from the key event's own time stamp to the end of the frame in which the next portrait
and its mesh were painted (the frame's rendering work is over; the screen follows within one refresh).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from annotator_app import serve
from annotator_app.launch import free_port
from annotator_app.service.settings import ServiceSettings
from benchmarks.review_fixtures import make_workspace

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
WARM = 10
"""The first decisions are not counted: the browser compiles the page's code."""


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, and with --json one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--portraits", type=int, nargs="+", default=[5_000, 100_000])
    parser.add_argument("--decisions", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.8, help="seconds between decisions")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if not given")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("this measurement needs Chromium (Debian: apt-get install chromium)")
    found: dict[str, Any] = {"decisions": given.decisions, "pause_s": given.pause}
    folder = given.folder or Path(tempfile.mkdtemp(prefix="phq-bench-review-"))
    try:
        for count in given.portraits:
            found |= measure(folder / str(count), count, given.decisions, given.pause, chromium)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    found["load"] = round(os.getloadavg()[0], 1)  # of the machine: others slow this down
    for name, value in found.items():
        print(f"{name:<20}{value}")
    if given.json:
        print(json.dumps(found))


def measure(workspace: Path, count: int, decisions: int, pause: float, chromium: str) -> dict[str, Any]:
    """Milliseconds from key press to portrait (p50, p95, largest), and seconds until the first portrait."""
    began = time.perf_counter()
    if not (workspace / "workspace.json").exists():
        make_workspace(workspace, count, photos=False)
    made_s = time.perf_counter() - began
    shutil.rmtree(workspace / "review", ignore_errors=True)
    settings = ServiceSettings(str(workspace), port=free_port("127.0.0.1", 0), reviewer="bench")
    url = f"http://127.0.0.1:{settings.port}"
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "annotator_app.serve"], env=serve.environment(settings))
    try:
        _await(url, process)
        service_s = time.perf_counter() - began
        first_s, paints = _drive(url, decisions + WARM, pause, chromium)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    counted = np.array(paints[WARM:])
    name = f"{count // 1000}k" if count >= 1000 else str(count)
    return {
        f"made_s_{name}": round(made_s, 1),
        f"service_s_{name}": round(service_s, 1),
        f"first_s_{name}": round(first_s, 2),
        f"p50_ms_{name}": round(float(np.percentile(counted, 50)), 1),
        f"p95_ms_{name}": round(float(np.percentile(counted, 95)), 1),
        f"max_ms_{name}": round(float(counted.max()), 1),
    }


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(6000):
        if process.poll() is not None:
            sys.exit("the service ended: its messages are above")
        try:
            if httpx.get(f"{url}/api/health", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    sys.exit("the service did not answer")


def _drive(url: str, decisions: int, pause: float, chromium: str) -> tuple[float, list[float]]:
    """Decide by key presses; returns seconds to the first portrait, and milliseconds of every key press."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        began = time.perf_counter()
        page.goto(url)
        shown = _another(page, "")
        first_s = time.perf_counter() - began
        for number in range(decisions):
            page.wait_for_timeout(1000 * pause)
            for key in ("x", "1") if number % 4 == 3 else ("a",):
                page.keyboard.press(key)
            shown = _another(page, shown)
        while page.evaluate("window.phqReview.waiting()"):
            page.wait_for_timeout(50)
        paints: list[float] = page.evaluate("window.phqReview.paints()")
        browser.close()
    if len(paints) != decisions:
        sys.exit(f"{decisions} decisions, but {len(paints)} portraits were timed")
    return first_s, paints


def _another(page: Any, before: str) -> str:
    """Wait until another portrait is painted."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now: str = page.evaluate("document.body.dataset.ready || ''")
        if now and now != before:
            return now
        page.wait_for_timeout(5)
    sys.exit("the page did not go on within a minute")


if __name__ == "__main__":
    main()
