"""What is in a release, in numbers: counted from its shards, without images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phq_data import parquet_limits
from phq_data.release.manifest import SPLITS
from phq_data.release.reader import Release

YAW_STEP, PITCH_STEP = 10, 10  # degrees a cell
OCTANTS: tuple[str, ...] = (
    "front", "front-left", "left", "back-left", "back", "back-right", "right", "front-right",
)  # fmt: skip
"""45 degrees each around yaw 0, 45, 90, ...: which side of the person the camera sees."""
RENDERS = "renders"
CONSENT = ("yes", "no", "unknown", RENDERS)
"""What may be known of the consent of the people shown; renders show nobody."""
_COLUMNS = [
    "photo_id", "split", "yaw", "pitch", "roll", "provider", "license", "author", "models", "size",
    "codec", "body", "effective_resolution", "padding", "day", "truth_camera", "rights_checked_at",
    "corrected_from", "consent", "age_screen",
]  # fmt: skip


@dataclass
class Summary:
    """Counts over rows. `cells[i, j]` is yaw cell i (from -180 degrees) and pitch cell j (from -90)."""

    rows: int = 0
    photos: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    providers: dict[str, int] = field(default_factory=dict)
    licenses: dict[str, int] = field(default_factory=dict)  # "unknown" where there is none
    consent: dict[str, int] = field(default_factory=dict)  # of the people shown; renders show nobody
    ages: dict[str, int] = field(default_factory=dict)  # outcomes of the screen for minors; empty: none ran
    authors: int = 0
    bodies: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    codecs: dict[str, int] = field(default_factory=dict)
    models: list[Any] = field(default_factory=list)
    octants: dict[str, int] = field(default_factory=dict)
    cells: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((360 // YAW_STEP, 180 // PITCH_STEP), np.int64)
    )
    pitch_degrees: dict[str, float] = field(default_factory=dict)  # p05, median, p95
    roll_degrees: dict[str, float] = field(default_factory=dict)
    effective_resolution: dict[str, float] = field(default_factory=dict)
    truth: int = 0  # rows whose true camera is known
    corrected: int = 0  # rows whose labels people corrected
    days: tuple[str, str] | None = None  # first and last day a photo was taken
    checked: tuple[str, str] | None = None  # first and last day the rights were checked

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the cells as a list of lists."""
        return {**vars(self), "cells": self.cells.tolist()}


def summarise(shards: Iterable[Path]) -> Summary:
    """The numbers of shard files on this machine."""
    return _summarise(parquet_limits.read_all(path, _COLUMNS) for path in shards)


def of_release(release: Release, split: str | None = None) -> Summary:
    """The numbers of an opened release (or one of its splits), without what was taken down."""
    part = release.split(split) if split else release.all()
    return _summarise(iter([part.metadata(_COLUMNS)]))


def _summarise(tables: Iterator[pa.Table]) -> Summary:
    total = Summary()
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("split", "provider", "license", "body", "size", "codec", "models")
    }
    photos: set[str] = set()
    authors: set[str] = set()
    numbers: dict[str, list[NDArray[np.float64]]] = {
        name: [] for name in ("yaw", "pitch", "roll", "effective_resolution")
    }
    consent: Counter[str] = Counter()
    ages: Counter[str] = Counter()
    days: set[str] = set()
    checked: set[str] = set()
    for table in tables:
        total.rows += table.num_rows
        total.truth += table.num_rows - table["truth_camera"].null_count
        total.corrected += table.num_rows - table["corrected_from"].null_count
        consent.update(map(_consent, table["consent"].to_pylist(), table["provider"].to_pylist()))
        ages.update(outcome for outcome in table["age_screen"].to_pylist() if outcome)
        for name, counter in counts.items():
            counter.update(str(v) if v is not None else "unknown" for v in table[name].to_pylist())
        photos.update(table["photo_id"].to_pylist())
        authors.update(a for a in table["author"].to_pylist() if a)
        days.update(d for d in table["day"].to_pylist() if d)
        checked.update(d for d in table["rights_checked_at"].to_pylist() if d)
        for name, values in numbers.items():
            values.append(np.asarray(table[name].to_numpy(), np.float64))
    joined = {name: np.concatenate([np.zeros(0), *parts]) for name, parts in numbers.items()}
    yaw, pitch = np.degrees(joined["yaw"]), np.degrees(joined["pitch"])
    total.photos, total.authors = len(photos), len(authors)
    total.splits = {name: counts["split"][name] for name in SPLITS if counts["split"][name]}
    total.providers, total.licenses = _sorted(counts["provider"]), _sorted(counts["license"])
    total.consent = {name: consent[name] for name in CONSENT if consent[name]}
    total.ages = {name: ages[name] for name in sorted(ages)}
    total.bodies, total.sizes, total.codecs = (_sorted(counts[n]) for n in ("body", "size", "codec"))
    total.models = [_json(text) for text in sorted(counts["models"])]
    which = np.floor(((yaw + 22.5) % 360) / 45).astype(int) % 8
    total.octants = {name: int((which == i).sum()) for i, name in enumerate(OCTANTS)}
    edges = (np.arange(-180, 181, YAW_STEP), np.arange(-90, 91, PITCH_STEP))
    total.cells = np.histogram2d(yaw, pitch, bins=edges)[0].astype(np.int64)
    total.pitch_degrees = _quantiles(pitch)
    total.roll_degrees = _quantiles(np.degrees(joined["roll"]))
    total.effective_resolution = _quantiles(joined["effective_resolution"])
    total.days = (min(days), max(days)) if days else None
    total.checked = (min(checked), max(checked)) if checked else None
    return total


def _consent(stated: str | None, provider: str) -> str:
    return RENDERS if provider == "synthetic" else stated or "unknown"


def _sorted(counter: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.quantile(values, [0.05, 0.5, 0.95])
    return {name: round(float(value), 3) for name, value in zip(("p05", "median", "p95"), found, strict=True)}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
