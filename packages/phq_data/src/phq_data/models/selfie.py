"""The embedded segmenter: MediaPipe's selfie network, made one person's and sharp.

The network sees the portrait at 256 x 256 and knows people from background, not one person from another. Then
bystanders are told apart by their key points (`ownership`), what hangs together with nobody's head and
shoulders is dropped, and the edges are moved to the image's (`matting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phq_data.arrays import Float32Array, FloatArray
from phq_data.models import onnx
from phq_data.models.matting import refine, resize_image, resize_plane
from phq_data.models.person_assignment import body_of, share_of

CODE_VERSION = 1  # raise it when the same config and network would give another mask
NETWORK = "selfie"
SIDE = 256  # the network's input


@dataclass(frozen=True)
class SelfieConfig:
    """Settings of the segmenter."""

    include_bystanders: bool = False
    """Keep the bystanders too."""
    edge_radius: int = 5
    """How far edges may move to meet the image's, in pixels of the 256 x 256 mask."""
    edge_smoothness: float = 2e-4
    """Color variance (of 0..1) below which the image counts as flat."""
    attached: float = 0.35
    """Mask value that carries the connection between a person's parts."""
    seen: float = 0.6
    """Mean mask value on head and shoulders below which the network gets a second chance."""
    believed: float = 0.3
    """Mask value on head and shoulders that may count as full, where the network is not surer of them."""


class SelfieSegmenter:
    """Separates the target person from everything else: a `Segmenter`, cheap to make or to send away."""

    def __init__(self, config: SelfieConfig | None = None, *, threads: int = 1, device: str = "cpu") -> None:
        self.config = config if config is not None else SelfieConfig()
        self.threads, self.device = threads, device
        self.fingerprint = onnx.fingerprint("selfie", CODE_VERSION, self.config, (NETWORK,))

    def segment(
        self,
        image: NDArray[np.uint8],  # [S, S, 3] RGB portrait crop
        target: FloatArray,  # [17, 3] key points of the target person in crop pixels
        others: Sequence[FloatArray],  # key points [17, 3] of the bystanders in crop pixels
    ) -> NDArray[np.uint8]:
        """Alpha [S, S] 0..255 of the target person, or of everybody when so configured."""
        if (
            image.ndim != 3
            or image.shape[0] != image.shape[1]
            or image.shape[2] != 3
            or image.dtype != np.uint8
        ):
            raise ValueError(f"a portrait crop is uint8 [S, S, 3]; this one is {image.dtype} {image.shape}")
        config, size = self.config, image.shape[0]
        body = body_of(target, (SIDE, SIDE), size)
        mask = self._people(image, body)
        if not config.include_bystanders:
            near = [keypoints for keypoints in others if _is_near(keypoints, size)]
            if near:
                mask = mask * share_of(target, near, mask, image)
            mask = _attached(mask, body, config.attached)
        alpha = refine(mask, image, config.edge_radius, config.edge_smoothness)
        return np.round(255 * _firm(alpha)).astype(np.uint8)

    def _people(self, image: NDArray[np.uint8], body: NDArray[np.bool_]) -> Float32Array:
        """How sure the network is of people, [256, 256]: the mean of the image's and its mirror image's."""
        small = resize_image(image, SIDE).astype(np.float32) / np.float32(255)
        mask = self._run(small)
        if not body.any():
            return mask
        if mask[body].mean() < self.config.seen:
            # Unusual poses and exposures: segment a wider crop with the contrast stretched, keep the
            # best.
            for another in (self._from_afar(small), self._run(_stretched(small))):
                if another[body].mean() > mask[body].mean():
                    mask = another
        # A blurred or dark person is only half believed in, evenly: what is sure about the body is all
        # there is.
        belief = float(np.quantile(mask[body], 0.25))
        return np.asarray(np.clip(mask / np.clip(belief, self.config.believed, 1), 0, 1))

    def _run(self, small: Float32Array) -> Float32Array:
        batch = np.stack([small, small[:, ::-1]])
        direct, mirrored = onnx.run(NETWORK, {"image": batch}, self.threads, self.device)["person"][:, 0]
        return np.asarray((direct + mirrored[:, ::-1]) / 2)

    def _from_afar(self, small: Float32Array) -> Float32Array:
        margin = SIDE // 5
        inner = SIDE - 2 * margin
        shrunk = np.stack([resize_plane(small[..., channel], inner) for channel in range(3)], axis=-1)
        framed = np.pad(shrunk, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        return resize_plane(self._run(framed)[margin:-margin, margin:-margin], SIDE)


def _is_near(keypoints: FloatArray, size: int) -> bool:
    """Whether any seen head, shoulder or arm point of a bystander lies in the crop or just outside."""
    points = keypoints[:11][keypoints[:11, 2] >= 0.2, :2]
    return bool(np.any(np.all((points > -0.2 * size) & (points < 1.2 * size), axis=1)))


def _attached(mask: Float32Array, body: NDArray[np.bool_], threshold: float) -> Float32Array:
    """The mask without what does not hang together with the body (or, without one, with its largest part)."""
    parts, count = ndimage.label(mask > threshold)
    if count == 0:
        return mask
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    touched = np.bincount(parts[body], minlength=count + 1)
    areas[0] = touched[0] = 0
    kept = touched > 0.02 * max(int(body.sum()), 1)
    if not kept.any():
        kept[np.argmax(areas)] = True
    # The soft rim of what is kept stays; the rim of what goes, goes.
    distance = ndimage.distance_transform_edt(~kept[parts])
    return np.asarray(mask * np.clip(1.5 - distance / 8, 0, 1).astype(np.float32))


def _firm(alpha: Float32Array) -> Float32Array:
    """Nearly sure becomes sure: the network leaves a veil on background and thin spots inside."""
    return np.asarray(np.clip((alpha - 0.06) / 0.88, 0, 1))


def _stretched(small: Float32Array) -> Float32Array:
    low, high = float(np.quantile(small, 0.02)), float(np.quantile(small, 0.98))
    return np.asarray(np.clip((small - low) / max(high - low, 0.05), 0, 1).astype(np.float32))
