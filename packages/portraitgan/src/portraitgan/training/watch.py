"""Looking at a run while it runs: a view for the terminal and a page for the browser, from its files."""

from __future__ import annotations

import html
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from phq_data.files import write_text
from portraitgan.checkpoints import checkpoint
from portraitgan.training import curves, snapshots, statistics
from portraitgan.training.config import TrainConfig
from portraitgan.training.run import TrainingError, read_run_config
from portraitgan.training.statistics import Row, duration

PAGE = "watch.html"
SILENT = 3.0
"""A run that has been silent for so many of its intervals is probably not running."""


@dataclass(frozen=True)
class View:
    """What a run's folder says now."""

    run: Path
    config: TrainConfig
    rows: list[Row]
    newest_checkpoint: str  # "" where there is none yet
    sheet: Path | None
    silent: float  # seconds since the last row

    @property
    def last_kimg(self) -> float:
        """Where the run ends."""
        return self.config.stages[-1].until_kimg

    @property
    def state(self) -> str:
        """What the run is doing, in words."""
        if not self.rows:
            return "has told nothing yet"
        if self.rows[-1].kimg >= self.last_kimg:
            return "finished"
        interval = self.rows[-1].seconds_per_kimg * self.config.output.status_kimg
        if self.silent > SILENT * interval + 60:
            return f"silent for {duration(self.silent)}: stopped? The same train command continues it"
        return "running"


def view_of(run: str | Path) -> View:
    """Read a run's folder. Raises `TrainingError` when it is none."""
    run = Path(run)
    config = read_run_config(run)
    if config is None:
        raise TrainingError(f"{run} is no run: it has no config.json (portraitgan train --out makes one)")
    try:
        newest = checkpoint.latest(run).name
    except checkpoint.CheckpointError:
        newest = ""
    file = run / statistics.FILE
    silent = time.time() - file.stat().st_mtime if file.exists() else 0.0
    return View(run, config, statistics.read(run), newest, snapshots.newest(run), silent)


def terminal(view: View) -> Panel:
    """The view for a terminal."""
    if not view.rows:
        return Panel(Text(f"{view.state}"), title=str(view.run))
    row = view.rows[-1]
    head = Table.grid(padding=(0, 2))
    head.add_row(
        f"[b]{view.config.name}[/b]", f"stage {row.stage}", f"kimg {row.kimg:.1f} of {view.last_kimg:g}",
        f"{row.seconds_per_kimg:.1f} s/kimg",
        f"{duration(row.seconds_left)} left" if row.kimg < view.last_kimg else "done",
        f"{row.memory_gib:.1f} GiB" + (f", GPU {row.gpu_memory_gib:.1f}" if row.gpu_memory_gib else ""),
    )  # fmt: skip
    table = Table(box=None, padding=(0, 2))
    for title, style in (("", "bold"), ("now", ""), ("over the run", "cyan"), ("", "dim")):
        table.add_column(title, style=style, justify="right" if title == "now" else "left")
    for chart in curves.CHARTS:
        for name, label in chart.curves:
            values = [value for _, value in curves.series(view.rows, name)]
            if values:
                shown = f"{values[-1]:.3g}{chart.unit}"
                table.add_row(f"{chart.title}: {label}", shown, curves.sparkline(values))
    foot = [f"schedule: λ {row.pose_regulariser_strength:.2f}, R {row.resolution}, swap "
            f"{row.condition_swap:.2f}, blur {row.blur_sigma:.1f}, density noise {row.density_noise:.2f}",
            f"checkpoint: {view.newest_checkpoint or 'none yet'}    sheet: {view.sheet or 'none yet'}",
            f"page: {view.run / PAGE}"]  # fmt: skip
    bar = ProgressBar(total=view.last_kimg, completed=row.kimg)
    body = Group(head, bar, Text(), table, Text(), *(Text(line) for line in foot))
    return Panel(body, title=f"{view.run}: {view.state}")


def write_page(view: View, path: Path | None = None, refresh: int = 30) -> Path:
    """Write the page; a browser that shows it reads it again every `refresh` seconds until the run ends."""
    path = path or view.run / PAGE
    write_text(path, page(view, path, refresh))
    return path


def page(view: View, path: Path, refresh: int = 30) -> str:
    """The page's HTML; it needs nothing but the newest sheet beside it."""
    name = html.escape(view.run.resolve().name)
    again = "" if view.state == "finished" else f'<meta http-equiv="refresh" content="{refresh}">'
    summary = html.escape(view.state)
    if view.rows:
        summary += "<br>" + html.escape(statistics.status_line(view.rows[-1], view.last_kimg))
    charts = []
    for chart in curves.CHARTS:
        drawn = curves.svg(chart, view.rows)
        if drawn:
            charts.append(
                f"<section><h2>{html.escape(chart.title)}</h2>{drawn}<p>{html.escape(chart.healthy)}</p></section>"
            )
    sheet = ""
    if view.sheet is not None:
        source = html.escape(_beside(view.sheet, path))
        sheet = f'<h2>{html.escape(view.sheet.stem)}</h2><a href="{source}"><img src="{source}" alt=""></a>'
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">{again}
<meta name="viewport" content="width=device-width"><title>{name}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1150px; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }} h2 {{ font-size: 1rem; margin: 0 0 .3rem; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 1.5rem; }}
svg {{ width: 100%; height: auto; }} svg text {{ font-size: 11px; fill: currentColor; opacity: .7; }}
.grid {{ stroke: currentColor; opacity: .15; }}
section p {{ font-size: .85rem; opacity: .75; margin: .3rem 0; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; }}
.legend i {{ display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }}
img {{ max-width: 100%; }} .state {{ font-family: ui-monospace, monospace; font-size: .85rem; }}
</style></head><body><h1>{name} <small>({html.escape(view.config.name)})</small></h1>
<p class="state">{summary}</p><div class="charts">{"".join(charts)}</div>{sheet}</body></html>
"""


def _beside(file: Path, page_path: Path) -> str:
    """The file as the page links it."""
    try:
        return file.resolve().relative_to(page_path.resolve().parent).as_posix()
    except ValueError:
        return file.resolve().as_uri()
