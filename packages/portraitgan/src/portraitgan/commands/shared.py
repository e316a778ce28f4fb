"""Options that the commands which use a trained model share, and what becomes of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from portraitgan.commands.progress import CommandProgress
    from portraitgan.inference.latents import Subject
    from portraitgan.inference.model import Model

# Which model, and where it runs.
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A run folder, a checkpoint, or a converted checkpoint.")
]
CheckpointOption = Annotated[
    str | None, typer.Option(metavar="KIMG", help="Which checkpoint of a run, or best (default: the latest).")
]
RigOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The rig of the model's body (default: the run's own).")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:N; auto is a GPU if there is one.")]

# Who is shown.
SeedsOption = Annotated[
    str | None, typer.Option(metavar="LIST", help="Such as 0-15,20 (default: the first ones).")
]
LatentOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A result of `portraitgan invert`, instead of seeds.")
]
TruncationOption = Annotated[
    float, typer.Option(metavar="PSI", help="Truncation: 0 is the average person, 1 is as trained.")
]
WAverageOption = Annotated[
    Literal["file", "computed"],
    typer.Option(
        help="What truncation pulls to: the checkpoint's average w, or that of 10,000 latents in front view."
    ),
]

# How neck and head are held, degrees.
Angles = tuple[float, float, float]
NeckOption = Annotated[
    Angles | None,
    typer.Option(metavar="X Y Z", help="Axis-angle of the neck in degrees: nod, turn, tilt."),
]
HeadOption = Annotated[
    Angles | None,
    typer.Option(metavar="X Y Z", help="Axis-angle of the head in degrees: nod, turn, tilt."),
]

# How finely images are rendered.
SamplesOption = Annotated[
    float, typer.Option(metavar="FACTOR", help="Times the samples a ray that training takes.")
]
ResolutionOption = Annotated[
    int | None,
    typer.Option(metavar="R", help="Neural rendering resolution (default: the checkpoint's)."),
]
BatchOption = Annotated[int, typer.Option(metavar="N", help="Images at once.")]
SizeOption = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Side of an image (default: the model's).")
]


def open_chosen(
    model: str,
    checkpoint: str | None,
    rig: Path | None,
    device: str,
    w_average: Literal["file", "computed"] = "file",
    full_precision: bool = False,
) -> Model:
    """The model of the options; tells its notes on stderr."""
    from portraitgan.inference.model import open_model

    opened = open_model(model, rig, device, checkpoint, w_average, full_precision)
    for note in opened.notes:
        say(f"note: {note}")
    return opened


def chosen_subjects(
    model: Model, seeds: str | None, latent: Path | None, truncation: float, default_seeds: str
) -> list[Subject]:
    """The people of --seeds or --latent."""
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.latents import from_latent_file, from_seeds, parse_seeds

    if latent is not None:
        if seeds is not None:
            raise InferenceError("--seeds and --latent exclude each other")
        return [from_latent_file(model, latent)]
    return from_seeds(model, parse_seeds(seeds or default_seeds), truncation)


def chosen_pose(model: Model, neck: Angles | None, head: Angles | None) -> Tensor | None:
    """The body pose [1, 6] (radians) of --neck and --head, none if neither is given."""
    from portraitgan.inference.views import body_pose

    if neck is None and head is None:
        return None
    need_rig(model, "--neck and --head")
    return body_pose(neck or (0, 0, 0), head or (0, 0, 0))


def need_rig(model: Model, what: str) -> None:
    """Raise `InferenceError` if the model cannot be posed."""
    from portraitgan.inference.errors import InferenceError

    if model.config.generator.deformation.mode == "none":
        raise InferenceError(f"{what}: this model was trained without body poses")
    if not model.deforms:
        raise InferenceError(f"{what} need the model's rig: name it with --rig FILE")


def check_quality(samples: float, resolution: int | None, batch: int = 1) -> None:
    """Raise `InferenceError` for numbers that make no sense."""
    from portraitgan.inference.errors import InferenceError

    if batch < 1:
        raise InferenceError(f"--batch must be at least 1, not {batch}")
    if not 0 < samples <= 64:
        raise InferenceError(f"--samples must lie between 0 and 64, not {samples}")
    if resolution is not None and not 4 <= resolution <= 1024:
        raise InferenceError(f"--resolution must lie between 4 and 1024, not {resolution}")


def listed_numbers(option: str, text: str) -> tuple[float, ...]:
    """The numbers of an option's text, separated by commas or blanks. Raises `InferenceError`."""
    from portraitgan.inference.errors import InferenceError

    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise InferenceError(f"{option} takes numbers separated by commas, not {text!r}") from None


def listed_names(text: str | None) -> tuple[str, ...]:
    """The names of an option's text, separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def say(text: str) -> None:
    """A line for the user, beside the results on stdout."""
    print(text, file=sys.stderr, flush=True)


def progress(title: str) -> CommandProgress:
    """A progress bar on stderr with an estimate of the time left; lines where that is no terminal."""
    from portraitgan.commands.progress import CommandProgress

    return CommandProgress(title)
