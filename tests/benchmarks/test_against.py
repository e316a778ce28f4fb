"""`benchmarks.step --against` with a stand-in for the official checkout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import against, step
from benchmarks.body import bust
from portraitgan.presets import tiny

STAND_IN = {
    "training/__init__.py": "",
    "training/smpl_triplane.py": """
import numpy as np, pyrender, smplx, torch, trimesh
from kaolin.metrics.trianglemesh import point_to_mesh_distance
from kaolin.ops.mesh import index_vertices_by_faces
from portraitgan.checkpoints.weights import make_generator
from portraitgan.presets import tiny
from portraitgan.networks.generator import Generator

def TriPlaneGenerator(z_dim, c_dim, w_dim, size, img_channels, *, batch_size, rendering_kwargs, **rest):
    assert (c_dim, img_channels, rendering_kwargs["ray_start"]) == (25, 3, 2.25)
    made = make_generator(tiny(), None)
    body = smplx.create("./smplx_models", batch_size=batch_size).cuda()
    rest_pose = body(body_pose=None).vertices
    rest_pose -= np.load("transfer_data/smpl_joint_regressor.npy")[12].sum()
    faces = torch.from_numpy(body.faces.astype(np.int32)).long()
    middle = rest_pose[:, faces[3]].mean(dim=1, keepdim=True)
    squared, face, _ = point_to_mesh_distance(middle, index_vertices_by_faces(rest_pose, faces))
    assert squared.max() < 0.06**2 and face.shape == (batch_size, 1)
    return made
""",
    "training/dual_discriminator.py": """
from portraitgan.checkpoints.weights import make_discriminator
from portraitgan.presets import tiny

def PoseShapeAwareDualDiscriminator(c_dim, img_resolution, img_channels, seg_channels, **rest):
    return make_discriminator(tiny())
""",
    "training/loss.py": """
CALLED = []

class StyleGAN2Loss:
    def __init__(self, device, G, D, r1_gamma, r1_gamma_seg, **rest):
        self.G, self.D = G, D

    def accumulate_gradients(self, phase, real_img, real_seg, real_c, real_pose, gen_z, gen_c, gen_pose, gain,
                             cur_nimg, cur_nimg_start):
        trained = self.G if phase == "Gmain" else self.D
        assert all(p.requires_grad for p in trained.parameters())
        CALLED.append(phase)
        sum(p.sum() for p in trained.parameters()).backward()
""",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the official names; its modules are forgotten afterwards."""
    for name, text in STAND_IN.items():
        path = tmp_path / "checkout" / "3DPortraitGAN" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("training", *(f"training.{one}" for one in ("smpl_triplane", "dual_discriminator", "loss"))):
        monkeypatch.setitem(sys.modules, name, sys)  # so that what is imported now is taken out at the end
        monkeypatch.delitem(sys.modules, name)

    def toy(preset: str, batch: int, device: torch.device, small: bool = False) -> against.Sizes:
        return against.Sizes(f"{preset}, small" if small else preset, tiny(), bust(16, 12), batch)

    monkeypatch.setattr(against, "sizes", toy)
    return tmp_path / "checkout"


def test_both_sides_are_timed_in_turn(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JSON", "1")
    before = torch.Tensor.cuda, list(sys.path)
    arguments = ["--against", str(checkout), "--device", "cpu", "--batch", "2", "--repeats", "1"]
    assert step.main(arguments) == 0
    *table, line = capsys.readouterr().out.splitlines()
    figures = json.loads(line)
    for name in ("g_step_ratio", "d_step_ratio", "r1_ratio", "whole_ratio"):
        assert figures[name] > 0 and figures[f"small_{name}"] > 0
    seconds = figures["paper_256"]["seconds"]
    assert seconds["whole"]["ours"] == pytest.approx(
        seconds["g_step"]["ours"] + seconds["d_step"]["ours"] + seconds["r1"]["ours"] / 16
    )
    assert any("find closest faces with our search" in row for row in table)
    # Of the second size, for which the official modules are loaded anew: once to warm up, once timed.
    assert sys.modules["training.loss"].CALLED == ["Gmain", "Dmain", "Dreg"] * 2
    assert (torch.Tensor.cuda, sys.path) == before and "kaolin" not in sys.modules


def test_what_cannot_be_compared_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no `training` folder"):
        step.main(["--against", str(tmp_path), "--device", "cpu", "--small"])
    with pytest.raises(SystemExit, match="not middle"):
        step.main(["--against", str(tmp_path), "--device", "cpu", "--preset", "middle"])
