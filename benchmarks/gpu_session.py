"""The steps of `gpu_session.sh`: each a program with a time limit of its own, whose results are kept at once.

A step prints JSON lines; those that it printed before its time was up count. What fails is one line and the
next step begins.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUDGET = 480.0
"""Seconds of all steps together."""
_TESTS = "packages/portraitgan/tests"


@dataclass(frozen=True)
class Step:
    """One program."""

    name: str
    limit: float  # seconds
    command: tuple[str, ...]  # after `python3`
    json_lines: bool = True  # otherwise its last lines are its result


def steps(tiny: bool, work: Path) -> list[Step]:
    """The best first: after three minutes it is known whether graphs are right and what they bring."""
    device = "cpu" if tiny else "cuda"
    preset, middle = ("tiny", "tiny") if tiny else ("paper_256", "middle")
    sizes = ("4",) if tiny else ("32", "16", "4")
    tests = ("-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", "--durations=10")
    on_a_gpu, triton = f"{_TESTS}/training/test_on_a_gpu.py", f"{_TESTS}/deformation/test_triton.py"
    first = "graphs_give or never_waits or stay_close or numbers_of_a_cpu"
    iterations = ("-m", "benchmarks.iterations", "--device", device, "--preset", preset)
    few = ("--repeats", "1" if tiny else "5")
    return [
        Step("graphs and formats right", 75, (*tests, on_a_gpu, "-k", first), json_lines=False),
        Step("iterations", 110, (*iterations, "--batch", *sizes, *few)),
        Step("training", 100, ("-m", "benchmarks.gpu_session", "--train", middle, "--out", str(work), *(
            ("--tiny",) if tiny else ()))),
        Step("other tests", 90, (*tests, on_a_gpu, triton, "-k", f"not ({first})"), json_lines=False),
        Step("deformation", 45, ("-m", "benchmarks.deformation", "--device", device, *(
            ("--batch", "1", "--rays", "4", "--brute-points", "8", "--repeats", "1") if tiny else ()))),
        Step("loader", 45, ("-m", "benchmarks.loader", "--rows", "16" if tiny else "200",
                            "--size", "32" if tiny else "256")),
        Step("larger images", 60, (*iterations[:-1], "tiny" if tiny else "paper_512", "--batch", sizes[0],
                                   *few, "--precision", "tf32" if tiny else "bf16")),
    ]  # fmt: skip


def run(step: Step, limit: float, log: Path) -> dict[str, Any]:
    """What came of a step within `limit` seconds."""
    began = time.monotonic()
    environment = {**os.environ, "JSON": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *step.command], stdout=out, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            code: int | str = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own children too
            process.wait()
            code = "time is up"
    lines = log.read_text(errors="replace").splitlines()
    found = [line for line in lines if line.startswith("{")]
    result: list[Any] = [json.loads(line) for line in found] if step.json_lines else lines[-25:]
    return {"step": step.name, "code": code, "seconds": round(time.monotonic() - began, 1), "result": result}


def table(done: Sequence[dict[str, Any]]) -> str:
    """The results for people."""
    lines = []
    for one in done:
        lines.append(f"{one['step']}: {one['code']}, {one['seconds']} s")
        for row in one["result"]:
            if isinstance(row, dict):
                parts = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
                parts.pop("device", None)
                lines.append("  " + "  ".join(f"{key} {_short(value)}" for key, value in parts.items()))
        if one["code"] != 0 or not any(isinstance(row, dict) for row in one["result"]):
            lines += [f"  | {row}" for row in one["result"][-6:] if isinstance(row, str)]
    return "\n".join(lines) + "\n"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def session(out: Path, tiny: bool) -> int:
    """All steps; `out` gets results.jsonl, table.txt and log.txt. 1 if a step failed."""
    out.mkdir(parents=True, exist_ok=True)
    began, done = time.monotonic(), []
    logs = Path(tempfile.mkdtemp(prefix="gpu-session-"))
    for number, step in enumerate(steps(tiny, logs / "work")):
        left = BUDGET - (time.monotonic() - began)
        if left < 5 and not tiny:
            break
        found = run(step, step.limit * 6 if tiny else min(step.limit, left), logs / f"{number}.log")
        done.append(found)
        with (out / "log.txt").open("a") as log:
            log.write(f"== {step.name}\n{(logs / f'{number}.log').read_text(errors='replace')}\n")
        with (out / "results.jsonl").open("a") as results:
            results.write(json.dumps(found) + "\n")
        text = table(done)
        (out / "table.txt").write_text(text)
        print(table([found]), flush=True)
    return int(any(one["code"] != 0 for one in done))


def train(preset: str, work: Path, tiny: bool) -> None:
    """A minute of real training from a release on disk; prints its speed and what was lost on the way."""
    import torch

    from benchmarks import loader as bench
    from benchmarks import timing
    from portraitgan.data.dataset import PortraitData
    from portraitgan.training import cuda_graphs, statistics
    from portraitgan.training.config import PRESETS
    from portraitgan.training.distributed import World
    from portraitgan.training.loop import train as train_run
    from portraitgan.training.run import open_run

    device = torch.device("cpu") if tiny else torch.device("cuda", 0)
    config = PRESETS[preset]()
    size = config.model.generator.image_resolution
    work.mkdir(parents=True, exist_ok=True)
    release = bench.make_release(work / "release", 16 if tiny else 256, size, "png")
    data = PortraitData.open(release, size, cache=work / "cache")
    run = open_run(work / "run", config, data, World(0, 1, device), print)
    run.stepper.go_together(config.batch.size // config.batch.micro)
    graphs = cuda_graphs.repeater("auto", device)
    run.stepper.use_graphs(graphs)
    began = time.monotonic()
    seconds = 1.0 if tiny else 60.0
    outcome = train_run(run, 10**9, print, lambda: time.monotonic() - began > seconds)
    took = time.monotonic() - began
    rows = statistics.read(work / "run")
    found = {
        "device": timing.describe(device), "preset": preset, "images": outcome.images, "seconds": took,
        "images_per_second": outcome.images / took,
        "s_per_kimg_of_steps": rows[-1].seconds_per_kimg, "gpu_gib": rows[-1].gpu_memory_gib,
        "losses": rows[-1].values,
        "graphs": None if graphs is None else {"captured": graphs.captured, "failed": graphs.failed},
    }  # fmt: skip
    print(json.dumps(found), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """See `gpu_session.sh`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--tiny", action="store_true", help="toy sizes on a CPU: a rehearsal")
    parser.add_argument("--train", metavar="PRESET", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.train:
        train(options.train, options.out, options.tiny)
        return 0
    return session(options.out, options.tiny)


if __name__ == "__main__":
    sys.exit(main())
