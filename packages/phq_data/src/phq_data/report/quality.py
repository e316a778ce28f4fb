"""Distributions of what portraits are judged by, with the limits of the screening, and coverage of views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phq_data.camera import FOCAL, RADIUS
from phq_data.report.data import HEAD_METRES, ReportData
from phq_data.report.plots import Bar, Histogram

SECTORS = 12
"""Of the circle around the subject, 30 degrees each, the first around the front."""
_BINS = 32


@dataclass(frozen=True)
class Sector:
    """Distinct kept portraits whose camera is in a sector."""

    name: str  # its middle in degrees
    count: int
    share: float  # percent of the target


@dataclass(frozen=True)
class Coverage:
    """How evenly the views are spread."""

    target: int  # portraits a sector
    sectors: tuple[Sector, ...]
    note: str


def distributions(data: ReportData) -> list[Histogram]:
    """Effective resolution, head size and error probability of kept and rejected portraits."""
    screen = data.config.screen
    head = data.config.crop.min_window * HEAD_METRES * FOCAL / RADIUS
    resolutions, heads = (0.125, 0.25, 0.5, 1, 2, 4, 8), (16, 32, 64, 128, 256, 512, 1024, 2048)
    titles = {
        "effective_resolution": "effective resolution, photo pixels per portrait pixel",
        "head_pixels": "head size, photo pixels",
        "error_probability": "label uncertainty: probability that the yaw is off by 15\u00b0 or more",
    }
    least = screen.min_effective_resolution
    return [
        _of(
            data, "effective_resolution", titles, (0.0625, 16.0), resolutions, f"at least {least:.3g}", least,
        ),
        _of(data, "head_pixels", titles, (8.0, 4096.0), heads, f"at least {head:.3g}", head),
        _of(
            data, "error_probability", titles, (0.0, 1.0), (0, 0.25, 0.5, 0.75, 1),
            f"at most {screen.max_error_probability:.3g}", screen.max_error_probability,
        ),
    ]  # fmt: skip


def coverage(data: ReportData, target: int = 0) -> Coverage:
    """Distinct kept portraits a sector of yaw, against `target`; 0 = an equal share of what there is."""
    kept = data.kept[data.kept["duplicate_of"] == ""]
    width = 360 / SECTORS
    where = np.floor((np.degrees(kept["yaw"]) + width / 2) % 360 / width).astype(int)
    counts = np.bincount(where, minlength=SECTORS)
    wanted = target or max(1, -(-len(kept) // SECTORS))
    order = [(SECTORS // 2 + number) % SECTORS for number in range(SECTORS)]  # from behind, around
    sectors = tuple(
        Sector(f"{(one * width + 180) % 360 - 180:.0f}\u00b0", int(counts[one]), 100 * counts[one] / wanted)
        for one in order
    )
    lacking = [one for one in sectors if one.count < wanted]
    more = sum(wanted - one.count for one in lacking)
    note = (
        f"{len(lacking)} of {SECTORS} sectors are below {wanted:,}: {more:,} more portraits are wanted there"
        if lacking
        else "every sector has what is wanted"
    )
    return Coverage(wanted, sectors, note)


def _of(
    data: ReportData,
    column: str,
    titles: Mapping[str, str],
    ends: tuple[float, float],
    ticks: Sequence[float],
    rule: str,
    limit: float,
) -> Histogram:
    """A histogram on a logarithmic scale, or a linear one from 0. `limit` is drawn where it decides."""
    (low, high), title = ends, titles[column]
    places = np.linspace(0, 1, _BINS + 1)
    edges = low + places * (high - low) if low == 0 else low * (high / low) ** places

    def place(value: float) -> float:
        inside = np.clip(value, low, high)
        return float(
            100 * ((inside - low) / (high - low) if low == 0 else np.log(inside / low) / np.log(high / low))
        )

    series = [_finite(part[column]) for part in (data.kept, data.rejected)]
    inner = np.nextafter(high, low)
    counts = np.array([np.histogram(np.clip(values, low, inner), edges)[0] for values in series])
    tallest = max(1, int(counts.sum(axis=0).max(initial=0)))
    bars = tuple(
        Bar(
            float(edges[i]), float(edges[i + 1]), (int(counts[0, i]), int(counts[1, i])),
            tuple(float(100 * count / tallest) for count in counts[:, i]),
            f"{edges[i]:.3g} to {edges[i + 1]:.3g}",
        )
        for i in range(_BINS)
    )  # fmt: skip
    middle = np.median(series[0]) if len(series[0]) else np.nan
    note = f"median of kept ones {middle:.3g}" if np.isfinite(middle) else "nothing to show"
    marks = ((place(limit), f"limit: {rule}"),) if low < limit < high else ()
    label = f"Histogram of {title}: {len(series[0])} kept and {len(series[1])} rejected, {note}"
    label += f"; {marks[0][1]}" if marks else ""
    return Histogram(title, bars, tuple((place(at), f"{at:g}") for at in ticks), note, label, marks)


def _finite(values: pd.Series) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.asarray(values, np.float64)
    return np.asarray(found[np.isfinite(found)])
