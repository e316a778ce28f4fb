"""`portraitgan sample`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitgan.commands import model_options as shared

if TYPE_CHECKING:
    from torch import Tensor

    from portraitgan.images.drawing import Pixels
    from portraitgan.inference.model import Model

SHEET_ROWS = 256


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    sample = commands.add_parser(
        "sample",
        help="pictures of a model: seeds by views, as a sheet and as files",
        description="Renders people (rows) in views (columns). OUT.png is one sheet; a folder gets one file "
        "a picture and the sheet. Equal arguments give equal pictures.",
    )
    shared.add_model(sample)
    sample.add_argument(
        "out", type=Path, metavar="OUT", help="a picture file (.png, .jpg, .webp) or a folder"
    )
    shared.add_subjects(sample, "0-7")
    view = sample.add_argument_group("view")
    view.add_argument(
        "--yaw", type=float, nargs="+", default=None, metavar="DEG", help="one or more (0: front)"
    )
    view.add_argument("--pitch", type=float, default=0.0, metavar="DEG")
    view.add_argument("--roll", type=float, default=0.0, metavar="DEG")
    view.add_argument(
        "--camera", metavar="LABEL", help="25 numbers or a JSON file with them, instead of angles"
    )
    view.add_argument(
        "--like",
        metavar="PORTRAIT",
        help="camera and predicted pose of this portrait of --data (paper, fig. 12)",
    )
    view.add_argument("--data", metavar="URL", help="a release or a workspace, for --like")
    shared.add_pose(sample)
    sample.add_argument(
        "--predicted-pose", action="store_true", help="the pose that the generator predicts for every picture"
    )
    sample.add_argument(
        "--show",
        default="image",
        metavar="PARTS",
        help="image,raw,mask,depth,normals (columns; default: image)",
    )
    sample.add_argument("--size", type=int, metavar="PIXELS", help="side of a picture (default: the model's)")
    shared.add_quality(sample, 4.0)
    sample.set_defaults(run=shared.explained(_sample))


def _sample(options: argparse.Namespace) -> int:
    from portraitgan.images import drawing, files
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.sample import shoot
    from portraitgan.inference.views import describe

    shared.check_quality(options)
    parts = drawing.parse_parts(options.show)
    if options.size is not None and not 8 <= options.size <= 4096:
        raise InferenceError(f"--size must lie between 8 and 4096, not {options.size}")
    model = shared.open_from(options)
    subjects = shared.subjects_from(options, model)
    pose = shared.pose_from(options, model)
    side = options.size or model.config.generator.image_resolution
    cameras, names, real, seen_pose = _views(options, model, side)
    if seen_pose is not None:
        pose = seen_pose if pose is None else pose
    as_folder = not options.out.suffix
    rows: list[list[drawing.Pixels]] = [] if real is None else [[real]]
    shots = shoot(
        model, subjects, cameras, pose, options.predicted_pose, parts, side,
        options.resolution, options.samples, options.batch,
    )  # fmt: skip
    with shared.progress("sample") as bar:
        task = bar.add_task("pictures", total=len(subjects) * len(cameras))
        for shot in shots:
            if shot.view == 0:
                rows.append([])
            for part, pixels in shot.pictures.items():
                if len(rows) <= SHEET_ROWS:
                    rows[-1].append(pixels)
                if as_folder:
                    name = "-".join(n for n in (subjects[shot.subject].name, names[shot.view], part) if n)
                    files.save_image(options.out / f"{name}.png", pixels)
            bar.advance(task)
    target = options.out / "sheet.png" if as_folder else options.out
    files.save_image(target, drawing.sheet(drawing.arrange([row for row in rows if row])))
    if len(rows) > SHEET_ROWS:
        shared.say(f"note: the sheet shows the first {SHEET_ROWS} of {len(rows)} rows")
    views = ", ".join(describe(one[None]) for one in cameras[:4]) + (" ..." if len(cameras) > 4 else "")
    print(f"{len(subjects)} people, {len(cameras)} views ({views}) -> {target}")
    return 0


def _views(
    options: argparse.Namespace, model: Model, side: int
) -> tuple[Tensor, list[str], Pixels | None, Tensor | None]:
    """(cameras [V, 25], a name a view, the real picture and its predicted pose of --like)."""
    import torch

    from portraitgan.inference import views
    from portraitgan.inference.errors import InferenceError

    chosen = [name for name in ("yaw", "camera", "like") if getattr(options, name) is not None]
    if len(chosen) > 1:
        raise InferenceError(f"--{' and --'.join(chosen)} exclude each other")
    if options.like is not None:
        return _like(options, model, side)
    if options.camera is not None:
        return views.camera_from_text(options.camera), [""], None, None
    yaws = options.yaw or [0.0]
    labels = torch.cat([views.camera(yaw, options.pitch, options.roll) for yaw in yaws])
    names = [f"yaw{yaw:+04.0f}" if len(yaws) > 1 else "" for yaw in yaws]
    if len(set(names)) < len(names):
        names = [f"view{index:03d}" for index in range(len(yaws))]
    return labels, names, None, None


def _like(
    options: argparse.Namespace, model: Model, side: int
) -> tuple[Tensor, list[str], Pixels | None, Tensor | None]:
    """The view of a real portrait: its camera, and its pose as the discriminator sees it."""
    import numpy as np

    from portraitgan.images import drawing
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.portraits import open_portraits
    from portraitgan.inference.sample import predicted_poses

    if options.data is None:
        raise InferenceError("--like needs the release or workspace that has the portrait: --data URL")
    if options.predicted_pose:
        raise InferenceError("--like takes the pose of the portrait; leave --predicted-pose out")
    portrait = open_portraits(options.data).find(options.like)
    if model.config.discriminator.pose_predictor is None:
        shared.say("note: this model's discriminator predicts no poses; the portrait's label is used")
        pose = portrait.pose
    else:
        pose = predicted_poses(model, [portrait])
    degrees = ", ".join(f"{value:.1f}" for value in np.degrees(pose[0].cpu().numpy()))
    shared.say(f"portrait {portrait.portrait_id}: pose {degrees} degrees (neck, head axis-angle)")
    return portrait.camera, [""], drawing.resized(portrait.image, side), pose
