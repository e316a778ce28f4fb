"""Plots of a report: histograms as plain numbers for the template, the camera plot as SVG and as PNG.

The page draws its plots with HTML and CSS, so that they follow the reader's colors, keep readable letters on
a phone and can be read aloud. `cameras_png` is the same camera plot as an image for elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

POINTS_AT_MOST = 1500
"""More portraits than this are drawn as a two-dimensional histogram."""
CELL = 5.0
"""Degrees a side of a cell of that histogram."""
_WIDTH, _HEIGHT = 360.0, 100.0  # user units of the plot: a degree of yaw is one unit wide


@dataclass(frozen=True)
class Bar:
    """One bin of a histogram."""

    low: float
    high: float
    counts: tuple[int, ...]  # one a series
    heights: tuple[float, ...]  # the same in percent of the tallest bar
    label: str  # its range, for people

    @property
    def total(self) -> int:
        """All series together."""
        return sum(self.counts)


@dataclass(frozen=True)
class Histogram:
    """Bins over a range."""

    title: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]  # (percent from the left, label)
    note: str  # mean and spread
    label: str  # for readers who do not see it
    marks: tuple[tuple[float, str], ...] = ()  # limits: (percent from the left, what it is)


@dataclass(frozen=True)
class CameraPlot:
    """Yaw and pitch of the cameras."""

    svg: Markup
    x_ticks: tuple[tuple[float, str], ...]  # (percent, label)
    y_ticks: tuple[tuple[float, str], ...]  # (percent from the top, label)
    label: str
    binned: bool
    most: int  # portraits in the fullest cell


def histogram(
    title: str,
    series: list[ArrayLike],  # [N] angles in radians, one array a series
    low: float,  # degrees
    high: float,
    step: float,
    tick: float,
) -> Histogram:
    """A stacked histogram in degrees; angles beyond the range are counted in the outermost bins."""
    edges = np.arange(low, high + step / 2, step)
    degrees = [np.degrees(np.asarray(values, np.float64)) for values in series]
    degrees = [values[np.isfinite(values)] for values in degrees]
    inner = np.nextafter(high, low)
    counts = np.array([np.histogram(np.clip(v, low, inner), edges)[0] for v in degrees])
    tallest = max(1, int(counts.sum(axis=0).max(initial=0)))
    bars = tuple(
        Bar(
            float(edges[i]),
            float(edges[i + 1]),
            tuple(int(c) for c in counts[:, i]),
            tuple(float(100 * c / tallest) for c in counts[:, i]),
            f"{edges[i]:.0f}° to {edges[i + 1]:.0f}°",
        )
        for i in range(len(edges) - 1)
    )
    ticks = tuple(
        (float(100 * (at - low) / (high - low)), f"{at:.0f}°") for at in np.arange(low, high + tick / 2, tick)
    )
    first = degrees[0]
    if not len(first):
        note = "nothing to show"
    elif len(series) > 1 or high - low >= 360:  # a mean around a circle says nothing
        note = f"the highest bar: {tallest}"
    else:
        note = f"mean {round(first.mean(), 1) + 0.0:.1f}°, spread {first.std():.1f}°"
    peak = bars[int(counts.sum(axis=0).argmax())]
    place = f"most between {peak.low:.0f}° and {peak.high:.0f}°"
    label = f"Histogram of {title}: {len(first)} values, {note}; {place}"
    return Histogram(title, bars, ticks, note, label)


def camera_plot(kept: pd.DataFrame, rejected: pd.DataFrame, linked: set[str]) -> CameraPlot:
    """Yaw against pitch: a dot a portrait, those of `linked` leading to their image; or cells when many."""
    limit = _pitch_limit(pd.concat([kept["pitch"], rejected["pitch"]]))
    total = len(kept) + len(rejected)
    parts = [_grid(limit)]
    most = 0
    if total <= POINTS_AT_MOST:
        parts += [_dot(row, limit, "rejected", linked) for row in _angles(rejected)]
        parts += [_dot(row, limit, "kept", linked) for row in _angles(kept)]
    else:
        cells, most = _cells(kept, limit)
        parts += cells
    body = Markup("").join(parts)
    svg = Markup(
        '<svg viewBox="0 0 {w} {h}" preserveAspectRatio="none" focusable="false">{body}</svg>'
    ).format(w=int(_WIDTH), h=int(_HEIGHT), body=body)
    named = {-180: "back", -90: "right side", 0: "front", 90: "left side", 180: "back"}
    return CameraPlot(
        svg=svg,
        x_ticks=tuple((100 * (a + 180) / 360, f"{a}°|{named.get(a, '')}") for a in range(-180, 181, 45)),
        y_ticks=tuple((100 * (limit - a) / (2 * limit), f"{a}°") for a in _pitch_ticks(limit)),
        label=_summary(kept),
        binned=total > POINTS_AT_MOST,
        most=most,
    )


def cameras_png(kept: pd.DataFrame, rejected: pd.DataFrame) -> bytes:
    """The camera plot as a PNG, with matplotlib: cells of 5 degrees when there are many, dots otherwise."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=[3, 1])
    axes, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    yaw, pitch = np.degrees(kept["yaw"]), np.degrees(kept["pitch"])
    limit = _pitch_limit(pd.concat([kept["pitch"], rejected["pitch"]]))
    if len(kept) + len(rejected) > POINTS_AT_MOST:
        counts, edges = _counts(kept, limit)
        mesh = axes.pcolormesh(
            edges[0], edges[1], np.ma.masked_equal(counts.T, 0), norm=LogNorm(), cmap="viridis"
        )
        figure.colorbar(mesh, ax=axes, label="kept portraits a cell", pad=0.01)
    else:
        if len(rejected):
            axes.scatter(
                np.degrees(rejected["yaw"]), np.degrees(rejected["pitch"]), s=22, facecolors="none",
                edgecolors="#b06f10", linewidths=1, label=f"rejected ({len(rejected)})",
            )  # fmt: skip
        axes.scatter(yaw, pitch, s=16, alpha=0.75, color="#1d6f93", label=f"kept ({len(kept)})")
        axes.legend(loc="upper right", frameon=False)
    axes.set_title("Cameras of the portraits: yaw and pitch seen from the subject's neck", loc="left")
    axes.set_ylabel("pitch, degrees (above: positive)")
    axes.set_ylim(-limit, limit)
    below.hist(yaw, bins=np.arange(-180, 181, 10).tolist(), color="#1d6f93")
    below.set_ylabel("portraits")
    below.set_xlabel("yaw, degrees (0: from the front, 90: from the subject's left, ±180: from behind)")
    for each in (axes, below):
        each.set_xlim(-180, 180)
        each.set_xticks(range(-180, 181, 45))
        each.grid(alpha=0.25)
        each.spines[["top", "right"]].set_visible(False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _pitch_limit(pitch: pd.Series) -> int:
    """Half the height of the plot in degrees: 30, 45, 60, 75 or 90, to hold every camera."""
    largest = float(np.degrees(pitch.abs().max())) if len(pitch) else 0.0
    return int(np.clip(15 * np.ceil(largest / 15), 30, 90))


def _pitch_ticks(limit: int) -> list[int]:
    """Multiples of 15 degrees, or of 30 when there are many, up to the limits of the plot."""
    step = 15 if limit <= 30 else 30
    top = limit // step * step
    return list(range(-top, top + 1, step))


def _angles(portraits: pd.DataFrame) -> list[tuple[str, float, float]]:
    return [
        (str(i), float(np.degrees(yaw)), float(np.degrees(pitch)))
        for i, yaw, pitch in zip(portraits.index, portraits["yaw"], portraits["pitch"], strict=True)
    ]


def _grid(limit: int) -> Markup:
    lines = [f"M{a + 180} 0V{_HEIGHT:.0f}" for a in range(-135, 180, 45)]
    lines += [f"M0 {_y(a, limit):.2f}H{_WIDTH:.0f}" for a in _pitch_ticks(limit) if abs(a) < limit]
    return Markup('<path class="grid" d="{d}"/>').format(d=" ".join(lines))


def _y(pitch: float, limit: int) -> float:
    return _HEIGHT * (limit - pitch) / (2 * limit)


def _dot(row: tuple[str, float, float], limit: int, state: str, linked: set[str]) -> Markup:
    # A line of no length with round caps is a circle even where the plot is stretched.
    name, yaw, pitch = row
    dot = Markup(
        '<path class="dot {state}" d="M{x:.2f} {y:.2f}h.001"><title>{short} {state}: yaw {yaw:.0f}°, '
        "pitch {pitch:.0f}°</title></path>"
    ).format(state=state, x=yaw + 180, y=_y(pitch, limit), short=name[:8], yaw=yaw, pitch=pitch)
    if name in linked:
        return Markup('<a href="#p-{name}" tabindex="-1">{dot}</a>').format(name=name, dot=dot)
    return dot


def _counts(
    kept: pd.DataFrame, limit: int
) -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    across, up = np.arange(-180, 180.1, CELL), np.arange(-limit, limit + 0.1, CELL)
    yaw = np.clip(np.degrees(kept["yaw"].to_numpy(np.float64)), -180, np.nextafter(180, 0))
    pitch = np.degrees(kept["pitch"].to_numpy(np.float64))
    counts, *_ = np.histogram2d(yaw, pitch, bins=(across, up))
    return counts, (across, up)


def _cells(kept: pd.DataFrame, limit: int) -> tuple[list[Markup], int]:
    """Cells by count, on a logarithmic scale of opacity, and the largest count."""
    counts, (across, up) = _counts(kept, limit)
    most = int(counts.max(initial=0))
    cells = []
    for column, row in np.argwhere(counts > 0):
        count = int(counts[column, row])
        strength = 0.12 + 0.88 * np.log1p(count) / np.log1p(most)
        low, high = _y(up[row], limit), _y(up[row + 1], limit)
        left, bottom = float(across[column]), float(up[row])
        title = (
            f"yaw {left:.0f}° to {left + CELL:.0f}°, pitch {bottom:.0f}° to {bottom + CELL:.0f}°: "
            f"{count} portraits"
        )
        cells.append(
            Markup(
                '<rect class="cell" x="{x:.1f}" y="{y:.2f}" width="{w:.1f}" height="{h:.2f}" '
                'fill-opacity="{opacity:.2f}"><title>{title}</title></rect>'
            ).format(x=left + 180, y=high, w=CELL, h=low - high, opacity=strength, title=title)
        )
    return cells, most


def _summary(kept: pd.DataFrame) -> str:
    if not len(kept):
        return "Camera plot: no portraits were kept yet"
    yaw, pitch = np.degrees(kept["yaw"]), np.degrees(kept["pitch"])
    return (
        f"Camera plot: yaw against pitch of {len(kept)} kept portraits; yaw from {yaw.min():.0f}° to "
        f"{yaw.max():.0f}°, pitch from {pitch.min():.0f}° to {pitch.max():.0f}°"
    )
