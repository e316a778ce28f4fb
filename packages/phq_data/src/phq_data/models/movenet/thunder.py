"""One photo as Thunder sees it: keypoints in the crops that it is given, each crop computed once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.models import onnx
from phq_data.models.keypoints import MIRROR
from phq_data.models.movenet.crops import CropRegion, Detection, crop_square, whole_square
from phq_data.models.movenet.decode import decode_thunder

NETWORK = "movenet-thunder"
BATCH = 8  # crops a run: bounds memory, does not change the result

_Square = tuple[int, int, int]
_Key = tuple[_Square, bytes, bool]  # square of the photo, aim, mirrored


class ThunderPhoto:
    """A photo, and what Thunder detected in it so far."""

    def __init__(self, image: NDArray[np.uint8], threads: int = 1, device: str = "cpu") -> None:
        """`image` [H, W, 3] upright sRGB."""
        self._image, self._threads, self._device = image, threads, device
        self._known: dict[_Key, FloatArray] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._image.shape[1], self._image.shape[0]

    def detect(self, regions: Sequence[CropRegion], *, mirrored: bool = False) -> list[Detection]:
        """Thunder's detection in each region, or in its mirror image; key points are those of the photo."""
        return self.detect_each([(region, mirrored) for region in regions])

    def detect_each(self, looks: Sequence[tuple[CropRegion, bool]]) -> list[Detection]:
        """The same of regions of which each says whether it is mirrored."""
        keys = [_key(*look) for look in looks]
        new = dict(zip(keys, looks, strict=True))
        new = {key: look for key, look in new.items() if key not in self._known}
        todo = list(new.items())
        for start in range(0, len(todo), BATCH):
            self._run(todo[start : start + BATCH])
        return [Detection(look[0], self._known[key]) for key, look in zip(keys, looks, strict=True)]

    def _run(self, batch: Sequence[tuple[_Key, tuple[CropRegion, bool]]]) -> None:
        corners = np.array([key[0] for key, _ in batch], np.float64)  # [N, 3] x0, y0, side
        aims = (np.array([region.aim for _, (region, _) in batch]) - corners[:, :2]) / corners[:, 2:]
        flipped = np.array([mirrored for _, (_, mirrored) in batch])
        aims[flipped, 0] = 1 - aims[flipped, 0]
        crops = np.stack([crop_square(self._image, *key[0]) for key, _ in batch])
        crops[flipped] = crops[flipped][:, :, ::-1]
        maps = onnx.run(NETWORK, {"image": crops}, self._threads, self._device)
        aimed, unaimed = decode_thunder(maps, aims[:, ::-1]), decode_thunder(maps)
        nowhere = np.full(2, np.nan)
        for (square, aim, mirrored), here, anybody in zip(
            (key for key, _ in batch), aimed, unaimed, strict=True
        ):
            self._known[square, nowhere.tobytes(), mirrored] = _of_photo(anybody, square, mirrored)
            self._known[square, aim, mirrored] = _of_photo(here, square, mirrored)


def _key(region: CropRegion, mirrored: bool) -> _Key:
    aim = np.where(np.isnan(region.aim).any(), np.nan, region.aim)
    return whole_square(region.x0, region.y0, region.side), aim.tobytes(), mirrored


def _of_photo(keypoints: NDArray[np.float32], square: _Square, mirrored: bool) -> FloatArray:
    """Key points [17, 3] (y, x, score; fractions of the crop) as x, y in photo pixels, score."""
    y, x, score = (keypoints[MIRROR] if mirrored else keypoints).astype(np.float64).T
    x = 1 - x if mirrored else x
    x0, y0, side = square
    return np.stack([x0 + x * side, y0 + y * side, score], axis=1)
