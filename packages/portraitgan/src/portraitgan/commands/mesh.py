"""`portraitgan mesh`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from portraitgan.commands import shared


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    mesh = commands.add_parser(
        "mesh",
        help="the shape of a person as PLY or GLB, in metres, with colors",
        description="Marching cubes over the density of the canonical body, or of the body in a pose. "
        "Metres, y up, facing +z, the neck joint at the origin.",
    )
    shared.add_model(mesh)
    mesh.add_argument(
        "out", type=Path, metavar="OUT", help="a .glb or .ply file, or a folder for several people (GLB)"
    )
    shared.add_subjects(mesh, "0")
    shared.add_pose(mesh)
    mesh.add_argument(
        "--predicted-pose", action="store_true", help="in the pose predicted for the front view"
    )
    mesh.add_argument("--grid", type=int, default=256, metavar="N", help="grid points a side (256)")
    mesh.add_argument(
        "--side", type=float, default=0.6, metavar="M", help="side of the cube around the head, metres (0.6)"
    )
    mesh.add_argument("--threshold", type=float, default=10.0, help="raw density of the surface (10)")
    mesh.add_argument("--largest-part", action="store_true", help="drop what floats beside the person")
    mesh.set_defaults(run=shared.explained(_mesh))

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
