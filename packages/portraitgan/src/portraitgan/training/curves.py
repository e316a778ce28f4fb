"""Which statistics a person looks at together, and how they are drawn: as text, as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from portraitgan.training.statistics import Row

BLOCKS = "▁▂▃▄▅▆▇█"
COLORS = ("#2a78d6", "#eb6834", "#1baf7a", "#8a5cd1")


@dataclass(frozen=True)
class Chart:
    """Curves that share an axis."""

    title: str
    unit: str
    curves: tuple[tuple[str, str], ...]  # name of the statistic, what to call it
    healthy: str  # what to expect


CHARTS = (
    Chart(
        "Losses", "",
        (
            ("loss_generator", "generator"),
            ("loss_generated", "discriminator, generated"),
            ("loss_real", "discriminator, real"),
        ),
        "The discriminator's two stay near each other, mostly below 0.69 (guessing); the generator's above.",
    ),
    Chart(
        "Scores", "",
        (("score_real", "real"), ("score_generated", "generated")),
        "Real above generated, a few units apart. A gap that only grows: the discriminator has won.",
    ),
    Chart(
        "Pose error of generated portraits", "°",
        (("pose_error_deg", "discriminator against generator"),),
        "Falls all along: the discriminator learns poses from generated portraits.",
    ),
    Chart(
        "Pose of real portraits against their labels", "°",
        (("pose_off_labels_deg", "prediction against label"),),
        "Falls to about the labels' own error, not to zero.",
    ),
    Chart(
        "Size of generated poses", " rad", (("pose_size", "neck and head together"),),
        "Settles near that of the labels. Growing when λ is 0: the canonical body drifts (docs/training.md).",
    ),
    Chart(
        "FID", "", (("fid", "FID-random of the EMA"),),
        "Falls; where it rises again, RUN/best.json names the checkpoint from before (output.fid_kimg).",
    ),
    Chart("R1", "", (("r1", "penalty"),), "Small and bounded; spikes come before a collapse."),
    Chart(
        "Foreground", "", (("mask_share", "mean mask of generated portraits"),),
        "Approaches the share of the person in real portraits; 0 or 1 means that the volume was lost.",
    ),
    Chart("Speed", "s/kimg", (("seconds_per_kimg", "training"),), "Jumps with the number of rays only."),
)  # fmt: skip


def series(rows: Sequence[Row], name: str) -> list[tuple[float, float]]:
    """(kimg, value) of a statistic where it is known and finite."""
    found = []
    for row in rows:
        value = row.to_json().get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            found.append((row.kimg, float(value)))
    return found


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Values as a line of blocks, averaged down to `width`."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(BLOCKS[min(int((value - low) / span * len(BLOCKS)), len(BLOCKS) - 1)] for value in means)


def svg(chart: Chart, rows: Sequence[Row], width: int = 520, height: int = 200) -> str:
    """The chart as SVG text, with its scale and a legend; empty when nothing of it is known."""
    curves = [(label, series(rows, name)) for name, label in chart.curves]
    points = [point for _, found in curves for point in found]
    if not points:
        return ""
    left, right, top, bottom = 56, width - 10, 12, height - 26
    x0, x1 = min(p[0] for p in points), max(p[0] for p in points)
    y0, y1 = min(p[1] for p in points), max(p[1] for p in points)
    x_span, y_span = (x1 - x0) or 1.0, (y1 - y0) or 1.0

    def place(point: tuple[float, float]) -> str:
        x = left + (point[0] - x0) / x_span * (right - left)
        y = bottom - (point[1] - y0) / y_span * (bottom - top)
        return f"{x:.1f},{y:.1f}"

    lines = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(chart.title)}">']
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - top)
        lines.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>')
        lines.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{y0 + share * y_span:.3g}</text>'
        )
    for x, text, anchor in ((left, f"{x0:g}", "start"), (right, f"{x1:g} kimg", "end")):
        lines.append(f'<text x="{x}" y="{height - 8}" text-anchor="{anchor}">{text}</text>')
    legend = []
    for (label, found), color in zip(curves, COLORS, strict=False):
        if found:
            path = " ".join(place(point) for point in found)
            lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
            last = f"{found[-1][1]:.3g}{chart.unit}"
            legend.append(
                f'<span><i style="background:{color}"></i>{html.escape(label)} <b>{last}</b></span>'
            )
    lines.append("</svg>")
    return f'{"".join(lines)}<div class="legend">{"".join(legend)}</div>'
