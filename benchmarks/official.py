"""The official modules of a user's checkout as PyTorch modules, with our weights and our body.

Nothing of that code is here or is shipped. What it imports and a training step does not need (pyrender,
trimesh) is an empty module where it is missing. SMPL, which needs a license, is exchanged for the benchmark's
own body, and kaolin's search for closest faces, where kaolin is missing, for ours.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from phq_data.rig import PortraitRig
from portraitgan.config import ModelConfig
from portraitgan.deformation.search import make_search
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.training.generator_pass import Conditions

_MODULES = {256: "SuperresolutionHybrid4X", 512: "SuperresolutionHybrid8XDC", 128: "SuperresolutionHybrid2X"}


@dataclass(frozen=True)
class Official:
    """Both networks and the loss of the official code."""

    generator: Any
    discriminator: Any
    loss: Any
    search: str  # whose search finds the closest faces

    def phase(self, name: str, given: Conditions, image: Tensor, mask: Tensor) -> Callable[[], None]:
        """A function that makes the gradients of Gmain, Dmain or Dreg.

        Images [B, 3, H, H] in -1..1 and masks [B, 1, H, H] in 0..1 are the real portraits, with the labels of
        `given`.
        """
        trained = self.generator if name == "Gmain" else self.discriminator
        other = self.discriminator if name == "Gmain" else self.generator

        def run() -> None:
            other.requires_grad_(False)
            trained.requires_grad_(True)
            trained.zero_grad(set_to_none=True)
            self.loss.accumulate_gradients(
                phase=name, real_img=image, real_seg=mask, real_c=given.camera, real_pose=given.coarse_pose,
                gen_z=given.z, gen_c=given.camera, gen_pose=given.coarse_pose, gain=1,
                cur_nimg=1_000_000, cur_nimg_start=0,
            )  # fmt: skip

        return run


def load(
    checkout: Path,
    config: ModelConfig,
    rig: PortraitRig,
    batch: int,
    device: torch.device,
    weights: tuple[nn.Module, nn.Module],
) -> Official:
    """The official networks of a `paper_*` config, with the weights of our (generator, discriminator).

    Raises `SystemExit` for a folder without the official code.
    """
    root = next((one for one in (checkout, checkout / "3DPortraitGAN") if (one / "training").is_dir()), None)
    if root is None:
        raise SystemExit(f"{checkout} holds no `training` folder: name a checkout of 3DPortraitGAN")
    mesh = SkinnedMesh.from_rig(rig).to(device)
    kaolin = importlib.util.find_spec("kaolin") is not None
    with _imports(root, device, mesh, None if kaolin else config):
        generator = _generator(config, batch)
        discriminator = _discriminator(config)
        loss_class = importlib.import_module("training.loss").StyleGAN2Loss
    for network, ours in zip((generator, discriminator), weights, strict=True):
        found = network.to(device).train().load_state_dict(ours.state_dict(), strict=False)
        learned = {name for name, _ in network.named_parameters() if not name.startswith("renderer.")}
        if found.unexpected_keys or learned & set(found.missing_keys):
            raise SystemExit(f"the official networks of {config.name} have other weights than ours: {found}")
    loss = loss_class(
        device, generator, discriminator, r1_gamma=1, r1_gamma_seg=1, gpc_reg_prob=0.7,
        neural_rendering_resolution_initial=config.generator.render.resolution, dual_discrimination=True,
        filter_mode="antialiased", thickness=0.25, pose_loss_weight=1.0, bcg_reg_prob=0.2,
        input_pose_params_reg_loss_weight=0.5, input_pose_params_reg_loss_kimg=200,
    )  # fmt: skip
    return Official(generator, discriminator, loss, "kaolin's" if kaolin else "our")


def _generator(config: ModelConfig, batch: int) -> Any:
    """`TriPlaneGenerator` as `train.py` of the checkout makes it."""
    g = config.generator
    rendering = {
        "image_resolution": g.image_resolution, "disparity_space_sampling": False, "clamp_mode": "softplus",
        "superresolution_module": f"training.superresolution.{_MODULES.get(g.image_resolution)}",
        "c_gen_conditioning_zero": False, "gpc_reg_prob": 0.7, "decoder_activation": g.decoder.activation,
        "use_torgb_raw": True, "use_background": True, "triplane_depth": g.grid.depth, "c_scale": 1,
        "superresolution_noise_mode": "none", "density_reg": 0, "density_reg_p_dist": 0.004,
        "reg_type": "l1", "decoder_lr_mul": 1, "sr_antialias": True, "ray_start": g.render.ray_start,
        "ray_end": g.render.ray_end, "depth_resolution": g.render.coarse_samples,
        "depth_resolution_importance": g.render.fine_samples, "box_warp": g.render.box_size,
        "white_back": False, "avg_camera_radius": 2.7, "avg_camera_pivot": [0, 0, 0.2],
    }  # fmt: skip
    shape = {"channel_base": g.backbone.channel_base, "channel_max": g.backbone.channel_max}
    made = importlib.import_module("training.smpl_triplane").TriPlaneGenerator(
        g.z_dim, 25, g.w_dim, g.image_resolution, 3, sr_num_fp16_res=0, rendering_kwargs=rendering,
        mapping_kwargs={"num_layers": g.mapping_layers}, batch_size=batch, explicitly_symmetry=True,
        thickness=0.25, sr_kwargs={**shape, "fused_modconv_default": "inference_only"},
        fused_modconv_default="inference_only", num_fp16_res=0, conv_clamp=None, **shape,
    )  # fmt: skip
    made.neural_rendering_resolution = g.render.resolution
    return made


def _discriminator(config: ModelConfig) -> Any:
    d = config.discriminator
    return importlib.import_module("training.dual_discriminator").PoseShapeAwareDualDiscriminator(
        25, d.image_resolution, 3, 1, channel_base=d.channel_base, channel_max=d.channel_max, num_fp16_res=0,
        conv_clamp=None, explicitly_symmetry=True, epilogue_kwargs={"mbstd_group_size": d.minibatch_group},
    )  # fmt: skip


class Body(nn.Module):
    """Our rig where the official code expects SMPL: neck is body joint 11, head 14."""

    def __init__(self, mesh: SkinnedMesh, batch: int, head: list[Tensor]) -> None:
        super().__init__()
        self.mesh, self.batch = mesh, batch
        self.head = head  # the last pose's transform [B, 3, 4], for the search
        self.faces = mesh.faces.cpu().numpy().astype(np.uint32)
        self.register_buffer("shapedirs", torch.zeros(1, device=mesh.vertices.device))

    def forward(self, body_pose: Tensor | None = None, **_: Any) -> types.SimpleNamespace:
        """Vertices [B, V, 3] for body poses [B, 69]."""
        if body_pose is None:
            body_pose = torch.zeros(self.batch, 69, device=self.mesh.vertices.device)
        rotations = body_pose.reshape(-1, 23, 3)
        pose = torch.cat([rotations[:, 11], rotations[:, 14]], dim=1)
        self.head.append(self.mesh.joints(pose.detach()).head)
        del self.head[:-1]
        vertices = self.mesh(pose).expand(len(pose), -1, -1).clone()  # the caller shifts them in place
        return types.SimpleNamespace(vertices=vertices, joints=torch.zeros_like(vertices[:, :107]))


@contextlib.contextmanager
def _imports(
    root: Path, device: torch.device, mesh: SkinnedMesh, config: ModelConfig | None
) -> Iterator[None]:
    """The checkout's modules importable, and its files of SMPL's shape where it looks for them."""
    missing = [name for name in ("trimesh", "pyrender") if importlib.util.find_spec(name) is None]
    made = {name: types.ModuleType(name) for name in missing}
    smplx: Any = types.ModuleType("smplx")
    head: list[Tensor] = []
    smplx.create = lambda *_, batch_size, **__: Body(mesh, batch_size, head)
    made["smplx"] = smplx
    if config is not None:
        made.update(_kaolin(mesh, config, head))
    before = {name: sys.modules.get(name) for name in made}
    kept_cuda = torch.Tensor.cuda, nn.Module.cuda
    # What was imported before holds the body of then.
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(root):
            del sys.modules[name]
    sys.modules.update(made)
    sys.path.insert(0, str(root))
    if device.type != "cuda":
        torch.Tensor.cuda = nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[assignment,method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            Path("transfer_data").mkdir()
            np.save("transfer_data/smpl_joint_regressor.npy", np.zeros((30, len(mesh.vertices))))
            yield
    finally:
        torch.Tensor.cuda, nn.Module.cuda = kept_cuda  # type: ignore[method-assign]
        sys.path.remove(str(root))
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _kaolin(mesh: SkinnedMesh, config: ModelConfig, head: list[Tensor]) -> dict[str, types.ModuleType]:
    """The two functions of kaolin that are used, the search by our backend."""
    search = make_search(mesh, config.generator.deformation)

    def index_vertices_by_faces(vertices: Tensor, faces: Tensor) -> Tensor:
        found = vertices[:, faces]
        found.posed = vertices  # type: ignore[attr-defined]
        return found

    def point_to_mesh_distance(points: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posed: Tensor = faces.posed  # type: ignore[attr-defined]
        limit = config.generator.deformation.max_distance
        closest = search.pose(posed.detach(), head[-1])(points.detach(), limit)
        return closest.distance.square(), closest.face.long().clamp(min=0), closest.face

    names = ("kaolin", "kaolin.ops", "kaolin.ops.mesh", "kaolin.metrics", "kaolin.metrics.trianglemesh")
    made: dict[str, Any] = {name: types.ModuleType(name) for name in names}
    made["kaolin.ops.mesh"].index_vertices_by_faces = index_vertices_by_faces
    made["kaolin.metrics.trianglemesh"].point_to_mesh_distance = point_to_mesh_distance
    return made
