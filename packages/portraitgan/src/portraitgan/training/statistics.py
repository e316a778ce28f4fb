"""What a run tells of itself: rows of statistics, a status line, and where rows go besides the file.

`RUN/statistics.jsonl` has a row (a JSON object) per status interval. A resumed run first drops the rows after
its checkpoint, so the file reads as if nothing had happened.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phq_data.files import write_text
from portraitgan.training.distributed import World
from portraitgan.training.schedule import ScheduleState

FILE = "statistics.jsonl"


@dataclass(frozen=True)
class Row:
    """One interval of a run."""

    images: int  # at the interval's end
    iteration: int
    stage: str
    resolution: int  # neural rendering resolution
    condition_swap: float
    blur_sigma: float
    density_noise: float
    pose_regulariser_strength: float  # 0..1
    seconds_per_kimg: float  # of training alone
    seconds_left: float  # until the run's last image, at the present speed
    memory_gib: float  # peak of this process
    gpu_memory_gib: float  # peak allocated on the GPU; 0 on a CPU
    values: Mapping[str, float]  # mean losses and scores of the interval

    @property
    def kimg(self) -> float:
        """Thousands of images."""
        return self.images / 1000

    def to_json(self) -> dict[str, Any]:
        """One flat object."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "values"}
        return {**fields, "kimg": self.kimg, **self.values}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """The row of `to_json`'s object. `KeyError` when something is missing."""
        names = [name for name in cls.__dataclass_fields__ if name != "values"]
        rest = {key: value for key, value in data.items() if key not in (*names, "kimg")}
        return cls(**{name: data[name] for name in names}, values=rest)


class Tally:
    """Means since the last row."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count one iteration's means in."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, world: World) -> dict[str, float]:
        """Means over the iterations since the last call and over all processes; starts anew."""
        names = sorted(self._sums)
        means = [self._sums[name] / self._counts[name] for name in names]
        world.mean(means)
        self._sums, self._counts = {}, {}
        return {name: float(mean) for name, mean in zip(names, means, strict=True)}


def make_row(
    images: int,
    iteration: int,
    state: ScheduleState,
    values: Mapping[str, float],
    seconds_per_kimg: float,
    seconds_left: float,
) -> Row:
    """A row of this moment, with this process's peak memory."""
    schedule = state.schedule
    return Row(
        images, iteration, state.stage.name, schedule.resolution or 0, schedule.condition_swap,
        schedule.blur_sigma, float(schedule.density_noise), float(schedule.pose_regulariser),
        seconds_per_kimg, seconds_left, memory_gib(), gpu_memory_gib(), values,
    )  # fmt: skip


def memory_gib() -> float:
    """Peak memory of this process, GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def gpu_memory_gib() -> float:
    """Peak memory that torch allocated on the GPU, GiB; 0 without one."""
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0


def status_line(row: Row, last_kimg: float) -> str:
    """The row as one line for a person."""
    found = row.values

    def shown(name: str, form: str = ".3f") -> str:
        return format(found[name], form) if name in found else "-"

    memory = f"{row.memory_gib:.1f} GiB" + (f" + GPU {row.gpu_memory_gib:.1f}" if row.gpu_memory_gib else "")
    parts = [
        f"kimg {row.kimg:.1f}/{last_kimg:g} ({min(row.kimg / last_kimg, 1):.1%})",
        f"stage {row.stage}",
        f"{row.seconds_per_kimg:.1f} s/kimg",
        f"{duration(row.seconds_left)} left",
        memory,
        f"G {shown('loss_generator')} D {shown('loss_generated')} {shown('loss_real')}",
        f"pose {shown('pose_error_deg', '.1f')}° (labels {shown('pose_off_labels_deg', '.1f')}°)",
        f"R1 {shown('r1')}",
        f"λ {row.pose_regulariser_strength:.2f} R {row.resolution} swap {row.condition_swap:.2f} "
        f"blur {row.blur_sigma:.1f}",
    ]
    if found.get("bad_gradients", 0) > 0:
        parts.append("NOT FINITE: some gradients were set to 0")
    return " | ".join(parts)


def duration(seconds: float) -> str:
    """Seconds for people: 45 s, 12 min, 3 h 20 min, 6 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def read(run: str | Path) -> list[Row]:
    """All rows of a run, oldest first; a line that is still being written is left out."""
    rows = []
    try:
        lines = (Path(run) / FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            rows.append(Row.from_json(json.loads(line)))
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return rows


def continue_from(run: str | Path, images: int) -> None:
    """Drop the rows after `images` images, and a line that a killed process left unfinished."""
    path = Path(run) / FILE
    if path.exists():
        kept = [row for row in read(run) if row.images <= images]
        write_text(path, "".join(json.dumps(row.to_json()) + "\n" for row in kept))


def append(run: str | Path, row: Row) -> None:
    """Add a row."""
    with (Path(run) / FILE).open("a") as file:
        file.write(json.dumps(row.to_json()) + "\n")
