"""`portraitgan video`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitgan.commands import model_options as shared

if TYPE_CHECKING:
    from portraitgan.images.drawing import Pixels


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    video = commands.add_parser(
        "video",
        help="a film of a model: sway, 360° turn, wandering through seeds and body poses",
        description="Renders a looping film (H.264 mp4). The camera's motion, a walk through several seeds "
        "and a walk through several body poses combine freely.",
    )
    shared.add_model(video)
    video.add_argument("out", type=Path, metavar="OUT.mp4")
    shared.add_subjects(video, "0")
    film = video.add_argument_group("film")
    film.add_argument(
        "--motion", choices=("sway", "turn", "still"), default="sway", help="of the camera (sway)"
    )
    film.add_argument(
        "--yaw", type=float, default=0.0, metavar="DEG", help="where the camera moves around (0)"
    )
    film.add_argument("--pitch", type=float, default=0.0, metavar="DEG")
    film.add_argument("--seconds", type=float, default=4.0, help="length (4)")
    film.add_argument("--fps", type=int, default=30, help="frames a second (30)")
    film.add_argument(
        "--key-pose", nargs=6, type=float, action="append", metavar=("NX", "NY", "NZ", "HX", "HY", "HZ"),
        help="axis-angles of neck and head in degrees; repeat it and the body moves through all of them",
    )  # fmt: skip
    shared.add_pose(film)
    film.add_argument("--predicted-pose", action="store_true", help="the generator's predicted pose a frame")
    film.add_argument(
        "--show", default="image", metavar="PARTS", help="image,raw,mask,depth,normals side by side"
    )
    film.add_argument("--size", type=int, metavar="PIXELS", help="side of a picture (default: the model's)")
    film.add_argument("--crf", type=int, default=16, help="H.264 quality: 0 lossless, 51 worst (16)")
    shared.add_quality(video, 2.0)
    video.set_defaults(run=shared.explained(_video))


def _video(options: argparse.Namespace) -> int:
    from portraitgan.images.drawing import parse_parts
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.video import Film, frames_of, write_video

    shared.check_quality(options)
    count = round(options.seconds * options.fps)
    if count < 1 or options.fps < 1:
        raise InferenceError(f"{options.seconds} seconds at {options.fps} frames a second give no film")
    if not 0 <= options.crf <= 51:
        raise InferenceError(f"--crf must lie between 0 and 51, not {options.crf}")
    if options.size is not None and not 16 <= options.size <= 4096:
        raise InferenceError(f"--size must lie between 16 and 4096, not {options.size}")
    parts = parse_parts(options.show)
    model = shared.open_from(options)
    keys = [tuple(key) for key in options.key_pose or []]
    if options.neck is not None or options.head is not None:
        keys.insert(0, (*(options.neck or (0, 0, 0)), *(options.head or (0, 0, 0))))
    if keys:
        shared.need_rig(model, "--key-pose, --neck and --head")
        if options.predicted_pose:
            raise InferenceError("a pose can be given or predicted, not both")
    subjects = shared.subjects_from(options, model)
    film = Film(
        count, options.motion, options.yaw, options.pitch, tuple(keys), options.predicted_pose, tuple(parts)
    )
    frames = frames_of(
        model, subjects, film, options.size, options.resolution, options.samples, options.batch
    )
    with shared.progress("video") as bar:
        task = bar.add_task("frames", total=count)

        def counted() -> Iterator[Pixels]:
            for frame in frames:
                yield frame
                bar.advance(task)

        write_video(options.out, counted(), options.fps, options.crf)
    print(f"{count} frames, {options.motion}, {len(subjects)} people, {len(keys)} key poses -> {options.out}")
    return 0
