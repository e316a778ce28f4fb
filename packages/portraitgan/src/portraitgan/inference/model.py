"""A model ready for use: the generator's EMA, its rig, its truncation average.

    model = open_model("runs/first")             # or a checkpoint folder, ours or a converted official one
    ws = model.styles(z, truncation_psi=0.7)     # conditioned on the front camera and the neutral pose
    portraits = model.render(ws, camera, pose)

Rendering here draws no random numbers: depths are sampled in the middle of their steps and evenly by
importance, and noise images are the stored ones. So images repeat exactly and videos do not flicker.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phq_data import camera as cameras
from phq_data.rig import PortraitRig
from portraitgan.checkpoints import checkpoint as runs
from portraitgan.checkpoints import weights
from portraitgan.config import ModelConfig
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.inference.errors import InferenceError
from portraitgan.networks.discriminator import Discriminator
from portraitgan.networks.generator import Generated, Generator
from portraitgan.networks.placing import place
from portraitgan.rendering.rays import RayDraws, fixed_draws

AVERAGE_SEED = 123
"""Seed of the latents from which a missing truncation average is computed."""
AVERAGE_LATENTS = 10_000


@dataclass(frozen=True, eq=False)
class Model:
    """A generator and what it needs. Made by `open_model`."""

    folder: Path  # the checkpoint
    config: ModelConfig
    generator: Generator
    device: torch.device
    rig: PortraitRig | None
    notes: tuple[str, ...]  # what the user should know, e.g. that there is no rig

    @property
    def deforms(self) -> bool:
        """Whether body poses can be rendered."""
        return self.generator.deformation is not None

    @cached_property
    def neutral_camera(self) -> Tensor:
        """The exact front camera [1, 25]."""
        return torch.from_numpy(cameras.to_label(cameras.from_angles(0.0, 0.0)))[None].to(self.device)

    @cached_property
    def discriminator(self) -> Discriminator:
        """The discriminator's EMA; every portrait is judged by itself (spec Q2)."""
        network = weights.load_discriminator(self.folder, config=self.config)
        network = place(network, self.device, self.config.precision)
        network.b4.group = 1
        return network

    def latents(self, seeds: list[int]) -> Tensor:
        """z [B, z_dim] of seeds, the same numbers as the official scripts' (numpy RandomState)."""
        rows = [np.random.RandomState(seed).randn(self.config.generator.z_dim) for seed in seeds]
        return torch.from_numpy(np.stack(rows).astype(np.float32)).to(self.device)

    @torch.no_grad()
    def styles(
        self,
        z: Tensor,  # [B, z_dim]
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        camera: Tensor | None = None,  # [B, 25] conditioning camera; none: the front
        pose: Tensor | None = None,  # [B, 6] conditioning pose; none: neutral
    ) -> Tensor:
        """Styles [B, styles, w_dim]."""
        seen = self.neutral_camera.expand(len(z), -1) if camera is None else camera
        return self.generator.mapping(z, seen, pose, truncation_psi, truncation_cutoff)

    @torch.no_grad()
    def render(
        self,
        ws: Tensor,  # [B, styles, w_dim]
        camera: Tensor,  # [B, 25]
        pose: Tensor | None = None,  # [B, 6] radians; none: canonical
        resolution: int | None = None,  # neural rendering resolution; none: the checkpoint's
        sample_factor: float = 1.0,  # times the samples a ray of training
        planes: Tensor | None = None,  # the tri-grid of `ws`, where it is known already
    ) -> Generated:
        """Portraits. Raises `InferenceError` when numbers come out that are not finite."""
        made = self.generator.synthesis(
            ws,
            camera,
            self.usable(pose),
            resolution=resolution,
            noise_mode="const",
            draws=self.draws(len(camera), resolution, sample_factor),
            planes=planes,
        )
        if not bool(torch.isfinite(made.image).all()):
            raise InferenceError(
                f"the generator in {self.folder} made numbers that are not finite: its training has "
                "diverged; use an earlier checkpoint"
            )
        return made

    @torch.no_grad()
    def planes(self, ws: Tensor) -> Tensor:
        """The tri-grid [B, 3, C, D, S, S] of styles, to render the same person many times."""
        return self.generator.planes(ws, "const")

    def draws(self, batch: int, resolution: int | None = None, sample_factor: float = 1.0) -> RayDraws:
        """`RayDraws` without randomness for `batch` images of `resolution` squared rays."""
        config = self.config.generator.render
        side = resolution or config.resolution
        more = replace(
            config,
            coarse_samples=max(4, round(config.coarse_samples * sample_factor)),
            fine_samples=max(4, round(config.fine_samples * sample_factor)),
        )
        return fixed_draws(more, batch, side * side, self.device)

    def usable(self, pose: Tensor | None) -> Tensor | None:
        """`pose` [B, 6] where it changes the image: none without a rig and for all zeros."""
        if pose is None or not self.deforms or not bool((pose != 0).any()):
            return None
        return pose


def open_model(
    path: str | Path,
    rig: str | Path | None = None,
    device: str | torch.device = "auto",
    checkpoint: str | None = None,
    w_average: str = "file",
    full_precision: bool = False,
) -> Model:
    """A model from a run folder, one of its checkpoints or a converted official checkpoint.

    `rig` replaces the run's own. `checkpoint` picks one of a run, by folder name or kimg. `w_average` is what
    truncation pulls to: "file" (the checkpoint's average; computed if that was never set) or "computed".
    `full_precision` keeps half-precision formats out, for optimising through the generator; so does a CPU.
    Raises `InferenceError`, `WeightsError`, `ConfigError` or `RigError`.
    """
    where = pick_device(device)
    folder, run = find_checkpoint(Path(path), checkpoint)
    config = weights.read_config(folder)
    if full_precision or where.type == "cpu":
        config = replace(config, precision=replace(config.precision, half="float32"))
    notes: list[str] = []
    found = find_rig(folder, run, rig)
    deformation: Deformation | None = None
    if config.generator.deformation.mode != "none":
        if found is None:
            notes.append(
                f"no rig beside {folder.name} and none given (--rig FILE): portraits are rendered "
                "undeformed, in the neutral body pose"
            )
        else:
            mesh = SkinnedMesh.from_rig(found, config.generator.render.box_size)
            deformation = Deformation(mesh, config.generator.deformation)
    generator = weights.make_generator(config, deformation)
    weights.load_into(generator, folder / f"{weights.GENERATOR_EMA}.safetensors")
    generator.eval().requires_grad_(False)
    model = Model(folder, config, place(generator, where, config.precision), where, found, tuple(notes))
    mapping = model.generator.backbone.mapping
    if w_average == "computed" or not bool((mapping.w_avg != 0).any()):
        mapping.w_avg.copy_(average_style(model))
        said = f"truncation average computed from {AVERAGE_LATENTS:,} latents (seed {AVERAGE_SEED})"
        model = replace(model, notes=(*model.notes, said))
    return model


@torch.no_grad()
def average_style(model: Model, count: int = AVERAGE_LATENTS, seed: int = AVERAGE_SEED) -> Tensor:
    """Mean w [w_dim] of `count` latents under the neutral condition."""
    random = np.random.RandomState(seed)
    total = torch.zeros(model.config.generator.w_dim, dtype=torch.float64, device=model.device)
    done = 0
    while done < count:
        size = min(1000, count - done)
        z = random.randn(size, model.config.generator.z_dim).astype(np.float32)
        total += model.styles(torch.from_numpy(z).to(model.device))[:, 0].double().sum(dim=0)
        done += size
    return (total / count).float()


def find_checkpoint(path: Path, name: str | None = None) -> tuple[Path, Path | None]:
    """(checkpoint folder, the run it belongs to or None); `name` is one, its kimg, or "best".

    Raises `InferenceError`.
    """
    if path.suffix == ".pkl":
        raise InferenceError(
            f"{path} is an official pickle: convert it first (portraitgan convert {path} OUT)"
        )
    if not path.is_dir():
        raise InferenceError(f"there is no run or checkpoint folder at {path}")
    if _is_checkpoint(path):
        if name is not None:
            raise InferenceError(f"{path} is one checkpoint; --checkpoint picks one of a run folder")
        run = path.resolve().parent.parent
        return path, run if runs.folder_of(run) == path.resolve().parent else None
    there = [one for one in runs.checkpoints(path) if _is_checkpoint(one)]
    if not there:
        raise InferenceError(
            f"{path} has neither {weights.GENERATOR_EMA}.safetensors nor a finished checkpoint: give a run "
            "folder of `portraitgan train` or a folder of `portraitgan convert`"
        )
    if name == "best":
        found = runs.best(path)
        if found is None:
            raise InferenceError(
                f"the run {path} has no best checkpoint: its FID was not measured (portraitgan train "
                "--fid-every)"
            )
        return found.folder, path
    if name is not None:
        wanted = [one for one in there if name == one.name or _is_number(name, _kimg(one))]
        if not wanted:
            known = ", ".join(one.name for one in there)
            raise InferenceError(f"the run {path} has no finished checkpoint {name!r}; it has {known}")
        return wanted[0], path
    newest = runs.latest(path)
    return newest if _is_checkpoint(newest) else there[-1], path


def find_rig(folder: Path, run: Path | None, given: str | Path | None) -> PortraitRig | None:
    """The rig named by the user, else the one beside the checkpoint or of its run, else None."""
    if given is not None:
        return PortraitRig.load(given)
    for home in (folder, run):
        if home is not None and (home / runs.RIG_FILE).is_file():
            return PortraitRig.load(home / runs.RIG_FILE)
    return None


def pick_device(device: str | torch.device) -> torch.device:
    """The device; "auto" is the GPU if there is one. Raises `InferenceError` for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InferenceError(f"{device!r} is no device; name cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InferenceError(f"{device} was asked for, but torch sees no CUDA device here")
    return chosen


def _is_checkpoint(folder: Path) -> bool:
    return (folder / f"{weights.GENERATOR_EMA}.safetensors").is_file()


def _kimg(folder: Path) -> float:
    """Thousands of images of a checkpoint folder, NaN for a folder of another name."""
    match = re.fullmatch(r"kimg-(\d+(?:\.\d+)?)", folder.name)
    return float(match[1]) if match else math.nan


def _is_number(text: str, number: float) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False
