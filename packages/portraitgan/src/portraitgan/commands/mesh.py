"""`portraitgan mesh`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portraitgan.commands import shared

if TYPE_CHECKING:
    from torch import Tensor

    from portraitgan.inference.mesh import Mesh
    from portraitgan.inference.model import Model

TEXTURED_GRID = 96
"""Grid points a side of a surface that gets a texture."""


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
    grid: Annotated[
        int | None, typer.Option(metavar="N", help="Grid points a side (default: 256; 96 with --texture).")
    ] = None,
    side: Annotated[float, typer.Option(metavar="M", help="Side of the cube around the head, metres.")] = 0.6,
    threshold: Annotated[float, typer.Option(help="Raw density of the surface.")] = 10.0,
    largest_part: Annotated[
        bool, typer.Option("--largest-part", help="Drop what floats beside the person.")
    ] = False,
    texture: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Unwrap the surface and bake a texture of this size (GLB)."),
    ] = None,
    splats: Annotated[
        bool, typer.Option("--splats", help="3D Gaussians on the surface instead of triangles (PLY).")
    ] = False,
) -> None:
    """The shape of a person as PLY or GLB, in metres, with colors or a texture, or as Gaussian splats.

    Marching cubes over the density of the canonical body, or of the body in a pose. Metres, y up, facing +z,
    the neck joint at the origin.
    """
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.mesh import MeshOptions, check_installed, extract
    from portraitgan.inference.sample import pose_of

    single, suffix = bool(out.suffix), _suffix(out, texture, splats)
    check_installed()
    if grid is None:  # unwrapping takes time with the square of the faces, and a texture has the detail
        grid = MeshOptions.resolution if texture is None else TEXTURED_GRID
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
        target = out if single else out / f"{subject.name}{suffix}"
        with shared.progress("mesh") as bar:
            task = bar.add_task(subject.name, total=100)
            show = partial(_show, bar, task)
            held = None if held is None else held.to(opened.device)
            made = extract(opened, subject.ws, held, options, show)
        _save(opened, subject.ws, held, made, target, texture, splats)
        size = made.vertices.max(axis=0) - made.vertices.min(axis=0)
        print(
            f"{subject.name}: {len(made.vertices):,} vertices, {len(made.faces):,} faces, "
            f"{size[0]:.3f} x {size[1]:.3f} x {size[2]:.3f} m -> {target}"
        )


def _suffix(out: Path, texture: int | None, splats: bool) -> str:
    """The kind of file that is written. Raises `InferenceError` where the options do not go together."""
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.mesh import SUFFIXES
    from portraitgan.inference.texture import check_texture

    if texture is not None and splats:
        raise InferenceError("--texture and --splats exclude each other: splats have colors of their own")
    kinds = (".glb",) if texture is not None else (".ply",) if splats else SUFFIXES
    if texture is not None:
        check_texture(texture)
    if out.suffix and out.suffix.lower() not in kinds:
        raise InferenceError(
            f"{out} is no mesh file for this: name it {' or '.join(kinds)}, or give a folder"
        )
    return ".ply" if splats else ".glb"


def _save(
    model: Model, ws: Tensor, pose: Tensor | None, made: Mesh, target: Path, texture: int | None, splats: bool
) -> None:
    from portraitgan.inference.mesh import save_mesh, surface_colors
    from portraitgan.inference.splats import save_splats, splats_of
    from portraitgan.inference.texture import bake, save_textured

    if splats:
        save_splats(target, splats_of(made))
    elif texture is not None:
        shared.say(f"unwrapping {len(made.faces):,} faces and baking {texture} x {texture} texels")
        save_textured(target, bake(made, surface_colors(model, ws, pose), texture, model.device))
    else:
        save_mesh(target, made)


def _show(bar: Any, task: Any, share: float) -> None:
    bar.update(task, completed=round(100 * share))
