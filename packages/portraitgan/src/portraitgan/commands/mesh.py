"""`portraitgan mesh`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from portraitgan.commands import shared


def mesh(
    model: shared.ModelArgument,
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A .glb or .ply file, or a folder for several people (GLB)."),
    ],
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    device: shared.DeviceOption = "auto",
    seeds: shared.SeedsOption = None,
    latent: shared.LatentOption = None,
    truncation: shared.TruncationOption = 0.7,
    w_average: shared.WAverageOption = "file",
    neck: shared.NeckOption = None,
    head: shared.HeadOption = None,
    predicted_pose: Annotated[
        bool, typer.Option("--predicted-pose", help="In the pose predicted for the front view.")
    ] = False,
    grid: Annotated[int, typer.Option(metavar="N", help="Grid points a side.")] = 256,
    side: Annotated[float, typer.Option(metavar="M", help="Side of the cube around the head, metres.")] = 0.6,
    threshold: Annotated[float, typer.Option(help="Raw density of the surface.")] = 10.0,
    largest_part: Annotated[
        bool, typer.Option("--largest-part", help="Drop what floats beside the person.")
    ] = False,
) -> None:
    """The shape of a person as PLY or GLB, in metres, with colors.

    Marching cubes over the density of the canonical body, or of the body in a pose. Metres, y up, facing +z,
    the neck joint at the origin.
    """
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.mesh import SUFFIXES, MeshOptions, check_installed, extract, save_mesh
    from portraitgan.inference.sample import pose_of

    single = bool(out.suffix)
    if single and out.suffix.lower() not in SUFFIXES:
        raise InferenceError(f"{out} is no mesh file: name it {' or '.join(SUFFIXES)}, or give a folder")
    check_installed()
    options = MeshOptions(grid, side, threshold, largest_part)
    opened = shared.open_chosen(model, checkpoint, rig, device, w_average)
    pose = shared.chosen_pose(opened, neck, head)
    if predicted_pose and pose is not None:
        raise InferenceError("a pose can be given or predicted, not both")
    subjects = shared.chosen_subjects(opened, seeds, latent, truncation, "0")
    if single and len(subjects) > 1:
        raise InferenceError(f"{len(subjects)} people do not fit into {out}: give a folder")
    for subject in subjects:
        held = pose_of(opened, subject, opened.neutral_camera) if predicted_pose else pose
        target = out if single else out / f"{subject.name}.glb"
        with shared.progress("mesh") as bar:
            task = bar.add_task(subject.name, total=100)
            show = partial(_show, bar, task)
            made = extract(
                opened, subject.ws, None if held is None else held.to(opened.device), options, show
            )
        save_mesh(target, made)
        size = made.vertices.max(axis=0) - made.vertices.min(axis=0)
        print(
            f"{subject.name}: {len(made.vertices):,} vertices, {len(made.faces):,} faces, "
            f"{size[0]:.3f} x {size[1]:.3f} x {size[2]:.3f} m -> {target}"
        )


def _show(bar: Any, task: Any, share: float) -> None:
    bar.update(task, completed=round(100 * share))
