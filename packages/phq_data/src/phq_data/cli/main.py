"""The program `phq`. Commands live beside what they run; other packages add theirs through entry points."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from phq_data import compatibility
from phq_data.errors import PhqError

if TYPE_CHECKING:
    import typer

# Parts run side by side, one a core: a numeric library that starts its own threads only makes them wait.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


def main() -> None:
    """Run `phq`. Errors that a user can mend are one sentence and exit code 1; others are our bugs."""
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.exit("the phq program needs the extra 'pipeline': pip install 'phq-data[pipeline]'")

    compatibility.print_notices()
    try:
        make_app()(compatibility.upgrade_command_line(sys.argv[1:]))
    except PhqError as error:
        sys.stderr.write(f"phq: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        _say_stopped()
        sys.exit(130)
    except SystemExit as end:
        if end.code == 130:  # Typer makes this of Ctrl-C
            _say_stopped()
        raise


def _say_stopped() -> None:
    asked = sys.argv[1:3]
    goes_on = asked == ["accuracy", "ablate"] or asked[:1] not in (
        ["accuracy"], ["consistency"], ["inspect"], ["report"]
    )  # fmt: skip
    kept = " What is finished is kept: run the same command to go on." if goes_on else ""
    sys.stderr.write(f"\nphq: stopped.{kept}\n")


_ELSEWHERE = {"build": ("phq-flows", "setup-demo"), "review": ("phq-review", "setup-review")}
"""Commands of other packages, by the name of their entry point: package, target of the Makefile."""


def _say_what_is_missing(app: typer.Typer, name: str, package: str, target: str) -> None:
    """A command in the place of one whose package is not installed."""

    def absent() -> None:
        raise PhqError(f"phq {name} needs the package {package}: make {target}, or pip install {package}")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    app.command(name, hidden=True, context_settings=settings)(absent)


def make_app() -> typer.Typer:
    """The Typer application with our own commands and those of installed packages."""
    from importlib.metadata import entry_points

    import typer

    from phq_data import __version__
    from phq_data.cli import (
        calibrate,
        config,
        evaluation,
        interchange,
        models,
        release,
        report,
        rights,
        workspace,
    )
    from phq_data.command_line import refuse_repeats

    app = typer.Typer(
        name="phq",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Photos of people to a reviewed, versioned 360-degree portrait dataset.\n\n"
        "Start with: phq build --workspace DIR FOLDER_OF_PHOTOS, then: phq report --workspace DIR",
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"phq {__version__}")
            raise typer.Exit

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version and stop."
        ),
    ) -> None:
        """Options of every command."""

    found = {point.name: point for point in entry_points(group="phq.commands")}
    for name in sorted(found):
        found[name].load()(app)
    for name, (package, target) in _ELSEWHERE.items():
        if name not in found:
            _say_what_is_missing(app, name, package, target)
    report.register(app)
    release.register(app)
    evaluation.register(app)
    calibrate.register(app)
    models.register(app)
    interchange.register(app)
    workspace.register(app)
    rights.register(app)
    config.register(app)
    return refuse_repeats(app)


if __name__ == "__main__":
    main()
