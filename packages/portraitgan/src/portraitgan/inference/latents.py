"""Who is shown: seeds, or the latent file of an inversion."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from phq_data.files import file_sha256, read_tensors, writing
from phq_data.foreign import JsonError, parse_json
from portraitgan.checkpoints.weights import GENERATOR_EMA
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.model import Model

LATENT_FORMAT = "portraitgan-latent/1"
_NOISE, _TUNED = "noise.", "tuned."


@dataclass(frozen=True, eq=False)
class Subject:
    """One person of the generator."""

    name: str  # fit for a file name
    ws: Tensor  # [1, styles, w_dim]
    z: Tensor | None = None  # [1, z_dim]; none for an inversion
    camera: Tensor | None = None  # [1, 25] of the inverted portrait
    pose: Tensor | None = None  # [1, 6] of the inverted portrait


@dataclass(frozen=True, eq=False)
class Latent:
    """The result of an inversion."""

    ws: Tensor  # [1, styles, w_dim]
    camera: Tensor  # [1, 25]
    pose: Tensor | None  # [1, 6] radians
    noise: dict[str, Tensor]  # generator state-dict keys of noise images
    tuned: dict[str, Tensor]  # generator state-dict keys of weights that pivotal tuning changed
    facts: dict[str, Any]  # what it was made from and how well it fits


def parse_seeds(text: str) -> list[int]:
    """`0-3,20` to [0, 1, 2, 3, 20]. Raises `InferenceError`."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise InferenceError(f"{text!r} is no list of seeds: write numbers and ranges, as in 0-15,20")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InferenceError(f"the range {part.strip()!r} of seeds runs backwards")
        if last >= 2**32:
            raise InferenceError(f"seeds must be smaller than 2^32, not {last}")
        if last - first > 1_000_000:
            raise InferenceError(f"the range {part.strip()!r} holds more than a million seeds")
        seeds.extend(range(first, last + 1))
    return seeds


def from_seeds(model: Model, seeds: list[int], truncation_psi: float = 1.0) -> list[Subject]:
    """The people of seeds, conditioned on the front camera and the neutral pose."""
    if not seeds:
        return []
    subjects = []
    for first in range(0, len(seeds), 256):
        part = seeds[first : first + 256]
        z = model.latents(part)
        ws = model.styles(z, truncation_psi)
        subjects += [Subject(f"seed{s:04d}", ws[i : i + 1], z[i : i + 1]) for i, s in enumerate(part)]
    return subjects


def from_latent_file(model: Model, path: str | Path) -> Subject:
    """The person of a latent file; its noise images and tuned weights are put into the model's generator."""
    path = Path(path)
    if path.is_dir():
        path = path / "latent.safetensors"
    latent = load_latent(path)
    wanted = (1, model.config.generator.backbone.styles, model.config.generator.w_dim)
    if tuple(latent.ws.shape) != wanted:
        raise InferenceError(
            f"{path} holds styles of shape {tuple(latent.ws.shape)}, this model takes {wanted}: "
            f"it was made with another model ({latent.facts.get('model', 'unknown')})"
        )
    made_with = latent.facts.get("model_digest")
    if made_with is not None and made_with != weights_digest(model):
        raise InferenceError(
            f"{path} was made with {latent.facts.get('model')}, whose weights differ from {model.folder}: "
            "name that checkpoint (--checkpoint) or invert again"
        )
    state = model.generator.state_dict()
    for key, value in (latent.noise | latent.tuned).items():
        if key not in state or state[key].shape != value.shape:
            raise InferenceError(f"{path}: tensor {key} does not fit the model in {model.folder}")
        state[key].copy_(value)
    pose = None if latent.pose is None else latent.pose.to(model.device)
    return Subject(path.stem, latent.ws.to(model.device), None, latent.camera.to(model.device), pose)


def save_latent(path: str | Path, latent: Latent) -> None:
    """Write a latent file (safetensors with the facts as JSON in its header) and the same facts beside it."""
    path = Path(path)
    tensors = {"ws": latent.ws, "camera": latent.camera}
    if latent.pose is not None:
        tensors["pose"] = latent.pose
    tensors |= {_NOISE + key: value for key, value in latent.noise.items()}
    tensors |= {_TUNED + key: value for key, value in latent.tuned.items()}
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with writing(path) as temporary:
        save_file(plain, temporary, {"format": LATENT_FORMAT, "facts": json.dumps(latent.facts)})
    with writing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(latent.facts, indent=2) + "\n")


def load_latent(path: str | Path) -> Latent:
    """Read a latent file. Raises `InferenceError` naming it."""
    header, tensors = read_tensors(path, InferenceError, f"there is no latent file at {path}", "pt")
    try:
        facts = parse_json(header.get("facts", "{}"))
    except JsonError as error:
        raise InferenceError(f"{path} is damaged: what it says of itself is not JSON ({error})") from error
    if header.get("format") != LATENT_FORMAT or not {"ws", "camera"} <= set(tensors):
        raise InferenceError(f"{path} is not a latent file of `portraitgan invert`")
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InferenceError(f"{path}: tensor {name} holds numbers that are not finite; invert again")
    return Latent(
        tensors["ws"],
        tensors["camera"],
        tensors.get("pose"),
        {key.removeprefix(_NOISE): value for key, value in tensors.items() if key.startswith(_NOISE)},
        {key.removeprefix(_TUNED): value for key, value in tensors.items() if key.startswith(_TUNED)},
        facts if isinstance(facts, dict) else {},
    )


def weights_digest(model: Model) -> str:
    """A short digest of a generator's own numbers as they lie in its file."""
    return file_sha256(model.folder / f"{GENERATOR_EMA}.safetensors")[:32]
