"""The program `portraitgan`. Its help needs neither torch nor a GPU; a command imports what it uses."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from phq_data import __version__
from phq_data.command_line import refuse_repeats
from phq_data.errors import PhqError
from portraitgan.commands import (
    compare,
    convert,
    export,
    invert,
    mesh,
    metrics,
    predict_pose,
    sample,
    train,
    video,
    viewer,
    watch,
)
from portraitgan.commands.former_options import translated
from portraitgan.commands.shared import say

COMMANDS: dict[str, Callable[..., None]] = {
    "convert": convert.convert,
    "export": export.export,
    "sample": sample.sample,
    "video": video.video,
    "mesh": mesh.mesh,
    "predict-pose": predict_pose.predict_pose,
    "invert": invert.invert,
    "viewer": viewer.viewer,
    "train": train.train,
    "watch": watch.watch,
    "metrics": metrics.metrics,
    "compare": compare.compare,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 on success, 1 with a message on stderr when the user can do something about it."""
    given = translated(sys.argv[1:] if arguments is None else arguments, say)
    try:
        make_app()(given, prog_name="portraitgan")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def make_app() -> typer.Typer:
    """The Typer application."""
    app = typer.Typer(
        name="portraitgan",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="A released portrait dataset to a 3D portrait generator.",
    )

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=_show_version, is_eager=True, help="Print the version and stop."
        ),
    ) -> None:
        """Options of every command."""

    for name, function in COMMANDS.items():
        app.command(name)(_explained(name, function))
    return refuse_repeats(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"portraitgan {__version__}")
        raise typer.Exit


def _explained(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """`function` with errors that the user can mend as one line on stderr and exit code 1."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            function(*arguments, **options)
        except KeyboardInterrupt:
            say(f"\nportraitgan {name}: stopped")
            raise typer.Exit(130) from None
        except PhqError as error:
            say(f"portraitgan {name}: {error}")
            raise typer.Exit(1) from None
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            say(
                f"portraitgan {name}: the GPU's memory is full; a smaller --batch, --samples or "
                "--resolution needs less"
            )
            raise typer.Exit(1) from None

    return run


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch raised it for want of GPU memory; torch is not imported to know that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)


if __name__ == "__main__":
    sys.exit(main())
