"""Photos for `benchmarks.fuzz`: every format, with the tags and profiles that cameras write."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.fuzz_target import Target
from benchmarks.mutate import mutated, png_with_sums


def photos() -> list[Target]:
    """Every format that the installation decodes."""
    from phq_data.images.codecs import decode, perceptual_hash

    rows, columns = np.mgrid[0:24, 0:32]
    pixels = np.stack([rows * 10, columns * 8, rows * columns], -1).astype(np.uint8)
    picture = Image.fromarray(pixels)

    def encoded(kind: str, image: Image.Image = picture, **options: Any) -> bytes:
        sink = io.BytesIO()
        image.save(sink, kind, **options)
        return sink.getvalue()

    def read(data: bytes, folder: Path) -> object:
        return perceptual_hash(decode(data, max_pixels=150_000_000).pixels)

    exif = Image.Exif()
    exif[274], exif[306] = 6, "2024:05:06 07:08:09"
    exif.get_ifd(0x8769)[36867] = "2024:05:06 07:08:09"
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kinds: dict[str, tuple[bytes, ...]] = {
        "jpeg": (encoded("JPEG", exif=exif, icc_profile=profile), encoded("JPEG", picture.convert("CMYK"))),
        "exif": (encoded("JPEG", picture.resize((8, 8)), exif=exif),),
        "png": (
            encoded("PNG", icc_profile=profile), encoded("PNG", picture.convert("P")),
            encoded("PNG", picture.convert("RGBA"), exif=exif),
        ),
        "webp": (encoded("WEBP"), encoded("WEBP", lossless=True, exif=exif)),
        "tiff": tuple(encoded("TIFF", compression=name) for name in ("raw", "tiff_lzw", "jpeg")),
        "gif": (encoded("GIF"),),
        "bmp": (encoded("BMP"),),
    }  # fmt: skip
    from PIL import features

    if features.check("avif"):
        kinds["avif"] = (encoded("AVIF", exif=exif),)
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        sink = io.BytesIO()
        pillow_heif.from_pillow(picture).save(sink, quality=80)
        kinds["heic"] = (sink.getvalue(),)

    def png(data: bytes, rng: random.Random) -> bytes:
        changed = mutated(data, rng)
        return png_with_sums(changed) if rng.random() < 0.7 else changed

    return [Target(name, seeds, read, png if name == "png" else mutated) for name, seeds in kinds.items()]
