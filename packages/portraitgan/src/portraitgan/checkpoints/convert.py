"""Official checkpoints in (`portraitgan convert`): pickles of 3DPortraitGAN, PanoHead and EG3D.

Nothing in the pickle is run (`official_pickle`). Weights keep their names; what they build is read off their
shapes and the pickled rendering options. The body model inside is left out: it is licensed, and the rig comes
from the user; its face selection is compared with that rig.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phq_data.errors import PhqError
from phq_data.files import file_sha256
from phq_data.foreign import reading
from phq_data.rig import PortraitRig
from phq_data.text import some_of
from portraitgan.checkpoints import weights
from portraitgan.checkpoints.official_pickle import (
    PickleRefusedError,
    attributes_of,
    read_pickle,
    state_of,
)
from portraitgan.config import (
    CAMERA_SIZE,
    POSE_SIZE,
    TRI_GRID_AXES,
    CompatibilityConfig,
    DecoderConfig,
    DeformationConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    ModelConfig,
    PlaneAxes,
    PosePredictorConfig,
    RenderConfig,
    SuperResolutionConfig,
    SynthesisConfig,
    TriGridConfig,
)
from portraitgan.deformation.skinning import SkinnedMesh

FACTS_FILE = "converted.json"
NETWORKS = {
    "G": weights.GENERATOR,
    "G_ema": weights.GENERATOR_EMA,
    "D": weights.DISCRIMINATOR,
    "D_ema": weights.DISCRIMINATOR_EMA,
}


UNSUPPORTED: dict[str, tuple[object, str]] = {
    "c_gen_conditioning_zero": (False, "a mapping network that ignores the camera"),
    "c_scale": (1, "a scaled condition"),
    "disparity_space_sampling": (False, "sampling evenly in inverse depth"),
    "clamp_mode": ("softplus", "another density activation"),
    "white_back": (False, "a white background"),
}
"""Rendering options of the family that change the images, with the only value known here."""


class ConvertError(PhqError, ValueError):
    """A checkpoint that cannot be converted; the message says what is in the way."""


@dataclass(frozen=True)
class Converted:
    """What `convert` made."""

    folder: Path
    config: ModelConfig
    networks: tuple[str, ...]  # names of the files written, without suffix
    dropped: int  # tensors left out
    face_selection: str  # "matches", "not checked" or "none"


def is_dropped(key: str) -> bool:
    """Whether an official state-dict key is a constant that is rebuilt here.

    Low-pass filters, the unused label statistics, and the body model with everything derived from it.
    """
    return key.startswith("renderer.") or key.endswith("resample_filter") or key == "dataset_label_std"


def official_key(key: str) -> str | None:
    """Our name of an official tensor, none if it is dropped.

    Names are the same on purpose: module attributes here are called as they are there.
    """
    return None if is_dropped(key) else key


def convert(source: str | Path, folder: str | Path, rig: PortraitRig | None = None) -> Converted:
    """Write the networks of an official pickle to `folder` as safetensors and JSON.

    With `rig`, its faces inside the cube must be those the checkpoint was trained with. Raises
    `PickleRefusedError` for a file that wants to do something, `ConvertError` for networks of another kind or
    another body, `WeightsError` for tensors that do not fit.
    """
    content = attributes_of(read_pickle(source))
    modules = {name: content[name] for name in NETWORKS if content.get(name) is not None}
    if "G_ema" not in modules:
        raise ConvertError(
            f"{source} has no generator 'G_ema' (found {some_of(content)}): "
            "it is not a checkpoint of this family"
        )
    try:
        states = {name: state_of(module) for name, module in modules.items()}
    except PickleRefusedError as error:
        raise PickleRefusedError(f"{source}: {error}") from error
    mask = states["G_ema"].get("renderer.face_mask")
    if mask is None and "renderer.face_mask" in states.get("G", {}):
        mask = states["G"]["renderer.face_mask"]
    selection = _check_faces(mask, rig)
    kept = {
        name: weights.as_float32({k: v for k, v in state.items() if not is_dropped(k)})
        for name, state in states.items()
    }
    attributes = attributes_of(modules["G_ema"])
    with reading(source, ConvertError, "it is not a checkpoint of this family of networks"):
        config = read_config(kept["G_ema"], kept.get("D_ema", kept.get("D")), attributes)
    for name, state in kept.items():
        with torch.device("meta"):
            own = weights.make_discriminator(config) if name[0] == "D" else weights.make_generator(config)
        weights.check(own, state, f"{source}: {name}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, state in kept.items():
        weights.write_tensors(folder / f"{NETWORKS[name]}.safetensors", state)
    weights.write_config(folder, config)
    facts = {
        "source": Path(source).name,
        "source_sha256": file_sha256(source),
        "networks": sorted(kept),
        "dropped_tensors": sum(len(states[name]) - len(kept[name]) for name in kept),
        "rig_faces": None if mask is None else len(mask),
        "rig_faces_in_cube": None if mask is None else int(mask.sum()),
        "rig_face_mask_sha256": None if mask is None else _mask_digest(mask),
    }
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n")
    names = tuple(NETWORKS[name] for name in kept)
    return Converted(folder, config, names, int(str(facts["dropped_tensors"])), selection)


def read_config(
    generator: Mapping[str, Tensor], discriminator: Mapping[str, Tensor] | None, attributes: Mapping[str, Any]
) -> ModelConfig:
    """The config of official state dicts and of the pickled generator's attributes. Raises `ConvertError`."""
    options = attributes_of(attributes.get("rendering_kwargs"))
    try:
        features = generator["decoder.net.0.weight"].shape[1]
        planes = generator["backbone.synthesis.b4.torgb.weight"].shape[0]
        w_dim = generator["backbone.synthesis.b4.torgb.affine.weight"].shape[1]
        condition = generator["backbone.mapping.embed.weight"].shape[1]
        size = generator["superresolution.block1.conv1.noise_const"].shape[0]
        sr_channels = tuple(generator[f"superresolution.block{k}.conv1.weight"].shape[0] for k in (0, 1))
        first = generator["backbone.mapping.fc0.weight"].shape[1]
    except KeyError as error:
        raise ConvertError(f"the generator lacks {error}: it is not of this family of networks") from None
    depth, rest = divmod(planes, 3 * features)
    if rest or condition not in (CAMERA_SIZE, CAMERA_SIZE + POSE_SIZE):
        raise ConvertError(
            f"{planes} plane channels for {features} features, {condition} condition numbers: "
            "not a tri-plane or tri-grid network of this family"
        )
    for name, (wanted, meaning) in UNSUPPORTED.items():
        if name in options and options[name] not in (None, wanted):
            raise ConvertError(f"its option {name} is {options[name]!r}: {meaning} is not supported")
    posed = condition == CAMERA_SIZE + POSE_SIZE
    kind = str(options.get("superresolution_module", ""))
    doubled = "8X" in kind if kind else size == 512
    clamp = 256.0 if _number(attributes.get("sr_num_fp16_res"), options.get("sr_num_fp16_res"), 4) else None
    network = GeneratorConfig(
        image_resolution=size,
        z_dim=first - w_dim,
        w_dim=w_dim,
        mapping_layers=_count(generator, "backbone.mapping.fc{}.weight"),
        pose_conditioning=posed,
        backbone=_synthesis(generator, "backbone.synthesis"),
        grid=TriGridConfig(features, depth, plane_axes(attributes)),
        decoder=DecoderConfig(
            generator["decoder.net.0.weight"].shape[0],
            "none" if options.get("decoder_activation") == "none" else "sigmoid",
        ),
        render=RenderConfig(
            ray_start=float(_number(options.get("ray_start"), 2.25)),
            ray_end=float(_number(options.get("ray_end"), 3.3)),
            coarse_samples=int(_number(options.get("depth_resolution"), 48)),
            fine_samples=int(_number(options.get("depth_resolution_importance"), 48)),
            box_size=float(_number(options.get("box_warp"), 1.0)),
            crop=0.4 * float(_number(options.get("box_warp"), 1.0)) if _has_crop(generator) else None,
            resolution=int(_number(attributes.get("neural_rendering_resolution"), 64)),
        ),
        background=_synthesis(generator, "bcg_synthesis") if _has(generator, "bcg_synthesis.") else None,
        raw_rgb="to_rgb" if "torgb.weight" in generator else "first_channels",
        superresolution=SuperResolutionConfig(
            size // (4 if doubled else 2), (sr_channels[0], sr_channels[1]), clamp=clamp
        ),
        pose_predictor=_pose_predictor(generator),
        deformation=DeformationConfig(
            mode="face" if posed else "none",
            max_distance=float(_number(attributes.get("thickness"), options.get("thickness"), 0.25)),
        ),
    )
    critic = DiscriminatorConfig(
        image_resolution=size,
        use_mask=network.raw_rgb == "to_rgb",
        pose_conditioning=posed,
        pose_predictor=None,
    )
    if discriminator is not None:
        critic = _discriminator(discriminator, size)
    return ModelConfig(
        name="converted",
        generator=network,
        discriminator=critic,
        compatibility=CompatibilityConfig(
            discriminator_pose_camera_unmirrored=True, superresolution_overwrites_raw=True
        ),
    )


def _discriminator(state: Mapping[str, Tensor], size: int) -> DiscriminatorConfig:
    channels = {size: state[f"b{size}.fromrgb.weight"].shape[0], 4: state["b4.conv.weight"].shape[0]}
    resolution = size
    while resolution > 8:
        channels[resolution // 2] = state[f"b{resolution}.conv1.weight"].shape[0]
        resolution //= 2
    base, most = _channel_rule(channels)
    inputs, condition = state[f"b{size}.fromrgb.weight"].shape[1], state["mapping.embed.weight"].shape[1]
    if inputs not in (6, 7):
        raise ConvertError(f"the discriminator takes {inputs} channels; 6 or 7 are known")
    return DiscriminatorConfig(
        image_resolution=size,
        use_mask=inputs == 7,
        channel_base=base,
        channel_max=most,
        condition_dim=state["mapping.embed.weight"].shape[0],
        mapping_layers=_count(state, "mapping.fc{}.weight"),
        pose_conditioning=condition == CAMERA_SIZE + POSE_SIZE,
        pose_predictor=_pose_predictor(state),
    )


def _synthesis(state: Mapping[str, Tensor], prefix: str) -> SynthesisConfig:
    channels = {}
    resolution = 4
    while (key := f"{prefix}.b{resolution}.conv1.weight") in state:
        channels[resolution] = state[key].shape[0]
        resolution *= 2
    if not channels:
        raise ConvertError(f"the generator has no {prefix}.b4: it is not of this family of networks")
    base, most = _channel_rule(channels)
    return SynthesisConfig(max(channels), base, most)


def _channel_rule(channels: Mapping[int, int]) -> tuple[int, int]:
    """(channel_base, channel_max) with channels = min(base // resolution, max)."""
    most = max(channels.values())
    limited = [count * resolution for resolution, count in channels.items() if count < most]
    base = max(limited) if limited else most * max(channels)
    if any(min(base // resolution, most) != count for resolution, count in channels.items()):
        raise ConvertError(f"channels per resolution {dict(channels)} follow no known rule")
    return base, most


def _pose_predictor(state: Mapping[str, Tensor]) -> PosePredictorConfig | None:
    layers = _count(state, "pose_branch.net.{}.weight")
    if layers == 0:
        return None
    hidden = tuple(state[f"pose_branch.net.{k}.weight"].shape[0] for k in range(layers - 1))
    return PosePredictorConfig(hidden)


def plane_axes(attributes: Mapping[str, Any]) -> PlaneAxes:
    """Which world axes span the planes, from the renderer's plane matrices; ours if it has none."""
    renderer = attributes_of(attributes_of(attributes.get("_modules")).get("renderer"))
    matrices = renderer.get("plane_axes")
    if not isinstance(matrices, Tensor) or matrices.shape != (3, 3, 3):
        return TRI_GRID_AXES
    inverse = torch.linalg.inv(matrices.float().cpu())
    axes = tuple(tuple(int(k) for k in plane.abs().argmax(dim=0)) for plane in inverse)
    if any(sorted(plane) != [0, 1, 2] for plane in axes) or not torch.allclose(
        inverse.sum(dim=1), torch.ones(3, 3)
    ):
        raise ConvertError("the tri-grid's planes are not spanned by world axes")
    return tuple((plane[0], plane[1], plane[2]) for plane in axes)


def _check_faces(mask: Tensor | None, rig: PortraitRig | None) -> str:
    """Compare the stored face selection with the rig's own."""
    if mask is None:
        return "none"
    if rig is None:
        return "not checked"
    own = SkinnedMesh.from_rig(rig).inside_box
    if own.shape != mask.shape:
        raise ConvertError(
            f"the checkpoint was trained with a body of {len(mask)} faces, the rig has {len(own)}: "
            "give the rig made from the same body model"
        )
    different = int((own != mask.bool()).sum())
    if different:
        raise ConvertError(
            f"{different} of {len(mask)} faces are inside the cube for only one of checkpoint and rig: "
            "the rig is not the checkpoint's body in the checkpoint's place"
        )
    return "matches"


def _has(state: Mapping[str, Tensor], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state)


def _has_crop(state: Mapping[str, Tensor]) -> bool:
    """PanoHead and 3DPortraitGAN crop the sides of their grids; EG3D, which has no background, does not."""
    return _has(state, "bcg_synthesis.")


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    number = 0
    while pattern.format(number) in state:
        number += 1
    return number


def _number(*candidates: Any) -> float:
    """The first candidate that is a number."""
    return next(
        value for value in candidates if isinstance(value, int | float) and not isinstance(value, bool)
    )


def _mask_digest(mask: Tensor) -> str:
    return hashlib.sha256(mask.to(torch.uint8).numpy().tobytes()).hexdigest()


__all__ = ["ConvertError", "Converted", "PickleRefusedError", "convert", "is_dropped", "official_key"]
