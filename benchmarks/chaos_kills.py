"""Programs that are killed at a random moment and run again to their end, and what is left then."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phq_data import schema
from phq_data.workspace import Workspace

VERSION = "1.0.0"
_PHOTOS = "synthetic:4@5"
_CLOCKS = {"seconds"}  # columns that tell the time a thing took
_TRAINING = (
    "--preset", "tiny", "--device", "cpu", "--stage", "1", "--set", "stages.0.until_kimg=0.064",
    "--set", "output.status_kimg=0.008", "--set", "output.latest_kimg=0.016",
)  # fmt: skip


@dataclass(frozen=True)
class After:
    """What is left after a kill and another run."""

    lost: int = 0
    doubled: int = 0
    other: int = 0  # rows or files with other values
    what: str = ""


class Scene:
    """What the tries start from, each made once, when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True)

    @functools.cached_property
    def workspace(self) -> Path:
        """A small finished workspace of rendered photos."""
        place = self.folder / "workspace"
        _whole(_build(place, "inline"))
        return place

    @functools.cached_property
    def rows(self) -> dict[str, Counter[str]]:
        """Its rows, by table."""
        return rows_of(self.workspace)

    @functools.cached_property
    def build_seconds(self) -> dict[str, float]:
        """How long a build takes under each runner; filled by the first whole one."""
        return {}

    @functools.cached_property
    def reviewed(self) -> Path:
        """A copy of `workspace` with decisions: most in its tables, the last ones in the journal alone."""
        from phq_data.review import decisions, items, reviewers
        from phq_data.review.store import NewDecision, Store

        live = self.folder / "live"
        shutil.copytree(self.workspace, live)
        workspace = Workspace.open(str(live))
        store = Store.open(workspace)
        items.sync(store, workspace)
        reviewers.invite(store, "ann", "lead")
        portraits = workspace.table("portraits", ["portrait_id"])["portrait_id"].to_pylist()
        items.set_gold(store, {portraits[0]: "accept"})
        for number in range(60):
            one = NewDecision(decisions.ulid(), portraits[number % len(portraits)], "accept", client="chaos")
            store.record([one], f"reviewer {number % 7}")
            if number == 50:
                decisions.synchronise(workspace, store)
        place = self.folder / "reviewed"
        shutil.copytree(live, place)  # as a killed service leaves it
        store.close()
        return place

    @property
    def releases(self) -> Path:
        """The folder of `release`."""
        return self.release.parent

    @functools.cached_property
    def release(self) -> Path:
        """A release of `workspace`."""
        return make_release(self.workspace, self.folder / "releases")

    @functools.cached_property
    def run(self) -> Path:
        """A training run that was left alone."""
        place = self.folder / "run"
        _whole(_train(self.release, place))
        return place


def make_release(workspace: Path, releases: Path) -> Path:
    """Release every portrait that passed the screening, as made on a fixed day."""
    from phq_data.release.build import ReleaseOptions, build

    options = ReleaseOptions(unreviewed=True, created="2026-01-01", workers=1)
    build(Workspace.open(str(workspace)), releases, VERSION, options)
    return releases / VERSION


def review_rows(folder: Path) -> dict[str, list[str]]:
    """Every row of the review's database by table, but what passes: logins and leases."""
    import sqlalchemy as sa

    from phq_data.review.store import Store
    from phq_data.review.tables import METADATA

    store = Store.open(Workspace.open(str(folder)))
    try:
        with store.database.read() as connection:
            return {
                table.name: sorted(map(repr, connection.execute(sa.select(table))))
                for table in METADATA.sorted_tables
                if table.name not in ("sessions", "leases", "parts")
            }
    finally:
        store.close()


def rows_of(folder: Path) -> dict[str, Counter[str]]:
    """Every table of a workspace as a bag of rows; the ledger without its clocks."""
    workspace = Workspace.open(str(folder))
    names = ["plan", *(name for name in schema.KEYS if name != "release"), "ledger"]
    found = {}
    for name in names:
        kept = [
            {column: value for column, value in row.items() if column not in _CLOCKS}
            for row in workspace.table(name).to_pylist()
        ]
        found[name] = Counter(repr(row) for row in kept)
    return found


def build(scene: Scene, runner: str, draw: random.Random) -> After:
    """`phq build` with all processes that it started, killed and run again."""
    place = scene.scratch / "build"
    shutil.rmtree(place, ignore_errors=True)
    right = scene.rows
    if runner not in scene.build_seconds:
        began = time.monotonic()
        _whole(_build(place, runner))
        scene.build_seconds[runner] = time.monotonic() - began
        shutil.rmtree(place)
    _killed(_build(place, runner), draw.uniform(0.2, 0.95) * scene.build_seconds[runner])
    _whole(_build(place, runner))
    return _compared(right, rows_of(place))


def transfer(scene: Scene, way: str, draw: random.Random) -> After:
    """`phq release push` into a folder, or `pull` out of it, killed and run again."""
    there = scene.scratch / way
    shutil.rmtree(there, ignore_errors=True)
    if way == "push":
        command = _phq("release", "push", str(scene.release), str(there))
    else:
        command = _phq("release", "pull", str(scene.release), "--releases", str(there))
    began = time.monotonic()
    _whole(command)
    seconds = time.monotonic() - began
    shutil.rmtree(there)
    _killed(command, draw.uniform(0.3, 1.0) * seconds)
    _whole(command)
    arrived = next(path.parent for path in there.rglob("manifest.json"))
    right, found = _files(scene.release), _files(arrived)
    other = [name for name in right if name in found and right[name] != found[name]]
    return After(lost=len(set(right) - set(found)), other=len(other), what=f"{way}: {other[:3]}")


def review(scene: Scene, draw: random.Random) -> After:
    """The review service, killed while a client sends decisions that it repeats until they are confirmed."""
    import httpx

    from annotator_app import serve
    from annotator_app.launch import free_port
    from annotator_app.service.security import API_VERSION
    from annotator_app.service.settings import ServiceSettings
    from benchmarks.review_fixtures import make_workspace
    from phq_data.review.decisions import ulid

    place = scene.scratch / "review"
    shutil.rmtree(place, ignore_errors=True)
    make_workspace(place, 40, images=2, size=64, faces=100)
    settings = ServiceSettings(str(place), port=free_port("127.0.0.1", 0), reviewer="ann")
    command = [sys.executable, "-m", "annotator_app.serve"]
    environment = {**os.environ, **serve.environment(settings)}
    confirmed: list[str] = []
    with httpx.Client(
        base_url=f"http://127.0.0.1:{settings.port}", headers={"X-PHQ": API_VERSION}, trust_env=False
    ) as http:
        for last in (False, True):
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
            portraits = [one["portrait_id"] for one in _asked(http, process)["items"]]
            end = time.monotonic() + draw.uniform(0.2, 2.0)
            while time.monotonic() < end:
                one = {"decision_id": ulid(), "portrait_id": draw.choice(portraits), "verdict": "accept",
                       "reason": "", "time": "2026-01-01T00:00:00+00:00", "seconds": 1.0,
                       "client": "chaos"}  # fmt: skip
                answer = http.post("/api/decisions", json={"decisions": [one]}).json()
                confirmed += [*answer["saved"], *answer["known"]]
            process.send_signal(signal.SIGTERM if last else signal.SIGKILL)
            process.wait(120)
    there = Workspace.open(str(place)).table("decisions")["decision_id"].to_pylist()
    return After(lost=len(set(confirmed) - set(there)), doubled=len(there) - len(set(there)), what="review")


def training(scene: Scene, draw: random.Random) -> After:
    """`portraitgan train`, killed and continued: its weights are those of the run that was left alone."""
    from portraitgan.checkpoints import checkpoint

    whole = scene.run
    place = scene.scratch / "run"
    shutil.rmtree(place, ignore_errors=True)
    process = subprocess.Popen(
        _train(scene.release, place), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    wanted = draw.choice(("kimg 0.0", "wrote "))
    for line in process.stdout:
        if line.startswith(wanted):
            break
    time.sleep(draw.uniform(0, 0.3))
    _kill(process)
    _whole(_train(scene.release, place))
    right, found = (_weights(checkpoint.latest(run)) for run in (whole, place))
    return After(other=sum(right[name] != found.get(name) for name in right), what="training")


def _asked(http: Any, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    import httpx

    for _ in range(3000):
        if process.poll() is not None:
            raise SystemExit("the review service ended")
        try:
            found = http.get("/api/gallery?limit=40", timeout=30)
            if found.status_code == 200 and found.json()["items"]:
                return dict(found.json())
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit("the review service did not answer within five minutes")


def _build(place: Path, runner: str) -> list[str]:
    return _phq(
        "build", "--workspace", str(place), "--runner", runner,
        "--set", "part_size=1", "--set", "crop.size=64", _PHOTOS,
    )  # fmt: skip


def _phq(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "phq_data.cli.main", *arguments]


def _train(release: Path, run: Path) -> list[str]:
    return [
        sys.executable, "-m", "portraitgan", "train", "--data", str(release), "--out", str(run), *_TRAINING,
    ]  # fmt: skip


def _whole(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def _killed(command: Sequence[str], seconds: float) -> None:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: subprocess.Popen[Any]) -> None:
    """The program alone, as the kernel does when memory runs out; what it started must end by itself."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def _compared(right: dict[str, Counter[str]], found: dict[str, Counter[str]]) -> After:
    lost = sum((right[name] - found[name]).total() for name in right)
    more = sum((found[name] - right[name]).total() for name in right)
    other = [name for name in right if right[name] != found[name]]
    return After(lost, more, len(other), f"tables {other}" if other else "")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
