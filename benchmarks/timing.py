"""Timing that survives a busy machine: CPU seconds of this process on a CPU, wall time on a GPU."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def show(table: str, figures: dict[str, Any]) -> None:
    """Print the table and, where the environment says JSON=1, the figures as one JSON line."""
    print(table)
    if os.environ.get("JSON") == "1":
        print(json.dumps(figures))


def pick_device(name: str | None) -> torch.device:
    """The named device, or a GPU if there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def describe(device: torch.device) -> str:
    """What the numbers were measured on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, wall time"
    kind = platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"CPU ({kind}), {threads} threads, torch {torch.__version__}, CPU seconds of all threads"


def timed(
    function: Callable[[], T], device: torch.device, repeats: int = 3, warm: int = 1
) -> tuple[float, T]:
    """(median seconds of `repeats` runs after `warm` unmeasured ones, the last result).

    CPU seconds do not count what other programs do meanwhile, and add up over threads.
    """
    for _ in range(warm):
        result = function()
    seconds = []
    for _ in range(max(1, repeats)):
        start = _now(device)
        result = function()
        seconds.append(_now(device) - start)
    return statistics.median(seconds), result


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()
