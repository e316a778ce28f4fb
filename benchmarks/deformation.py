"""What the deformation costs: the search backends, the warp, and both against a render without it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.body import bust
from phq_data import camera as labels
from phq_data.rig import PortraitRig
from portraitgan.config import DecoderConfig, DeformationConfig, RenderConfig, TriGridConfig
from portraitgan.deformation.closest import BruteForce, ClosestFaces
from portraitgan.deformation.field import Deformation, transform_points
from portraitgan.deformation.search import triton_serves, warp_available
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.networks.decoder import Decoder
from portraitgan.rendering import rays, trigrid
from portraitgan.rendering.renderer import Volume, render, render_plain

POSES = [
    [0.25, 0.2, 0.1, 0.2, 0.3, -0.1],
    [-0.1, 0.4, 0.2, 0.1, -0.4, 0.2],
    [0.3, 0.0, 0.0, 0.3, 0.0, 0.0],
    [0.0, 0.5, -0.2, -0.2, 0.4, 0.3],
]


@dataclass(frozen=True)
class Row:
    """Seconds of one backend for all points of one synthesis."""

    name: str
    search: float
    timed_points: int  # fewer than all: scaled up

    @property
    def label(self) -> str:
        """The name, and what was timed if not everything."""
        return f"{self.name} (scaled from {self.timed_points:,})" if self.timed_points else self.name


def measure(
    rig_file: Path | None,
    device_name: str | None,
    batch: int | None,
    rays_per_side: Sequence[int] | None,
    brute_points: int,
    repeats: int,
) -> tuple[str, dict[str, Any]]:
    """(table, figures). Without Warp there is only brute force to measure, and Triton's tables on a GPU."""
    device = timing.pick_device(device_name)
    count = batch or 4
    sides = list(rays_per_side or ([64, 128] if device.type == "cuda" else [64]))
    rig = bust() if rig_file is None else PortraitRig.load(rig_file)
    mesh = SkinnedMesh.from_rig(rig).to(device)
    classes = torch.bincount(mesh.face_classes(), minlength=3).tolist()
    lines = [
        f"device  {timing.describe(device)}",
        f"mesh    {rig.body}: {len(mesh.faces)} faces in the cube "
        f"({classes[0]} static, {classes[1]} with the head, {classes[2]} blended)",
    ]
    figures: dict[str, Any] = {"device": timing.describe(device), "faces": len(mesh.faces), "batch": count}
    for side in sides:
        text, found = _at(mesh, device, count, side, brute_points, repeats)
        lines += ["", *text]
        figures.update(found if side == sides[0] else {f"{key}_{side}": v for key, v in found.items()})
    return "\n".join(lines), figures


def _at(
    mesh: SkinnedMesh, device: torch.device, batch: int, side: int, brute_points: int, repeats: int
) -> tuple[list[str], dict[str, Any]]:
    """Lines and figures for `side` squared rays an image."""
    config = RenderConfig(resolution=side)
    pose = torch.tensor(POSES, device=device).repeat(-(-batch // len(POSES)), 1)[:batch]
    camera = _cameras(batch).to(device)
    exact: ClosestFaces = BruteForce(mesh.faces, torch.float32)
    backends: dict[str, ClosestFaces] = {}
    if warp_available():
        from portraitgan.deformation.warp_search import BvhSearch, TableSearch

        backends = {"tables": TableSearch(mesh, closest_only=False), "bvh": BvhSearch(mesh)}
    if triton_serves(device):
        from portraitgan.deformation.triton_search import TritonTableSearch

        made = TritonTableSearch(mesh, closest_only=False)
        backends["tables (Triton)" if backends else "tables"] = made
    points = _points(mesh, backends.get("tables", exact), pose, camera, config)
    total = points.shape[0] * points.shape[1]
    rows = []
    for name, backend in backends.items():
        field = Deformation(mesh, DeformationConfig(), backend).posed(pose)
        seconds, _ = timing.timed(lambda field=field: field.closest(points), device, repeats)  # type: ignore[misc]
        rows.append(Row(name, seconds, 0))
    some = points[:, torch.randperm(points.shape[1], device=device)[: max(1, brute_points // batch)]]
    field = Deformation(mesh, DeformationConfig(), exact).posed(pose)
    seconds, _ = timing.timed(lambda: field.closest(some), device, 1)
    rows.append(Row("torch brute", seconds * points.shape[1] / some.shape[1], some.shape[0] * some.shape[1]))
    chosen = Deformation(mesh, DeformationConfig(), backends.get("tables", exact))
    shared = _shared_costs(chosen, pose, points, device, repeats)
    renders = _renders(camera, config, device, repeats)
    search = {row.name: row.search for row in rows}
    first = rows[0]
    added = first.search + sum(shared[key] for key in ("pose", "apply", "backward"))
    lines = [
        f"{batch} x {side} x {side} rays, {total:,} points",
        f"  {'search':<34}{'seconds':>10}{'us/point':>10}",
        *(f"  {row.label:<34}{row.search:>10.4f}{row.search / total * 1e6:>10.3f}" for row in rows),
        f"  {'skinning + face transforms + trees':<34}{shared['pose']:>10.4f}",
        f"  {'apply':<34}{shared['apply']:>10.4f}",
        f"  {'backward to the pose':<34}{shared['backward']:>10.4f}",
        f"  {'render forward + backward':<34}{renders['fast']:>10.4f}",
        f"  {'the same, reference mode':<34}{renders['plain']:>10.4f}",
        f"  deformation with {first.name}: {added / renders['fast']:.1%} of the render, "
        f"{added / renders['plain']:.1%} of reference mode; {shared['bytes']:.1f} bytes a point saved",
    ]
    figures: dict[str, Any] = {
        "points": total,
        "share_of_render": round(added / renders["fast"], 4),
        "share_of_plain_render": round(added / renders["plain"], 4),
        "saved_bytes_per_point": round(shared["bytes"], 2),
        "seconds": {**search, **shared, "render": renders["fast"], "render_plain": renders["plain"]},
    }
    if "tables" in search:
        figures["tables_vs_torch_brute"] = round(search["torch brute"] / search["tables"], 1)
        said = f"  tables: {figures['tables_vs_torch_brute']} times torch brute force"
        if "bvh" in search:
            figures["tables_vs_bvh"] = round(search["bvh"] / search["tables"], 2)
            said += f", {figures['tables_vs_bvh']} times bvh"
        lines.append(said)
    return lines, figures


def _cameras(batch: int) -> Tensor:
    yaw = 0.6 + np.arange(batch) * 2.1
    return torch.from_numpy(labels.to_label(labels.from_angles(yaw, np.full(batch, 0.05))))


@torch.no_grad()
def _points(
    mesh: SkinnedMesh, search: ClosestFaces, pose: Tensor, camera: Tensor, config: RenderConfig
) -> Tensor:
    """Coarse points, and fine ones scattered by 2 cm around where each ray comes nearest to the body."""
    side = config.resolution
    random = torch.Generator(camera.device).manual_seed(0)
    origins, directions = rays.camera_rays(camera, side)
    draws = rays.draw(config, len(camera), side * side, camera.device, random)
    depths = rays.stratified_depths(config, draws.jitter)
    coarse = (origins[:, :, None] + depths[..., None] * directions[:, :, None]).flatten(1, 2)
    found = Deformation(mesh, DeformationConfig(), search).posed(pose).closest(coarse)
    nearest = found.distance.reshape(depths.shape).argmin(dim=-1, keepdim=True)
    scatter = torch.randn((*depths.shape[:2], config.fine_samples), generator=random, device=camera.device)
    fine_depths = depths.gather(-1, nearest) + 0.02 * scatter
    fine = (origins[:, :, None] + fine_depths[..., None] * directions[:, :, None]).flatten(1, 2)
    return torch.cat([coarse, fine], dim=1)


def _shared_costs(
    deformation: Deformation, pose: Tensor, points: Tensor, device: torch.device, repeats: int
) -> dict[str, float]:
    """Seconds of what all backends share, forward and backward, and the bytes kept per point."""
    free = pose.clone().requires_grad_()
    seconds_pose, field = timing.timed(lambda: deformation.posed(free), device, repeats)
    closest = field.closest(points)
    assert field.transforms is not None
    transforms = field.transforms
    seconds_apply, moved = timing.timed(
        lambda: transform_points(points, transforms, closest.face), device, repeats
    )
    gradient = torch.randn_like(moved)
    seconds_back, _ = timing.timed(
        lambda: torch.autograd.grad(field.warp(points, closest), free, gradient, retain_graph=True),
        device,
        repeats,
    )
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.numel() >= points.shape[1]:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        field.warp(points, closest)
    return {
        "pose": seconds_pose,
        "apply": seconds_apply,
        "backward": max(0.0, seconds_back - seconds_apply),
        "bytes": sum(saved.values()) / (points.shape[0] * points.shape[1]),
    }


def _renders(camera: Tensor, config: RenderConfig, device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds of forward + backward of the full-size renderer without deformation, fast and plain."""
    grid_config = TriGridConfig()
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(), grid_config.features).to(device)
    planes = torch.randn(
        len(camera), 3, grid_config.features, grid_config.depth, 256, 256, device=device, requires_grad=True
    )
    side = config.resolution
    origins, directions = rays.camera_rays(camera, side)
    draws = rays.draw(config, len(camera), side * side, device)

    def run(plain: bool) -> None:
        table = (
            trigrid.to_table(planes)
            if trigrid.rows_serve(planes, side * side * config.coarse_samples) and not plain
            else None
        )
        volume = Volume(planes, decoder, grid_config, config, table, plain)
        done = (render_plain if plain else render)(volume, origins, directions, None, draws)
        torch.autograd.grad(done.features.sum() + done.mask.sum(), [planes, *decoder.parameters()])

    return {
        name: timing.timed(lambda plain=plain: run(plain), device, repeats)[0]  # type: ignore[misc]
        for name, plain in (("fast", False), ("plain", True))
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; a table on stdout, with JSON=1 one JSON line after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rig", type=Path, help="rig file (default: a body of about 6,000 faces made here)")
    parser.add_argument("--batch", type=int, help="images (default 4)")
    parser.add_argument(
        "--rays", type=int, nargs="+", help="neural rendering resolution (default: 64; GPU: 64 128)"
    )
    parser.add_argument("--brute-points", type=int, default=2048, help="points timed by brute force")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
    parser.add_argument("--repeats", type=int, default=3, help="timed so often; the median counts")
    options = parser.parse_args(arguments)
    timing.show(
        *measure(
            options.rig, options.device, options.batch, options.rays, options.brute_points, options.repeats
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
