"""Do changed files end in one sentence? `python -m benchmarks.fuzz` changes small whole files and reads them.

Every kind of file is read in a process of its own, with a limit on memory and on the time of one input. What
is counted: tracebacks (anything but a `PhqError`, also a process that dies), hangs, and the most memory. An
input that fails is kept in a folder and shown with the command that reads it again.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.fuzz_target import Target
from benchmarks.fuzz_targets import targets
from phq_data.errors import PhqError

SECONDS = 10.0
"""For one input; longer is a hang."""
MEMORY = 2 << 30
"""Bytes that reading may take on top of what the process has before it."""
_PATIENCE = 6  # times `SECONDS` for a process that sleeps, or gets no processor
_FIRST, _CHUNK = 25, 200  # inputs of a kind before it is the next one's turn: in the first round, later
_FORK = multiprocessing.get_context("fork")


@dataclass
class Found:
    """What a run found; `failures` are (kind of file, number of the input, what happened)."""

    inputs: int = 0
    tracebacks: int = 0
    hangs: int = 0
    peak_mib: float = 0.0
    failures: list[tuple[str, int, str]] = field(default_factory=list)

    def with_another(self, other: Found) -> Found:
        """What both runs found."""
        return Found(
            self.inputs + other.inputs,
            self.tracebacks + other.tracebacks,
            self.hangs + other.hangs,
            max(self.peak_mib, other.peak_mib),
            self.failures + other.failures,
        )


def main(arguments: list[str] | None = None) -> None:
    """Run for the time or the number of inputs asked for, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="time budget")
    parser.add_argument("--inputs", type=int, default=0, help="stop after so many; 0: at the time alone")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds of files, with commas between them")
    parser.add_argument("--input", type=int, help="read this one input of --only here, with its traceback")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-out"), help="where inputs that fail are kept")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="phq-fuzz-") as folder:
        if given.input is not None:
            _once(Path(folder), given.only, given.seed, given.input)
            return
        found = fuzz(
            Path(folder), given.seed, given.seconds, given.inputs, given.only, given.keep, given.jobs
        )
    for kind, number, what in found.failures[:40]:
        again = f"python -m benchmarks.fuzz --seed {given.seed} --only '{kind}' --input {number}"
        print(f"{kind}: {what}\n    again: {again}")
    numbers = {name: getattr(found, name) for name in ("inputs", "tracebacks", "hangs", "peak_mib")}
    print(json.dumps(numbers) if given.json else numbers)
    if found.tracebacks or found.hangs:
        raise SystemExit(1)


def fuzz(
    folder: Path,
    seed: int,
    seconds: float,
    inputs: int = 0,
    only: str = "",
    keep: Path | None = None,
    jobs: int = 1,
) -> Found:
    """Read changed files of every kind in turn until the time is over or `inputs` were read.

    `jobs` processes do it side by side; an input is the same file whatever their number.
    """
    known = targets(folder)
    kinds = [kind for kind in known if not only or kind.name in only.split(",")]
    if not kinds:
        raise SystemExit(f"there is no kind of file '{only}'; there are {', '.join(k.name for k in known)}")
    _read_whole_files(kinds, folder)
    end = time.monotonic() + seconds
    shares = [inputs // jobs + (job < inputs % jobs) if inputs else None for job in range(jobs)]
    running, pipes = [], []
    for job in range(1, jobs):
        ours, theirs = _FORK.Pipe(duplex=False)
        running.append(
            _FORK.Process(target=_send, args=(theirs, kinds, folder, seed, end, shares[job], job, jobs))
        )
        running[-1].start()
        theirs.close()
        pipes.append(ours)
    found = _run(kinds, folder, seed, end, shares[0], 0, jobs)
    for pipe, process in zip(pipes, running, strict=True):
        found = found.with_another(pipe.recv())
        process.join()
    for name, number, _ in found.failures if keep else []:
        assert keep is not None
        keep.mkdir(parents=True, exist_ok=True)
        kind = next(kind for kind in kinds if kind.name == name)
        (keep / f"{seed}-{number}-{name.replace(' ', '-')}").write_bytes(changed_file(kind, seed, number))
    return found


def changed_file(kind: Target, seed: int, number: int) -> bytes:
    """The bytes of an input: the same for the same seed."""
    rng = random.Random(f"{seed}/{kind.name}/{number}")
    return kind.change(rng.choice(kind.seeds), rng)


def _read_whole_files(kinds: list[Target], folder: Path) -> None:
    """Every kind once as it is, so that what its reader imports is there for all processes."""
    import torch

    torch.set_num_threads(1)  # a pool of threads does not outlive a fork
    place = folder / "whole"
    for kind in kinds:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        with contextlib.suppress(Exception):  # it is told of when its turn comes
            kind.read(kind.seeds[0], place)


def _send(pipe: Connection, *arguments: Any) -> None:
    pipe.send(_run(*arguments))


def _run(
    kinds: list[Target], folder: Path, seed: int, end: float, inputs: int | None, job: int, jobs: int
) -> Found:
    """The chunks job, job + jobs, job + 2 jobs, ... of every kind."""
    found = Found()
    for chunk in itertools.count(job, jobs):
        first = _FIRST + (chunk - 1) * _CHUNK if chunk else 0
        for kind in kinds:
            size = _CHUNK if chunk else _FIRST
            if inputs is not None:
                size = min(size, inputs - found.inputs)
            if size <= 0 or time.monotonic() > end:
                return found
            _chunk(kind, folder / f"place-{job}", seed, (first, first + size), end, found)
        said = f"{found.inputs:,} inputs, {found.tracebacks} tracebacks, {found.hangs} hangs"
        print(f"{said}, {found.peak_mib:.0f} MiB", file=sys.stderr, flush=True)
    raise AssertionError  # `count` has no end


def _chunk(kind: Target, place: Path, seed: int, numbers: tuple[int, int], end: float, found: Found) -> None:
    """Inputs of one kind in a process; another goes on behind an input that ends or holds it."""
    start = numbers[0]
    while start < numbers[1] and time.monotonic() < end:
        ours, theirs = _FORK.Pipe(duplex=False)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        child = _FORK.Process(target=_read_all, args=(theirs, kind, place, seed, start, numbers[1], end))
        child.start()
        theirs.close()
        number, what = _follow(ours, found, start, child.pid or 0)
        if what == "":
            child.join()
            return
        if what == "hang":
            child.kill()
            found.hangs += 1
        else:
            found.tracebacks += 1
        child.join()
        what = f"died ({child.exitcode})" if what == "died" else what
        found.failures.append((kind.name, number, what))
        start = number + 1


def _follow(pipe: Connection, found: Found, number: int, process: int) -> tuple[int, str]:
    """Count what the child says; returns the input that it ended at, and how ("" when all were read)."""
    while True:
        try:
            if _hangs(pipe, process):
                return number, "hang"
            message = pipe.recv()
        except EOFError:
            return number, "died"
        if message is None:
            return number, ""
        if isinstance(message, int):
            number = message
            found.inputs += 1
        elif isinstance(message, float):
            found.peak_mib = max(found.peak_mib, message)
        else:
            found.tracebacks += 1
            found.failures.append((message[0], message[1], message[2]))


def _hangs(pipe: Connection, process: int) -> bool:
    """Does a process say nothing for `SECONDS`, also of its own work where others keep the machine busy?"""
    begin = _worked(process)
    for _ in range(_PATIENCE):
        if pipe.poll(SECONDS):
            return False
        if _worked(process) - begin > 0.9 * SECONDS:
            return True
    return True


def _worked(process: int) -> float:
    """Seconds that a process has computed."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read_all(
    pipe: Connection, kind: Target, place: Path, seed: int, start: int, stop: int, end: float
) -> None:
    warnings.simplefilter("ignore")
    logging.disable()  # what readers warn of is no failure
    with Path("/proc/self/statm").open() as file:
        has = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, has + MEMORY))
    for number in range(start, stop):
        if time.monotonic() > end:
            break
        pipe.send(number)
        try:
            kind.read(changed_file(kind, seed, number), place)
        except PhqError:
            pass
        except BaseException as error:
            pipe.send((kind.name, number, _told(error)))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    pipe.send(None)


def _told(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in last if "site-packages" not in frame.filename and "fuzz" not in frame.filename]
    place = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}: {str(error)[:120]}{place}"


def _once(folder: Path, only: str, seed: int, number: int) -> None:
    kind = next(kind for kind in targets(folder) if kind.name == only)
    (folder / "place").mkdir()
    try:
        print(kind.read(changed_file(kind, seed, number), folder / "place"))
    except PhqError as error:
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
