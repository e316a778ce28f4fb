"""`portraitgan sample`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portraitgan.commands import shared

if TYPE_CHECKING:
    from torch import Tensor

    from phq_data.arrays import ImageArray
    from portraitgan.inference.model import Model

SHEET_ROWS = 256
VIEW = "View"


def sample(
    model: shared.ModelArgument,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="An image file (.png, .jpg, .webp) or a folder.")
    ],
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    device: shared.DeviceOption = "auto",
    seeds: shared.SeedsOption = None,
    latent: shared.LatentOption = None,
    truncation: shared.TruncationOption = 0.7,
    w_average: shared.WAverageOption = "file",
    yaw: Annotated[
        str | None,
        typer.Option(metavar="DEG[,DEG…]", help="One or more (0: front).", rich_help_panel=VIEW),
    ] = None,
    pitch: Annotated[float, typer.Option(metavar="DEG", rich_help_panel=VIEW)] = 0.0,
    roll: Annotated[float, typer.Option(metavar="DEG", rich_help_panel=VIEW)] = 0.0,
    camera: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="25 numbers or a JSON file with them, instead of angles.",
            rich_help_panel=VIEW,
        ),
    ] = None,
    match_portrait: Annotated[
        str | None,
        typer.Option(
            metavar="PORTRAIT",
            help="Camera and predicted pose of this portrait of --data (paper, fig. 12).",
            rich_help_panel=VIEW,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A release or a workspace, for --match-portrait.", rich_help_panel=VIEW
        ),
    ] = None,
    neck: shared.NeckOption = None,
    head: shared.HeadOption = None,
    predicted_pose: Annotated[
        bool,
        typer.Option("--predicted-pose", help="The pose that the generator predicts for every image."),
    ] = False,
    show: Annotated[
        str, typer.Option(metavar="PARTS", help="image,raw,mask,depth,normals (columns).")
    ] = "image",
    size: shared.SizeOption = None,
    samples: shared.SamplesOption = 4.0,
    resolution: shared.ResolutionOption = None,
    batch: shared.BatchOption = 4,
) -> None:
    """Images of a model: seeds by views, as a contact sheet and as files.

    Renders people (rows; --seeds 0-7 unless asked otherwise) in views (columns). OUT.png is one sheet; a
    folder gets one file an image and the sheet. Equal arguments give equal images.
    """
    from portraitgan.images import drawing, files
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.sample import shoot
    from portraitgan.inference.views import describe

    shared.check_quality(samples, resolution, batch)
    parts = drawing.parse_parts(show)
    if size is not None and not 8 <= size <= 4096:
        raise InferenceError(f"--size must lie between 8 and 4096, not {size}")
    given = {"--yaw": yaw, "--camera": camera, "--match-portrait": match_portrait}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InferenceError(f"{' and '.join(named)} exclude each other")
    opened = shared.open_chosen(model, checkpoint, rig, device, w_average)
    subjects = shared.chosen_subjects(opened, seeds, latent, truncation, "0-7")
    pose = shared.chosen_pose(opened, neck, head)
    side = size or opened.config.generator.image_resolution
    if match_portrait is not None:
        views = _matched(opened, match_portrait, data, predicted_pose, side)
    else:
        views = _asked(yaw, pitch, roll, camera)
    pose = views.pose if pose is None else pose
    as_folder = not out.suffix
    rows: list[list[ImageArray]] = [] if views.real is None else [[views.real]]
    shots = shoot(
        opened, subjects, views.cameras, pose, predicted_pose, parts, side, resolution, samples, batch
    )
    with shared.progress("sample") as bar:
        task = bar.add_task("images", total=len(subjects) * len(views.cameras))
        for shot in shots:
            if shot.view == 0:
                rows.append([])
            for part, pixels in shot.images.items():
                if len(rows) <= SHEET_ROWS:
                    rows[-1].append(pixels)
                if as_folder:
                    name = "-".join(
                        n for n in (subjects[shot.subject].name, views.names[shot.view], part) if n
                    )
                    files.save_image(out / f"{name}.png", pixels)
            bar.advance(task)
    target = out / "sheet.png" if as_folder else out
    files.save_image(target, drawing.sheet(drawing.arrange([row for row in rows if row])))
    if len(rows) > SHEET_ROWS:
        shared.say(f"note: the sheet shows the first {SHEET_ROWS} of {len(rows)} rows")
    seen = ", ".join(describe(one[None]) for one in views.cameras[:4])
    seen += " ..." if len(views.cameras) > 4 else ""
    print(f"{len(subjects)} people, {len(views.cameras)} views ({seen}) -> {target}")


@dataclass(frozen=True, eq=False)
class _Views:
    """What is seen."""

    cameras: Tensor  # [V, 25] camera labels
    names: list[str]  # a name a view, "" for a single one
    real: ImageArray | None = None  # [S, S, 3] the matched portrait
    pose: Tensor | None = None  # [1, 6] radians, its predicted pose


def _asked(yaw: str | None, pitch: float, roll: float, camera: str | None) -> _Views:
    """The views of --camera, or of --yaw, --pitch and --roll."""
    import torch

    from portraitgan.inference import views

    if camera is not None:
        return _Views(views.camera_from_text(camera), [""])
    yaws = (0.0,) if yaw is None else shared.listed_numbers("--yaw", yaw)
    labels = torch.cat([views.camera(one, pitch, roll) for one in yaws or (0.0,)])
    names = [f"yaw{one:+04.0f}" if len(yaws) > 1 else "" for one in yaws or (0.0,)]
    if len(set(names)) < len(names):
        names = [f"view{index:03d}" for index in range(len(yaws))]
    return _Views(labels, names)


def _matched(model: Model, portrait_id: str, data: str | None, predicted_pose: bool, side: int) -> _Views:
    """The view of a real portrait: its camera, and its pose as the discriminator predicts it."""
    import numpy as np

    from portraitgan.images import drawing
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.portraits import open_portraits
    from portraitgan.inference.sample import predicted_poses

    if data is None:
        raise InferenceError(
            "--match-portrait needs the release or workspace that has the portrait: --data URL"
        )
    if predicted_pose:
        raise InferenceError("--match-portrait takes the pose of the portrait; leave --predicted-pose out")
    portrait = open_portraits(data).find(portrait_id)
    if model.config.discriminator.pose_predictor is None:
        shared.say("note: this model's discriminator predicts no poses; the portrait's label is used")
        pose = portrait.pose
    else:
        pose = predicted_poses(model, [portrait])
    degrees = ", ".join(f"{value:.1f}" for value in np.degrees(pose[0].cpu().numpy()))
    shared.say(f"portrait {portrait.portrait_id}: pose {degrees} degrees (neck, head axis-angle)")
    return _Views(portrait.camera, [""], drawing.resized(portrait.image, side), pose)
