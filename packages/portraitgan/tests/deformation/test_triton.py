"""The Triton form of the tables, interpreted on the CPU, against the exhaustive search and Warp's tables.

Triton decides when it is imported whether it interprets, so this happens in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from phq_data.rig import PortraitRig
from portraitgan.config import DeformationConfig
from portraitgan.deformation import search
from portraitgan.deformation.closest import BruteForce
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.deformation.tables import coherent_order

MakeBust = Callable[..., PortraitRig]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")

SCRIPT = """
import importlib.util, sys
from pathlib import Path
import torch
sys.path[:0] = sys.argv[1:]
from test_closest import LIMIT, POSES, ray_points, run, warp
from benchmarks.body import bust
from portraitgan.deformation.closest import BruteForce
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.deformation.triton_search import TritonTableSearch

torch.set_num_threads(1)
for correctives, closest_only in ((False, True), (False, False), (True, True)):
    mesh = SkinnedMesh.from_rig(bust(14, 12, correctives=correctives))
    points = ray_points(2, per_side=3)[:, ::7].contiguous()
    poses = POSES[:2]
    wanted = run(BruteForce(mesh.faces), mesh, poses, points)
    table = TritonTableSearch(mesh, 24, closest_only=closest_only)
    assert len(table.blended) % 16 == 0 and len(table.static.nodes) > 8 and len(table.head.nodes) > 8
    found = run(table, mesh, poses, points)
    near = wanted.face >= 0
    print(int(near.sum()), "of", near.numel(), "points near the body")
    assert near.float().mean() > 0.3
    assert ((found.face >= 0) != near).float().mean() <= 2e-3
    both = near & (found.face >= 0)
    excess = (found.distance - wanted.distance)[both]
    assert excess.max() <= 1 / 23 and (closest_only <= (excess.min() > -1e-6))
    error = (warp(mesh, points, found) - warp(mesh, points, wanted)).norm(dim=-1)[both]
    print("above 1 mm:", float((error > 1e-3).float().mean()), "mean", float(error.mean()))
    assert (error > 1e-3).float().mean() <= 0.01  # coarse tables: 24 nodes a metre
    classes = mesh.face_classes()
    same_class = classes[found.face[both].long()] == classes[wanted.face[both].long()]
    assert same_class.float().mean() > 0.995
    if importlib.util.find_spec("warp") is not None:
        from portraitgan.deformation.warp_search import TableSearch
        twin = TableSearch(mesh, 24, closest_only=closest_only)
        assert (twin.static.distances - table.static.distances).nan_to_num(0, 0, 0).abs().max() < 1e-6
        # Nodes at which faces tie may hold either; with the same tables the two agree point by point.
        twin.static, twin.head = table.static, table.head
        other = run(twin, mesh, poses, points)
        assert (other.face == found.face).float().mean() > 0.999
        same = (other.face >= 0) & (found.face >= 0)
        assert (other.distance - found.distance)[same].abs().max() < 1e-6
again = run(table, mesh, poses, points)
assert torch.equal(again.face, found.face) and torch.equal(again.distance, found.distance)
alone = run(table, mesh, poses[1:], points[1:])
assert torch.equal(alone.face[0], found.face[1])
for batch, count in ((2, 0), (0, 5)):
    assert run(table, mesh, poses[:batch], torch.zeros(batch, count, 3)).face.shape == (batch, count)
far = run(table, mesh, poses, torch.full((2, 5, 3), 7.0))
assert (far.face == -1).all() and torch.isinf(far.distance).all()
for weight in ([0.5, 0.5], [0.0, 0.0], [0.0, 1.0]):  # all blended, all static, all head
    rows = torch.tensor([weight]).expand(len(mesh.vertices), 2)
    same = SkinnedMesh(mesh.vertices, mesh.faces, rows, mesh.head_joint)
    few = points[:, ::6].contiguous()
    exact = run(BruteForce(same.faces), same, poses, few)
    found = run(TritonTableSearch(same, 12), same, poses, few)
    assert torch.equal(exact.face >= 0, found.face >= 0), weight
    near = exact.face >= 0
    assert (found.distance - exact.distance)[near].max() <= 1 / 11
print("done")
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
@needs_triton
def test_interpreted_on_a_cpu_it_meets_the_contract(tmp_path: Path) -> None:
    script = tmp_path / "compare.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(Path(__file__).parent), str(Path(__file__).parents[4])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stdout + done.stderr


@needs_triton
def test_it_compiles_for_a_gpu_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted code may still not compile; this goes all the way to the machine's code, for an A100."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from portraitgan.deformation import triton_kernels

    kernel = triton_kernels.search_tables
    constants = {"ANY_FACE": True, "GROUP": 16, "BLOCK": 128}
    kinds = dict.fromkeys(("per_sample", "groups", "faces"), "i32")
    kinds |= {f"{table}n{axis}": "i32" for table in "sh" for axis in "xyz"}
    kinds |= dict.fromkeys(("static_table", "head_table"), "*i16")
    kinds |= dict.fromkeys(("blended", "ties", "face_out"), "*i32")
    arrays = ("points", "heads", "static_distances", "head_distances", "boxes", "blended_corners", "corners")
    kinds |= dict.fromkeys((*arrays, "distance_out"), "*fp32")
    signature = {
        name: "constexpr" if name in constants else kinds.get(name, "fp32") for name in kernel.arg_names
    }
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    made = triton.compile(ASTSource(kernel, signature, places), target=GPUTarget("cuda", 80, 32))
    assert "search_tables" in made.asm["ptx"] and len(made.asm["cubin"]) > 1000


def test_an_order_of_neighbours() -> None:
    centres = torch.rand(101, 3, generator=torch.Generator().manual_seed(0))
    order = coherent_order(centres, 16)
    assert sorted(order.tolist()) == list(range(101))
    spread = [float((centres[order[i : i + 16]]).std(dim=0).mean()) for i in range(0, 101, 16)]
    assert max(spread[:-1]) < 0.8 * float(centres.std(dim=0).mean())
    assert coherent_order(centres[:0], 16).tolist() == []


def test_it_is_chosen_on_a_gpu_without_warp(make_bust: MakeBust, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = SkinnedMesh.from_rig(make_bust(rings=8, around=6))
    monkeypatch.setattr(search, "warp_available", lambda: False)
    monkeypatch.setattr(search, "triton_serves", lambda device: True)
    made: list[object] = []
    monkeypatch.setattr(search, "_triton_tables", lambda mesh, config: made.append(config) or "tables")
    assert search.make_search(mesh, DeformationConfig()) == "tables"
    assert search.make_search(mesh, DeformationConfig(search="tables")) == "tables" and len(made) == 2
    assert isinstance(search.make_search(mesh, DeformationConfig(mode="rignerf")), BruteForce)
    with pytest.raises(DeformationError, match=r"portraitgan\[warp\]"):
        search.make_search(mesh, DeformationConfig(search="bvh"))
    monkeypatch.undo()
    assert not search.triton_serves(torch.device("cpu"))


@pytest.mark.gpu
@needs_triton
@pytest.mark.parametrize("closest_only", [False, True])
def test_triton_on_a_gpu(make_bust: MakeBust, closest_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from test_closest import POSES, ray_points, run, warp

    from portraitgan.deformation.triton_search import TritonTableSearch

    device = torch.device("cuda")
    mesh = SkinnedMesh.from_rig(make_bust(rings=60, around=40))
    points = ray_points(len(POSES), per_side=12)
    wanted = run(BruteForce(mesh.faces), mesh, POSES, points)
    moved = SkinnedMesh(mesh.vertices, mesh.faces, mesh.weights, mesh.head_joint).to(device)
    made = TritonTableSearch(moved, 96, closest_only=closest_only)
    found = run(made, moved, POSES.to(device), points.to(device))
    found = type(found)(found.face.cpu(), found.distance.cpu())
    near = wanted.face >= 0
    assert ((found.face >= 0) != near).float().mean() <= 1e-4
    both = near & (found.face >= 0)
    error = (warp(mesh, points, found) - warp(mesh, points, wanted)).norm(dim=-1)[both]
    assert error.mean() <= 5e-6 and (error > 1e-3).float().mean() <= 3e-4
