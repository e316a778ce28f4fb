"""Corrections of labels by a scripted curator in a real browser: `python -m benchmarks.correct`.

Portraits of known truth, whose labels are turned by 10 to 40 degrees about random axes. The curator
(`benchmarks.correct_curator`) sees the page's pixels and presses keys. Errors are degrees between the
corrected and the true orientation of the chest. Two series: clothed people of many builds (`phq synthesize`,
built as photos are), where the rig can only resemble the person, and figures, which are the rig itself in
other colors. Beside them: the turned label as it is, one snap alone, and the label that the build had made.
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

import numpy as np

from annotator_app import serve
from annotator_app.launch import free_port
from annotator_app.service.settings import ServiceSettings
from benchmarks.correct_curator import Curator
from benchmarks.correct_fixtures import Known, camera_errors, errors_of, figures, people
from benchmarks.review import FLAGS, _await
from phq_data.review import corrections, items
from phq_data.review.correcting import CorrectingError, Corrector
from phq_data.review.records import StoredLabel
from phq_data.review.store import Store
from phq_data.workspace import Workspace

FRAME_SECONDS = 2.0
"""How long a key is held to count the frames."""
Errors = list[tuple[float, float]]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, and with --json one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--portraits", type=int, default=50)
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument(
        "--folder", type=Path, help="where to work and to keep; a temporary folder if not given"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("this measurement needs Chromium (Debian: apt-get install chromium)")
    folder = given.folder or Path(tempfile.mkdtemp(prefix="phq-bench-correct-"))
    try:
        found = measure(folder, given.portraits, given.seed, chromium)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    found["load"] = round(os.getloadavg()[0], 1)  # of the machine: others slow this down
    for name, value in found.items():
        print(f"{name:<34}{value}")
    if given.json:
        print(json.dumps(found))


def measure(folder: Path, count: int, seed: int, chromium: str) -> dict[str, Any]:
    """Errors in degrees, corrections a minute, and frames a second while a key is held."""
    workspace, known = people(_made(folder / "people"), count, seed)
    snapped = _snapped(workspace, known)
    corrected, seconds, frames = _review(folder / "people", workspace, known, chromium)
    plain, drawn = figures(_made(folder / "figures"), count, seed)
    exact, longer, _ = _review(folder / "figures", plain, drawn, chromium)
    left = [errors_of(one.turned, one.truth) for one in known]
    fitted = [camera_errors(one.fitted, one.truth) for one in known]
    return {
        "count": len(corrected),
        **_summary("", corrected),
        "corrections_per_minute": round(60 * len(corrected) / seconds, 1),
        "frames_per_second": round(frames, 1),
        **_summary("left_", left),
        **_summary("snap_", snapped),
        **_summary("fitted_", fitted),
        "figures_count": len(exact),
        **_summary("figures_", exact),
        "figures_corrections_per_minute": round(60 * len(exact) / longer, 1),
        **_summary("figures_left_", [errors_of(one.turned, one.truth) for one in drawn]),
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _summary(name: str, errors: Errors) -> dict[str, float]:
    whole, yaw = np.array(errors).T
    return {
        f"{name}median_error_deg": round(float(np.median(whole)), 2),
        f"{name}p95_error_deg": round(float(np.percentile(whole, 95)), 2),
        f"{name}median_yaw_error_deg": round(float(np.median(yaw)), 2),
    }


def _snapped(workspace: Workspace, known: list[Known]) -> Errors:
    """What one press of snap alone comes to."""
    store = Store.open(workspace)
    items.sync(store, workspace)
    corrector = Corrector(workspace, store)
    found: Errors = []
    for one in known:
        try:
            label = corrector.snap(one.portrait_id, one.turned).label
        except CorrectingError:
            label = one.turned
        found.append(errors_of(label, one.truth))
    store.close()
    return found


def _corrected(workspace: Workspace, known: list[Known]) -> Errors:
    """What the curator's records say, read when the service has ended."""
    store = Store.open(workspace)
    labels: dict[str, StoredLabel] = {}
    for entry in corrections.entries(store):
        if entry.to_label is not None:
            labels[entry.portrait_id] = StoredLabel.from_json(entry.to_label)
    store.close()
    return [errors_of(labels[one.portrait_id], one.truth) for one in known if one.portrait_id in labels]


def _review(
    folder: Path, workspace: Workspace, known: list[Known], chromium: str
) -> tuple[Errors, float, float]:
    """Let the curator correct all; returns the errors, seconds, and frames a second of a held key."""
    for old in ("review", "tables/corrections"):
        shutil.rmtree(folder / "workspace" / old, ignore_errors=True)
    settings = ServiceSettings(workspace.url, port=free_port("127.0.0.1", 0), reviewer="curator")
    url = f"http://127.0.0.1:{settings.port}"
    process = subprocess.Popen([sys.executable, "-m", "annotator_app.serve"], env=serve.environment(settings))
    try:
        _await(url, process)
        seconds, frames = _drive(url, len(known), chromium)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    return _corrected(workspace, known), seconds, frames


def _drive(url: str, count: int, chromium: str) -> tuple[float, float]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(url)
        curator = Curator(page)
        frames = curator.frames_per_second(FRAME_SECONDS)
        # A smaller window: without a GPU every pixel of the rig costs CPU time.
        page.set_viewport_size({"width": 980, "height": 700})
        began = time.perf_counter()
        for number in range(count):
            curator.correct()
            print(f"\r{number + 1} of {count}", end="", file=sys.stderr, flush=True)
        seconds = time.perf_counter() - began
        print(file=sys.stderr)
        while page.evaluate("window.phqReview.waiting()"):
            page.wait_for_timeout(50)
        browser.close()
    return seconds, frames


if __name__ == "__main__":
    main()
