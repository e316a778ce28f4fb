"""Networks that turn images into features to compare: Inception from a file, or a stated substitute.

FID is defined by one file of Inception weights. Where it is not at hand, a small convolutional network with
fixed random weights sees enough of colors, edges and textures to tell whether training goes the right way;
its numbers compare with one another and with nothing else, which is why every result names its network.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from phq_data.files import file_sha256
from phq_data.foreign import reading
from phq_data.restricted_pickle import DamagedError, RefusedError
from phq_data.tensor_pickle import load
from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.inception import FEATURES, Inception

RANDOM = "random-convolutions-1"
USUAL, USUAL_SHA256 = "inception-2015-12-05", "6726825d"
"""The weights that FIDs in papers were measured with; torch-fidelity and pytorch-fid give the first digits of
their file's sha256 in its name."""


class Extractor(Protocol):
    """Images to features."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Features [N, D] float32 of uint8 images [N, 3, H, W]."""
        ...


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A network with its name for results and caches."""

    name: str
    sha256: str  # of the weights
    size: int  # features an image
    standard: bool  # whether its FID is the one of papers
    extract: Extractor

    @property
    def note(self) -> str:
        """What a reader of a result must know, or ""."""
        if self.standard:
            return ""
        if self.name == RANDOM:
            return (
                "measured with a network of random weights: numbers compare with each other only, not with "
                "FIDs of papers (give the Inception weights with --features FILE)"
            )
        return "the Inception weights are not the usual file: numbers may not compare with FIDs of papers"


def open_features(path: str | Path | None, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The network of a file, or the substitute. Raises `MetricError` for a file that is none.

    `path` is a state dict of the 2015 Inception: `weights-inception-2015-12-05-6726825d.pth` of
    torch-fidelity, `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid, or the same tensors as
    .safetensors. Nothing in it is run.
    """
    if path is None:
        network = RandomConvolutions().to(device)
        return FeatureNetwork(RANDOM, network.sha256, RandomConvolutions.SIZE, False, network)
    path = Path(path)
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise MetricError(f"cannot read the feature network {path}: {error.strerror or error}") from error
    with reading(path, MetricError, "give a state dict of the 2015 Inception"):
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = _tensors(path)
        inception = Inception(state).to(device)
    usual = digest.startswith(USUAL_SHA256)
    name = USUAL if usual else f"inception:{digest[:12]}"
    return FeatureNetwork(name, digest, FEATURES, usual, inception)


def _tensors(path: Path) -> Any:
    try:
        return load(path)
    except (RefusedError, DamagedError) as error:
        raise MetricError(f"{path} is refused ({error}): give a state dict of the 2015 Inception") from error


class RandomConvolutions(nn.Module):
    """Three convolutions with fixed random weights over images brought to 64x64.

    Features: the first one's 64 channels, averaged over each quarter of the image, and the means of the
    others' 128 channels: 512.
    """

    SIDE, SIZE, SEED = 64, 512, 2015

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(self.SEED)
        state = hashlib.sha256()
        for index, (inputs, outputs) in enumerate(((3, 64), (64, 128), (128, 128))):
            spread = np.sqrt(2 / (9 * inputs))
            weight = (random.standard_normal((outputs, inputs, 3, 3)) * spread).astype(np.float32)
            state.update(weight.tobytes())
            self.register_buffer(f"weight{index}", torch.from_numpy(weight))
        self.sha256 = state.hexdigest()

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Features [N, 512] of images [N, 3, H, W], uint8 or 0..255."""
        x = pixels.float() / 127.5 - 1
        if x.shape[-1] != self.SIDE:
            x = functional.interpolate(x, (self.SIDE, self.SIDE), mode="bilinear", antialias=True)
        found = []
        for index in range(3):
            weight = getattr(self, f"weight{index}")
            x = functional.leaky_relu(functional.conv2d(x, weight, stride=1 + (index > 0), padding=1), 0.2)
            found.append(functional.adaptive_avg_pool2d(x, 2 if index == 0 else 1).flatten(1))
        return torch.cat(found, dim=1)
