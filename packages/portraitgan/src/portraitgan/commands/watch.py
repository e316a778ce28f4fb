"""`portraitgan watch`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    watch = commands.add_parser(
        "watch",
        help="look at a run while it runs: curves in the terminal, and a page with the newest pictures",
        description="Reads a run's files only; start it anywhere the folder can be seen, as often as you "
        "like. The page is RUN/watch.html, for a browser; it stays up to date while this command runs.",
    )
    watch.add_argument("run_folder", type=Path, metavar="RUN", help="the run's folder")
    watch.add_argument("--once", action="store_true", help="show it once and stop")
    watch.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="default: 5")
    watch.add_argument("--html", type=Path, metavar="FILE", help="the page (default: RUN/watch.html)")
    watch.set_defaults(run=_watch)


def _watch(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.live import Live

    from portraitgan.strict_json import ConfigError
    from portraitgan.training.run import TrainingError
    from portraitgan.training.watch import look, terminal, write_page

    if options.every <= 0:
        print(f"portraitgan watch: --every must be positive, not {options.every}", file=sys.stderr)
        return 1
    try:
        view = look(options.run_folder)
        page = write_page(view, options.html)
        if options.once:
            Console().print(terminal(view))
            print(page)
            return 0
        with Live(terminal(view), auto_refresh=False) as live:
            while view.state != "finished":
                time.sleep(options.every)
                view = look(options.run_folder)
                write_page(view, options.html)
                live.update(terminal(view), refresh=True)
    except (TrainingError, ConfigError, OSError) as error:
        print(f"portraitgan watch: {error}", file=sys.stderr)
        return 1
    return 0
