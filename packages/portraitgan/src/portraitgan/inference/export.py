"""The networks as programs of other runtimes: `torch.export` (.pt2) and ONNX.

| part | takes | gives |
| --- | --- | --- |
| `mapping` | z, camera, pose, truncation | ws |
| `backbone` | ws | planes, the tri-grid |
| `background` | ws | features of what is behind the person |
| `superresolution` | features, ws | image, raw |
| `generator_pose` | z, camera | the pose that the portrait of z has |
| `pose` | image, raw, mask, camera | the pose of a portrait, by the discriminator |
| `generator` | z, camera, pose, truncation | image, raw, mask, depth of the canonical body (torch only) |

Noise images are the stored ones and ray depths fixed, as in `Model.render`, so every part is a function. What
was written is run again, on other numbers than it was traced with, and compared with the network; the largest
difference is kept in `export.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from phq_data.files import writing
from portraitgan.checkpoints import weights
from portraitgan.config import CAMERA_SIZE, POSE_SIZE
from portraitgan.inference import views
from portraitgan.inference.errors import InferenceError, need
from portraitgan.inference.model import Model
from portraitgan.networks.discriminator import Portraits
from portraitgan.reference_mode import reference_mode

Format = Literal["torch", "onnx"]
SUFFIXES: Mapping[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
MANIFEST = "export.json"
TOLERANCE = 1e-3
"""Largest difference from the network, by the largest number it gives; float32 sums in another order."""
_BATCHES = (2, 3)  # traced with the first, compared with the second
_OPSET = 20


@dataclass(frozen=True, eq=False)
class Part:
    """A network as a function of tensors."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: Callable[[int], tuple[Tensor, ...]]  # inputs of a batch
    batched: bool = True  # takes batches of any size
    onnx: bool = True


@dataclass(frozen=True)
class Exported:
    """What was written of a part."""

    part: str
    file: str
    inputs: Mapping[str, list[int | str]]  # shapes; "batch" where any size is taken
    outputs: Mapping[str, list[int | str]]
    difference: float  # the largest from the network, by the largest number it gives


def export(
    model: Model,  # on the CPU, in full precision
    folder: str | Path,
    form: Format,
    chosen: tuple[str, ...] = (),  # names of parts; none: all that the model has
    told: Callable[[Exported], None] = lambda exported: None,
) -> list[Exported]:
    """Write the parts of a model and `export.json` into `folder`.

    Raises `InferenceError` for unknown parts, missing packages, or a program that gives other numbers.
    """
    if form == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            need(package, "export")
    parts = [part for part in parts_of(model) if part.onnx or form == "torch"]
    known = [part.name for part in parts]
    if unknown := [name for name in chosen if name not in known]:
        raise InferenceError(f"there is no part {unknown[0]!r} as {form}; this model has {', '.join(known)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    for part in parts:
        if chosen and part.name not in chosen:
            continue
        done.append(_export_part(part, folder, form))
        told(done[-1])
    manifest = {
        "format": form, "model": model.folder.name, "configuration": model.config.name,
        "tolerance": TOLERANCE, "parts": [asdict(one) for one in done],
    }  # fmt: skip
    with writing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    return done


def parts_of(model: Model) -> Iterator[Part]:
    """The parts that a model has, the whole generator last."""
    generator, config = model.generator, model.config.generator
    ws = _made(config.backbone.styles, config.w_dim)
    z, camera, pose = _made(config.z_dim), _cameras, _made(POSE_SIZE, scale=0.1)
    side = config.render.resolution

    def mapped(batch: int) -> tuple[Tensor, ...]:
        return z(batch), camera(batch), pose(batch), torch.tensor(0.7)

    yield Part("mapping", _Mapping(model), ("z", "camera", "pose", "truncation"), ("ws",), mapped)
    yield Part("backbone", _Backbone(model), ("ws",), ("planes",), lambda batch: (ws(batch),))
    if generator.bcg_synthesis is not None:
        yield Part("background", _Background(model), ("ws",), ("features",), lambda batch: (ws(batch),))
    features = _made(config.grid.features, side, side)
    yield Part(
        "superresolution", _SuperResolution(model), ("features", "ws"), ("image", "raw"),
        lambda batch: (features(batch), ws(batch)),
    )  # fmt: skip
    if generator.pose_branch is not None:
        yield Part(
            "generator_pose", generator.pose_branch, ("z", "camera"), ("pose",),
            lambda batch: (z(batch), camera(batch)),
        )  # fmt: skip
    if model.config.discriminator.pose_predictor is not None and _has_discriminator(model):
        large, raw, mask = (
            _made(3, *[config.image_resolution] * 2),
            _made(3, side, side),
            _made(1, side, side),
        )
        yield Part(
            "pose", _PoseNetwork(model), ("image", "raw", "mask", "camera"), ("pose",),
            lambda batch: (large(batch), raw(batch), mask(batch).sigmoid(), camera(batch)),
        )  # fmt: skip
    # A ray's samples are sorted and shared out by their number: that is traced for one portrait.
    yield Part(
        "generator", _Whole(model), ("z", "camera", "pose", "truncation"), ("image", "raw", "mask", "depth"),
        lambda batch: tuple(one[:1] if one.ndim else one for one in mapped(batch)), False, False,
    )  # fmt: skip


class _Mapping(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.mapping, self.config = model.generator.backbone.mapping, model.config.generator

    def forward(self, z: Tensor, camera: Tensor, pose: Tensor, truncation: Tensor) -> Tensor:
        """Styles [B, styles, w_dim]; `truncation` [] is psi."""
        parts = [camera] if self.config.camera_conditioning else []
        parts += [pose] if self.config.pose_conditioning else []
        ws: Tensor = self.mapping(z, torch.cat(parts, dim=1) if parts else None)
        return self.mapping.w_avg + (ws - self.mapping.w_avg) * truncation


class _Backbone(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.generator = model.generator

    def forward(self, ws: Tensor) -> Tensor:
        """Planes [B, 3, C, D, S, S]."""
        return self.generator.planes(ws, "const")


class _Background(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        network = model.generator.bcg_synthesis
        assert network is not None
        self.synthesis = network

    def forward(self, ws: Tensor) -> Tensor:
        """Features [B, C, S, S]."""
        made: Tensor = self.synthesis(ws[:, : self.synthesis.config.styles], "const")
        return made


class _SuperResolution(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.generator = model.generator

    def forward(self, features: Tensor, ws: Tensor) -> tuple[Tensor, Tensor]:
        """(image [B, 3, H, H], raw [B, 3, R, R]) of features [B, C, R, R] behind which the background is."""
        raw = self.generator.raw_colors(features, ws[:, -1])
        made: tuple[Tensor, Tensor] = self.generator.superresolution(features, raw, ws[:, -1])
        return made


class _PoseNetwork(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.discriminator = model.discriminator
        self.uses_mask = model.config.discriminator.use_mask

    def forward(self, image: Tensor, raw: Tensor, mask: Tensor, camera: Tensor) -> Tensor:
        """Poses [B, 6] radians. Each portrait counts by itself."""
        pose = self.discriminator.predict_pose(
            Portraits(image, raw, mask if self.uses_mask else None), camera
        )
        # A model without masks takes one all the same, so that every exported pose network is called alike.
        return pose if self.uses_mask else pose + 0 * mask.mean()


class _Whole(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.mapping, self.model, self.generator = _Mapping(model), model, model.generator

    def forward(
        self, z: Tensor, camera: Tensor, pose: Tensor, truncation: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image, raw, mask, depth of one portrait; the pose conditions the latent, the body is canonical."""
        ws = self.mapping(z, camera, pose, truncation)
        moved, _ = self.generator.moved_camera(z, camera)
        made = self.generator.synthesis(ws, moved, None, noise_mode="const", draws=self.model.draws(1))
        return made.image, made.image_raw, made.mask, made.depth


@torch.no_grad()
def _export_part(part: Part, folder: Path, form: Format) -> Exported:
    module = part.module.eval()
    traced, compared = (part.example(batch) for batch in _BATCHES)
    wanted = _outputs(module(*compared))
    batch = torch.export.Dim("batch", min=1, max=4096)
    dynamic = tuple({0: batch} if part.batched and one.ndim else None for one in traced)
    # The plain forms of the networks do not depend on the batch's size, as some fast ones do.
    with reference_mode() if part.batched else nullcontext():
        module(*traced)  # makes the constants that the networks keep, outside of the trace
        program = torch.export.export(module, traced, dynamic_shapes=dynamic)
    path = folder / f"{part.name}{SUFFIXES[form]}"
    with writing(path) as temporary:
        if form == "torch":
            torch.export.save(program, temporary)
            again = _outputs(torch.export.load(temporary).module()(*compared))
        else:
            made = torch.onnx.export(
                program, input_names=part.inputs, output_names=part.outputs, opset_version=_OPSET,
                dynamo=True, verbose=False, optimize=True, external_data=False,
            )  # fmt: skip
            assert made is not None
            made.save(str(temporary), external_data=False)
            again = _run_onnx(temporary, part.inputs, compared)
        difference = max(_difference(one, other) for one, other in zip(wanted, again, strict=True))
        if not difference <= TOLERANCE:
            raise InferenceError(
                f"{part.name} gives other numbers as {form} than the network: they differ by "
                f"{difference:.3g} of the largest, {TOLERANCE:g} would be rounding; it was not kept"
            )
    return Exported(
        part.name,
        path.name,
        {name: _shape(one, part.batched) for name, one in zip(part.inputs, traced, strict=True)},
        {name: _shape(one, part.batched) for name, one in zip(part.outputs, wanted, strict=True)},
        difference,
    )


def _run_onnx(path: Path, names: tuple[str, ...], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}
    fed = {name: value.numpy() for name, value in zip(names, inputs, strict=True) if name in taken}
    return [torch.from_numpy(np.asarray(one)) for one in session.run(None, fed)]


def _difference(wanted: Tensor, found: Tensor) -> float:
    if wanted.shape != found.shape:
        return float("inf")
    return float((wanted - found).abs().max() / wanted.abs().max().clamp(min=1e-6))


def _outputs(made: Any) -> list[Tensor]:
    return [made] if isinstance(made, Tensor) else list(made)


def _shape(one: Tensor, batched: bool) -> list[int | str]:
    if not one.ndim:
        return []
    return ["batch" if batched else one.shape[0], *one.shape[1:]]


def _made(*shape: int, scale: float = 1.0) -> Callable[[int], Tensor]:
    """Seeded normal numbers [batch, *shape], others for other batches."""

    def make(batch: int) -> Tensor:
        return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch)) * scale

    return make


def _cameras(batch: int) -> Tensor:
    """Cameras [batch, 25] on both sides of the person."""
    made = torch.cat([views.camera(40.0 * index - 30.0, 5.0) for index in range(batch)])
    assert made.shape[1] == CAMERA_SIZE
    return made


def _has_discriminator(model: Model) -> bool:
    return (model.folder / f"{weights.DISCRIMINATOR_EMA}.safetensors").is_file()
