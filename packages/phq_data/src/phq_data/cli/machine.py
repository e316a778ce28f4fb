"""What `phq doctor` says of the machine: processors, memory, GPU, space."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "optional", "attention", "missing"]
"""`missing`: the default pipeline does not work without it. `optional`: not here, and not needed.
`attention`: it works, but something could be better."""

WANTED_MEMORY = 2.0
"""GiB that one worker of a build may take."""
WANTED_DISK = 2.0
"""Free GiB below which a build of some size will not fit."""
_GIB = 1024.0**3


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    group: str
    name: str
    status: Status
    found: str  # version, size, place, ...
    advice: str = ""  # what to do; "" = nothing
    license: str = ""  # of models and of packages whose license binds what one does with them


def checks(folder: Path, torch: str | None) -> Iterator[Check]:
    """All of them; `folder` is where space is needed, `torch` the version that is installed."""
    yield _processors()
    yield _memory()
    yield _gpu(torch)
    yield _disk(folder)


def _gpu(torch: str | None) -> Check:
    """The GPUs as their driver names them; torch is not imported."""
    program = shutil.which("nvidia-smi")
    asked = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    told = ""
    try:
        if program:
            told = subprocess.run(
                [program, *asked], capture_output=True, text=True, timeout=10, check=True
            ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        problem = f"nvidia-smi does not answer: {error}"
        return Check("machine", "GPU", "attention", problem, "see to its driver")
    found = "; ".join(line.strip() for line in told.splitlines() if line.strip())
    if not found:
        advice = "photos are labelled without one; training at useful sizes wants one (docs/training.md)"
        return Check("machine", "GPU", "optional", "none", advice)
    if torch is not None and "+cpu" in torch:
        advice = "torch is the build without CUDA: pip install torch, from the index of your CUDA version"
        return Check("machine", "GPU", "attention", found, advice)
    return Check("machine", "GPU", "ok", found)


def _processors() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("machine", "processors", "ok", f"{count}: phq build works on that many parts at once")


def _memory() -> Check:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
    except (AttributeError, ValueError, OSError):
        return Check("machine", "memory", "ok", "unknown")
    free = _available_memory()
    found = f"{total:.1f} GiB" + (f", {free:.1f} GiB free" if free is not None else "")
    if (free if free is not None else total) < WANTED_MEMORY:
        advice = f"a worker may take {WANTED_MEMORY:.0f} GiB: use --workers 1, close something else"
        return Check("machine", "memory", "attention", found, advice)
    return Check("machine", "memory", "ok", found)


def _available_memory() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024 / _GIB
    return None


def _disk(folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free / _GIB
    except OSError as error:
        return Check("machine", "disk", "attention", f"{folder}: {error.strerror}", "choose another folder")
    found = f"{free:.1f} GiB free in {folder}"
    if free < WANTED_DISK:
        return Check(
            "machine", "disk", "attention", found, "a portrait takes about 0.5 MB: free some space first"
        )
    return Check("machine", "disk", "ok", found)
