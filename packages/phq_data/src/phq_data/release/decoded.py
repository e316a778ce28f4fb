"""Digests of images that were decoded before, by the bytes that they were decoded from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Decoded:
    """What was decoded for the parent of a release."""

    encoded: NDArray[np.bytes_]  # [M] ascending
    pixels: NDArray[np.uint8]  # [M, 2, 32] digests of image and mask

    def among(self, encoded: NDArray[np.uint8]) -> Decoded:  # [K, 16]
        """What is known of these bytes alone."""
        keys = np.ascontiguousarray(encoded).reshape(-1).view("S16")
        keep = np.isin(self.encoded, keys)
        return Decoded(self.encoded[keep], self.pixels[keep])

    def find(self, encoded: str) -> tuple[bytes, bytes] | None:
        """(image, mask) digests of what has these bytes."""
        key = bytes.fromhex(encoded)
        at = int(np.searchsorted(self.encoded, np.bytes_(key)))
        if at == len(self.encoded) or self.encoded[at] != key.rstrip(b"\0"):  # as NumPy gives an element
            return None
        return self.pixels[at, 0].tobytes(), self.pixels[at, 1].tobytes()
