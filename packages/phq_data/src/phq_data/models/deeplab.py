"""DeepLabV3-ResNet101 (torchvision) as segmenter: how sure it is that a pixel shows a person.

The reference pipeline took the network's most likely class of every pixel, of all people in the image. Here
its probability of "person" stays as it is, and the mask may be of the target person alone: the network knows
no persons, only pixels, so pixels go to whose keypoints and limbs are nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from phq_data.arrays import FloatArray
from phq_data.errors import ModelError
from phq_data.models.fingerprints import fingerprint
from phq_data.weights import tensor_file

CODE_VERSION = 1  # raise it when the same config would give other masks
PERSON = 15  # of the 21 classes of Pascal VOC
CLASSES = 21
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LIMBS = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12),
    (11, 13), (13, 15), (12, 14), (14, 16), (0, 5), (0, 6),
)  # fmt: skip


@dataclass(frozen=True)
class DeepLabConfig:
    """Settings of the segmenter."""

    include_bystanders: bool = True  # keep the bystanders, as the paper did
    keypoint_score: float = 0.2  # keypoints below do not say where a person is
    batch: int = 8  # images a pass
    device: str = "cpu"


class DeepLabSegmenter:
    """A `BatchSegmenter`. The network is built once; `segment_batch` gives many images to it at a time."""

    def __init__(self, network: nn.Module, weights_sha256: str, config: DeepLabConfig | None = None) -> None:
        """`network`: of `build`. `weights_sha256` enters the fingerprint."""
        self.config = config or DeepLabConfig()
        self._device = torch.device(self.config.device)
        self._network = network.eval().requires_grad_(False).to(self._device)
        self.fingerprint = fingerprint("deeplab", CODE_VERSION, self.config, weights=weights_sha256)

    @classmethod
    def open(cls, config: DeepLabConfig | None = None) -> DeepLabSegmenter:
        """The segmenter with the added weights; `ModelError` says how to add them."""
        from phq_data.weights import store

        path, sha256 = store.verified_file("deeplabv3-resnet101")
        return cls(build(read_weights(path)), sha256, config)

    @property
    def batch(self) -> int:
        """Images a pass."""
        return self.config.batch

    def segment(
        self,
        image: NDArray[np.uint8],  # [S, S, 3] RGB
        target: FloatArray,  # [17, 3] keypoints in image pixels
        others: Sequence[FloatArray],
    ) -> NDArray[np.uint8]:
        """Alpha [S, S] 0..255 of the target person, or of everybody when so configured."""
        return self.segment_batch([image], [target], [others])[0]

    def segment_batch(
        self,
        images: Sequence[NDArray[np.uint8]],  # [S, S, 3] RGB each
        targets: Sequence[FloatArray],  # [17, 3] each
        others: Sequence[Sequence[FloatArray]],
    ) -> list[NDArray[np.uint8]]:
        """Alphas of many images; equal sizes go through the network together."""
        found = self.probabilities(images)
        alphas = []
        for probability, target, rest in zip(found, targets, others, strict=True):
            if not self.config.include_bystanders and rest:
                probability = probability * share(
                    probability.shape[:2], target, rest, self.config.keypoint_score
                )
            alphas.append(np.rint(probability * 255).astype(np.uint8))
        return alphas

    @torch.inference_mode()
    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Probability [H, W] of "person" for each image [H, W, 3]."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            by_size.setdefault(image.shape, []).append(index)
        found: dict[int, NDArray[np.float32]] = {}
        for indices in by_size.values():
            for start in range(0, len(indices), self.config.batch):
                chunk = indices[start : start + self.config.batch]
                batch = torch.from_numpy(np.stack([images[i] for i in chunk])).to(self._device)
                logits = self._network(_normalised(batch))["out"]
                person = logits.softmax(dim=1)[:, PERSON].float().cpu().numpy()
                found.update(zip(chunk, person, strict=True))
        return [found[index] for index in range(len(images))]


def build(state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """The network, with these weights or, for tests, with random ones. Nothing is downloaded."""
    from torchvision.models.segmentation import deeplabv3_resnet101

    network = deeplabv3_resnet101(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=state is not None
    )
    if state is not None:
        network.load_state_dict(dict(state), strict=True)
        network.aux_classifier = None  # only training uses it
    evaluated: nn.Module = network.eval()
    return evaluated


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights in a torchvision file, checked key by key; nothing in the file is executed."""
    from torchvision.models.segmentation import deeplabv3_resnet101

    content = tensor_file.tensors_of(tensor_file.read(path))
    if content is None:
        raise ModelError(f"{path} holds no weights of DeepLabV3-ResNet101")
    with torch.device("meta"):
        wanted = deeplabv3_resnet101(
            weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
        ).state_dict()
    odd = sorted(set(wanted) ^ set(content))
    if odd:
        what = "lacks" if odd[0] in wanted else "has the unknown key"
        raise ModelError(f"{path} holds the weights of another network: it {what} {odd[0]!r}")
    return {key: tensor_file.fitting(content[key], tensor, key, str(path)) for key, tensor in wanted.items()}


def share(
    size: tuple[int, ...],  # height, width
    target: ArrayLike,  # [17, 3] keypoints in image pixels
    others: Sequence[ArrayLike],  # [17, 3] each
    keypoint_score: float,
) -> NDArray[np.float32]:
    """The target's part [H, W] of every pixel, 0..1: whose limbs are nearer, in units of each one's size.

    Between two people it changes from one to nought over a tenth of the way, so that a border is no cliff.
    """
    own = _distance(size, np.asarray(target, np.float64), keypoint_score)
    if own is None:
        return np.ones(size, np.float32)
    nearest = np.full(size, np.inf)
    for points in others:
        other = _distance(size, np.asarray(points, np.float64), keypoint_score)
        if other is not None:
            nearest = np.minimum(nearest, other)
    if not np.isfinite(nearest).any():
        return np.ones(size, np.float32)
    balance = (nearest - own) / (nearest + own + 1e-9)
    return np.clip(0.5 + balance * 5.0, 0.0, 1.0).astype(np.float32)


def _distance(size: tuple[int, ...], points: FloatArray, keypoint_score: float) -> FloatArray | None:
    """Distance [H, W] of every pixel to a person's limbs and keypoints; None when none of them is known.

    In units of the person's size, the median length of what is seen, so that a big person near the camera
    owns more than a small one behind.
    """
    seen = np.isfinite(points).all(axis=1) & (points[:, 2] >= keypoint_score)
    if not seen.any():
        return None
    limbs = [(points[a, :2], points[b, :2]) for a, b in _LIMBS if seen[a] and seen[b]]
    limbs += [(point, point) for point in points[seen, :2]]
    lengths = [float(np.linalg.norm(b - a)) for a, b in limbs if np.linalg.norm(b - a) > 0]
    unit = max(float(np.median(lengths)) if lengths else 1.0, 1.0)
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float64) + 0.5
    least = np.full(size, np.inf)
    for a, b in limbs:
        along = b - a
        position = (columns - a[0]) * along[0] + (rows - a[1]) * along[1]
        position = np.clip(position / max(float(along @ along), 1e-9), 0.0, 1.0)
        across = columns - a[0] - position * along[0]
        down = rows - a[1] - position * along[1]
        least = np.minimum(least, across**2 + down**2)
    return np.asarray(np.sqrt(least) / unit)


def _normalised(images: Tensor) -> Tensor:
    """[B, H, W, 3] uint8 to [B, 3, H, W] as the network was trained."""
    scaled = images.permute(0, 3, 1, 2).float() / 255.0
    mean = torch.tensor(_MEAN, device=images.device)[:, None, None]
    deviation = torch.tensor(_DEVIATION, device=images.device)[:, None, None]
    return (scaled - mean) / deviation
