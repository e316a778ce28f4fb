"""How everything that works on a whole workspace grows: `python -m benchmarks.scale --rows 10000 100000`.

Made-up tables (scale_tables.py) of each size go through every such step, each in a process of its own: wall
time and CPU time of the step, without starting Python; peak memory of the process, with it. The exponent of a
step is the slope of log(time) over log(rows) between the two largest sizes at which it took a second or more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import scale_tables


@dataclass
class Clock:
    """What a step took, between `begin` and `end`; what comes before is not counted."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall, self.cpu = time.perf_counter() - wall, time.process_time() - cpu


Step = Callable[[Path, int, Clock], object]


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print a table, and with --json one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS), metavar="STEP",
                        help=f"of {', '.join(STEPS)}")  # fmt: skip
    parser.add_argument(
        "--folder", type=Path, help="where to work (about 4 kB a row); default: a temporary one"
    )
    parser.add_argument("--seconds", type=float, default=1800.0, help="a step that takes longer is ended")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        _here(given.one, given.folder, given.rows[0])
        return
    folder = given.folder or Path(tempfile.mkdtemp(prefix="phq-bench-scale-"))
    try:
        found = {rows: _measure(folder / str(rows), rows, given.steps, given.seconds) for rows in given.rows}
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    summary = summarise(found)
    print(table(found, summary["exponents"]))
    if given.json:
        print(json.dumps(summary))
    if summary["ended"]:
        sys.exit(1)


def summarise(found: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The JSON object of measurements by rows and step. `worst_exponent` and `peak_mib` are of all steps."""
    exponents: dict[str, float] = {}
    for step in STEPS:
        timed = [
            (rows, steps[step]["cpu_s"]) for rows, steps in sorted(found.items())
            if step in steps and (steps[step].get("cpu_s") or 0) >= 1
        ][-2:]  # fmt: skip
        if len(timed) == 2:
            (few, fast), (many, slow) = timed
            exponents[step] = round(math.log(slow / fast) / math.log(many / few), 2)
    every = [one for steps in found.values() for one in steps.values()]
    return {
        "rows": max(found),
        "worst_exponent": max(exponents.values(), default=None),
        "peak_mib": max((one["peak_mib"] for one in every if one.get("peak_mib")), default=None),
        "exponents": exponents,
        "ended": sum("ended" in one for one in every),
        "steps": {str(rows): dict(steps) for rows, steps in found.items()},
    }


def table(found: Mapping[int, Mapping[str, Mapping[str, Any]]], exponents: Mapping[str, float]) -> str:
    """One line a step: seconds, microseconds a row and MiB at every size, and the exponent."""
    lines = [f"{'':<22}" + "".join(f"{rows:>28,}" for rows in found) + f"{'exponent':>10}"]
    for step in STEPS:
        cells = [_cell(steps.get(step), rows) for rows, steps in found.items()]
        lines.append(
            f"{step:<22}" + "".join(f"{cell:>28}" for cell in cells) + f"{exponents.get(step, ''):>10}"
        )
    return "\n".join([*lines, "wall seconds, CPU microseconds a row, peak MiB of the process"])


def _cell(one: Mapping[str, Any] | None, rows: int) -> str:
    if one is None:
        return "-"
    if "ended" in one:
        return str(one["ended"])
    return f"{one['wall_s']:.1f} s {one['cpu_s'] / rows * 1e6:.0f} us {one['peak_mib']:.0f} MiB"


def _measure(folder: Path, rows: int, steps: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    if set(steps) != {"columns"} and not (folder / "made").exists():
        shutil.rmtree(folder / "workspace", ignore_errors=True)
        scale_tables.make_workspace(folder / "workspace", rows)
        (folder / "made").touch()
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", step, "--rows", str(rows),
                   "--folder", str(folder)]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            found[step] = {"ended": f"over {seconds:.0f} s"}
        else:
            failed = {"ended": done.stderr.strip().rpartition("\n")[2][:100] or "failed"}
            found[step] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else failed
        print(f"{rows:,} rows, {step}: {_cell(found[step], rows)}", file=sys.stderr, flush=True)
    return found


def _here(step: str, folder: Path, rows: int) -> None:
    clock = Clock()
    STEPS[step](folder, rows, clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall_s": round(clock.wall, 3), "cpu_s": round(clock.cpu, 3), "peak_mib": round(peak)}))


class _Listed:
    """A source of `count` files that are held nowhere: their bytes are made from their names."""

    provider = "folder"
    spec = "made up"

    def __init__(self, count: int) -> None:
        self.count = count

    def files(self) -> Iterator[Any]:
        """Every file, as a folder lists it."""
        from phq_data.sources import Provenance, SourceFile

        rights = Provenance(license="CC0-1.0")
        for number in range(self.count):
            yield SourceFile(f"memory://{number:09d}.jpg", 14, 1, rights)

    def open(self, file: Any) -> Any:
        """The bytes of a file."""
        import io

        return io.BytesIO(b"\xff\xd8\xff\xe0" + file.uri[-14:].encode())


def _plan(folder: Path, rows: int, clock: Clock) -> None:
    from phq_data.config import IngestConfig
    from phq_data.pipeline.gather import gather
    from phq_data.workspace import Workspace

    shutil.rmtree(folder / "planned", ignore_errors=True)
    workspace = Workspace.open(folder / "planned", create=True)
    config, size = IngestConfig(store="reference"), scale_tables.rows_a_part(rows)
    with clock.running():
        assert list(gather(workspace, [_Listed(rows)], config, size))


def _plan_again(folder: Path, rows: int, clock: Clock) -> None:
    from phq_data.config import IngestConfig
    from phq_data.pipeline.gather import gather
    from phq_data.workspace import Workspace

    config, size = IngestConfig(store="reference"), scale_tables.rows_a_part(rows)
    workspace = Workspace.open(folder / "planned")
    with clock.running():
        assert list(gather(workspace, [_Listed(rows + 100)], config, size))


def _dedup(folder: Path, rows: int, clock: Clock) -> None:
    from phq_data.pipeline.engine import load_config
    from phq_data.pipeline.whole import deduplicate
    from phq_data.workspace import Workspace

    workspace = Workspace.open(folder / "workspace")
    recipes = {"dedup": ["dedup"]}
    (folder / "workspace/tables/duplicates/part-00000.parquet").unlink(missing_ok=True)
    with clock.running():
        deduplicate(workspace, load_config(workspace), recipes)
    assert workspace.table("duplicates").num_rows >= rows // 100


def _report(folder: Path, rows: int, clock: Clock) -> None:
    from phq_data.report.page import write_report
    from phq_data.workspace import Workspace

    with clock.running():
        write_report(Workspace.open(folder / "workspace"), folder / "report.html")


def _review_index(folder: Path, rows: int, clock: Clock) -> None:
    from phq_data.review import integrity, items
    from phq_data.review.store import Store
    from phq_data.workspace import Workspace

    shutil.rmtree(folder / "workspace/review", ignore_errors=True)
    workspace = Workspace.open(folder / "workspace")
    with clock.running():
        store = Store.open(workspace)
        integrity.ensure(store, workspace)
        assert items.sync(store, workspace).total == rows
    store.close()


def _review_opens(folder: Path, rows: int, clock: Clock) -> None:
    """An indexed workspace: what the service does until it answers, the first twenty portraits, an image."""
    import threading

    from annotator_app.service import first_look
    from phq_data.review.images import PortraitImages
    from phq_data.review.queue import Queue, QueueRequest
    from phq_data.review.store import Store
    from phq_data.workspace import Workspace

    stopping = threading.Event()
    with clock.running():
        workspace = Workspace.open(folder / "workspace")
        store = Store.open(workspace)
        look = first_look.FirstLook(store, workspace, stopping, threading.Lock())
        look.wait(first_look.SECONDS)
        images = PortraitImages(workspace, store)
        leased = Queue(store).lease("ann", QueueRequest()).portrait_ids
        assert len(leased) == 20 and images.get(leased[0], "crop").data
    stopping.set()
    look.end(60)
    images.close()
    store.close()


def _review_checks(folder: Path, rows: int, clock: Clock) -> None:
    """What goes on beside the requests then: the whole database is checked, every part looked at."""
    from phq_data.review import integrity, items
    from phq_data.review.store import Store
    from phq_data.workspace import Workspace

    workspace = Workspace.open(folder / "workspace")
    store = Store.open(workspace)
    with clock.running():
        integrity.ensure(store, workspace)
        items.sync(store, workspace)
    store.close()


def _review_follows(folder: Path, rows: int, clock: Clock) -> None:
    """One part that a build changed is taken over into the index."""
    from phq_data.review import items
    from phq_data.review.store import Store
    from phq_data.workspace import Workspace

    workspace = Workspace.open(folder / "workspace")
    store = Store.open(workspace)
    items.sync(store, workspace)
    table = workspace.read_part("tables/screened", 0)
    workspace.write_part("tables/screened", 0, table, f"made up {time.time()}")
    with clock.running():
        items.sync(store, workspace)
    store.close()


def _select(folder: Path, rows: int, clock: Clock) -> None:
    import numpy as np

    from phq_data.release import splits
    from phq_data.release.select import select
    from phq_data.release.tombstones import Tombstones
    from phq_data.review.consensus import ConsensusRule
    from phq_data.workspace import Workspace

    workspace = Workspace.open(folder / "workspace")
    with clock.running():
        found = select(
            workspace, reviewed=False, rule=ConsensusRule(), tombstones=Tombstones(), permissions=(),
            duplicate_distance=5,
        )  # fmt: skip
        splits.assign(found.ties, splits.SplitShares(), np.full(len(found.places), -1, np.int8))


def _columns(folder: Path, rows: int, clock: Clock) -> None:
    """Splits and shards of a release over the columns that a selection leaves; no workspace is read."""
    import numpy as np

    from phq_data.release import shards, splits
    from phq_data.release.rows import FACTS

    numbers = np.arange(rows, dtype=np.uint64)
    photo = scale_tables.mixed(numbers - (numbers % 100 == 99), 1)
    author = scale_tables.mixed(numbers // np.uint64(3), 2)
    others = [numbers + np.uint64(1), splits.sessions(author, np.full(rows, 20260101, np.int32))]
    ties = splits.Ties(photo, scale_tables.mixed(photo, 3), others)
    with clock.running():
        split = splits.assign(ties, splits.SplitShares(), np.full(rows, -1, np.int8))
        del ties, others, author, photo, numbers
        facts = np.zeros(rows, FACTS)
        facts["split"], facts["bytes"] = split, 300_000
        assert shards.plan(facts, 256 << 20)


def _release(version: str) -> Step:
    def build_it(folder: Path, rows: int, clock: Clock) -> None:
        from phq_data.release.build import ReleaseOptions, build
        from phq_data.workspace import Workspace

        workspace = Workspace.open(folder / "workspace")
        if version == "1.0.0":
            scale_tables.drop_some(workspace, 0)
            shutil.rmtree(folder / "releases", ignore_errors=True)
        else:
            scale_tables.drop_some(workspace, 50)
            shutil.rmtree(folder / "releases" / version, ignore_errors=True)
        options = ReleaseOptions(unreviewed=True, created="2026-01-01", workers=2)
        with clock.running():
            build(workspace, folder / "releases", version, options)

    return build_it


def _diff(folder: Path, rows: int, clock: Clock) -> None:
    from phq_data.release import reader
    from phq_data.release.diff import diff

    with clock.running():
        found = diff(reader.open(folder / "releases/1.0.0"), reader.open(folder / "releases/2.0.0"))
    assert found.removed


def _verify(folder: Path, rows: int, clock: Clock) -> None:
    from phq_data.release.verify import verify

    with clock.running():
        assert not verify(folder / "releases/1.0.0")


def _takedown(folder: Path, rows: int, clock: Clock) -> None:
    from phq_data.release import reader
    from phq_data.release.takedown import take_down

    one = reader.open(folder / "releases/1.0.0").index["portrait_id"][0].as_py()
    with clock.running():
        take_down(folder / "releases", portrait_id=one, reason="bench")


def _takedown_author(folder: Path, rows: int, clock: Clock) -> None:
    from phq_data.release.takedown import take_down

    with clock.running():
        take_down(folder / "releases", author="Author 7", reason="bench")


def _trainer_starts(folder: Path, rows: int, clock: Clock) -> None:
    from portraitgan.data.dataset import PortraitData

    with clock.running():
        data = PortraitData.open(folder / "releases/1.0.0", scale_tables.SIDE)
        assert len(data) > rows // 2


STEPS: dict[str, Step] = {
    "plan": _plan,
    "plan-again": _plan_again,
    "near-duplicates": _dedup,
    "report": _report,
    "review-index": _review_index,
    "review-opens": _review_opens,
    "review-checks": _review_checks,
    "review-follows": _review_follows,
    "select-split": _select,
    "columns": _columns,
    "release": _release("1.0.0"),
    "next-release": _release("2.0.0"),
    "diff": _diff,
    "verify": _verify,
    "trainer-starts": _trainer_starts,
    "takedown": _takedown,
    "takedown-author": _takedown_author,
}
"""In this order: what a step needs, those before it made."""


if __name__ == "__main__":
    main()
