"""`portraitgan watch`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    once: Annotated[bool, typer.Option("--once", help="Show it once and stop.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="How often it is read.")] = 5.0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page (default: RUN/watch.html).")
    ] = None,
) -> None:
    """Look at a run while it runs: curves in the terminal, and a page with the newest images.

    Reads a run's files only; start it anywhere the folder can be seen, as often as you like. The page is
    RUN/watch.html, for a browser; it stays up to date while this command runs.
    """
    from rich.console import Console
    from rich.live import Live

    from portraitgan.training.run import TrainingError
    from portraitgan.training.watch import terminal, view_of, write_page

    if every <= 0:
        raise TrainingError(f"--every must be positive, not {every}")
    try:
        view = view_of(run)
        page = write_page(view, html)
        if once:
            Console().print(terminal(view))
            print(page)
            return
        with Live(terminal(view), auto_refresh=False) as live:
            while view.state != "finished":
                time.sleep(every)
                view = view_of(run)
                write_page(view, html)
                live.update(terminal(view), refresh=True)
    except OSError as error:
        raise TrainingError(str(error)) from error
