"""Options that the commands which use a trained model share, and what becomes of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from portraitgan.commands.progress import CommandProgress
    from portraitgan.inference.latents import Subject
    from portraitgan.inference.model import Model


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model, and where it runs."""
    parser.add_argument(
        "model", metavar="MODEL", help="a run folder, a checkpoint, or a converted checkpoint"
    )
    parser.add_argument(
        "--checkpoint", metavar="KIMG", help="which checkpoint of a run (default: the latest)"
    )
    parser.add_argument("--rig", metavar="FILE", help="the rig of the model's body (default: the run's own)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N (default: a GPU if there is one)")


def add_subjects(parser: argparse.ArgumentParser, seeds: str) -> None:
    """Who is shown."""
    parser.add_argument("--seeds", default=None, metavar="LIST", help=f"such as 0-15,20 (default: {seeds})")
    parser.add_argument("--latent", metavar="FILE", help="a result of `portraitgan invert`, instead of seeds")
    parser.add_argument(
        "--truncation",
        type=float,
        default=0.7,
        metavar="PSI",
        help="0: the average person, 1: as trained (0.7)",
    )
    parser.add_argument(
        "--w-average",
        choices=("file", "computed"),
        default="file",
        help="what truncation pulls to: the checkpoint's average, or that of 10,000 latents in front view",
    )
    parser.set_defaults(default_seeds=seeds)


def add_pose(parser: argparse.ArgumentParser) -> None:
    """How neck and head are held."""
    for joint in ("neck", "head"):
        parser.add_argument(
            f"--{joint}", nargs=3, type=float, metavar=("X", "Y", "Z"),
            help=f"axis-angle of the {joint} in degrees: nod, turn, tilt",
        )  # fmt: skip


def add_quality(parser: argparse.ArgumentParser, factor: float) -> None:
    """How finely pictures are rendered."""
    parser.add_argument(
        "--samples", type=float, default=factor, metavar="FACTOR",
        help=f"times the samples a ray of training ({factor:g})",
    )  # fmt: skip
    parser.add_argument("--resolution", type=int, metavar="R", help="rays a side (default: the checkpoint's)")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="pictures at once (4)")


def open_from(options: argparse.Namespace, full_precision: bool = False) -> Model:
    """The model of the options; tells its notes on stderr."""
    from portraitgan.inference.model import open_model

    average = getattr(options, "w_average", "file")
    model = open_model(
        options.model, options.rig, options.device, options.checkpoint, average, full_precision
    )
    for note in model.notes:
        say(f"note: {note}")
    return model


def subjects_from(options: argparse.Namespace, model: Model) -> list[Subject]:
    """The people of --seeds or --latent."""
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.latents import from_latent_file, from_seeds, parse_seeds

    if options.latent is not None:
        if options.seeds is not None:
            raise InferenceError("--seeds and --latent exclude each other")
        return [from_latent_file(model, options.latent)]
    return from_seeds(model, parse_seeds(options.seeds or options.default_seeds), options.truncation)


def pose_from(options: argparse.Namespace, model: Model) -> Tensor | None:
    """The body pose [1, 6] of --neck and --head, none if neither is given."""
    from portraitgan.inference.views import body_pose

    if options.neck is None and options.head is None:
        return None
    need_rig(model, "--neck and --head")
    return body_pose(options.neck or (0, 0, 0), options.head or (0, 0, 0))


def need_rig(model: Model, what: str) -> None:
    """Raise `InferenceError` if the model cannot be posed."""
    from portraitgan.inference.errors import InferenceError

    if model.config.generator.deformation.mode == "none":
        raise InferenceError(f"{what}: this model was trained without body poses")
    if not model.deforms:
        raise InferenceError(f"{what} need the model's rig: name it with --rig FILE")


def check_quality(options: argparse.Namespace) -> None:
    """Raise `InferenceError` for numbers that make no sense."""
    from portraitgan.inference.errors import InferenceError

    if options.batch < 1:
        raise InferenceError(f"--batch must be at least 1, not {options.batch}")
    if not 0 < options.samples <= 64:
        raise InferenceError(f"--samples must lie between 0 and 64, not {options.samples}")
    if options.resolution is not None and not 4 <= options.resolution <= 1024:
        raise InferenceError(f"--resolution must lie between 4 and 1024, not {options.resolution}")


def explained(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """`run` with errors that the user can do something about as one line on stderr and exit code 1."""

    def runner(options: argparse.Namespace) -> int:
        import torch

        from portraitgan.inference.errors import KNOWN

        try:
            return run(options)
        except KNOWN as error:
            say(f"portraitgan {options.command}: {error}")
        except torch.cuda.OutOfMemoryError:
            say(
                f"portraitgan {options.command}: the GPU's memory is full; a smaller --batch, --samples or "
                "--resolution needs less"
            )
        return 1

    return runner


def say(text: str) -> None:
    """A line for the user, beside the results on stdout."""
    print(text, file=sys.stderr, flush=True)


def progress(title: str) -> CommandProgress:
    """A progress bar on stderr with an estimate of the time left; lines where that is no terminal."""
    from portraitgan.commands.progress import CommandProgress

    return CommandProgress(title)
