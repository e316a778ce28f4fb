"""`portraitgan video`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from portraitgan.commands import shared

if TYPE_CHECKING:
    from phq_data.arrays import ImageArray

VIDEO = "Video"


def video(
    model: shared.ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.mp4")],
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    device: shared.DeviceOption = "auto",
    seeds: shared.SeedsOption = None,
    latent: shared.LatentOption = None,
    truncation: shared.TruncationOption = 0.7,
    w_average: shared.WAverageOption = "file",
    motion: Annotated[
        Literal["sway", "turn", "still"], typer.Option(help="Of the camera.", rich_help_panel=VIDEO)
    ] = "sway",
    yaw: Annotated[
        float, typer.Option(metavar="DEG", help="Where the camera moves around.", rich_help_panel=VIDEO)
    ] = 0.0,
    pitch: Annotated[float, typer.Option(metavar="DEG", rich_help_panel=VIDEO)] = 0.0,
    seconds: Annotated[float, typer.Option(help="Length.", rich_help_panel=VIDEO)] = 4.0,
    fps: Annotated[int, typer.Option(help="Frames a second.", rich_help_panel=VIDEO)] = 30,
    key_pose: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NX,NY,NZ,HX,HY,HZ",
            help="Axis-angles of neck and head in degrees; repeat it and the body moves through all of them.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    neck: shared.NeckOption = None,
    head: shared.HeadOption = None,
    predicted_pose: Annotated[
        bool, typer.Option("--predicted-pose", help="The generator's predicted pose a frame.")
    ] = False,
    show: Annotated[
        str, typer.Option(metavar="PARTS", help="image,raw,mask,depth,normals side by side.")
    ] = "image",
    size: shared.SizeOption = None,
    crf: Annotated[int, typer.Option(help="H.264 quality: 0 is lossless, 51 the worst.")] = 16,
    samples: shared.SamplesOption = 2.0,
    resolution: shared.ResolutionOption = None,
    batch: shared.BatchOption = 4,
) -> None:
    """A video of a model: sway, 360° turn, wandering through seeds and body poses.

    Renders a looping video (H.264 mp4). The camera's motion, a walk through several seeds and a walk through
    several body poses combine freely.
    """
    from portraitgan.images.drawing import parse_parts
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.video import VideoPlan, frames_of, write_video

    shared.check_quality(samples, resolution, batch)
    count = round(seconds * fps)
    if count < 1 or fps < 1:
        raise InferenceError(f"{seconds} seconds at {fps} frames a second give no video")
    if not 0 <= crf <= 51:
        raise InferenceError(f"--crf must lie between 0 and 51, not {crf}")
    if size is not None and not 16 <= size <= 4096:
        raise InferenceError(f"--size must lie between 16 and 4096, not {size}")
    parts = parse_parts(show)
    keys = _key_poses(key_pose or (), neck, head)
    opened = shared.open_chosen(model, checkpoint, rig, device, w_average)
    if keys:
        shared.need_rig(opened, "--key-pose, --neck and --head")
        if predicted_pose:
            raise InferenceError("a pose can be given or predicted, not both")
    subjects = shared.chosen_subjects(opened, seeds, latent, truncation, "0")
    plan = VideoPlan(count, motion, yaw, pitch, keys, predicted_pose, tuple(parts))
    frames = frames_of(opened, subjects, plan, size, resolution, samples, batch)
    with shared.progress("video") as bar:
        task = bar.add_task("frames", total=count)

        def counted() -> Iterator[ImageArray]:
            for frame in frames:
                yield frame
                bar.advance(task)

        write_video(out, counted(), fps, crf)
    print(f"{count} frames, {motion}, {len(subjects)} people, {len(keys)} key poses -> {out}")


def _key_poses(
    texts: Sequence[str], neck: shared.Angles | None, head: shared.Angles | None
) -> tuple[tuple[float, ...], ...]:
    """Key poses in degrees, six numbers each: that of --neck and --head first, then those of --key-pose."""
    from portraitgan.inference.errors import InferenceError

    keys = [shared.listed_numbers("--key-pose", text) for text in texts]
    wrong = [text for text, key in zip(texts, keys, strict=True) if len(key) != 6]
    if wrong:
        raise InferenceError(f"--key-pose takes six numbers (neck, then head), not {wrong[0]!r}")
    if neck is not None or head is not None:
        keys.insert(0, (*(neck or (0, 0, 0)), *(head or (0, 0, 0))))
    return tuple(keys)
