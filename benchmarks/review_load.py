"""A load test: reviewers who decide once a second, with the images a browser would fetch.

`python -m benchmarks.review_load` starts the service of a workspace of fixtures as `phq review` does, lets 20
people review for two minutes on loopback, and compares what was confirmed with what is in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from annotator_app import serve
from annotator_app.launch import free_port
from annotator_app.service.security import API_VERSION
from annotator_app.service.settings import ServiceSettings
from benchmarks.review_fixtures import make_workspace
from phq_data.review import items, reviewers
from phq_data.review.decisions import ulid
from phq_data.review.rules import VERSION
from phq_data.review.store import Store
from phq_data.workspace import Workspace

_AHEAD = 6  # portraits a page has ready
_REASONS = ("shoulders", "blur", "wrong_person", "occluded", "truncated")


@dataclass
class Seen:
    """What the clients saw."""

    seconds: dict[str, list[float]] = field(default_factory=dict)  # by kind of request
    made: list[str] = field(default_factory=list)
    confirmed: set[str] = field(default_factory=set)
    errors: Counter[str] = field(default_factory=Counter)
    late: int = 0  # decisions that could not be made on time, as no portrait was there

    def note(self, kind: str, began: float) -> None:
        """Remember how long a request took."""
        self.seconds.setdefault(kind, []).append(time.perf_counter() - began)


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--reviewers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--portraits", type=int, default=5000)
    parser.add_argument("--size", type=int, default=512, help="side of a portrait in pixels")
    parser.add_argument("--no-images", action="store_true", help="decisions and queue alone")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="phq-load-") as folder:
        found = run(
            Path(folder), given.reviewers, given.seconds, given.portraits, given.size, not given.no_images
        )
    for name, value in found.items():
        print(f"{name:<24}{value}")
    if given.json:
        print(json.dumps(found))
    if found["errors"] or found["lost"] or found["twice"] or found["missing"]:
        sys.exit(1)


def run(
    folder: Path, people: int, seconds: float, portraits: int, size: int, images: bool = True
) -> dict[str, Any]:
    """Figures of a run in an empty folder: decisions, errors, lost, latencies in milliseconds."""
    workspace = make_workspace(folder / "workspace", portraits, images=6, size=size)
    tokens = _invite(workspace, people)
    settings = ServiceSettings(str(folder / "workspace"), port=free_port("127.0.0.1", 0))
    url = f"http://127.0.0.1:{settings.port}"
    process = subprocess.Popen([sys.executable, "-m", "annotator_app.serve"], env=serve.environment(settings))
    try:
        _await(url, process)
        began = time.perf_counter()
        seen = asyncio.run(_everybody(url, tokens, seconds, images))
        took = time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(timeout=60)
    return _figures(seen, folder / "workspace", took, people)


def _invite(workspace: Workspace, people: int) -> list[str]:
    store = Store.open(workspace)
    items.sync(store, workspace)
    tokens = [reviewers.invite(store, f"reviewer {number}") for number in range(people)]
    store.close()
    return tokens


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError("the service ended: its message is above")
        try:
            if httpx.get(f"{url}/api/health", timeout=30, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise RuntimeError("the service did not answer within five minutes")


async def _everybody(url: str, tokens: list[str], seconds: float, images: bool) -> Seen:
    seen = Seen()
    await asyncio.gather(
        *(_Person(url, token, number, seen, seconds, images).review() for number, token in enumerate(tokens))
    )
    return seen


class _Person:
    """A reviewer: a decision a second, portraits and their images fetched ahead."""

    def __init__(self, url: str, token: str, number: int, seen: Seen, seconds: float, images: bool) -> None:
        headers = {"X-PHQ": API_VERSION, "Authorization": f"Bearer {token}"}
        self.http = httpx.AsyncClient(base_url=url, headers=headers, timeout=120, trust_env=False)
        self.number, self.seen, self.seconds, self.images = number, seen, seconds, images
        self.draw = random.Random(number)
        self.held: list[dict[str, Any]] = []
        self.fetched: set[str] = set()

    async def review(self) -> None:
        """For so many seconds from the first portrait on."""
        async with self.http:
            await asyncio.sleep(self.draw.random())
            ahead = asyncio.create_task(self._look_ahead())
            while not self.held and not self.seen.errors:
                await asyncio.sleep(0.05)
            next_time = time.perf_counter()
            end = next_time + self.seconds
            while time.perf_counter() < end:
                await self._decide()
                next_time += 1.0
                await asyncio.sleep(max(0.0, next_time - time.perf_counter()))
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _decide(self) -> None:
        if not self.held or (self.images and self.held[0]["portrait_id"] not in self.fetched):
            self.seen.late += 1
            return
        item = self.held.pop(0)
        reject = self.draw.random() < 0.3
        decision = {
            "decision_id": ulid(), "portrait_id": item["portrait_id"],
            "verdict": "reject" if reject else "accept", "time": datetime.now(UTC).isoformat(),
            "reason": self.draw.choice(_REASONS) if reject else "", "seconds": 1.0, "rules": VERSION,
            "client": "load", "order": "error_probability",
        }  # fmt: skip
        self.seen.made.append(decision["decision_id"])
        batch = [decision]
        if self.draw.random() < 0.05:
            batch.append({**decision, "decision_id": ulid(), "verdict": "undo"})
            self.seen.made.append(batch[1]["decision_id"])
        answer = await self._post("decisions", "/api/decisions", {"decisions": batch})
        if answer is not None:
            self.seen.confirmed.update(answer["saved"] + answer["known"])
            self.seen.errors.update(no["why"] for no in answer["refused"])

    async def _look_ahead(self) -> None:
        while True:
            if len(self.held) <= _AHEAD:
                exclude = [item["portrait_id"] for item in self.held]
                answer = await self._post("queue", "/api/queue/next", {"count": 12, "exclude": exclude})
                if answer is not None:
                    known = {item["portrait_id"] for item in self.held}
                    self.held += [item for item in answer["items"] if item["portrait_id"] not in known]
            for item in self.held[: _AHEAD + 2] if self.images else []:
                if item["portrait_id"] not in self.fetched:
                    for kind in ("crop", "overlay"):
                        await self._image(item["images"][kind], kind)
                    self.fetched.add(item["portrait_id"])
            await asyncio.sleep(0.1)

    async def _post(self, kind: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        began = time.perf_counter()
        try:
            answer = await self.http.post(path, json=body)
        except httpx.HTTPError as error:
            self.seen.errors[f"{kind}: {type(error).__name__}"] += 1
            return None
        self.seen.note(kind, began)
        if answer.status_code != 200:
            self.seen.errors[f"{kind}: {answer.status_code} {answer.text[:80]}"] += 1
            return None
        found: dict[str, Any] = answer.json()
        return found

    async def _image(self, address: str, kind: str) -> None:
        began = time.perf_counter()
        try:
            answer = await self.http.get(address)
        except httpx.HTTPError as error:
            self.seen.errors[f"{kind}: {type(error).__name__}"] += 1
            return
        self.seen.note(kind, began)
        if answer.status_code != 200:
            self.seen.errors[f"{kind}: {answer.status_code}"] += 1


def _figures(seen: Seen, workspace: Path, took: float, people: int) -> dict[str, Any]:
    connection = sqlite3.connect(workspace / "review" / "review.sqlite")
    there = [row[0] for row in connection.execute("SELECT decision_id FROM decisions")]
    connection.close()
    published = set(Workspace.open(workspace).table("decisions", ["decision_id"])["decision_id"].to_pylist())
    found: dict[str, Any] = {
        "reviewers": people,
        "seconds": round(took, 1),
        "decisions": len(seen.made),
        "per_second": round(len(seen.confirmed) / took, 2),
        "errors": sum(seen.errors.values()),
        "lost": len(seen.confirmed - set(there)),
        "twice": len(there) - len(set(there)),
        "missing": len(set(there) - published),  # not in the workspace's tables after a clean end
        "late": seen.late,  # seconds in which somebody had no portrait to decide
    }
    for kind, values in sorted(seen.seconds.items()):
        p50, p95 = (
            statistics.median(values),
            statistics.quantiles(values, n=20)[-1] if values[1:] else values[0],
        )
        found[f"{kind}_p50_ms"], found[f"{kind}_p95_ms"] = round(1000 * p50, 1), round(1000 * p95, 1)
    for text, count in seen.errors.most_common(5):
        print(f"error, {count} times: {text}", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
