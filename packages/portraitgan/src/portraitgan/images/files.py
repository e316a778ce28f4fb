"""Image files, read and written whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from phq_data.arrays import ImageArray
from phq_data.errors import PhqError
from phq_data.files import writing


class ImageError(PhqError, ValueError):
    """An image that cannot be drawn, read or written; the message says why."""


def save_image(path: str | Path, pixels: ImageArray) -> None:
    """Write [H, W, 3] as PNG or JPEG, by the suffix. Raises `ImageError` for another suffix."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ImageError(f"{path} is no image file: name it .png, .jpg or .webp")
    with writing(path) as temporary:
        Image.fromarray(pixels).save(temporary)


def load_image(path: str | Path, grey: bool = False) -> ImageArray:
    """An image file as [H, W, 3] (or [H, W] with `grey`). Raises `ImageError`."""
    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("L" if grey else "RGB"))
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read the image {path}: {error}") from None
