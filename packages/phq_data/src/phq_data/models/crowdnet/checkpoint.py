"""Official 3DCrowdNet checkpoints in: nothing in them is executed, and every key is used or named.

Format (3DCrowdNet specification, section 7): a dict with `network`, the state dict of a data-parallel model,
whose keys begin with `module.`; beside it `epoch` and the optimiser's state. The network's own loader ignores
what does not fit. This one does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from phq_data.errors import ModelError
from phq_data.files import read_tensors
from phq_data.models.crowdnet.network import CrowdNet
from phq_data.weights import tensor_file

FORMAT = "phq-3dcrowdnet/1"
PREFIX = "module."
_VPOSER = "vposer.vposer."
_UNUSED = {
    "human_model_layer.": "SMPL's arrays, which come from your SMPL file",
    "vposer.vposer.bodyprior_enc_": "VPoser's encoder",
}
_OUTPUTS = ("bn1", "bn2", "mu", "logvar", "fc1", "fc2")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights of the network and what else the file held."""

    state: dict[str, Tensor]  # every parameter and buffer of `CrowdNet`, float32
    unused: tuple[str, ...]  # keys of the file that inference does not need
    epoch: int | None

    @property
    def note(self) -> str:
        """For people: what of the file is not used, by name and reason; "" when all is."""
        parts = []
        for start, reason in _UNUSED.items():
            count = sum(key.startswith(start) for key in self.unused)
            if count:
                parts.append(f"{start}* ({count} tensors, {reason})")
        return f"not used: {'; '.join(parts)}" if parts else ""


def read_official(path: str | Path, vposer: str | Path | None = None) -> Checkpoint:
    """The weights of an official checkpoint file, checked against the network key by key.

    `vposer`: a VPoser 1.0 snapshot, for checkpoints that do not hold VPoser's weights themselves. Raises
    `ModelError` with one sentence for a file that is missing, damaged, unsafe or of another network.
    """
    content = tensor_file.read(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("network"), Mapping):
        raise ModelError(f"{path} is no 3DCrowdNet checkpoint: it has no entry 'network'")
    network = {str(key): value for key, value in content["network"].items()}
    bare = [key for key in network if not key.startswith(PREFIX)]
    if bare:
        raise ModelError(
            f"{path} is no 3DCrowdNet checkpoint: key {bare[0]!r} does not begin with '{PREFIX}'"
        )
    tensors = {key.removeprefix(PREFIX): value for key, value in network.items()}
    if vposer is not None:
        tensors.update(_read_vposer(Path(vposer)))
    epoch = content.get("epoch")
    return Checkpoint(*checked(tensors, str(path)), epoch if isinstance(epoch, int) else None)


def checked(tensors: Mapping[str, Any], name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """(weights, unused keys) of a state dict that must be `CrowdNet`'s; `ModelError` names the fault."""
    expected = expected_tensors()
    unused = tuple(key for key in tensors if key not in expected and unused_reason(key))
    foreign = [key for key in tensors if key not in expected and not unused_reason(key)]
    missing = [key for key in expected if key not in tensors]
    if missing and not foreign and all(key.startswith(_VPOSER) for key in missing):
        raise ModelError(
            f"{name} does not hold VPoser's weights; give VPoser's snapshot as well: "
            "phq models add 3dcrowdnet FILE --vposer SNAPSHOT"
        )
    if missing or foreign:
        kind, keys = ("lacks", missing) if missing else ("has the unknown key", foreign)
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        raise ModelError(f"{name} is a checkpoint of another network: it {kind} {keys[0]!r:.80}{more}")
    state = {key: tensor_file.fitting(tensors[key], wanted, key, name) for key, wanted in expected.items()}
    return state, unused


def expected_tensors() -> dict[str, Tensor]:
    """Name, shape and type of everything that `CrowdNet` loads, as tensors without numbers."""
    with torch.device("meta"):
        return dict(CrowdNet().state_dict())


def unused_reason(key: str) -> str:
    """What an official key is that inference does not need; "" for a key that is not official."""
    for start, reason in _UNUSED.items():
        rest = key.removeprefix(start)
        if rest == key:
            continue
        if start.startswith("human") or rest.split(".")[0] in _OUTPUTS:
            return reason
    return ""


def build(state: Mapping[str, Tensor]) -> CrowdNet:
    """The network with these weights, ready for inference."""
    with torch.device("meta"):
        network = CrowdNet()
    network.load_state_dict(dict(state), strict=True, assign=True)
    return network.eval().requires_grad_(False)


def save(checkpoint: Checkpoint, path: str | Path, source: str = "") -> None:
    """Write the weights alone as safetensors: a third of the file, and nothing in it can run."""
    save_file(checkpoint.state, str(path), metadata={"format": FORMAT, "source": source})


def load(path: str | Path) -> CrowdNet:
    """The network from a file of `save`."""
    missing = f"no 3DCrowdNet weights at {path}; name yours with: phq models add 3dcrowdnet FILE"
    header, tensors = read_tensors(path, ModelError, missing, "pt")
    if header.get("format") != FORMAT:
        raise ModelError(f"{path} does not hold 3DCrowdNet; make it with: phq models add 3dcrowdnet FILE")
    return build(checked(tensors, str(path))[0])


def _read_vposer(path: Path) -> dict[str, Tensor]:
    content = tensor_file.read(path)
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} is no VPoser snapshot")
    found = {
        _VPOSER + key[key.index("bodyprior_") :]: value
        for key, value in ((str(k), v) for k, v in content.items())
        if "bodyprior_" in key
    }
    if not found:
        raise ModelError(f"{path} is no VPoser 1.0 snapshot: no key holds 'bodyprior_'")
    return found
